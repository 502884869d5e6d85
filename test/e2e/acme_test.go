package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const acmeConfig = `issuer: https://sts.example.test
listen: {public: "{{.Public}}", admin: "{{.Admin}}"}
tls: {acme: {email: ops@example.test, cache_dir: "{{.Dir}}/acme", directory_url: "https://%s/dir", accept_tos: true}}
secrets: {master_key_file: master.key}
`

// Pebble is the certificate authority with which Let's Encrypt tests ACME clients. It
// rejects one nonce in twenty on purpose, and asks a DNS server of the test.
func TestTLSByACME(t *testing.T) {
	authority, dns := tool(t, "pebble"), tool(t, "pebble-challtestsrv")
	dir := t.TempDir()
	cert, key, pool := certificate(t)
	certFile, keyFile := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	directory, management, names := freeAddress(t), freeAddress(t), freeAddress(t)
	// The service trusts the authority's own certificate and no other.
	t.Setenv("SSL_CERT_FILE", certFile)
	t.Setenv("SSL_CERT_DIR", dir)
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")

	s := configure(t, t.TempDir(), "", fmt.Sprintf(acmeConfig, directory)+onSQLite+houseBody, houseFiles())
	address := strings.TrimPrefix(s.Issuer, "http://")
	_, port, _ := net.SplitHostPort(address)

	config := fmt.Sprintf(`{"pebble": {"listenAddress": %q, "managementListenAddress": %q, "certificate": %q, "privateKey": %q, "httpPort": 1, "tlsPort": %s}}`,
		directory, management, certFile, keyFile, port)
	for name, content := range map[string]string{certFile: cert, keyFile: key, filepath.Join(dir, "pebble.json"): config} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	resolver := startProgram(t, exec.Command(dns, "-dnsserver", names, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
		"-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-management", freeAddress(t)))
	defer resolver.stop(syscall.SIGTERM)
	pebble := startProgram(t, exec.Command(authority, "-config", filepath.Join(dir, "pebble.json"), "-dnsserver", names))
	defer pebble.stop(syscall.SIGTERM)
	trusting := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	var root []byte
	pebble.wait(t, "its root certificate", func() bool {
		resp, err := trusting.Get("https://" + management + "/roots/0")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		root, err = io.ReadAll(resp.Body)
		return err == nil && resp.StatusCode == http.StatusOK
	})
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(root) {
		t.Fatalf("no root certificate in %q", root)
	}

	s.serve(t)
	defer s.stop()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport, Timeout: startLimit}
	works := func(t *testing.T) {
		t.Helper()
		transport.CloseIdleConnections()
		resp, err := c.PostForm("https://sts.example.test/token", url.Values{
			"grant_type": {"client_credentials"}, "client_id": {machinePost.ID}, "client_secret": {machinePost.Secret},
		})
		if r := readReply(t, resp, err); r.Status != http.StatusOK || r.str("access_token") == "" {
			t.Errorf("%s", r)
		}
	}

	t.Run("the first handshake gets a certificate", works)
	t.Run("another name gets none", func(t *testing.T) {
		before := strings.Count(pebble.out.String(), "order")
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, ServerName: "other.example.test"})
		if err == nil {
			conn.Close()
			t.Error("a handshake for another name succeeded")
		}
		if after := strings.Count(pebble.out.String(), "order"); before == 0 || after != before {
			t.Errorf("a certificate was ordered for another name: pebble spoke of orders %d times before and %d after", before, after)
		}
	})
	t.Run("who comes without a name gets none", func(t *testing.T) {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			conn.Close()
			t.Error("a handshake without a name succeeded")
		}
	})
	t.Run("keys are the service's alone", func(t *testing.T) {
		kept := 0
		err := filepath.WalkDir(filepath.Join(s.dir, "acme"), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			kept++
			return err
		})
		if err != nil || kept < 3 { // the folder, the account's key, the certificate
			t.Errorf("%d files are kept: %v", kept, err)
		}
	})
	t.Run("after a restart the authority is not needed", func(t *testing.T) {
		pebble.stop(syscall.SIGTERM)
		s.stop()
		s.serve(t)
		works(t)
	})
}

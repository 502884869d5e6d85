package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/journal/query"
)

// certificate makes a self-signed certificate for loopback.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "e2e"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(cert))
	return cert, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})), pool
}

const tlsConfig = `issuer: https://{{.Public}}
listen: {public: "{{.Public}}", admin: "{{.Admin}}"}
tls: {cert_file: tls.crt, key_file: tls.key}
secrets: {master_key_file: master.key}
`

func TestTLSFromFiles(t *testing.T) {
	cert, key, pool := certificate(t)
	files := houseFiles()
	files["tls.crt"], files["tls.key"] = cert, key
	s := startServe(t, tlsConfig+onSQLite+houseBody, files)
	address := strings.TrimPrefix(s.Issuer, "http://")
	s.Issuer = "https://" + address
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport, CheckRedirect: plainClient.CheckRedirect}

	t.Run("HTTPS works, HTTP/2 too", func(t *testing.T) {
		resp, err := c.Get(s.Issuer + "/.well-known/openid-configuration")
		r := readReply(t, resp, err)
		if r.Status != http.StatusOK || r.str("issuer") != s.Issuer || !strings.HasPrefix(r.str("token_endpoint"), s.Issuer+"/") {
			t.Errorf("discovery: %s", r)
		}
		if err == nil && resp.Proto != "HTTP/2.0" {
			t.Errorf("spoke %s", resp.Proto)
		}
		if r.Header.Get("Strict-Transport-Security") == "" {
			t.Error("browsers are not told to come by HTTPS only")
		}
	})
	t.Run("E76 cookies are bound to the host and to HTTPS", func(t *testing.T) {
		q := newCodeRequest(webTwo).query
		resp, err := c.Get(s.authorizeURL(q))
		r := readReply(t, resp, err)
		for r.Status == http.StatusSeeOther || r.Status == http.StatusFound {
			to, err := resp.Location()
			if err != nil {
				t.Fatal(err)
			}
			resp, err = c.Get(to.String())
			r = readReply(t, resp, err)
		}
		checkCookies(t, resp.Cookies(), "__Host-", true)
	})
	t.Run("plain HTTP on the same port gets nothing", func(t *testing.T) {
		resp, err := http.Get("http://" + address + "/.well-known/openid-configuration")
		if err == nil {
			defer resp.Body.Close()
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode < 400 || strings.Contains(string(body), "issuer") {
				t.Errorf("status %d: %s", resp.StatusCode, body)
			}
		}
	})
	t.Run("TLS 1.1 is refused", func(t *testing.T) {
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
		if err == nil {
			conn.Close()
			t.Error("it spoke TLS 1.1")
		}
	})
}

func checkCookies(t *testing.T, cookies []*http.Cookie, prefix string, secure bool) {
	t.Helper()
	if len(cookies) == 0 {
		t.Error("no cookie was set")
	}
	for _, c := range cookies {
		if !strings.HasPrefix(c.Name, prefix) || c.Secure != secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" ||
			(c.SameSite != http.SameSiteLaxMode && c.SameSite != http.SameSiteStrictMode) {
			t.Errorf("E76: cookie %s", c)
		}
	}
}

// An insecure or broken configuration does not start, and the message says where and why.
func TestTLSRefused(t *testing.T) {
	cert, key, _ := certificate(t)
	_, otherKey, _ := certificate(t)
	for _, row := range []struct {
		sentence, issuer, tls string
		want                  []string
	}{
		{"plain HTTP for an issuer that is not loopback", "http://sts.example.com", `{off: true, trusted_proxies: [10.0.0.0/8]}`, []string{":1:", "issuer", "https"}},
		{"plain HTTP for a private address", "http://10.0.0.1", `{off: true, trusted_proxies: [10.0.0.0/8]}`, []string{":1:", "issuer", "https"}},
		{"plain HTTP for a name that begins like loopback", "http://127.0.0.1.example.com", `{off: true}`, []string{":1:", "issuer"}},
		{"TLS off without a proxy to trust", "https://sts.example.com", `{off: true}`, []string{":3:", "trusted_proxies"}},
		{"TLS neither on nor off", "https://sts.example.com", `{}`, []string{"tls"}},
		{"TLS on and off at once", "https://sts.example.com", `{off: true, trusted_proxies: [10.0.0.0/8], cert_file: tls.crt, key_file: tls.key}`, []string{":3:", "tls"}},
		{"a certificate that is not there", "https://sts.example.com", `{cert_file: nowhere.crt, key_file: tls.key}`, []string{":3:", "cert_file", "nowhere.crt"}},
		{"a key that is not the certificate's", "https://sts.example.com", `{cert_file: tls.crt, key_file: other.key}`, []string{":3:", "key"}},
		{"a certificate without its key", "https://sts.example.com", `{cert_file: tls.crt}`, []string{":3:", "key_file"}},
		{"proxies to trust without a proxy", "https://sts.example.com", `{cert_file: tls.crt, key_file: tls.key, trusted_proxies: [10.0.0.0/8]}`, []string{":3:", "trusted_proxies"}},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			dir := t.TempDir()
			config := fmt.Sprintf("issuer: %s\nlisten: {public: \"127.0.0.1:0\", admin: \"127.0.0.1:0\"}\ntls: %s\nstorage: {url: \"sqlite:signalbox.db\"}\nsecrets: {master_key_file: master.key}\n", row.issuer, row.tls)
			for name, content := range map[string]string{
				"signalbox.yaml": config, "tls.crt": cert, "tls.key": key, "other.key": otherKey,
				"master.key": "6532652d6d61737465722d6b6579206f6620746869727479206279746573212100",
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p := start(t, dir, nil, "serve", "--config", filepath.Join(dir, "signalbox.yaml"))
			select {
			case <-p.done:
			case <-time.After(startLimit):
				p.stop(os.Kill)
				t.Fatal("it started")
			}
			said := p.out.String()
			if code := p.cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit code %d", code)
			}
			for _, want := range append(row.want, "signalbox.yaml") {
				if !strings.Contains(said, want) {
					t.Errorf("the message lacks %q:\n%s", want, said)
				}
			}
		})
	}
}

// I102: only a trusted proxy says where a request came from, and no header changes the issuer.
func TestTrustedProxies(t *testing.T) {
	const issuer = "https://sts.example.com"
	s := startServe(t, `issuer: `+issuer+`
listen: {public: "{{.Public}}", admin: "{{.Admin}}"}
tls: {off: true, trusted_proxies: [127.0.0.1/32, 10.1.0.0/16]}
secrets: {master_key_file: master.key}
`+onSQLite+houseBody, houseFiles())
	remote := func(t *testing.T, change ...func(*http.Request)) string {
		t.Helper()
		r := s.post(t, "/token", params("grant_type", "client_credentials", "resource", api), append(change, basic(machine))...)
		if r.Status != http.StatusOK {
			t.Fatalf("%s", r)
		}
		records := journalOf(t, s, query.Query{TokenHash: journalHash(r.str("access_token"))})
		if len(records) != 1 {
			t.Fatalf("%d records", len(records))
		}
		return records[0].Remote
	}
	for _, row := range []struct {
		sentence, from, forwarded, want string
	}{
		{"a proxy that is trusted", "127.0.0.1", "203.0.113.7", "203.0.113.7"},
		{"a chain: the last hop that is not trusted counts", "127.0.0.1", "198.51.100.1, 203.0.113.7, 10.1.2.3", "203.0.113.7"},
		{"a caller who is not a proxy", "127.0.0.2", "203.0.113.7", "127.0.0.2"},
		{"a client that sends the header itself", "127.0.0.1", "10.1.9.9, 203.0.113.7", "203.0.113.7"},
		{"what is not an address", "127.0.0.1", "evil\\n, nobody", "127.0.0.1"},
		{"an IPv6 caller", "127.0.0.1", "2001:db8::7", "2001:db8::7"},
		{"no header", "127.0.0.1", "", "127.0.0.1"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			change := []func(*http.Request){from(row.from)}
			if row.forwarded != "" {
				change = append(change, header("X-Forwarded-For", row.forwarded))
			}
			if got := remote(t, change...); got != row.want {
				t.Errorf("the journal says %q, want %q", got, row.want)
			}
		})
	}
	t.Run("I102 no header changes who we are", func(t *testing.T) {
		for _, change := range []func(*http.Request){
			func(r *http.Request) { r.Host = "evil.example" },
			header("X-Forwarded-Host", "evil.example"),
			header("X-Forwarded-Proto", "http"),
			header("Forwarded", "host=evil.example;proto=http"),
			header("X-Original-URL", "https://evil.example/"),
		} {
			for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"} {
				r := s.get(t, path, change)
				if r.str("issuer") != issuer || strings.Contains(string(r.Body), "evil") || strings.Contains(string(r.Body), "http:") {
					t.Errorf("%s: %s", path, r)
				}
			}
			_, claims := claimsOf(t, s.post(t, "/token", params("grant_type", "client_credentials", "resource", api), basic(machine), change).str("access_token"))
			if claims["iss"] != issuer {
				t.Errorf("iss %v", claims["iss"])
			}
			p := s.get(t, "/authorize?"+newCodeRequest(webTwo).query.Encode(), change)
			if strings.Contains(p.String(), "evil") {
				t.Errorf("/authorize: %s", p)
			}
		}
	})
	t.Run("browsers are told to come by HTTPS only", func(t *testing.T) {
		if r := s.get(t, "/jwks"); r.Header.Get("Strict-Transport-Security") == "" {
			t.Errorf("%s", r)
		}
	})
	t.Run("E76 cookies are for HTTPS behind a proxy too", func(t *testing.T) {
		r := s.get(t, "/authorize?"+newCodeRequest(webTwo).query.Encode())
		if to := r.Header.Get("Location"); to != "" {
			r = s.get(t, strings.TrimPrefix(to, issuer))
		}
		checkCookies(t, (&http.Response{Header: r.Header}).Cookies(), "__Host-", true)
	})
}

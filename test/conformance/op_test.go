// Package conformance has a counterpart, by name, of every module in the plans
// of the OpenID Foundation's conformance suite that the service is meant to
// pass: Basic, Config, Form Post, and RP-Initiated, Back-Channel and Front-Channel
// Logout. It drives the built binary, as the suite does, and checks signatures
// with go-jose.
package conformance

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const config = `issuer: http://%[1]s
listen: {public: "%[1]s", admin: "127.0.0.1:0"}
tls: {off: true}
storage: {url: "sqlite:%[2]s/signalbox.db"}
journal: {dir: "%[2]s/journal"}
secrets: {master_key_file: master.key}
log: {level: error}
outbound: {allow_loopback: true, ca_file: suite.crt}
clients:
  - {client_id: basic, client_secret_file: secret, scope: "openid profile email address phone offline_access", require_pkce: false,
     grant_types: [authorization_code, refresh_token], id_token_signed_response_alg: RS256,
     redirect_uris: ["https://suite.example.com/callback"], post_logout_redirect_uris: ["https://suite.example.com/bye"]}
  - {client_id: second, client_secret_file: secret, scope: "openid offline_access", require_pkce: false,
     grant_types: [authorization_code, refresh_token], redirect_uris: ["https://suite.example.com/callback"]}
  - {client_id: post, client_secret_file: secret, scope: openid, token_endpoint_auth_method: client_secret_post, require_pkce: false,
     redirect_uris: ["https://suite.example.com/callback"]}
  - {client_id: back, client_secret_file: secret, scope: openid, require_pkce: false, redirect_uris: ["https://suite.example.com/callback"],
     post_logout_redirect_uris: ["https://suite.example.com/bye"], backchannel_logout_uri: "%[3]s", backchannel_logout_session_required: true}
  - {client_id: front, client_secret_file: secret, scope: openid, require_pkce: false, redirect_uris: ["https://suite.example.com/callback"],
     post_logout_redirect_uris: ["https://suite.example.com/bye"], frontchannel_logout_uri: "https://suite.example.com/front", frontchannel_logout_session_required: true}
users:
  - username: ada
    password_file: password
    name: Ada Lovelace
    email: ada@example.com
    email_verified: true
    claims:
      {given_name: Ada, family_name: Lovelace, middle_name: King, nickname: Countess, profile: "https://example.com/ada", picture: "https://example.com/ada.png",
       website: "https://ada.example.com", gender: female, birthdate: "1815-12-10", zoneinfo: Europe/London, locale: en-GB,
       phone_number: "+442079460000", phone_number_verified: true, address: {locality: London, country: United Kingdom}}
`

const (
	secret   = "suite-secret-0123456789abcdef0123456789abcdef"
	password = "correct horse battery"
	callback = "https://suite.example.com/callback"
	front    = "https://suite.example.com/front"
	goodbye  = "https://suite.example.com/bye"
)

// issuer is the URL of the service that all modules share: each has a browser of
// its own.
var issuer string

func TestMain(m *testing.M) { os.Exit(run(m)) }

// backChannel is where the suite hears of sign-outs, with this certificate.
var (
	backChannel string
	certificate []byte
)

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "signalbox-conformance")
	if err == nil {
		defer os.RemoveAll(dir)
		suite := httptest.NewTLSServer(http.HandlerFunc(hear))
		defer suite.Close()
		backChannel, certificate = suite.URL+"/back", suite.Certificate().Raw
		var stop func()
		if stop, err = serve(dir); err == nil {
			defer stop()
			return m.Run()
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// serve builds and starts the binary in dir.
func serve(dir string) (stop func(), err error) {
	binary := filepath.Join(dir, "signalbox")
	build := exec.Command("go", "build", "-o", binary, "./cmd/signalbox")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build ./cmd/signalbox: %w\n%s", err, out)
	}
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := port.Addr().String()
	if err := port.Close(); err != nil {
		return nil, err
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	for name, text := range map[string]string{
		"signalbox.yaml": fmt.Sprintf(config, address, dir, backChannel), "suite.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})),
		"secret": secret, "password": password, "master.key": base64.StdEncoding.EncodeToString(key),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command(binary, "serve", "--config", filepath.Join(dir, "signalbox.yaml"))
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = func() {
		http.DefaultClient.CloseIdleConnections()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	}
	issuer = "http://" + address
	for range 300 {
		select {
		case err := <-ended:
			return nil, fmt.Errorf("signalbox serve ended: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
		if r, err := http.Get(issuer + "/readyz"); err == nil {
			_ = r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return stop, nil
			}
		}
	}
	stop()
	return nil, fmt.Errorf("signalbox serve is not ready")
}

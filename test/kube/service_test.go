package kube

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// service is the built binary, serving.
type service struct {
	Issuer string
	URL    string // where it listens; of the first node of an issuer that is Issuer
	Admin  string // the URL of its admin listener
	CA     []byte // PEM, of its certificate
	dir    string
	cmd    *exec.Cmd
	client *http.Client
	done   chan struct{}
}

// binary is the built command, made once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "signalbox-kube")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "signalbox")
	build := exec.Command("go", "build", "-o", path, "./cmd/signalbox")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// apiClient is the client of every configuration here that may introspect.
const apiClient, apiSecret = "spoke-apiserver", "secret-of-the-spokes-api-server"

// startService serves what more says, beside issuer, TLS, storage and the
// client apiClient; more may begin with further clients.
func startService(t *testing.T, more string) *service {
	t.Helper()
	s := newService(t, more)
	s.start(t)
	return s
}

// newService writes the files and starts nothing.
func newService(t *testing.T, more string) *service {
	t.Helper()
	return newNode(t, nil, "sqlite:signalbox.db", more)
}

// newNode is newService on a database that may be shared. A second node has the issuer
// and the master key of the first.
func newNode(t *testing.T, first *service, storage, more string) *service {
	t.Helper()
	var addresses [2]string
	for i := range addresses {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		addresses[i] = listener.Addr().String()
	}
	at := "https://" + addresses[0]
	s := &service{Issuer: at, URL: at, Admin: "http://" + addresses[1], dir: t.TempDir()}
	var key []byte
	var err error
	if s.CA, key, err = pair(); err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 32)
	_, _ = rand.Read(random)
	master := []byte(base64.StdEncoding.EncodeToString(random))
	if first != nil {
		s.Issuer = first.Issuer
		if master, err = os.ReadFile(filepath.Join(first.dir, "master.key")); err != nil {
			t.Fatal(err)
		}
	}
	hash := sha256.Sum256([]byte(apiSecret))
	fill := strings.NewReplacer("ISSUER", s.Issuer, "SECRET-HASH", "sha256:"+hex.EncodeToString(hash[:]))
	for name, content := range map[string][]byte{
		"tls.crt": s.CA, "tls.key": key, "master.key": master,
		"signalbox.yaml": []byte(fill.Replace(fmt.Sprintf(`issuer: %s
listen: {public: %q, admin: %q}
tls: {cert_file: tls.crt, key_file: tls.key}
storage: {url: %q}
journal: {dir: journal}
secrets: {master_key_file: master.key}
resources: [{id: "https://billing.example.com", scopes: [invoices:read, invoices:write], access_ttl: 1h, introspection_clients: [%s]}, {id: "https://git.example.com", scopes: [repo:read, repo:write], introspection_clients: [%s]}]
clients:
  - {client_id: %s, grant_types: [], token_endpoint_auth_method: client_secret_basic, client_secret_hash: "SECRET-HASH"}
`, s.Issuer, addresses[0], addresses[1], storage, apiClient, apiClient, apiClient) + more)),
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.CA)
	s.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	return s
}

// start runs the service until the test ends, or stop is called.
func (s *service) start(t *testing.T) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s.cmd, s.done = exec.Command(path, "serve", "--config", "signalbox.yaml"), make(chan struct{})
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.dir, log, log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.cmd.Wait(); log.Close(); close(s.done) }()
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			t.Logf("the service's log:\n%s", text[max(0, len(text)-8000):])
		}
	})
	until(t, 20*time.Second, "the service is ready", func() bool {
		select {
		case <-s.done:
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			t.Fatalf("the service ended:\n%s", text)
		default:
		}
		answer, err := s.client.Get(s.URL + "/readyz")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}

// edit changes the file, and returns when the service has taken it or refused it.
func (s *service) edit(t *testing.T, change func(string) string) {
	t.Helper()
	path := filepath.Join(s.dir, "signalbox.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		for _, r := range s.journal(t) {
			if r["type"] == "config.loaded" || r["type"] == "config.refused" {
				n++
			}
		}
		return n
	}
	before := count()
	if err := os.WriteFile(path, []byte(change(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Process.Signal(syscall.SIGHUP)
	until(t, 20*time.Second, "the service has taken the changed file", func() bool { return count() > before })
}

// stop ends the service in order.
func (s *service) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.done
}

// kill ends it without a word.
func (s *service) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// until asks every 50 ms, and fails when the time is over: real processes have no clock that a test could move.
func until(t *testing.T, limit time.Duration, what string, is func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !is() {
		if time.Since(began) > limit {
			t.Fatalf("after %s it is not so: %s", limit, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(began)
}

// answer is what an endpoint said.
type answer struct {
	Status      int    `json:"-"`
	AccessToken string `json:"access_token"`
	IssuedType  string `json:"issued_token_type"`
	ExpiresIn   int    `json:"expires_in"`
	Scope       string `json:"scope"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Active      bool   `json:"active"`
	Subject     string `json:"sub"`
	GrantID     string `json:"grant_id"`
	ID          string `json:"jti"`
}

func (s *service) post(t *testing.T, path string, form url.Values, client ...string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if len(client) == 2 {
		request.SetBasicAuth(client[0], client[1])
	}
	response, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{Status: response.StatusCode}
	if err := json.Unmarshal(body, &a); err != nil {
		t.Fatalf("%s answers %q", path, body)
	}
	return a
}

// exchange asks for a token for a cluster, with the token of a pod.
func (s *service) exchange(t *testing.T, proof, cluster string) answer {
	t.Helper()
	return s.post(t, "/token", url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "audience": {cluster},
		"subject_token": {proof}, "subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"},
	})
}

// token is exchange where it must succeed.
func (s *service) token(t *testing.T, proof, cluster string) string {
	t.Helper()
	a := s.exchange(t, proof, cluster)
	if a.Status != http.StatusOK {
		t.Fatalf("exchange: %+v", a)
	}
	return a.AccessToken
}

func (s *service) isActive(t *testing.T, token string) bool {
	t.Helper()
	return s.post(t, "/introspect", url.Values{"token": {token}}, apiClient, apiSecret).Active
}

// journal is all that the service has recorded.
func (s *service) journal(t *testing.T) []map[string]any {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "journal", "journal-*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %d files", err, len(files))
	}
	var records []map[string]any
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(strings.TrimRight(string(text), "\x00")) {
			var r map[string]any
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%v: %q", err, line)
			}
			records = append(records, r)
		}
	}
	return records
}

// clusterEntry is a cluster as the configuration has it: watched, with a kubeconfig.
func clusterEntry(c *rig.Cluster, more string) string {
	return fmt.Sprintf("  - {name: %s, issuer: %q, api_server: %q, ca_file: %q, kubeconfig_file: %q%s}\n", c.Name, c.Issuer, c.Server, c.CA, c.Kubeconfig(), more)
}

// trustUs makes a cluster accept our tokens by our keys. With comments it is another file that says the same.
func trustUs(t *testing.T, s *service, c *rig.Cluster, comments ...string) {
	t.Helper()
	ca, _ := json.Marshal(string(s.CA)) // JSON is YAML, on one line
	c.SetAuthenticationConfig(t, fmt.Sprintf(`apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: %q, audiences: [%q], certificateAuthority: %s}
  claimMappings:
    username: {claim: sub, prefix: "signalbox:"}
    groups: {claim: groups, prefix: "signalbox:"}
    extra: [{key: signalbox.dev/grant-id, valueExpression: claims.grant_id}, {key: signalbox.dev/policy, valueExpression: claims.policy}]
`, s.Issuer, s.Issuer+"/clusters/"+c.Name, ca)+strings.Join(comments, ""))
}

// pair makes a certificate for 127.0.0.1 that signs itself.
func pair() (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	var c, k bytes.Buffer
	_ = pem.Encode(&c, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	_ = pem.Encode(&k, &pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	return c.Bytes(), k.Bytes(), nil
}

package rig

import (
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// DefaultIssuer is the issuer that a cluster has unless somebody chose another.
const DefaultIssuer = "https://kubernetes.default.svc"

// Options of one API server.
type Options struct {
	Issuer  string // of its service-account tokens. Empty means DefaultIssuer.
	Webhook string // the kubeconfig of its token webhook, which caches a verdict for 1 s. Empty means none.
}

// Cluster is one kube-apiserver. Its methods that take no testing.TB may be called from any
// goroutine.
type Cluster struct {
	Name   string
	Server string // https://127.0.0.1:PORT, the same after a restart
	CA     string // the file with the certificate of whoever signed the API server's
	Issuer string

	// Key signs the service-account tokens, so that a test can play a cluster that lies.
	Key *rsa.PrivateKey

	rig     *Rig
	dir     string
	ca      *ca
	admin   string       // the kubeconfig of system:masters
	client  *http.Client // of the administrator
	anybody *http.Client // without a certificate
	server  *process
	webhook string
}

// noIssuers is the authentication configuration of a cluster that trusts nobody else.
const noIssuers = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n"

// auditPolicy keeps the body of a TokenRequest, which names the pod; the token itself is in the answer, which it omits.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Request, resources: [{group: "", resources: [serviceaccounts/token]}]}
  - {level: Metadata}
`

func (r *Rig) newCluster(name string, options Options) (*Cluster, error) {
	c := &Cluster{
		Name: name, Server: "https://" + FreeAddress(), Issuer: cmp.Or(options.Issuer, DefaultIssuer),
		rig: r, webhook: options.Webhook,
	}
	var err error
	// Two clusters of one name are two prefixes of etcd: the second finds nothing of the first.
	if c.dir, err = os.MkdirTemp(r.dir, name+"-"); err != nil {
		return nil, err
	}
	c.CA = c.file("ca.crt")
	if err := c.writeFiles(); err != nil {
		return nil, err
	}
	return c, c.start()
}

// file is the path of a file of this cluster.
func (c *Cluster) file(name string) string { return filepath.Join(c.dir, name) }

// writeFiles makes certificates, keys and everything else that the API server reads.
func (c *Cluster) writeFiles() (err error) {
	if c.ca, err = newCA(c.Name); err != nil {
		return err
	}
	if c.Key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return err
	}
	accountKey, err := keyPEM(c.Key)
	if err != nil {
		return err
	}
	serverCert, serverKey, err := c.ca.server()
	if err != nil {
		return err
	}
	adminCert, adminKey, err := c.ca.client("admin", []string{"system:masters"})
	if err != nil {
		return err
	}
	for name, content := range map[string]string{
		"ca.crt":              string(c.ca.pem),
		"server.crt":          string(serverCert),
		"server.key":          string(serverKey),
		"service-account.key": string(accountKey),
		"audit-policy.yaml":   auditPolicy,
		"authentication.yaml": noIssuers,
		"admin.kubeconfig":    c.kubeconfig(clientCertificateUser(adminCert, adminKey)),
	} {
		if err := os.WriteFile(c.file(name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	c.admin = c.file("admin.kubeconfig")
	pair, err := tls.X509KeyPair(adminCert, adminKey)
	if err != nil {
		return err
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(c.ca.cert)
	c.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{pair}},
		MaxIdleConnsPerHost: 64,
	}}
	c.anybody = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}
	return nil
}

func (c *Cluster) start() error {
	_, port, _ := strings.Cut(strings.TrimPrefix(c.Server, "https://"), ":")
	args := []string{
		"--bind-address=127.0.0.1", "--secure-port=" + port,
		"--tls-cert-file=" + c.file("server.crt"), "--tls-private-key-file=" + c.file("server.key"),
		"--client-ca-file=" + c.CA,
		"--etcd-servers=" + c.rig.etcdURL, "--etcd-prefix=/" + filepath.Base(c.dir),
		"--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-issuer=" + c.Issuer,
		"--service-account-signing-key-file=" + c.file("service-account.key"),
		"--service-account-key-file=" + c.file("service-account.key"),
		"--authentication-config=" + c.file("authentication.yaml"),
		"--audit-log-path=" + c.file("audit.log"), "--audit-policy-file=" + c.file("audit-policy.yaml"),
		// Service accounts come without the controllers that this plugin waits for.
		"--disable-admission-plugins=ServiceAccount",
		"--authorization-mode=RBAC",
		// Nothing routes to the service "kubernetes", and loopback may not be in its endpoints.
		"--endpoint-reconciler-type=none",
	}
	if c.webhook != "" {
		if err := os.WriteFile(c.file("webhook.kubeconfig"), []byte(c.webhook), 0o600); err != nil {
			return err
		}
		args = append(args, "--authentication-token-webhook-config-file="+c.file("webhook.kubeconfig"),
			"--authentication-token-webhook-cache-ttl=1s", "--authentication-token-webhook-version=v1")
	}
	var err error
	c.server, err = startProcess(c.file("kube-apiserver.log"), exec.Command(filepath.Join(c.rig.Programs, "kube-apiserver"), args...))
	if err != nil {
		return err
	}
	return c.server.wait(c.Name+" is ready", func() bool { return c.Call(http.MethodGet, "/readyz", nil, nil) == nil })
}

// Stop ends the API server. Nobody reaches it until Restart, and at most until the test ends.
func (c *Cluster) Stop(t testing.TB) {
	t.Helper()
	c.server.kill()
	t.Cleanup(func() {
		select {
		case <-c.server.ended:
			c.Restart(t)
		default:
		}
	})
}

// Restart starts the API server with what etcd and its files hold; a running one is ended first.
func (c *Cluster) Restart(t testing.TB) {
	t.Helper()
	c.server.kill()
	c.client.CloseIdleConnections()
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
}

// SetAuthenticationConfig replaces the AuthenticationConfiguration, a YAML text, until the test
// ends. It returns when the API server uses it, and fails the test if it refuses it.
func (c *Cluster) SetAuthenticationConfig(t testing.TB, config string) {
	t.Helper()
	t.Cleanup(func() { c.setAuthenticationConfig(t, noIssuers) })
	c.setAuthenticationConfig(t, config)
}

func (c *Cluster) setAuthenticationConfig(t testing.TB, config string) {
	t.Helper()
	const metric = "apiserver_authentication_config_controller_"
	refusals := func(metrics string) string {
		for line := range strings.Lines(metrics) {
			if strings.HasPrefix(line, metric+"automatic_reloads_total") && strings.Contains(line, `status="failure"`) {
				return line
			}
		}
		return ""
	}
	before, err := c.metrics()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(c.server.log)
	if err != nil {
		t.Fatal(err)
	}
	// Renamed over the old one, so that the API server never reads half of it.
	path := c.file("authentication.yaml")
	if err := os.WriteFile(path+".new", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	inUse := fmt.Sprintf(`hash="sha256:%x"`, sha256.Sum256([]byte(config)))
	err = c.server.wait("the authentication configuration is in use", func() bool {
		now, err := c.metrics()
		if err == nil && refusals(now) != refusals(before) {
			t.Fatalf("%s refused the authentication configuration:\n%s", c.Name, tail(c.server.log, info.Size()))
		}
		return err == nil && strings.Contains(now, metric+"last_config_info") && strings.Contains(now, inUse)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (c *Cluster) metrics() (string, error) {
	var text string
	err := c.Call(http.MethodGet, "/metrics", nil, &text)
	return text, err
}

// showLogOfFailure shows what the API server has logged since now, if the test fails.
func (c *Cluster) showLogOfFailure(t testing.TB) {
	t.Helper()
	info, err := os.Stat(c.file("kube-apiserver.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if text := tail(c.file("kube-apiserver.log"), info.Size()); t.Failed() && text != "" {
			t.Logf("%s logged meanwhile:\n%s", c.Name, text)
		}
	})
}

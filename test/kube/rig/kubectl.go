package rig

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Kubeconfig is the file of an administrator, with a client certificate.
func (c *Cluster) Kubeconfig() string { return c.admin }

// KubeconfigFor writes the kubeconfig of a user with a client certificate, who may do what
// RBAC says of that name and these groups.
func (c *Cluster) KubeconfigFor(t testing.TB, user string, groups ...string) string {
	t.Helper()
	cert, key, err := c.ca.client(user, groups)
	if err != nil {
		t.Fatal(err)
	}
	return c.KubeconfigWith(t, clientCertificateUser(cert, key))
}

// KubeconfigWith writes a kubeconfig for this cluster whose user is the given YAML, on one
// line: {token: …}, {exec: {…}}.
func (c *Cluster) KubeconfigWith(t testing.TB, user string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(c.kubeconfig(user)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (c *Cluster) kubeconfig(user string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: %[1]s, cluster: {server: %[2]q, certificate-authority-data: %[3]s}}]
users: [{name: %[1]s, user: %[4]s}]
contexts: [{name: %[1]s, context: {cluster: %[1]s, user: %[1]s}}]
current-context: %[1]s
`, c.Name, c.Server, base64.StdEncoding.EncodeToString(c.ca.pem), user)
}

func clientCertificateUser(cert, key []byte) string {
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("{client-certificate-data: %s, client-key-data: %s}", encode(cert), encode(key))
}

// Kubectl runs kubectl as an administrator and returns what it printed. It must succeed.
func (c *Cluster) Kubectl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.KubectlAs(t, c.admin, args...)
	if err != nil {
		t.Fatalf("kubectl %q: %v", args, err)
	}
	return out
}

// KubectlAs runs kubectl with a kubeconfig. The error holds what it wrote to standard error.
func (c *Cluster) KubectlAs(t testing.TB, kubeconfig string, args ...string) (string, error) {
	t.Helper()
	cmd := c.KubectlCommand(t, kubeconfig, args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	return out.String(), nil
}

// KubectlCommand is kubectl with a kubeconfig, which nobody has started.
func (c *Cluster) KubectlCommand(t testing.TB, kubeconfig string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(c.rig.Programs, "kubectl"), append([]string{"--kubeconfig", kubeconfig}, args...)...)
	// Neither the caches nor the preferences of whoever runs the tests.
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "KUBECACHEDIR="+c.file("kubectl-cache"))
	return cmd
}

// AuditEvent is a line of the audit log: the parts that tests look at.
type AuditEvent struct {
	AuditID    string
	Verb       string
	RequestURI string
	User       User
	// ImpersonatedUser is whom the user acts as, if anybody.
	ImpersonatedUser User
	ObjectRef        struct {
		Resource, Namespace, Name, APIGroup, Subresource string
	}
	ResponseStatus struct{ Code int }
	Annotations    map[string]string
}

// AuditLogFile is where the API server writes one JSON object for each request that it answered.
func (c *Cluster) AuditLogFile() string { return c.file("audit.log") }

// AuditLog returns all of it.
func (c *Cluster) AuditLog(t testing.TB) []AuditEvent {
	t.Helper()
	text, err := os.ReadFile(c.AuditLogFile())
	if err != nil {
		t.Fatal(err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1] // the last line may still be being written
	var events []AuditEvent
	for lines := json.NewDecoder(bytes.NewReader(text)); lines.More(); {
		var e AuditEvent
		if err := lines.Decode(&e); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

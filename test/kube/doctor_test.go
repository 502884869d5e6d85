package kube

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// signalbox runs the command, which finds kubectl, and nothing of whoever runs the tests.
func signalbox(t *testing.T, r *rig.Rig, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	command, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), command, args...)
	cmd.Env = append(append(os.Environ(), "PATH="+r.Programs+":"+os.Getenv("PATH"), "HOME="+t.TempDir()), env...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// The doctor reads a real cluster with real kubectl, as whoever runs it.
func TestDoctorFindsWhatIsStatic(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	kubeconfig, err := os.ReadFile(r.SpokeB.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	context := regexp.MustCompile(`current-context: *"?([^"\n]+)`).FindSubmatch(kubeconfig)
	if context == nil {
		t.Fatalf("no current context in %s", kubeconfig)
	}
	r.SpokeB.Namespace(t, "forgotten")
	file := filepath.Join(t.TempDir(), "secret.yaml")
	if err := os.WriteFile(file, []byte(`
apiVersion: v1
kind: Secret
metadata: {namespace: forgotten, name: cluster-east, labels: {argocd.argoproj.io/secret-type: cluster}}
stringData: {server: "https://east:6443", config: '{"bearerToken": "hunter2"}'}
---
apiVersion: v1
kind: ServiceAccount
metadata: {namespace: forgotten, name: old}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata: {namespace: forgotten, name: old-token, annotations: {kubernetes.io/service-account.name: old}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: old-is-admin}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, namespace: forgotten, name: old}]
`), 0o600); err != nil {
		t.Fatal(err)
	}
	r.SpokeB.Kubectl(t, "apply", "-f", file)

	doctor := func(kubeconfig string, more ...string) (stdout, stderr string, code int) {
		return signalbox(t, r, nil, append([]string{"doctor", "--kubernetes", "--kubeconfig", kubeconfig, "--kube-context", string(context[1])}, more...)...)
	}
	stdout, stderr, code := doctor(r.SpokeB.Kubeconfig())
	if code != 1 || strings.Contains(stdout+stderr, "hunter2") {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	for _, text := range []string{
		"Secret forgotten/cluster-east", "Argo CD reaches https://east:6443", "Secret forgotten/old-token", "a service account's token that never expires",
		"of system:serviceaccount:forgotten:old", "may: ClusterRole cluster-admin", "instead: ",
	} {
		if !strings.Contains(stdout, text) {
			t.Errorf("no %q in\n%s%s", text, stdout, stderr)
		}
	}
	if strings.Index(stdout, "old-token") > strings.Index(stdout, "cluster-east") {
		t.Errorf("what may do most does not come first:\n%s", stdout)
	}
	stdout, stderr, _ = doctor(r.SpokeB.Kubeconfig(), "-o", "json")
	var found []map[string]any
	if err := json.Unmarshal([]byte(stdout), &found); err != nil || len(found) < 2 {
		t.Errorf("%v: %s%s", err, stdout, stderr)
	}
	if stdout, stderr, code = doctor(r.SpokeB.KubeconfigFor(t, "nobody")); code != 1 || !strings.Contains(stderr, "cannot be listed") {
		t.Errorf("as nobody: exit code %d:\n%s%s", code, stdout, stderr)
	}
}

package kube

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// manager is what `argocd cluster add` makes on a cluster, with a token that never expires.
const manager = `apiVersion: v1
kind: ServiceAccount
metadata: {name: argocd-manager, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: argocd-manager-role}
rules: [{apiGroups: ["*"], resources: ["*"], verbs: ["*"]}, {nonResourceURLs: ["*"], verbs: ["*"]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: argocd-manager-role-binding}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: argocd-manager-role}
subjects: [{kind: ServiceAccount, name: argocd-manager, namespace: kube-system}]
`

// staticToken makes a service account's token that never expires, as the token controller
// does, which no rig has: a Secret with a token that names it.
func staticToken(t *testing.T, c *rig.Cluster, namespace, account string) string {
	t.Helper()
	var of struct{ Metadata struct{ UID string } }
	if err := c.Call(http.MethodGet, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+account, nil, &of); err != nil {
		t.Fatal(err)
	}
	const claim = "kubernetes.io/serviceaccount/"
	token := forge(t, map[string]any{"alg": "RS256"}, map[string]any{
		"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:" + namespace + ":" + account,
		claim + "namespace": namespace, claim + "secret.name": account + "-token", claim + "service-account.name": account, claim + "service-account.uid": of.Metadata.UID,
	}, rs256(c.Key))
	mustApply(t, c, fmt.Sprintf(`apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata: {name: %[2]s-token, namespace: %[1]s, annotations: {kubernetes.io/service-account.name: %[2]s, kubernetes.io/service-account.uid: %[3]s}}
stringData: {token: %[4]q, namespace: %[1]s}
`, namespace, account, of.Metadata.UID, token))
	return token
}

// staticCluster is a cluster Secret of Argo CD as `argocd cluster add` writes it.
func (a *argo) staticCluster(t *testing.T, c *rig.Cluster, token string) {
	t.Helper()
	ca, err := os.ReadFile(c.CA)
	if err != nil {
		t.Fatal(err)
	}
	config, _ := json.Marshal(map[string]any{"bearerToken": token, "tlsClientConfig": map[string]any{"insecure": false, "caData": ca}})
	a.apply(fmt.Sprintf(`apiVersion: v1
kind: Secret
metadata: {name: cluster-%[1]s, namespace: %[2]s, labels: {argocd.argoproj.io/secret-type: cluster}}
stringData: {name: %[1]s, server: %[3]q, config: %[4]q}
`, c.Name, a.namespace, c.Server, config))
}

// equipped is the application controller as an object: no kubelet makes a pod of it.
const equipped = `apiVersion: apps/v1
kind: StatefulSet
metadata: {name: argocd-application-controller, namespace: %[1]s, labels: {app.kubernetes.io/name: argocd-application-controller}}
spec:
  serviceName: argocd
  selector: {matchLabels: {app: argocd}}
  template:
    metadata: {labels: {app: argocd}}
    spec:
      serviceAccountName: argocd-application-controller
      containers:
        - name: main
          image: registry.example.com/none
          volumeMounts:
            - {name: programs, mountPath: /usr/local/bin/signalbox, subPath: signalbox}
            - {name: signalbox, mountPath: /var/run/secrets/signalbox, readOnly: true}
      volumes:
        - {name: programs, emptyDir: {}}
        - name: signalbox
          projected: {sources: [{serviceAccountToken: {path: token, audience: %[2]q}}]}
`

// migration runs `signalbox argocd migrate` as an administrator of all clusters.
type migration struct {
	*testing.T
	s         *service
	namespace string
	env       []string
	secrets   []string // that nobody may see
}

func (m *migration) command(args ...string) *exec.Cmd {
	m.Helper()
	command, err := binary()
	if err != nil {
		m.Fatal(err)
	}
	token := m.s.post(m.T, "/token", url.Values{"grant_type": {"client_credentials"}}, "reader", apiSecret).AccessToken
	cmd := exec.CommandContext(m.Context(), command, append([]string{"argocd", "migrate", "--kube-context", "hub", "--namespace", m.namespace,
		"--issuer-ca-file", filepath.Join(m.s.dir, "tls.crt"), "--wait", "1m"}, args...)...)
	cmd.Env = append(m.env, "SIGNALBOX_ADMIN_URL="+m.s.Admin, "SIGNALBOX_ADMIN_TOKEN="+token)
	return cmd
}

// killed runs it until it says a text.
func (m *migration) killed(text string, args ...string) {
	m.Helper()
	cmd := m.command(args...)
	said := new(words)
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		m.Fatal(err)
	}
	until(m.T, time.Minute, "migrate says "+text, func() bool { return strings.Contains(said.String(), text) })
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func (m *migration) run(args ...string) (out string, code int) {
	m.Helper()
	cmd := m.command(args...)
	text, _ := cmd.CombinedOutput()
	m.Logf("migrate %q:\n%s", args, text)
	for _, secret := range m.secrets {
		if strings.Contains(string(text), secret) {
			m.Errorf("migrate %q shows a credential", args)
		}
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// says runs it, and holds it to an exit code and to texts.
func (m *migration) says(code int, args []string, texts ...string) {
	m.Helper()
	out, got := m.run(args...)
	if got != code {
		m.Errorf("migrate %q: exit code %d, not %d", args, got, code)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			m.Errorf("migrate %q does not say %q", args, text)
		}
	}
}

func (m *migration) config(c *rig.Cluster, cluster string) string {
	m.Helper()
	text, err := base64.StdEncoding.DecodeString(c.Kubectl(m.T, "get", "secret", "-n", m.namespace, "cluster-"+cluster, "-o", "jsonpath={.data.config}"))
	if err != nil {
		m.Fatal(err)
	}
	return string(text)
}

// A real Argo CD is freed of the tokens of argocd-manager. Both spokes' applications sync all
// the time; a spoke where the plugin cannot work gets its token back.
func TestArgoCDIsMigratedStepByStep(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const namespace = "argocd-migrate"
	s := startService(t, trustClients+"clusters:\n"+clusterEntry(r.Hub, "")+"  - {name: move-a}\n  - {name: move-b}\npolicies:\n"+fmt.Sprintf(argoPolicy, namespace, "move-a"))
	a := newArgo(t, r.Hub, namespace, "")
	pod := runs(t, r.Hub, namespace, "argocd-application-controller", "argocd-application-controller-0")
	p := newPlugin(t, s)
	p.prove(r.Hub.Token(t, pod, s.Issuer, time.Hour))
	a.env = append(a.env, "PATH="+filepath.Dir(p.path)+":"+a.programs+":"+os.Getenv("PATH"))
	a.apply(fmt.Sprintf(equipped, namespace, s.Issuer))

	spokes, tokens := map[string]*rig.Cluster{}, map[string]string{}
	kubeconfigs := []string{r.Hub.Kubeconfig()}
	for _, name := range []string{"move-a", "move-b"} {
		c := r.Add(t, name, rig.Options{})
		spokes[name] = c
		kubeconfigs = append(kubeconfigs, c.Kubeconfig())
		trustUs(t, s, c)
		c.Namespace(t, "shop")
		mustApply(t, c, manager)
		tokens[name] = staticToken(t, c, "kube-system", "argocd-manager")
		a.staticCluster(t, c, tokens[name])
	}
	mustApply(t, spokes["move-a"], clusterReader+writer("shop", deployers))
	repo := newRepository(t, "a", "b")
	a.startController()
	a.addApp("a", "default", repo, spokes["move-a"].Server, "shop")
	a.addApp("b", "default", repo, spokes["move-b"].Server, "shop")
	follow := func() {
		t.Helper()
		revision := repo.commit("a", "b")
		a.follows("a", revision)
		a.follows("b", revision)
	}
	follow()

	m := &migration{T: t, s: s, namespace: namespace, secrets: []string{tokens["move-a"], tokens["move-b"]}}
	m.env = append(os.Environ(), "PATH="+r.Programs+":"+os.Getenv("PATH"), "HOME="+t.TempDir(), "KUBECONFIG="+strings.Join(kubeconfigs, ":"))

	names := []string{"--map", "cluster-move-a=move-a", "--map", "cluster-move-b=move-b"}
	with := func(more ...string) []string { return append(more, names...) }
	const applied = "cluster-applied"
	tool := exec.Command(filepath.Join(r.Programs, "kubectl"), "--kubeconfig", r.Hub.Kubeconfig(), "apply", "--server-side", "--field-manager=platform-tool", "-f", "-")
	tool.Stdin = strings.NewReader(fmt.Sprintf(`apiVersion: v1
kind: Secret
metadata: {name: %s, namespace: %s, labels: {argocd.argoproj.io/secret-type: cluster}}
stringData: {name: applied, server: "https://applied.example.com", config: '{"bearerToken": "of-a-tool"}'}
`, applied, namespace))
	if out, err := tool.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m.says(1, with("--apply", "--cluster-secret", applied), "cluster-applied: not touched: it is made by platform-tool (server-side apply), which would write the credential again")
	r.Hub.Kubectl(t, "delete", "secret", "-n", namespace, applied)

	m.says(1, nil, "missing: no registered cluster", "do: signalbox cluster add NAME --api-server "+spokes["move-a"].Server)
	m.says(1, with(), "cluster-move-a ("+spokes["move-a"].Server+"): ready", "of: system:serviceaccount:kube-system:argocd-manager", "applications: "+namespace+"/a",
		"cluster-move-b ("+spokes["move-b"].Server+"): NOT ready", "missing: no policy lets the application controller have tokens for move-b",
		"to: {cluster: move-b}", "2 of 2 cluster Secrets have a static credential")
	if len(m.config(r.Hub, "move-a")) == 0 || !strings.Contains(m.config(r.Hub, "move-a"), tokens["move-a"]) {
		t.Error("the plan has changed something")
	}

	// One is migrated, the one without a policy is not touched.
	m.says(1, with("--apply"), "cluster-move-a: the application controller gets tokens for move-a, where it is signalbox:cluster:hub:ns:"+namespace+":sa:argocd-application-controller",
		namespace+"/a is Synced and Healthy", "cluster-move-a: done", "cluster-move-b: not touched: no policy")
	if config := m.config(r.Hub, "move-a"); strings.Contains(config, tokens["move-a"]) || !strings.Contains(config, "caData") || !strings.Contains(config, "kube-credential") {
		t.Errorf("the config of move-a is %s", config)
	}
	if text := r.Hub.Kubectl(t, "get", "secret", "-n", namespace, "cluster-move-a", "-o", "yaml"); strings.Contains(text, "bearerToken") {
		t.Error("an annotation has the token still")
	}
	began := p.count()
	for range 4 { // more than one life of a token, which is 20 s
		follow()
		time.Sleep(8 * time.Second)
	}
	if p.count() == began {
		t.Error("the plugin gave no second token")
	}

	// The one whose group has no role is found before; the one that may write and not read, by Argo CD.
	s.edit(t, func(file string) string { return file + fmt.Sprintf(argoPolicy, namespace, "move-b") })
	m.says(1, with("--apply"), "cluster-move-b: FAILED: nothing was changed: the application "+namespace+"/b needs a right", "to create configmaps in shop")
	mustApply(t, spokes["move-b"], strings.TrimPrefix(writer("shop", deployers), "---\n"))
	m.says(1, with("--apply"), "cluster-move-b: the application "+namespace+"/b does not sync", "forbidden", "cluster-move-b: its old credential was put back", "cluster-move-b: FAILED: it has its old credential")
	if !strings.Contains(m.config(r.Hub, "move-b"), tokens["move-b"]) {
		t.Error("the token of move-b was not put back")
	}
	follow()
	if left := r.Hub.Kubectl(t, "get", "secrets", "-n", namespace, "-l", "signalbox.dev/argocd-migration=backup", "-o", "name"); strings.TrimSpace(left) != "secret/signalbox-migration-cluster-move-a" {
		t.Errorf("backups: %s", left)
	}

	// Back, and once more with everything that is needed.
	m.says(0, with("--rollback"), "cluster-move-a: its old credential was put back")
	if !strings.Contains(m.config(r.Hub, "move-a"), tokens["move-a"]) {
		t.Error("the token of move-a was not put back")
	}
	follow()
	mustApply(t, spokes["move-b"], clusterReader)
	m.killed("cluster-move-a: it names the plugin now", with("--apply")...)
	m.says(1, with("--finish", "--yes"), "cluster-move-a is not proved (replaced): --apply proves it, --rollback goes back")
	m.says(0, with("--apply"), "cluster-move-a: it names the plugin since an earlier run", "cluster-move-a: done", "cluster-move-b: done")
	follow()
	m.says(0, nil, "cluster-move-b ("+spokes["move-b"].Server+"): migrated: --finish", "0 of 2 cluster Secrets")

	// The last step. move-b's account is used by a pod too: only the token goes.
	other := spokes["move-b"].Pod(t, "kube-system", "argocd-manager", "other")
	m.says(2, []string{"--finish"}, "say --yes")
	m.says(0, []string{"--finish", "--yes"}, "cluster-move-a: removed: ServiceAccount kube-system/argocd-manager", "cluster-move-a: removed: ClusterRole argocd-manager-role",
		"cluster-move-a: removed: ClusterRoleBinding argocd-manager-role-binding", "cluster-move-a: the cluster refuses the old token",
		"cluster-move-b: note: the account and its roles, since Pod kube-system/"+other.Name+" runs with it", "cluster-move-b: the cluster refuses the old token", "there is no way back")
	for name, c := range spokes {
		if out, err := c.KubectlAs(t, c.KubeconfigWith(t, "{token: "+tokens[name]+"}"), "auth", "whoami"); err == nil || !strings.Contains(err.Error(), "Unauthorized") && !strings.Contains(err.Error(), "logged in") {
			t.Errorf("%s takes the old token: %s, %v", name, out, err)
		}
	}
	if out, err := spokes["move-a"].KubectlAs(t, spokes["move-a"].Kubeconfig(), "get", "serviceaccount", "-n", "kube-system", "argocd-manager"); err == nil {
		t.Errorf("the account is there: %s", out)
	}
	if out := spokes["move-b"].Kubectl(t, "get", "clusterrole,serviceaccount", "-n", "kube-system", "-o", "name"); !strings.Contains(out, "argocd-manager-role") || !strings.Contains(out, "serviceaccount/argocd-manager") {
		t.Errorf("what a pod uses was removed: %s", out)
	}
	follow()
	m.says(0, nil, "cluster-move-a ("+spokes["move-a"].Server+"): done", "cluster-move-b ("+spokes["move-b"].Server+"): done")
	m.says(0, []string{"--finish", "--yes"}, "there is nothing to finish")
	if left := r.Hub.Kubectl(t, "get", "secrets", "-n", namespace, "-o", "yaml"); strings.Contains(left, base64.StdEncoding.EncodeToString([]byte(tokens["move-a"]))) || strings.Contains(left, "signalbox-migration") {
		t.Error("a backup is left")
	}
	command, _ := binary()
	doctor := exec.CommandContext(t.Context(), command, "doctor", "--kubernetes", "--kube-context", "hub", "--kube-context", "move-a", "--kube-context", "move-b")
	doctor.Env = m.env
	if found, _ := doctor.Output(); strings.Contains(string(found), namespace) || strings.Contains(string(found), "argocd-manager") && !strings.Contains(string(found), "Pod kube-system/other") {
		t.Errorf("the doctor finds\n%s", found)
	}
}

// kubectl sends on what it is told about an object that was read: one that has changed since is neither replaced nor deleted.
func TestKubectlHoldsToWhatWasRead(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const namespace, path = "migrate-read", "/api/v1/namespaces/migrate-read/secrets/it"
	r.Hub.Namespace(t, namespace)
	kubectl := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(r.Programs, "kubectl"), append([]string{"--kubeconfig", r.Hub.Kubeconfig()}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	mustApply(t, r.Hub, "apiVersion: v1\nkind: Secret\nmetadata: {name: it, namespace: "+namespace+"}\nstringData: {a: first}\n")
	old := kubectl("", "get", "--raw", path)
	var read struct {
		Metadata struct{ UID, ResourceVersion string }
	}
	if err := json.Unmarshal([]byte(old), &read); err != nil {
		t.Fatal(err)
	}
	mustApply(t, r.Hub, "apiVersion: v1\nkind: Secret\nmetadata: {name: it, namespace: "+namespace+"}\nstringData: {a: second}\n")
	if out := kubectl(old, "replace", "--raw", path, "-f", "-"); !strings.Contains(out, "Error from server (Conflict)") {
		t.Errorf("replaced: %s", out)
	}
	options := fmt.Sprintf(`{"kind":"DeleteOptions","apiVersion":"v1","preconditions":{"uid":%q,"resourceVersion":%q}}`, read.Metadata.UID, read.Metadata.ResourceVersion)
	if out := kubectl(options, "delete", "--raw", path, "-f", "-"); !strings.Contains(out, "Error from server (Conflict)") {
		t.Errorf("deleted: %s", out)
	}
	if now := kubectl("", "get", "--raw", path); !strings.Contains(now, base64.StdEncoding.EncodeToString([]byte("second"))) {
		t.Errorf("it is %s", now)
	}
}

package kube

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/test/drill"
	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// Drill 4, docs/explanation/drills.md: of the thousand credentials of a cluster one was never
// rotated. It is found and replaced; what Signalbox makes would have been dead by itself.
func TestDrill4_TheUnrotatedCredential(t *testing.T) {
	t.Parallel()
	report := drill.Begin(t)
	life := drillLife()
	const (
		namespace               = "drill-4"
		kept, byPlugin, expires = 400, 300, 299 // and one that is static
		age                     = 3*365*24*time.Hour + 24*time.Hour
	)
	r := rig.Start(t)
	hub := r.Add(t, "hub", rig.Options{}) // the doctor looks at all of a cluster
	s := startService(t, operator+"clusters:\n"+clusterEntry(hub, "")+strings.ReplaceAll(deploys("hub", namespace, "hub"), "ttl: 5m", "ttl: "+life.String())+
		"  - {name: fleet, from: {cluster: hub, namespace: "+namespace+", service_account: orders}, to: {resource: \"https://billing.example.com\", scopes: [invoices:read]}, ttl: 5m}\n")
	trustUs(t, s, hub)
	stopAgent := startAgent(t, s, install(t, hub, namespace), namespace)
	pod := runs(t, hub, namespace, "orders", "orders-1")
	proof := hub.Token(t, pod, s.Issuer, time.Hour)
	mustApply(t, hub, `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: orders-is-admin}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects:
  - {kind: ServiceAccount, namespace: `+namespace+`, name: orders}
  - {apiGroup: rbac.authorization.k8s.io, kind: User, name: "signalbox:cluster:hub:ns:`+namespace+`:sa:orders"}
`)

	// The thousand.
	secrets := "/api/v1/namespaces/" + namespace + "/secrets"
	argo := func(name string, config map[string]any) map[string]any {
		text, _ := json.Marshal(config)
		return map[string]any{
			"metadata":   map[string]any{"name": name, "labels": map[string]string{"argocd.argoproj.io/secret-type": "cluster"}},
			"stringData": map[string]string{"server": "https://" + name + ".example.com:6443", "config": string(text)},
		}
	}
	declare := func(name string, to map[string]any) {
		post(t, hub, "/apis/signalbox.dev/v1alpha1/namespaces/"+namespace+"/signalboxtokens", map[string]any{
			"apiVersion": "signalbox.dev/v1alpha1", "kind": "SignalboxToken", "metadata": map[string]any{"name": name},
			"spec": map[string]any{"to": to, "serviceAccountName": "orders", "secret": map[string]any{"name": name, "kind": "opaque"}},
		})
	}
	each(kept-1, func(i int) {
		declare(fmt.Sprintf("kept-%d", i), map[string]any{"resource": "https://billing.example.com", "scopes": []string{"invoices:read"}})
	})
	each(byPlugin, func(i int) {
		post(t, hub, secrets, argo(fmt.Sprintf("plugin-%d", i), map[string]any{"execProviderConfig": map[string]any{
			"command": "signalbox", "apiVersion": "client.authentication.k8s.io/v1", "args": []string{"kube-credential", "--issuer", s.Issuer, "--cluster", "hub"},
		}}))
	})
	each(expires, func(i int) {
		post(t, hub, secrets, argo(fmt.Sprintf("expires-%d", i), map[string]any{"bearerToken": s.token(t, proof, "hub")}))
	})
	static := legacyToken(t, hub, namespace, "orders")
	hub.Backdate(t, namespace, "orders-token", time.Now().Add(-age))
	declare("forgotten", map[string]any{"cluster": "hub"})
	until(t, 2*time.Minute, "the agent has written every Secret", func() bool {
		out := hub.Kubectl(t, "get", "secrets", "-n", namespace, "-l", "app.kubernetes.io/managed-by=signalbox-agent", "-o", "name")
		return strings.Count(out, "\n") == kept
	})

	type finding struct {
		Kind, Namespace, Name, Subject, Replace string
		Since                                   time.Time
		Can                                     []string
	}
	doctor := func() (text string, found []finding, code int, took time.Duration) {
		t.Helper()
		env, args := s.asOperator(t), []string{"doctor", "--kubernetes", "--kubeconfig", hub.Kubeconfig()}
		began := time.Now()
		stdout, stderr, code := signalbox(t, r, env, args...)
		took = time.Since(began)
		report.Ran("signalbox doctor --kubernetes", stdout+stderr)
		out, _, again := signalbox(t, r, env, append(args, "-o", "json")...)
		if err := json.Unmarshal([]byte(out), &found); err != nil || again != code {
			t.Fatalf("%v, exit codes %d and %d: %s", err, code, again, out)
		}
		return stdout, found, code, took
	}
	report.Say("A cluster with %d Secrets: the agent keeps %d fresh, with %d a plugin asks when it needs a token, %d hold a token that expires, and one was forgotten 3 years ago.",
		kept+byPlugin+expires+1, kept, byPlugin, expires)
	text, found, code, took := doctor()
	named := len(found) == 1 && found[0].Kind == "Secret" && found[0].Namespace == namespace && found[0].Name == "orders-token"
	if !named {
		t.Fatalf("the doctor finds %+v", found)
	}
	f := found[0]
	mayAll, _ := hub.KubectlAs(t, hub.KubeconfigWith(t, "{token: "+static+"}"), "auth", "can-i", "*", "*")

	// The same, made by Signalbox: each is good for the same account at the same cluster. Then nobody renews them.
	dir := t.TempDir()
	proofFile, tokenFile := filepath.Join(dir, "proof"), filepath.Join(dir, "token")
	for name, content := range map[string]string{"proof": proof, "agent.yaml": fmt.Sprintf(`issuer: %s
ca_file: %q
tokens: [{name: hub, from: {subject_token_file: %q}, to: {cluster: hub}, file: {path: %q}}]
`, s.Issuer, filepath.Join(s.dir, "tls.crt"), proofFile, tokenFile)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, told, code := signalbox(t, r, nil, "agent", "--config", filepath.Join(dir, "agent.yaml"), "--once"); code != 0 {
		t.Fatalf("signalbox agent: %s", told)
	}
	out, told, code2 := signalbox(t, r, []string{"XDG_CACHE_HOME=" + dir}, "kube-credential", "--issuer", s.Issuer, "--cluster", "hub", "--subject-token-file", proofFile, "--ca-file", filepath.Join(s.dir, "tls.crt"))
	var credential struct{ Status struct{ Token string } }
	if err := json.Unmarshal([]byte(out), &credential); err != nil || code2 != 0 {
		t.Fatalf("signalbox kube-credential: %v: %s", err, told)
	}
	var ours string
	until(t, time.Minute, "the Secret of the SignalboxToken is fresh", func() bool {
		ours = data(t, hub, namespace, "forgotten", "token")
		_, claims := unverified(t, ours)
		return time.Until(time.Unix(int64(claims["exp"].(float64)), 0)) > life/2
	})
	stopAgent()

	forgotten := []struct{ name, token string }{
		{"the Secret of a SignalboxToken", ours},
		{"the file of the agent", strings.TrimSpace(read(t, tokenFile))},
		{"what the plugin gave kubectl", credential.Status.Token},
		{"the token of a Secret of the service account", static},
	}
	ways := make([]*way, len(forgotten))
	for i, f := range forgotten {
		ways[i] = &way{name: f.name, try: takes(t, hub, f.token)}
		if !ways[i].try() {
			t.Fatalf("never good: %s", f.name)
		}
	}
	over := life + repeats
	var all sync.WaitGroup
	for i, f := range forgotten {
		born := time.Now() // for the static one the drill only begins now
		if _, claims := unverified(t, f.token); claims["iat"] != nil {
			born = time.Unix(int64(claims["iat"].(float64)), 0)
		}
		all.Go(func() { ways[i].until(born, born.Add(over+2*time.Second)) })
	}
	all.Wait()

	// What the doctor says to do.
	if may, err := hub.KubectlAs(t, withPlugin(t, s, hub, "hub", proofFile, t.TempDir()), "auth", "can-i", "*", "*"); err != nil || strings.TrimSpace(may) != "yes" {
		t.Fatalf("with the plugin it may not do the same: %s, %v", may, err)
	}
	_, command, _ := strings.Cut(f.Replace, "then kubectl ")
	report.Ran("kubectl "+command, hub.Kubectl(t, strings.Fields(command)...))
	refused := until(t, time.Minute, "the deleted token is refused", func() bool { return !ways[3].try() })
	_, left, codeAfter, _ := doctor()

	rows := [][]string{}
	for _, w := range ways {
		last := drill.Show(w.last)
		if w.last > over {
			last = "works still"
		}
		rows = append(rows, []string{w.name, map[bool]string{true: "works", false: "refused"}[w.last > over], last})
	}
	report.Say("Each of these was forgotten: nobody renewed it and nobody ended it. Tokens of Signalbox live for %v here.", life)
	report.Table([]string{"forgotten", fmt.Sprintf("after %v", over), "last success after"}, rows...)
	report.Promise("of a thousand credentials the doctor names the forgotten one, and no other", fmt.Sprintf("%d found, exit code %d, in %s", len(found), code, drill.Show(took)), code == 1)
	report.Promise("it says how old it is", "made on "+f.Since.Format(time.DateOnly), strings.Contains(text, ", 3y old") && time.Since(f.Since) >= age)
	report.Promise("it says what it can do, and that is so", strings.Join(f.Can, ", "), strings.Join(f.Can, ",") == "ClusterRole cluster-admin" && strings.TrimSpace(mayAll) == "yes")
	for _, w := range ways[:3] {
		report.Promise(fmt.Sprintf("%s: dead by itself when its life of %v is over, and %v later at the latest", w.name, life, repeats), drill.Show(w.last), w.last <= over && !w.again)
	}
	report.Promise("the forgotten one would have lived on", rows[3][2], ways[3].last > over)
	report.Promise("when the doctor's command has run, it finds nothing", fmt.Sprintf("%d found, exit code %d", len(left), codeAfter), len(left) == 0 && codeAfter == 0)
	report.Within(repeats+time.Second, "and the cluster refuses the deleted one", refused)
}

// each does something count times, some of them at once.
func each(count int, do func(i int)) {
	var workers sync.WaitGroup
	var next atomic.Int64
	for range 8 {
		workers.Go(func() {
			for i := int(next.Add(1)); i <= count; i = int(next.Add(1)) {
				do(i)
			}
		})
	}
	workers.Wait()
}

// post makes an object, from any goroutine.
func post(t *testing.T, c *rig.Cluster, path string, object map[string]any) {
	if err := c.Call(http.MethodPost, path, object, nil); err != nil {
		t.Error(err)
	}
}

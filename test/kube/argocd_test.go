package kube

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/signalboxtest"
	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// argo is the real Argo CD on the hub: application controller, repo-server, and where a
// test asks for it the server.
type argo struct {
	*testing.T
	hub        *rig.Cluster
	namespace  string
	programs   string
	env        []string
	controller *rig.Program
	redis      string
	repos      string
}

// newArgo installs Argo CD's kinds on the hub and starts what everything else needs.
func newArgo(t *testing.T, hub *rig.Cluster, namespace, config string) *argo {
	t.Helper()
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("there is no redis-server")
		}
		t.Skip("NOT TESTED: this machine has no redis-server (make test installs it)")
	}
	a := &argo{T: t, hub: hub, namespace: namespace, programs: rig.GitOps(t), redis: rig.FreeAddress(), repos: rig.FreeAddress()}
	_, port, _ := net.SplitHostPort(a.redis)
	rig.Run(t, "redis", exec.Command(redis, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())).
		Wait("redis listens", func() bool { return listens(a.redis) })

	installKinds(t, hub, filepath.Join(a.programs, "crds", "argocd"))
	hub.Namespace(t, namespace)
	a.apply(fmt.Sprintf(`apiVersion: v1
kind: ConfigMap
metadata: {name: argocd-cm, namespace: %[1]s, labels: {app.kubernetes.io/part-of: argocd}}
data:
  timeout.reconciliation: 2s
  timeout.reconciliation.jitter: 0s
%[2]s
---
apiVersion: v1
kind: ConfigMap
metadata: {name: argocd-rbac-cm, namespace: %[1]s, labels: {app.kubernetes.io/part-of: argocd}}
data: {policy.default: "role:readonly"}
---
apiVersion: v1
kind: Secret
metadata: {name: argocd-secret, namespace: %[1]s, labels: {app.kubernetes.io/part-of: argocd}}
stringData: {server.secretkey: c2VjcmV0LW9mLXRoZS10ZXN0cw==, admin.password: "$2a$10$none", admin.passwordMtime: "2026-01-01T00:00:00Z"}
---
apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: default, namespace: %[1]s}
spec: {sourceRepos: ["*"], destinations: [{server: "*", namespace: "*"}], clusterResourceWhitelist: [{group: "*", kind: "*"}]}
`, namespace, config))

	dir := t.TempDir()
	a.env = append(os.Environ(), "PATH="+a.programs+":"+os.Getenv("PATH"), "HOME="+dir, "TMPDIR="+dir, "ARGOCD_GPG_ENABLED=false", "ARGOCD_TLS_DATA_PATH="+dir, "ARGOCD_SSH_DATA_PATH="+dir,
		"ARGOCD_ASK_PASS_SOCK="+filepath.Join(dir, "ask"), "ARGOCD_CONTROLLER_SHARD=0", "ARGOCD_CONTROLLER_REPLICAS=1",
		"ARGOCD_RECONCILIATION_TIMEOUT=2s", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	_, port, _ = net.SplitHostPort(a.repos)
	a.run("argocd-repo-server", "--disable-tls", "--client-ca-path=", "--address", "127.0.0.1", "--port", port, "--metrics-address", "127.0.0.1", "--metrics-port", freePort(), "--redis", a.redis).
		Wait("the repo-server listens", func() bool { return listens(a.repos) })
	return a
}

// installKinds makes the kinds that the files of a folder define, and returns when they are served.
func installKinds(t *testing.T, c *rig.Cluster, folder string) {
	t.Helper()
	c.Kubectl(t, "apply", "--server-side", "-f", folder)
	until(t, 3*time.Minute, "the kinds of "+folder+" are served", func() bool {
		_, err := c.KubectlAs(t, c.Kubeconfig(), "wait", "--for=condition=Established", "--timeout=10s", "-f", folder)
		return err == nil
	})
}

// run starts Argo CD as the program of this name: one binary is all of them.
func (a *argo) run(name string, args ...string) *rig.Program {
	a.Helper()
	return rig.Run(a.T, name, &exec.Cmd{Path: filepath.Join(a.programs, "argocd"), Args: append([]string{name}, args...), Env: a.env})
}

func (a *argo) startController() {
	a.Helper()
	a.controller = a.run("argocd-application-controller", "--kubeconfig", a.hub.Kubeconfig(), "--namespace", a.namespace, "--redis", a.redis,
		"--repo-server", a.repos, "--repo-server-plaintext", "--metrics-port", freePort(), "--app-resync", "2", "--app-resync-jitter", "0",
		"--self-heal-timeout-seconds", "1", "--status-processors", "2", "--operation-processors", "2", "--logformat", "text")
}

// startServer starts argocd-server for a test or a part of one.
func (a *argo) startServer(t *testing.T, address string, env ...string) {
	t.Helper()
	_, port, _ := net.SplitHostPort(address)
	command := &exec.Cmd{Path: filepath.Join(a.programs, "argocd"), Env: append(a.env, env...), Args: []string{"argocd-server", "--kubeconfig", a.hub.Kubeconfig(), "--namespace", a.namespace,
		"--redis", a.redis, "--repo-server", a.repos, "--repo-server-plaintext", "--insecure", "--address", "127.0.0.1", "--port", port,
		"--metrics-address", "127.0.0.1", "--metrics-port", freePort(), "--logformat", "text"}}
	rig.Run(t, "argocd-server", command).WaitFor("http://" + address + "/healthz")
}

func (a *argo) apply(objects string) {
	a.Helper()
	mustApply(a.T, a.hub, objects)
}

// application is what the tests look at.
type application struct {
	Status struct {
		Sync           struct{ Status, Revision string }
		Health         struct{ Status string }
		Conditions     []struct{ Type, Message string }
		OperationState struct {
			Phase, Message string
			SyncResult     struct {
				Resources []struct{ Name, Message string }
			}
		}
	}
}

func (app application) String() string {
	text, _ := json.Marshal(app.Status)
	return string(text)
}

func (a *argo) app(name string) (app application) {
	a.Helper()
	if err := a.hub.Call(http.MethodGet, "/apis/argoproj.io/v1alpha1/namespaces/"+a.namespace+"/applications/"+name, nil, &app); err != nil {
		a.Fatal(err)
	}
	return app
}

// follows waits until the application is what the revision says.
func (a *argo) follows(name, revision string) {
	a.Helper()
	var app application
	defer func() {
		if a.Failed() {
			a.Log(name, "is", app)
		}
	}()
	until(a.T, time.Minute, name+" is synced to "+revision+" and healthy", func() bool {
		app = a.app(name)
		return app.Status.Sync.Status == "Synced" && app.Status.Sync.Revision == revision && app.Status.Health.Status == "Healthy"
	})
}

// addApp makes an application of the folder of that name, which syncs itself.
func (a *argo) addApp(name, project string, repo *repository, server, namespace string) {
	a.Helper()
	a.apply(fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: %s, namespace: %s}
spec:
  project: %s
  source: {repoURL: %q, path: %s, targetRevision: main}
  destination: {server: %q, namespace: %s}
  syncPolicy: {automated: {selfHeal: true, prune: true}, retry: {limit: -1, backoff: {duration: 1s, factor: 1}}}
`, name, a.namespace, project, repo.url, name, server, namespace))
}

// repository is a Git repository with one folder for each application.
type repository struct {
	*testing.T
	dir, url string
	commits  int
}

func newRepository(t *testing.T, apps ...string) *repository {
	t.Helper()
	r := &repository{T: t, dir: t.TempDir()}
	r.url = "file://" + r.dir
	r.git("init", "-q", "-b", "main")
	r.commit(apps...)
	return r
}

func (r *repository) git(args ...string) string {
	r.Helper()
	command := exec.CommandContext(r.Context(), "git", append([]string{"-C", r.dir, "-c", "user.name=Ada", "-c", "user.email=ada@example.com"}, args...)...)
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := command.CombinedOutput()
	if err != nil {
		r.Fatalf("git %q: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit changes the ConfigMap of each application named, and returns the revision.
func (r *repository) commit(apps ...string) string {
	r.Helper()
	r.commits++
	for _, app := range apps {
		r.write(app, fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {commit: \"%d\"}\n", app, r.commits))
	}
	return r.revision()
}

func (r *repository) write(app, object string) {
	r.Helper()
	if err := os.MkdirAll(filepath.Join(r.dir, app), 0o700); err != nil {
		r.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, app, "object.yaml"), []byte(object), 0o600); err != nil {
		r.Fatal(err)
	}
}

func (r *repository) revision() string {
	r.Helper()
	r.git("add", ".")
	r.git("commit", "-q", "-m", "change")
	return r.git("rev-parse", "HEAD")
}

func listens(address string) bool {
	connection, err := net.DialTimeout("tcp", address, time.Second)
	if err == nil {
		connection.Close()
	}
	return err == nil
}

func freePort() string {
	_, port, _ := net.SplitHostPort(rig.FreeAddress())
	return port
}

// plugin is the command of an exec plugin that counts how often it was started.
type plugin struct {
	*testing.T
	path, starts, proof string
}

func newPlugin(t *testing.T, s *service) *plugin {
	t.Helper()
	command, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := &plugin{t, filepath.Join(dir, "signalbox"), filepath.Join(dir, "starts"), filepath.Join(dir, "token")}
	script := fmt.Sprintf("#!/bin/sh\necho started >> %s\nXDG_CACHE_HOME=%s exec %s \"$@\" --subject-token-file %s --ca-file %s\n",
		p.starts, dir, command, p.proof, filepath.Join(s.dir, "tls.crt"))
	if err := os.WriteFile(p.path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *plugin) prove(token string) {
	p.Helper()
	if err := os.WriteFile(p.proof, []byte(token), 0o600); err != nil {
		p.Fatal(err)
	}
}

func (p *plugin) count() int {
	text, _ := os.ReadFile(p.starts)
	return strings.Count(string(text), "\n")
}

// argoPolicy lets the application controller get tokens for a cluster.
const argoPolicy = "  - {name: argocd-to-%[2]s, from: {cluster: hub, namespace: %[1]s, service_account: argocd-application-controller}, to: {cluster: %[2]s}, groups: [deployers], ttl: 20s}\n"

// clusterReader lets a group see everything, as Argo CD wants it.
const clusterReader = `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules: [{apiGroups: ["*"], resources: ["*"], verbs: [get, list, watch]}, {nonResourceURLs: ["*"], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "signalbox:deployers"}]
`

// writer lets a subject change ConfigMaps of a namespace.
func writer(namespace, subject string) string {
	return fmt.Sprintf(`---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: writer, namespace: %[1]s}
rules: [{apiGroups: ["*"], resources: [configmaps], verbs: ["*"]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: writer, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: writer}
subjects: [%[2]s]
`, namespace, subject)
}

const deployers = `{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "signalbox:deployers"}`

func TestScenarios11And12And13_ArgoCDDeploysWithTokensOfThePlugin(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const namespace = "argocd"
	s := startService(t, trustClients+"clusters:\n"+clusterEntry(r.Hub, "")+"  - {name: argo-a}\n  - {name: argo-b}\npolicies:\n"+
		fmt.Sprintf(argoPolicy, namespace, "argo-a")+fmt.Sprintf(argoPolicy, namespace, "argo-b"))
	a := newArgo(t, r.Hub, namespace, "  application.sync.impersonation.enabled: \"false\"")
	r.Hub.ServiceAccount(t, namespace, "argocd-application-controller")
	pod := r.Hub.Pod(t, namespace, "argocd-application-controller", "argocd-application-controller-0")

	spokes, plugins := map[string]*rig.Cluster{}, map[string]*plugin{}
	for _, name := range []string{"argo-a", "argo-b"} {
		c := r.Add(t, name, rig.Options{})
		spokes[name] = c
		trustUs(t, s, c)
		c.Namespace(t, "shop")
		mustApply(t, c, clusterReader+writer("shop", deployers))
		p := newPlugin(t, s)
		p.prove(r.Hub.Token(t, pod, s.Issuer, time.Hour))
		plugins[name] = p
		// What is printed is applied as it is, but for the place of the program.
		printed := clusterTrust(t, s, name, "--for", "argocd", "--server", c.Server, "--server-ca-file", c.CA)
		a.apply(strings.Replace(printed, `"command": "signalbox"`, fmt.Sprintf(`"command": %q`, p.path), 1))
	}
	repo := newRepository(t, "a", "b")
	a.startController()
	a.addApp("a", "default", repo, spokes["argo-a"].Server, "shop")
	a.addApp("b", "default", repo, spokes["argo-b"].Server, "shop")
	first := repo.git("rev-parse", "HEAD")
	a.follows("a", first)
	a.follows("b", first)

	// Scenario 11: three lives of 20 s, with a change in each third of them.
	began, before := time.Now(), plugins["argo-a"].count()
	for time.Since(began) < 60*time.Second {
		next := repo.commit("a", "b")
		a.follows("a", next)
		a.follows("b", next)
		time.Sleep(time.Until(began.Add(time.Since(began).Truncate(7*time.Second) + 7*time.Second)))
	}
	// One for each life that begins in this time. The plugin's answer ends 2 s before its
	// token, and the next life begins with the next change, at most 7 s later.
	if n := plugins["argo-a"].count() - before; n < 2 || n > 4 {
		t.Errorf("the plugin was started %d times in three lives of a token", n)
	}
	if log := a.controller.Log(); strings.Contains(log, "Unauthorized") {
		t.Error("Argo CD was refused")
	}
	for name, c := range spokes {
		for _, event := range c.AuditLog(t) {
			if event.ResponseStatus.Code == http.StatusUnauthorized {
				t.Errorf("%s answered 401: %s %s", name, event.Verb, event.RequestURI)
				break
			}
		}
	}
	if where := longLived(t, r, s); len(where) > 0 { // scenario 19
		t.Errorf("tokens that live longer than a day: %v", where)
	}

	// Scenario 12: without its policy one cluster is lost, and no other.
	policy := fmt.Sprintf(argoPolicy, namespace, "argo-b")
	s.edit(t, func(file string) string { return strings.Replace(file, policy, "", 1) })
	var last time.Time
	until(t, time.Minute, "the plugin says why", func() bool { // when Argo CD has something to do there, and no token
		if time.Since(last) > 5*time.Second {
			repo.commit("b")
			last = time.Now()
		}
		return strings.Contains(a.controller.Log(), "invalid_target: no trust policy allows this exchange")
	})
	next := repo.commit("a", "b")
	a.follows("a", next)
	var lost application
	until(t, time.Minute, "b shows that its cluster gives no credential", func() bool {
		lost = a.app("b")
		return strings.Contains(lost.String(), "getting credentials: exec")
	})
	t.Log("b says: ", lost)
	s.edit(t, func(file string) string { return file + policy })
	a.follows("b", next)
	a.follows("a", next)

	// Scenario 13: two projects deploy as two service accounts of the spoke, and neither writes where the other does.
	t.Run("13", func(t *testing.T) {
		c := spokes["argo-a"]
		objects := `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: impersonator}
rules: [{apiGroups: [""], resources: [serviceaccounts], resourceNames: [deployer], verbs: [impersonate]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: impersonator}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: impersonator}
subjects: [` + deployers + "]\n"
		for _, team := range []string{"team-a", "team-b"} {
			c.Namespace(t, team)
			c.ServiceAccount(t, team, "deployer")
			objects += fmt.Sprintf(`---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader-%[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{kind: ServiceAccount, name: deployer, namespace: %[1]s}]
`, team)
			objects += writer(team, "{kind: ServiceAccount, name: deployer, namespace: "+team+"}")
			a.apply(fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  sourceRepos: ["*"]
  destinations: [{server: "*", namespace: "*"}]
  destinationServiceAccounts: [{server: %[3]q, namespace: "*", defaultServiceAccount: "%[1]s:deployer"}]
`, team, namespace, c.Server))
		}
		mustApply(t, c, objects)
		r.Hub.Kubectl(t, "patch", "configmap", "-n", namespace, "argocd-cm", "--type=merge", "-p", `{"data":{"application.sync.impersonation.enabled":"true"}}`)
		revision := repo.commit("team-a", "team-b", "across")
		a.addApp("team-a", "team-a", repo, c.Server, "team-a")
		a.addApp("team-b", "team-b", repo, c.Server, "team-b")
		a.addApp("across", "team-a", repo, c.Server, "team-b")
		a.follows("team-a", revision)
		a.follows("team-b", revision)
		until(t, time.Minute, "writing across is refused", func() bool {
			said := a.app("across").String()
			return strings.Contains(said, "forbidden") && strings.Contains(said, "system:serviceaccount:team-a:deployer")
		})
		const controller = "signalbox:cluster:hub:ns:argocd:sa:argocd-application-controller"
		writes := func(account, namespace, name string, code int) bool {
			for _, event := range c.AuditLog(t) {
				if event.User.Username == controller && event.ImpersonatedUser.Username == "system:serviceaccount:"+account+":deployer" && event.Verb != "get" &&
					event.ObjectRef.Namespace == namespace && event.ResponseStatus.Code/100 == code/100 &&
					(event.ObjectRef.Name == name || event.Verb == "create" && event.ObjectRef.Name == "") { // who is refused is not asked for the name of what he makes
					return true
				}
			}
			return false
		}
		for _, row := range []struct {
			account, namespace, name string
			code                     int
		}{{"team-a", "team-a", "team-a", http.StatusOK}, {"team-b", "team-b", "team-b", http.StatusOK}, {"team-a", "team-b", "across", http.StatusForbidden}} {
			until(t, time.Minute, fmt.Sprintf("the spoke's audit log has a write of %s to %s in %s, answered %d", row.account, row.name, row.namespace, row.code), func() bool {
				return writes(row.account, row.namespace, row.name, row.code)
			})
		}
	})
}

// Argo CD takes tokens for itself, and no others. People are TestScenario14_ArgoCDSignsPeopleInWithoutASecret.
func TestScenario14_ArgoCDTakesMachinesByAudience(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const cd, other = "https://argocd.example.com", "https://api.example.com"
	issuer := signalboxtest.New(t,
		signalboxtest.Resource{ID: cd, Scopes: []string{"argocd:use"}},
		signalboxtest.Resource{ID: other, Scopes: []string{"orders:read"}},
		signalboxtest.Client{ID: "robot", Resources: []string{cd}, Scopes: []string{"argocd:use"}},
		signalboxtest.Client{ID: "stranger", Resources: []string{other}, Scopes: []string{"orders:read"}},
	)
	a := newArgo(t, r.Hub, "argocd-sso", fmt.Sprintf(`  url: %s
  oidc.config: |
    name: Signalbox
    issuer: %s
    clientID: argocd
    allowedAudiences: [argocd, %q]
`, cd, issuer.URL, cd))
	address := rig.FreeAddress()
	a.startServer(t, address)

	ask := func(path, token string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	machine := issuer.Token(signalboxtest.Request{Client: "robot"}).AccessToken
	for _, row := range []struct {
		sentence, token string
		status          int
		user            string
	}{
		{"a machine with a token for Argo CD", machine, http.StatusOK, "robot"},
		{"a machine with a token for another API", issuer.Token(signalboxtest.Request{Client: "stranger"}).AccessToken, http.StatusUnauthorized, ""},
		{"an expired token", issuer.ExpiredToken(signalboxtest.Request{Client: "robot"}).AccessToken, http.StatusUnauthorized, ""},
		{"nobody", "", http.StatusUnauthorized, ""},
	} {
		if status, text := ask("/api/v1/applications", row.token); status != row.status {
			t.Errorf("%s: %d %s", row.sentence, status, text)
		}
		if _, text := ask("/api/v1/session/userinfo", row.token); row.user != "" && !strings.Contains(text, row.user) || row.user == "" && strings.Contains(text, `"loggedIn":true`) {
			t.Errorf("%s: Argo CD says %s", row.sentence, text)
		}
	}
}

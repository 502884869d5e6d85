package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// people is a configuration with a person of the group sre, who signs in at terminals.
// Tokens live for lifetime.
func people(webhookOf string) string {
	return operator + `  - client_id: signalbox-cli
    client_name: Signalbox at the terminal
    redirect_uris: ["http://127.0.0.1/callback"]
    grant_types: [authorization_code, refresh_token, "urn:ietf:params:oauth:grant-type:token-exchange"]
    token_endpoint_auth_method: none
    scope: openid profile
tokens: {access_ttl: ` + lifetime.String() + `}
users: [{username: ada, password_file: ada.password, name: Ada Lovelace, sub: ada-id, groups: [sre]}]
clusters: [{name: ` + webhookOf + `, webhook: {caller: ` + apiClient + `}}]
policies: [{name: people, from: {user_group: sre}, to: {cluster: ` + webhookOf + `}, groups: [admins], ttl: ` + lifetime.String() + `}]
`
}

const (
	lifetime     = 10 * time.Second
	adasPassword = "ada loves trains"
)

// desk is a person's machine.
type desk struct {
	*service
	home string
}

func (d desk) environment() []string {
	return append(os.Environ(), "HOME="+d.home, "XDG_CONFIG_HOME="+filepath.Join(d.home, "config"), "XDG_CACHE_HOME="+filepath.Join(d.home, "cache"), "DBUS_SESSION_BUS_ADDRESS=")
}

func (d desk) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, append(args, "--issuer", d.Issuer, "--ca-file", filepath.Join(d.dir, "tls.crt"))...)
	cmd.Env = d.environment()
	return cmd
}

// login signs in, with a browser that does what the person would.
func (d desk) login(t *testing.T) {
	t.Helper()
	cmd := d.command(t, "login", "--no-browser", "--no-keyring")
	said := new(words)
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`(?m)^  (https://\S+)$`)
	until(t, 20*time.Second, "login prints the address of the page", func() bool { return address.MatchString(said.String()) })
	d.visit(t, address.FindStringSubmatch(said.String())[1])
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
}

// words are what a command has said so far.
type words struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

var flow = regexp.MustCompile(`name="flow" value="([^"]*)"`)

func (d desk) visit(t *testing.T, address string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Transport: d.client.Transport, Timeout: 20 * time.Second}
	response, err := browser.Get(address) // and follows
	for step := 0; err == nil && step < 3; step++ {
		body, problem := io.ReadAll(response.Body)
		response.Body.Close()
		if problem != nil {
			t.Fatal(problem)
		}
		sealed := flow.FindSubmatch(body)
		switch {
		case strings.Contains(string(body), "You can close this window"):
			return
		case sealed == nil:
			t.Fatalf("%s is no form: %s", response.Request.URL, body)
		case strings.Contains(string(body), `id="allow"`):
			response, err = browser.PostForm(d.Issuer+"/consent", url.Values{"flow": {string(sealed[1])}, "decision": {"allow"}})
		default:
			response, err = browser.PostForm(d.Issuer+"/login", url.Values{"flow": {string(sealed[1])}, "username": {"ada"}, "password": {adasPassword}})
		}
	}
	t.Fatalf("the pages did not end: %v", err)
}

// kubeconfig is one for everybody: it has no secret, and names no file of a person's.
func (d desk) kubeconfig(t *testing.T, c *rig.Cluster) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return c.KubeconfigWith(t, fmt.Sprintf(`{exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: %q,
  args: [kube-credential, --issuer, %q, --cluster, %s, --ca-file, %q], env: [{name: XDG_CACHE_HOME, value: %q}, {name: XDG_CONFIG_HOME, value: %q}]}}`,
		path, d.Issuer, c.Name, filepath.Join(d.dir, "tls.crt"), filepath.Join(d.home, "cache"), filepath.Join(d.home, "config")))
}

func startPeople(t *testing.T, name string) (desk, *rig.Cluster) {
	t.Helper()
	r := rig.Start(t)
	s := newService(t, people(name))
	if err := os.WriteFile(filepath.Join(s.dir, "ada.password"), []byte(adasPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	c := r.Add(t, name, rig.Options{Webhook: asksUs(s)})
	c.Kubectl(t, "create", "clusterrole", "sre", "--verb=get,list,watch", "--resource=namespaces,configmaps")
	c.Kubectl(t, "create", "clusterrolebinding", "sre", "--clusterrole=sre", "--group=signalbox:admins")
	until(t, 20*time.Second, "the API server has read the role", func() bool {
		out, _ := c.KubectlAs(t, c.Kubeconfig(), "auth", "can-i", "watch", "configmaps", "--all-namespaces", "--as=x", "--as-group=signalbox:admins")
		return strings.TrimSpace(out) == "yes"
	})
	return desk{s, t.TempDir()}, c
}

// k9s is a program that lives long, asks again and again, and keeps its token in its
// memory, by the same library: kubectl proxy does all of that for whoever asks it.
type k9s struct{ url string }

func startK9s(t *testing.T, d desk, c *rig.Cluster, kubeconfig string) k9s {
	t.Helper()
	cmd := c.KubectlCommand(t, kubeconfig, "proxy", "--port=0")
	said := new(words)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	serves := regexp.MustCompile(`Starting to serve on (\S+)`)
	until(t, 20*time.Second, "kubectl proxy serves", func() bool { return serves.MatchString(said.String()) })
	return k9s{"http://" + serves.FindStringSubmatch(said.String())[1]}
}

// list lists, as a page of k9s does every two seconds.
func (k k9s) list() error { return k.get("/api/v1/namespaces") }

// watch watches for two seconds.
func (k k9s) watch() error { return k.get("/api/v1/configmaps?watch=1&timeoutSeconds=2") }

func (k k9s) get(path string) error {
	response, err := http.Get(k.url + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return err
}

func TestScenario23_ParallelKubectlForTenLifetimesOfATokenAndOneSignOut(t *testing.T) {
	t.Parallel()
	d, c := startPeople(t, "guest-people")
	kubeconfig := d.kubeconfig(t, c)
	if _, err := c.KubectlAs(t, kubeconfig, "auth", "whoami"); err == nil || !strings.Contains(err.Error(), "to sign in, run signalbox login --issuer "+d.Issuer) {
		t.Fatalf("before anybody signs in, kubectl says: %v", err)
	}
	d.login(t)
	who, err := c.KubectlAs(t, kubeconfig, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username} {.status.userInfo.groups[0]}")
	if err != nil || who != "signalbox:ada-id signalbox:admins" {
		t.Fatalf("the cluster sees %q, %v", who, err)
	}

	two := []k9s{startK9s(t, d, c, kubeconfig), startK9s(t, d, c, kubeconfig)}
	end := time.Now().Add(10*lifetime + lifetime/2)
	var all sync.WaitGroup
	var mu sync.Mutex
	asked := 0
	loop := func(what string, again func() error) {
		all.Go(func() {
			for time.Now().Before(end) && !t.Failed() {
				if err := again(); err != nil {
					t.Errorf("%s: %v", what, err)
					return
				}
				mu.Lock()
				asked++
				mu.Unlock()
			}
		})
	}
	for range 3 { // each of them a process of its own, with a plugin of its own
		loop("kubectl get", func() error {
			_, err := c.KubectlAs(t, kubeconfig, "get", "namespaces", "-o", "name")
			return err
		})
	}
	for _, k := range two {
		loop("k9s lists", func() error { time.Sleep(100 * time.Millisecond); return k.list() })
		loop("k9s watches", k.watch)
	}
	all.Wait()
	if t.Failed() {
		return
	}
	exchanges, signIns, refreshes := d.counts(t)
	t.Logf("%d requests; %d tokens for the cluster, %d refreshes, %d sign-ins", asked, exchanges, refreshes, signIns)
	// Renewed at two thirds of a life, an exchange each, whoever asks.
	if most := int(10*lifetime/(lifetime*2/3)) + 6; signIns != 1 || exchanges < 10 || exchanges > most || refreshes > most {
		t.Errorf("%d sign-ins, %d exchanges and %d refreshes, at most %d", signIns, exchanges, refreshes, most)
	}

	// With lives of an hour, nothing that dies in time has just expired.
	d.edit(t, func(file string) string { return strings.ReplaceAll(file, "ttl: "+lifetime.String(), "ttl: 1h0m0s") })
	var kept string
	until(t, 3*lifetime, "tokens live for an hour", func() bool {
		kept = d.kubectlsToken(t, c)
		_, claims := unverified(t, kept)
		return claims["exp"].(float64)-float64(time.Now().Unix()) > 3000
	})
	for began := time.Now(); time.Since(began) < lifetime; { // until their kept tokens are such ones too
		if err := errors.Join(two[0].watch(), two[1].watch()); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := d.command(t, "logout").CombinedOutput(); err != nil {
		t.Fatalf("logout: %v: %s", err, out)
	}
	out := time.Now()
	for _, what := range []struct {
		name  string
		alive func() bool
	}{
		{"kubectl", func() bool { _, err := c.KubectlAs(t, kubeconfig, "get", "namespaces"); return err == nil }},
		{"the first k9s", func() bool { return two[0].list() == nil }},
		{"the second k9s", func() bool { return two[1].list() == nil }},
		{"a thief with the token", func() bool { _, err := whoami(t, c, kept); return err == nil }},
	} {
		until(t, 15*time.Second-time.Since(out), what.name+" is refused after the sign-out", func() bool { return !what.alive() })
		t.Logf("%s: refused %s after the sign-out", what.name, time.Since(out).Round(100*time.Millisecond))
	}
	if d.isActive(t, kept) {
		t.Error("introspection says that the token is good")
	}
	if left, err := filepath.Glob(filepath.Join(d.home, "*", "signalbox", "logins", "*.json")); err != nil || len(left) != 0 {
		t.Errorf("left on the machine: %v, %v", left, err)
	}
}

// kubectlsToken is what the plugin gives kubectl now.
func (d desk) kubectlsToken(t *testing.T, c *rig.Cluster) string {
	t.Helper()
	out, err := d.command(t, "kube-credential", "--cluster", c.Name).Output()
	var got struct{ Status struct{ Token string } }
	if err != nil || json.Unmarshal(out, &got) != nil || got.Status.Token == "" {
		t.Fatalf("kube-credential: %v: %s", err, out)
	}
	return got.Status.Token
}

func (d desk) counts(t *testing.T) (exchanges, signIns, refreshes int) {
	t.Helper()
	for _, record := range d.journal(t) {
		if record["type"] != "token.issued" {
			continue
		}
		switch record["grant_type"] {
		case "authorization_code":
			signIns++
		case "refresh_token":
			refreshes++
		default:
			exchanges++
		}
	}
	return exchanges, signIns, refreshes
}

package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/contexts"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// home is a user with folders and nothing in the environment.
func home(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	return map[string]string{"XDG_CONFIG_HOME": filepath.Join(dir, "config"), "XDG_CACHE_HOME": filepath.Join(dir, "cache")}
}

func TestContextCommands(t *testing.T) {
	vars := home(t)
	run := func(args ...string) result {
		t.Helper()
		return execute(t, t.Context(), vars, strings.NewReader(""), append([]string{"context"}, args...)...)
	}
	secret := (&shell{T: t}).secretFile("sbx_cs_x")
	run("list").wants(0, "no contexts")
	run("show").wants(1, "no context is in use")
	run("create", "prod", "--issuer", "https://sts.example.com", "--client-id", "ops", "--client-secret-file", secret).wants(0, "prod is made and in use")
	run("create", "staging", "--issuer", "https://staging.example.com", "--admin-url", "https://admin.example.com").wants(0, "context use staging")
	if list := run("list").wants(0, "prod", "in use", "http://127.0.0.1:9090", "the client ops").out; strings.Count(list, "\n") != 3 {
		t.Error(list)
	}
	run("list", "-o", "name").wants(0, "prod\nstaging\n")
	var shown []shownContext
	run("list", "-o", "json").wants(0).into(&shown)
	if len(shown) != 2 || !shown[0].Current || shown[1].Current || shown[0].ClientSecretFile != secret {
		t.Errorf("%+v", shown)
	}
	run("show", "-o", "yaml").wants(0, "name: prod\n", "current: true\n")
	run("use", "staging").wants(0, "staging is in use: https://staging.example.com")
	run("show").wants(0, "https://admin.example.com")
	run("use", "stagin").wants(2, `no context "stagin": did you mean staging?`)
	run("show", "nothing").wants(2, "no context")
	vars["SIGNALBOX_CONTEXT"] = "prod"
	run("show").wants(0, "https://sts.example.com")
	delete(vars, "SIGNALBOX_CONTEXT")
	run("create", "prod", "--issuer", "https://other.example.com").wants(1, "there already and stays as it is")
	run("show", "prod").wants(0, "https://sts.example.com")
	run("create", "prod", "--issuer", "https://other.example.com", "--replace").wants(0)
	run("show", "prod").wants(0, "https://other.example.com")
	run("delete", "staging").wants(0, "deleted")
	run("show").wants(1, "no context is in use")
	run("delete", "staging").wants(2, "no context")
	execute(t, t.Context(), vars, strings.NewReader(""), "__complete", "context", "use", "").wants(0, "prod")
	execute(t, t.Context(), vars, strings.NewReader(""), "__complete", "client", "list", "--context", "").wants(0, "prod")

	for _, row := range []struct {
		sentence string
		args     []string
		want     string
	}{
		{"no name", []string{"--issuer", "https://a.example.com"}, "one name"},
		{"two names", []string{"a", "b", "--issuer", "https://a.example.com"}, "a command only after --"},
		{"a command and no name", []string{"--issuer", "https://a.example.com", "--", "true"}, "one name"},
		{"no issuer", []string{"a"}, "--issuer is needed"},
		{"a wrong issuer", []string{"a", "--issuer", "sts.example.com"}, "issuer must be a URL"},
		{"a wrong admin URL", []string{"a", "--issuer", "https://a.example.com", "--admin-url", ""}, "admin URL"},
		{"a wrong name", []string{"A b", "--issuer", "https://a.example.com"}, "a context's name"},
		{"a secret without a client", []string{"a", "--issuer", "https://a.example.com", "--client-secret-file", secret}, "client's id"},
		{"a client without its secret", []string{"a", "--issuer", "https://a.example.com", "--client-id", "ops"}, "--client-id needs --client-secret-file"},
		{"two credentials", []string{"a", "--issuer", "https://a.example.com", "--token-file", secret, "--", "true"}, "one of the three"},
		{"a stream", []string{"a", "--issuer", "https://a.example.com", "--token-file", "-"}, "only once"},
		{"a command that is not there", []string{"a", "--issuer", "https://a.example.com", "--", "no-such-command"}, "no command"},
	} {
		if r := run(append([]string{"create"}, row.args...)...); r.code != 2 || !strings.Contains(r.err, row.want) {
			t.Errorf("%s: %d %s", row.sentence, r.code, r.err)
		}
	}
	pasted := oauth.NewSecret(oauth.PrefixClientSecret).Reveal()
	if r := run("create", "a", "--issuer", "https://a.example.com", "--client-id", "ops", "--client-secret-file", pasted).wants(1, "is it the secret itself?"); strings.Contains(r.err, pasted) {
		t.Errorf("the secret is shown: %s", r.err)
	}
	data, err := os.ReadFile(filepath.Join(vars["XDG_CONFIG_HOME"], "signalbox", "contexts.json"))
	if err != nil || strings.Contains(string(data), "sbx_cs_") {
		t.Errorf("%v: a secret is among the contexts: %s", err, data)
	}
}

// TestAContextIsEnough: no flag and no variable, and no token by hand.
func TestAContextIsEnough(t *testing.T) {
	s := newShell(t)
	s.env = home(t)
	s.run("client", "list").wants(2, "signalbox context create --help")
	s.run("context", "create", "demo", "--issuer", s.ready.Issuer, "--admin-url", s.ready.AdminURL,
		"--client-id", "demo-admin", "--client-secret-file", filepath.Join(s.dir, "data", "demo-admin.secret")).wants(0)
	issued := func() int {
		t.Helper()
		return strings.Count(s.run("audit", "search", "--client", "demo-admin", "--type", "token.issued").wants(0).out, "\n")
	}
	s.run("client", "list").wants(0, "demo-service")
	before := issued()
	s.run("user", "list").wants(0, "ada")
	if after := issued(); after != before {
		t.Errorf("each command asks for a token: %d, then %d", before, after)
	}
	file := filepath.Join(s.env["XDG_CACHE_HOME"], "signalbox", "tokens", "demo.json")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	if r := s.run("panic", "--everything", "--yes").wants(0, "it is on record"); strings.Contains(r.err, "get a new one") {
		t.Errorf("the next command does that by itself: %s", r.err)
	}
	s.run("client", "list").wants(0, "demo-service") // the token that was kept is dead
	token := s.run("token", "get").wants(0).out
	s.typing(token, "token", "verify").wants(0, "the token is good")
	s.typing(token, "token", "revoke").wants(0, "done")
	s.run("client", "disable", "demo-spa", "--yes").wants(1, "configuration file") // a refusal stays one
	s.run("context", "delete", "demo").wants(0)
	if _, err := os.Stat(file); err == nil {
		t.Error("the token outlives its context")
	}
}

// twoServices count what comes to them: the context's, and another.
func twoServices(t *testing.T) (own, other *httptest.Server, ownAsked, otherAsked *atomic.Int32) {
	t.Helper()
	ownAsked, otherAsked = new(atomic.Int32), new(atomic.Int32)
	serve := func(asked *atomic.Int32) *httptest.Server {
		server := httptest.NewServer(nil)
		server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			switch r.URL.Path {
			case "/token":
				w.Header().Set("Content-Type", "application/json")
				_, _ = fmt.Fprint(w, `{"access_token":"fresh","token_type":"Bearer","expires_in":300}`)
			case "/.well-known/openid-configuration":
				_ = json.NewEncoder(w).Encode(issuerMetadata{Issuer: server.URL, TokenEndpoint: server.URL + "/token"})
			default:
				_ = json.NewEncoder(w).Encode(admin.Page[admin.Client]{Items: []admin.Client{{ClientID: "seen-with-" + strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")}}})
			}
		})
		t.Cleanup(server.Close)
		return server
	}
	return serve(ownAsked), serve(otherAsked), ownAsked, otherAsked
}

// TestAContextsCredentialIsForItsOwnServiceAlone: a flag or a variable that names
// another service does not send it there.
func TestAContextsCredentialIsForItsOwnServiceAlone(t *testing.T) {
	own, other, _, otherAsked := twoServices(t)
	vars := home(t)
	secret, token := (&shell{T: t}).secretFile("sbx_cs_x"), (&shell{T: t}).secretFile("mine")
	run := func(more map[string]string, args ...string) result {
		t.Helper()
		all := map[string]string{}
		for _, from := range []map[string]string{vars, more} {
			for name, value := range from {
				all[name] = value
			}
		}
		return execute(t, t.Context(), all, strings.NewReader(""), args...)
	}
	run(nil, "context", "create", "own", "--issuer", own.URL, "--admin-url", own.URL, "--client-id", "ops", "--client-secret-file", secret).wants(0)
	run(nil, "client", "list").wants(0, "seen-with-fresh")
	run(nil, "client", "list", "--admin-url", other.URL).wants(2, "is not the admin URL of the context own")
	run(map[string]string{"SIGNALBOX_ADMIN_URL": other.URL}, "client", "list").wants(2, "is not the admin URL of the context own")
	run(nil, "token", "get", "--issuer", other.URL).wants(2, "--client-id is needed")
	run(map[string]string{"SIGNALBOX_ISSUER_URL": other.URL}, "token", "get").wants(2, "--client-id is needed")
	run(nil, "token", "get", "--issuer", other.URL, "--client-id", "ops").wants(2, "--client-secret-file is needed")
	if n := otherAsked.Load(); n != 0 {
		t.Errorf("the other service was asked %d times", n)
	}

	// Who names the credential too has what was asked for.
	run(nil, "client", "list", "--admin-url", other.URL, "--admin-token-file", token).wants(0, "seen-with-mine")
	run(nil, "client", "list", "--admin-token-file", token).wants(0, "seen-with-mine")
	run(map[string]string{"SIGNALBOX_ADMIN_URL": own.URL + "/"}, "client", "list").wants(0, "seen-with-fresh")
	if r := run(map[string]string{"SIGNALBOX_ADMIN_URL": other.URL, "SIGNALBOX_ADMIN_TOKEN": "theirs"}, "client", "list").wants(0, "seen-with-theirs"); strings.Contains(r.err, "note:") {
		t.Error(r.err)
	}
	run(map[string]string{"SIGNALBOX_ADMIN_URL": other.URL, "SIGNALBOX_ADMIN_TOKEN": "theirs"}, "client", "list", "--context", "own").
		wants(0, "seen-with-theirs", "note: SIGNALBOX_ADMIN_URL goes before the context own", "note: the token of SIGNALBOX_ADMIN_TOKEN")
	run(map[string]string{"SIGNALBOX_CONTEXT": "onw"}, "client", "list").wants(2, `no context "onw": did you mean own?`)
	run(nil, "client", "list", "--context", "onw").wants(2, `no context "onw"`)
	run(nil, "client", "list", "--context", "").wants(2, "--context needs a name")
	run(nil, "token", "get", "--context", "own").wants(0, "fresh")
	run(nil, "token", "get", "--client-id", "another").wants(2, "--client-secret-file is needed")
}

func TestATokenOfAContextIsGotOnceAndAgainWhenItIsOver(t *testing.T) {
	own, _, asked, _ := twoServices(t)
	vars := home(t)
	run := func(args ...string) int32 {
		t.Helper()
		before := asked.Load()
		execute(t, t.Context(), vars, strings.NewReader(""), args...).wants(0)
		return asked.Load() - before
	}
	run("context", "create", "own", "--issuer", own.URL, "--admin-url", own.URL, "--client-id", "ops", "--client-secret-file", (&shell{T: t}).secretFile("sbx_cs_x"))
	if n := run("client", "list"); n != 3 { // metadata, token, list
		t.Errorf("the first command asked %d times", n)
	}
	if n := run("client", "list"); n != 1 {
		t.Errorf("the second command asked %d times", n)
	}
	store := contexts.Store{Dir: filepath.Join(vars["XDG_CONFIG_HOME"], "signalbox")}
	file, err := store.Load()
	if err != nil {
		t.Fatal(err)
	}
	file.Contexts[0].ClientID = "auditor" // edited by hand
	if err := store.Save(file); err != nil {
		t.Fatal(err)
	}
	if n := run("client", "list"); n != 3 {
		t.Errorf("the token of another client was used: asked %d times", n)
	}
	delete(vars, "XDG_CACHE_HOME")
	for range 2 {
		if n := run("client", "list"); n != 3 {
			t.Errorf("where nothing can be kept, a command asked %d times", n)
		}
	}
}

func TestACommandGivesTheToken(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("NOT TESTED: this system has no sh")
	}
	dir := t.TempDir()
	good, calls := filepath.Join(dir, "good"), filepath.Join(dir, "calls")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if want, _ := os.ReadFile(good); r.Header.Get("Authorization") != "Bearer "+strings.TrimSpace(string(want)) {
			w.WriteHeader(http.StatusUnauthorized)
			_ = json.NewEncoder(w).Encode(admin.Error{Code: "invalid_token", Description: "the access token has expired"})
			return
		}
		page := admin.Page[admin.Client]{Items: []admin.Client{{ClientID: "seen"}}}
		if r.URL.Query().Get("after") == "" {
			page.Next = "more"
		}
		_ = json.NewEncoder(w).Encode(page)
	}))
	defer server.Close()
	vars := home(t)
	script := filepath.Join(dir, "token-command")
	list := func(body string) result {
		t.Helper()
		_ = os.Remove(calls)
		if err := os.WriteFile(script, []byte("#!/bin/sh\necho x >> "+calls+"\n"+body+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return execute(t, t.Context(), vars, strings.NewReader(""), "client", "list", "--limit", "0")
	}
	called := func() int {
		data, _ := os.ReadFile(calls)
		return strings.Count(string(data), "\n")
	}
	if err := os.WriteFile(good, []byte("tok-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	execute(t, t.Context(), vars, strings.NewReader(""), "context", "create", "own", "--issuer", server.URL, "--admin-url", server.URL, "--", script, "an argument; with spaces").wants(0)
	if list(`[ "$1" = "an argument; with spaces" ] && cat `+good).wants(0, "seen"); called() != 1 {
		t.Errorf("called %d times for two pages", called())
	}
	if r := list("echo wrong-token").wants(1, "has expired"); called() != 2 || strings.Contains(r.err, "wrong-token") {
		t.Errorf("a refused token is asked for once more: %d, %s", called(), r.err)
	}
	list("echo please touch the key >&2; cat "+good).wants(0, "please touch the key")
	for body, want := range map[string]string{
		"exit 3":                         "failed: exit status 3",
		"true":                           "printed no token",
		"echo secret-1; echo secret-2":   "printed no token",
		"echo secret-1 secret-2":         "printed no token",
		"head -c 200000 /dev/zero; true": "failed",
	} {
		if r := list(body).wants(1, "the token command of the context own", want); strings.Contains(r.out+r.err, "secret-") {
			t.Errorf("%s: %s", body, r.err)
		}
	}
}

package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/signalboxtest"
)

const resource = "https://git.example.com"

type world struct {
	*testing.T
	issuer *signalboxtest.Issuer
	server *httptest.Server
	seen   http.Header // what the last request brought to Git
}

// serve is the example over one repository, app.git, and the issuer that it asks.
func serve(t *testing.T) *world {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("NOT TESTED: there is no git")
	}
	w := &world{T: t, issuer: signalboxtest.New(t,
		signalboxtest.Resource{ID: resource, Scopes: []string{"repo:read", "repo:write"}, IntrospectionClients: []string{"git-server"}},
		signalboxtest.Resource{ID: "https://api.example.com", Scopes: []string{"orders:read"}, IntrospectionClients: []string{"git-server"}},
		signalboxtest.Client{ID: "git-server"},
		signalboxtest.Client{ID: "ci", Resources: []string{resource}, Scopes: []string{"repo:read", "repo:write"}},
		signalboxtest.Client{ID: "shop", Resources: []string{"https://api.example.com"}, Scopes: []string{"orders:read"}},
	)}
	root := t.TempDir()
	w.git(root, "init", "-q", "--bare", "-b", "main", "app.git")
	behind, err := backend(root)
	if err != nil {
		t.Fatal(err)
	}
	w.server = httptest.NewServer(&server{
		Issuer: w.issuer.URL, Resource: resource, ClientID: "git-server", ClientSecret: w.issuer.Secret("git-server"),
		HTTP: w.issuer.HTTPClient(),
		Git: http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
			w.seen = r.Header
			behind.ServeHTTP(answer, r)
		}),
	})
	t.Cleanup(w.server.Close)
	return w
}

func (w *world) run(dir string, args ...string) (string, error) {
	command := exec.CommandContext(w.Context(), "git", args...)
	command.Dir = dir
	command.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "HOME="+dir)
	out, err := command.CombinedOutput()
	return string(out), err
}

func (w *world) git(dir string, args ...string) {
	w.Helper()
	if out, err := w.run(dir, args...); err != nil {
		w.Fatalf("git %q: %v: %s", args, err, out)
	}
}

// as are the arguments with which Git sends a token: as Bearer.
func as(token string) []string {
	return []string{"-c", "http.extraHeader=Authorization: Bearer " + token}
}

// clone clones the repository with a token, as Git 2.46 and Flux send it, or as a password.
func (w *world) clone(token string) (string, error) {
	w.Helper()
	return w.run(w.TempDir(), append(as(token), "clone", "-q", w.server.URL+"/app.git", "app")...)
}

func (w *world) token(scopes ...string) string {
	w.Helper()
	return w.issuer.Token(signalboxtest.Request{Client: "ci", Scopes: scopes}).AccessToken
}

func TestGitWorksWithATokenThatHasTheScope(t *testing.T) {
	w := serve(t)
	write, read := w.token("repo:read", "repo:write"), w.token("repo:read")
	work := t.TempDir()
	w.git(work, "init", "-q", "-b", "main")
	w.git(work, "-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-q", "--allow-empty", "-m", "first")
	push := func(token string) (string, error) {
		return w.run(work, append(as(token), "push", "-q", w.server.URL+"/app.git", "main")...)
	}
	if out, err := push(read); err == nil || !strings.Contains(out, "403") {
		t.Errorf("a push with repo:read: %v: %s", err, out)
	}
	if out, err := push(write); err != nil {
		t.Fatalf("a push with repo:write: %v: %s", err, out)
	}
	if out, err := w.clone(read); err != nil {
		t.Errorf("a clone: %v: %s", err, out)
	}
	if w.seen.Get("Authorization") != "" {
		t.Error("git http-backend saw the token")
	}
	// As the password of any user, which older Git sends.
	there := strings.Replace(w.server.URL, "://", "://signalbox:"+read+"@", 1) + "/app.git"
	if out, err := w.run(t.TempDir(), "clone", "-q", there, "app"); err != nil {
		t.Errorf("a clone with a password: %v: %s", err, out)
	}
}

func TestATokenThatIsNotGoodHereIsRefused(t *testing.T) {
	w := serve(t)
	ended := w.token("repo:read")
	if out, err := w.clone(ended); err != nil {
		t.Fatalf("before it ended: %v: %s", err, out)
	}
	w.issuer.RevokeGrant(ended)
	for _, row := range []struct {
		sentence, token string
		status          int
	}{
		{"revoked", ended, http.StatusUnauthorized},
		{"expired", w.issuer.ExpiredToken(signalboxtest.Request{Client: "ci", Scopes: []string{"repo:read"}}).AccessToken, http.StatusUnauthorized},
		{"for another API", w.issuer.Token(signalboxtest.Request{Client: "shop"}).AccessToken, http.StatusUnauthorized},
		{"changed", w.token("repo:read") + "x", http.StatusUnauthorized},
		{"too long", strings.Repeat("a", maxToken+1), http.StatusUnauthorized},
		{"none", "", http.StatusUnauthorized},
		{"without the scope", w.token("repo:write"), http.StatusForbidden},
		{"good", w.token("repo:read"), http.StatusOK},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.server.URL+"/app.git/info/refs?service=git-upload-pack", nil)
		if err != nil {
			t.Fatal(err)
		}
		if row.token != "" {
			request.Header.Set("Authorization", "Bearer "+row.token)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != row.status {
			t.Errorf("%s: %s", row.sentence, response.Status)
		}
		if asks := response.Header.Values("WWW-Authenticate"); row.status == http.StatusUnauthorized && len(asks) != 2 {
			t.Errorf("%s: Git is asked for %q", row.sentence, asks)
		}
	}
}

func TestWithoutTheIssuerNobodyGetsIn(t *testing.T) {
	w := serve(t)
	token := w.token("repo:read")
	away := &server{Issuer: "http://127.0.0.1:1", Resource: resource, HTTP: &http.Client{Timeout: time.Second}, Git: http.NotFoundHandler()}
	answer := httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodGet, "/app.git/info/refs?service=git-upload-pack", nil)
	request.Header.Set("Authorization", "Bearer "+token)
	away.ServeHTTP(answer, request)
	if answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v", answer.Code, answer.Header())
	}
}

func TestWhatWritesNeedsTheScopeToWrite(t *testing.T) {
	for _, row := range []struct{ method, target, want string }{
		{"GET", "/app.git/info/refs?service=git-upload-pack", readScope},
		{"POST", "/app.git/git-upload-pack", readScope},
		{"GET", "/app.git/HEAD", readScope},
		{"GET", "/app.git/info/refs?service=git-receive-pack", writeScope},
		{"POST", "/app.git/git-receive-pack", writeScope},
		{"POST", "/app.git/anything", writeScope},
		{"PUT", "/app.git/HEAD", writeScope},
	} {
		if got := scopeOf(httptest.NewRequest(row.method, row.target, nil)); got != row.want {
			t.Errorf("%s %s needs %s", row.method, row.target, got)
		}
	}
}

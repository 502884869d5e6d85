// Command git-server is an example: Git over HTTP for whoever has a token of Signalbox.
// It asks the issuer about each token (RFC 7662), so that a revoked one ends at once, and
// leaves the rest to git http-backend.
//
//	git-server --root /srv/git --issuer https://sts.example.com --resource https://git.example.com \
//	  --client-id git-server --client-secret-file secret.txt
//
// TLS is the business of a proxy in front of it.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8081", "address to listen on")
	root := flag.String("root", "", "folder of the bare repositories")
	issuer := flag.String("issuer", "", "URL of the issuer")
	resource := flag.String("resource", "", "what tokens for this server have in aud")
	clientID := flag.String("client-id", "", "client that may introspect tokens of the resource")
	secretFile := flag.String("client-secret-file", "", "file with the client's secret")
	flag.Parse()
	secret, err := os.ReadFile(*secretFile)
	if err != nil {
		log.Fatal(err)
	}
	s := &server{
		Issuer: *issuer, Resource: *resource, ClientID: *clientID, ClientSecret: strings.TrimSpace(string(secret)),
		HTTP: &http.Client{Timeout: 10 * time.Second},
	}
	if s.Git, err = backend(*root); err != nil {
		log.Fatal(err)
	}
	log.Printf("serving %s at http://%s", *root, *listen)
	// A clone may take long. Only the time for a request's head is bounded.
	log.Fatal((&http.Server{Addr: *listen, Handler: s, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 32 << 10}).ListenAndServe())
}

// Scopes of the resource.
const (
	readScope  = "repo:read"
	writeScope = "repo:write"
)

// server lets a request through to Git whose token is alive, for this resource, and has
// the scope.
type server struct {
	Issuer, Resource       string
	ClientID, ClientSecret string // of whoever may introspect tokens of the resource
	HTTP                   *http.Client
	Git                    http.Handler // REMOTE_USER is set in the request's User field
}

// backend is git http-backend over the bare repositories of a folder.
func backend(root string) (http.Handler, error) {
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return nil, fmt.Errorf("git --exec-path: %w", err)
	}
	if root, err = filepath.Abs(root); err != nil {
		return nil, err
	}
	program := filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(&cgi.Handler{
			Path: program, Dir: root,
			// REMOTE_USER lets Git take pushes, and is in the log of what was pushed.
			Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=" + r.URL.User.Username()},
		}).ServeHTTP(w, r)
	}), nil
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw := bearer(r)
	if raw == "" {
		unauthorized(w, "a token is needed")
		return
	}
	subject, scopes, err := s.introspect(r.Context(), raw)
	switch {
	case errors.Is(err, errInactive):
		unauthorized(w, "the token is not good here")
		return
	case err != nil: // fail closed, and let the client come again
		log.Print("introspection: ", err)
		w.Header().Set("Retry-After", "5")
		http.Error(w, "the token cannot be checked now", http.StatusServiceUnavailable)
		return
	}
	if need := scopeOf(r); !slices.Contains(scopes, need) {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer error=%q, scope=%q", "insufficient_scope", need))
		http.Error(w, "the token lacks the scope "+need, http.StatusForbidden)
		return
	}
	// A program behind us never sees the token.
	r = r.Clone(r.Context())
	r.Header.Del("Authorization")
	r.URL.User = url.User(subject)
	s.Git.ServeHTTP(w, r)
}

// bearer is the token of a request: as Bearer, or as the password that Git sends.
func bearer(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

func unauthorized(w http.ResponseWriter, why string) {
	w.Header()["Www-Authenticate"] = []string{`Bearer realm="git"`, `Basic realm="git"`}
	http.Error(w, why, http.StatusUnauthorized)
}

// scopeOf is what a request needs: everything but fetching is writing.
func scopeOf(r *http.Request) string {
	switch service := r.URL.Query().Get("service"); {
	case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/info/refs") && service == "git-receive-pack",
		r.Method != http.MethodGet && r.Method != http.MethodHead && !strings.HasSuffix(r.URL.Path, "/git-upload-pack"):
		return writeScope
	}
	return readScope
}

// errInactive says that the issuer does not know the token, it is dead, or for others.
var errInactive = errors.New("not active")

// maxToken is more than any token of the issuer.
const maxToken = 16 << 10

// introspect asks the issuer (RFC 7662).
func (s *server) introspect(ctx context.Context, raw string) (subject string, scopes []string, err error) {
	if len(raw) > maxToken {
		return "", nil, errInactive
	}
	form := url.Values{"token": {raw}, "token_type_hint": {"access_token"}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Issuer+"/introspect", strings.NewReader(form.Encode()))
	if err != nil {
		return "", nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(url.QueryEscape(s.ClientID), url.QueryEscape(s.ClientSecret))
	response, err := s.HTTP.Do(request)
	if err != nil {
		return "", nil, err
	}
	defer response.Body.Close()
	var answer struct {
		Active       bool            `json:"active"`
		Subject      string          `json:"sub"`
		ClientID     string          `json:"client_id"`
		Scope        string          `json:"scope"`
		Audience     audience        `json:"aud"`
		Confirmation json.RawMessage `json:"cnf"`
	}
	if response.StatusCode != http.StatusOK {
		return "", nil, fmt.Errorf("the issuer answers %s", response.Status)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&answer); err != nil {
		return "", nil, err
	}
	// A token that is bound to a key would have to be proved, which Git cannot.
	if !answer.Active || !slices.Contains(answer.Audience, s.Resource) || answer.Confirmation != nil {
		return "", nil, errInactive
	}
	return cmp.Or(answer.Subject, answer.ClientID), strings.Fields(answer.Scope), nil
}

// audience is one text or several (RFC 7519 §4.1.3).
type audience []string

func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

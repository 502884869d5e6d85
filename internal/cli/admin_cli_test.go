package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/admin"
)

// shell runs commands in this process against a whole service of `dev`.
type shell struct {
	*testing.T
	dir   string
	ready demo
	env   map[string]string
}

func newShell(t *testing.T) *shell {
	t.Helper()
	s := &shell{T: t, dir: t.TempDir()}
	ctx, stop := context.WithCancel(t.Context())
	ready := filepath.Join(s.dir, "ready.json")
	ended := make(chan int, 1)
	var log lockedBuffer
	env := &Environment{In: strings.NewReader(""), Out: &log, Err: &log, Getenv: func(string) string { return "" }}
	go func() {
		ended <- Run(ctx, env, []string{"dev", "--listen", "127.0.0.1:0", "--data", filepath.Join(s.dir, "data"), "--ready-file", ready})
	}()
	t.Cleanup(func() {
		stop()
		if code := <-ended; code != exitOK {
			t.Errorf("dev ended with %d:\n%s", code, log.String())
		}
	})
	for {
		data, err := os.ReadFile(ready)
		if err == nil && json.Unmarshal(data, &s.ready) == nil {
			break
		}
		select {
		case code := <-ended:
			ended <- code
			t.Fatalf("dev ended with %d:\n%s", code, log.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	s.env = map[string]string{"SIGNALBOX_ADMIN_URL": s.ready.AdminURL, "SIGNALBOX_ADMIN_TOKEN": s.ready.AdminToken}
	return s
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// prompted is where a command writes for people. It tells when it said text.
type prompted struct {
	lockedBuffer
	text string
	said chan struct{}
}

func newPrompted(text string) *prompted { return &prompted{text: text, said: make(chan struct{})} }

func (p *prompted) Write(b []byte) (int, error) {
	before := strings.Contains(p.String(), p.text)
	n, err := p.lockedBuffer.Write(b)
	if !before && strings.Contains(p.String(), p.text) {
		close(p.said)
	}
	return n, err
}

// within guards against a test that would hang; it measures nothing.
func within[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing happened: " + what)
	}
	return v
}

// result is what a command left.
type result struct {
	t        *testing.T
	args     []string
	code     int
	out, err string
}

func (r result) wants(code int, texts ...string) result {
	r.t.Helper()
	if r.code != code {
		r.t.Fatalf("%v: exit code %d, want %d\nstdout: %s\nstderr: %s", r.args, r.code, code, r.out, r.err)
	}
	for _, text := range texts {
		if !strings.Contains(r.out+r.err, text) {
			r.t.Fatalf("%v: no %q\nstdout: %s\nstderr: %s", r.args, text, r.out, r.err)
		}
	}
	return r
}

func (r result) into(value any) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.out), value); err != nil {
		r.t.Fatalf("%v: %v: %s", r.args, err, r.out)
	}
}

func (s *shell) run(args ...string) result {
	s.Helper()
	return s.typing("", args...)
}

func (s *shell) typing(in string, args ...string) result {
	s.Helper()
	return execute(s.T, s.Context(), s.env, strings.NewReader(in), args...)
}

func execute(t *testing.T, ctx context.Context, vars map[string]string, in io.Reader, args ...string) result {
	t.Helper()
	var out, errs lockedBuffer
	env := &Environment{In: in, Out: &out, Err: &errs, Getenv: func(name string) string { return vars[name] }}
	env.ConfigDir, env.CacheDir = folder(vars, "XDG_CONFIG_HOME"), folder(vars, "XDG_CACHE_HOME")
	code := Run(ctx, env, args)
	return result{t, args, code, out.String(), errs.String()}
}

func folder(vars map[string]string, name string) func() (string, error) {
	return func() (string, error) {
		if dir := vars[name]; dir != "" {
			return dir, nil
		}
		return "", errors.New("no home")
	}
}

func TestClientCommands(t *testing.T) {
	s := newShell(t)
	var created, rotated admin.ClientCredentials
	r := s.run("client", "create", "night-job", "--grant-type", "client_credentials", "--name", "Night job", "-o", "json").wants(0, "shown this once")
	r.into(&created)
	if !strings.HasPrefix(created.ClientSecret, "sbx_cs_") || strings.Contains(r.err, created.ClientSecret) {
		t.Fatalf("%+v, stderr %s", created, r.err)
	}
	s.run("client", "list").wants(0, "CLIENT", "night-job", "Night job", "demo-service", "file")
	if list := s.run("client", "list", "--limit", "1").wants(0, "there are more"); strings.Count(list.out, "\n") != 2 {
		t.Fatal(list.out)
	}
	var clients []admin.Client
	s.run("client", "list", "-o", "json").wants(0).into(&clients)
	if last := clients[len(clients)-1]; last.ClientID != "night-job" {
		t.Fatalf("%+v", clients)
	}
	s.run("client", "show", "night-job").wants(0, "client_id", "night-job", "client_secret_basic", "secrets", "one made ", "until it is rotated")
	if r := s.run("client", "show", "demo-service", "-o", "json").wants(0, `"current": true`); strings.Contains(r.out, "{}") {
		t.Errorf("a secret of which nothing is said: %s", r.out)
	}
	s.run("client", "rotate", "night-job", "--keep-old", "1h", "-o", "json").wants(0).into(&rotated)
	if rotated.ClientSecret == "" || rotated.ClientSecret == created.ClientSecret || len(rotated.Secrets) != 2 {
		t.Fatalf("%+v", rotated)
	}
	s.run("client", "update", "night-job", "--name", "Day job").wants(0, "Day job")
	s.run("client", "disable", "night-job").wants(2, "what this ends stays ended", "--yes")
	s.run("client", "disable", "night-job", "--dry-run", "-o", "json").wants(0, "Blast radius of client night-job", `"dry_run": true`)
	s.run("client", "delete", "night-job", "--dry-run").wants(0, "Blast radius of client night-job")
	s.run("client", "show", "night-job", "-o", "json").wants(0, `"disabled": false`)
	s.run("client", "disable", "night-job", "--yes").wants(0, "disabled")
	s.run("client", "show", "night-job", "-o", "json").wants(0, `"disabled": true`)
	s.run("client", "enable", "night-job").wants(0, "enabled")
	s.run("client", "revoke", "night-job", "--dry-run").wants(0, "Blast radius of client night-job", "0 standing grants")
	s.run("client", "revoke", "night-job", "--yes", "-o", "json").wants(0, `"kind": "client"`)
	s.run("client", "delete", "night-job").wants(2, "--yes")
	s.run("client", "delete", "night-job", "--yes").wants(0, "deleted")
	s.run("client", "create", "day-job", "--grant-type", "none").wants(0)
	var gone map[string]any
	s.run("client", "delete", "day-job", "--yes", "-o", "json").wants(0).into(&gone)
	if len(gone) != 2 || gone["client_id"] != "day-job" || gone["deleted"] != true {
		t.Fatal(gone)
	}
	s.run("client", "show", "night-job").wants(1, "no client", "request")

	s.run("client", "disable", "demo-service", "--yes").wants(1, "configuration file")
	s.run("client", "create", "bad", "--grant-type", "implicit").wants(2, "--grant-type", "implicit")
	s.run("client", "create", "bad", "--auth-method", "foo", "--grant-type", "none").wants(2, "--auth-method", "private_key_jwt")
	s.run("client", "create", "bad", "worse").wants(2, "one id")
	s.run("client", "rotate", "night-job", "--keep-old", "1000h").wants(2, "--keep-old", "720h")
	s.run("client", "show").wants(2, "needed")
	s.run("client", "update", "x").wants(2, "nothing to change")
	s.run("client", "list", "-o", "toml").wants(2, "text, json, yaml or name")
	s.run("client", "revoke", "demo-spa", "--yes", "-o", "name").wants(2, "text, json or yaml") // before anything has ended
	s.run("client", "list", "--limit", "-1").wants(2)
	s.run("client", "nonsense").wants(2)
	s.run("client", "list", "--nonsense").wants(2)
}

func TestClientGrantTypesAndScopes(t *testing.T) {
	s := newShell(t)
	var web, api admin.Client
	s.run("client", "create", "web", "--redirect-uri", "https://app.example.com/callback", "-o", "json", "--scope", "openid profile", "--scope", "email").wants(0).into(&web)
	if !slices.Equal(web.GrantTypes, []string{"authorization_code"}) || web.Scope != "openid profile email" {
		t.Fatalf("%+v", web)
	}
	s.run("client", "update", "web", "-o", "json", "--scope", "openid", "--scope", "email").wants(0, `"openid email"`)
	s.run("client", "create", "nothing").wants(2, "--redirect-uri", "--grant-type none")
	s.run("client", "show", "nothing").wants(1, "no client")
	// An API that only introspects.
	for id, none := range map[string]string{"api-1": "none", "api-2": ""} {
		s.run("client", "create", id, "--grant-type", none, "-o", "json").wants(0).into(&api)
		if len(api.GrantTypes) != 0 {
			t.Fatalf("%+v", api)
		}
	}
	s.run("client", "create", "both", "--grant-type", "none,client_credentials").wants(2, "none alone")
}

func TestUserCommands(t *testing.T) {
	s := newShell(t)
	file := filepath.Join(s.dir, "password.txt")
	if err := os.WriteFile(file, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var bob admin.User
	s.run("user", "create", "bob", "--email", "bob@example.com", "--password-file", file, "-o", "json").wants(0).into(&bob)
	s.typing("battery staple\n", "user", "create", "eve", "--password-file", "-").wants(0, "eve")
	claims := filepath.Join(t.TempDir(), "claims.json")
	for text, row := range map[string]struct {
		exit int
		says string
	}{
		`{"given_name":"Grace","address":{"country":"USA"}}`: {0, "Grace"},
		`{"given_nam":"Grace"}`:                              {1, "given_nam"},
		`{"birthdate":"soon"}`:                               {1, "birthdate"},
	} {
		if err := os.WriteFile(claims, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.run("user", "create", "grace", "--claims-file", claims, "--password-file", file, "-o", "json").wants(row.exit, row.says)
	}
	s.run("user", "create", "mallory").wants(2, "--password-file")
	s.typing("", "user", "create", "mallory", "--password-file", "-").wants(1, "empty")
	s.typing("two\nlines", "user", "create", "mallory", "--password-file", "-").wants(1, "more than one line")
	s.run("user", "create", "mallory", "--password", "secret").wants(2, "unknown flag")
	s.run("user", "list").wants(0, "bob", "eve", "ada", bob.UserID)
	s.run("user", "show", "bob").wants(0, bob.UserID, "bob@example.com")
	s.run("user", "show", bob.UserID).wants(0, "bob@example.com")
	s.typing("another password", "user", "password", "bob", "--password-file", "-").wants(0, "is set")
	s.run("user", "disable", "bob").wants(2, "--yes")
	s.run("user", "disable", "bob", "--dry-run").wants(0, "Blast radius of user bob ("+bob.UserID+")")
	s.run("user", "show", "bob", "-o", "json").wants(0, `"disabled": false`)
	s.run("user", "disable", "bob", "--yes").wants(0, "disabled")
	s.run("user", "show", "bob", "-o", "json").wants(0, `"disabled": true`)
	s.run("user", "enable", "bob").wants(0)
	s.run("user", "revoke", "bob", "--yes").wants(0, "Blast radius of user bob ("+bob.UserID+")")
	s.run("user", "delete", "bob", "--yes", "-o", "json").wants(0, `"user_id": "`+bob.UserID+`"`, `"deleted": true`)
	for _, args := range [][]string{{"show", "bob"}, {"enable", "bob"}, {"delete", "bob", "--yes"}, {"password", "bob", "--password-file", file}} {
		s.run(append([]string{"user"}, args...)...).wants(1, `no user with the username or the id "bob"`)
	}
	s.run("user", "show", "bob").wants(1, "no user")
	s.run("user", "password", "ada", "--password-file", file).wants(1, "configuration file")
}

func TestKeyResourceAndGrantCommands(t *testing.T) {
	s := newShell(t)
	s.run("key", "list").wants(0, "ES256", "current")
	if list := s.run("key", "list", "--state", "current").wants(0).out; strings.Contains(list, "next") || strings.Count(list, "current") != 3 {
		t.Fatal(list)
	}
	s.run("key", "list", "--state", "curent").wants(2, "--state must be current, next or retired", "did you mean current?")
	var keys []admin.Key
	s.run("key", "list", "-o", "json").wants(0).into(&keys)
	if !slices.IsSortedFunc(keys, func(x, y admin.Key) int { return slices.Index(keyStates, x.State) - slices.Index(keyStates, y.State) }) {
		t.Fatalf("not by state: %+v", keys)
	}
	s.run("key", "rotate", "ES256") // the ring may allow the first one at once
	s.run("key", "rotate", "ES256").wants(1, "published long enough")
	s.run("key", "rotate", "HS256").wants(1, "ES256, RS256 or EdDSA")
	s.run("key", "remove", "nothing", "--yes").wants(1, "no key")
	s.run("key", "remove", "nothing").wants(2, "--yes")

	api := "https://files.example.com/v1/"
	s.run("resource", "create", api, "--scope", "files:read,files:write", "--access-ttl", "90s").wants(0, api)
	s.run("resource", "update", api, "--token-format", "opaque").wants(0, "opaque", "90")
	s.run("resource", "show", api, "-o", "json").wants(0, `"files:read"`)
	s.run("resource", "list").wants(0, api, "urn:signalbox:admin")
	s.run("resource", "delete", api, "--yes").wants(0, "deleted")
	s.run("resource", "show", api).wants(1, "no resource")
	s.run("resource", "create", "no-uri").wants(1, "absolute URI")
	s.run("resource", "create", api, "--token-format", "xml").wants(2, "--token-format")
	s.run("resource", "create", api, "--access-ttl", "2h").wants(2, "--access-ttl")

	if r := s.run("grant", "list", "--user", "ada", "--client", "demo-web", "--active").wants(0, "no grants"); r.out != "" {
		t.Errorf("a head without a table: %q", r.out)
	}
	s.run("grant", "list", "-o", "json").wants(0, "[]", "no grants")
	s.run("grant", "list", "--user", "nobody").wants(0, "no grants")
	s.run("grant", "list", "--limit", "-1").wants(2)
	s.run("grant", "show", "nothing").wants(1, "no grant")
	s.run("grant", "revoke", "nothing", "--yes").wants(1)
	s.run("grant", "revoke").wants(2)
	s.run("grant", "revoke", "x", "--token-file", "-").wants(2, "not both")
	s.typing("sbx_at_nonsense", "grant", "revoke", "--token-file", "-", "--yes").wants(1, "not a live access token")
	const unknown = "01890000-0000-7000-8000-000000000000"
	s.run("grant", "revoke", unknown, "--dry-run").wants(1, "nothing is known here of a grant")
	s.run("grant", "revoke", unknown, "--yes").wants(1, "so nothing was ended", "no row", "signalbox why "+unknown, "--force")
	s.run("grant", "revoke", unknown, "--yes", "--force").wants(0, "what machines got for themselves", "it is on record")
	s.run("grant", "revoke", unknown, "--yes").wants(0, "it has ended already", "it had ended before") // a script that runs twice
	s.typing("x", "grant", "revoke", "--token-file", "-", "--force").wants(2, "--force is for the id")
}

func TestPanicShowsItsBlastRadiusFirst(t *testing.T) {
	s := newShell(t)
	s.run("panic").wants(2, "exactly one")
	s.run("panic", "--user", "ada", "--everything").wants(2, "exactly one")
	s.run("panic", "--client", "nobody", "--yes").wants(1, "no client")
	s.run("panic", "--user", "ada").wants(2, "Blast radius of user ada (", "--yes")
	null, err := os.Open(os.DevNull) // a device, but not a terminal
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	execute(t, t.Context(), s.env, null, "panic", "--user", "ada").wants(2, "--yes")
	s.typing(s.ready.AdminToken, "grant", "revoke", "--token-file", "-", "--dry-run").wants(0, "Blast radius of grant", "what machines got for themselves")
	s.run("panic", "--everything", "--dry-run").wants(0, "Blast radius of everything", "standing grants")
	s.run("client", "list").wants(0) // the dry run left the token alone
	s.run("panic", "--user", "ada", "--yes").wants(0, "it is on record")
	s.run("panic", "--everything", "--yes", "-o", "json").wants(0, `"kind": "everything"`, "get a new one")
	s.run("client", "list").wants(1, "not valid, has expired or was revoked")
}

func TestAuditCommands(t *testing.T) {
	s := newShell(t)
	s.run("client", "create", "seen", "--grant-type", "client_credentials").wants(0)
	found := s.run("audit", "search", "--client", "seen").wants(0, "client.changed", "target=seen", "reason=created")
	if strings.Count(found.out, "\n") != 1 {
		t.Fatal(found.out)
	}
	var record map[string]any
	s.run("audit", "search", "--type", "client.changed", "--since", "1h", "-o", "json").wants(0).into(&record)
	s.run("audit", "search", "--client", "seen", "--since", "1w1d").wants(0, "target=seen")
	s.run("audit", "search", "--since", "2000-01-01", "--until", "2000-01-02").wants(0)
	s.run("audit", "search", "--since", "yesterday").wants(2, "--since")
	s.run("audit", "search", "--limit", "0").wants(2)
	s.run("audit", "search", "--user", "ada").wants(0, "no records")
	s.run("audit", "search", "--type", "token.withheld", "-o", "json").wants(0, "no records")
	for _, command := range []string{"search", "tail"} {
		s.run("audit", command, "--type", "token.isued").wants(2, `no type of record "token.isued": did you mean token.issued?`)
		s.run("audit", command, "--type", "nosuch").wants(2, `no type of record "nosuch"; the types are: token.issued,`, "journal.checkpoint")
	}
	s.run("__complete", "audit", "tail", "--type", "").wants(0, "token.issued")
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(s.ready.AdminToken)))
	for _, hash := range []string{sum, sum[:32], strings.ToUpper(sum)} {
		s.run("audit", "search", "--token-hash", hash).wants(0, "token.issued client=demo-admin")
	}
	for _, hash := range []string{s.ready.AdminToken, sum[:31], sum[:40], "sbx_at_x", strings.Repeat("z", 32)} {
		if r := s.run("audit", "search", "--token-hash", hash).wants(2, "sha256sum"); strings.Contains(r.out+r.err, hash) {
			t.Fatalf("what may be a token is shown: %s", r.err)
		}
	}

	ctx, stop := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		env := &Environment{In: strings.NewReader(""), Out: in, Err: io.Discard, Getenv: func(name string) string { return s.env[name] }}
		ended <- Run(ctx, env, []string{"audit", "tail", "--type", "client.changed", "--from", "1"})
		_ = in.Close()
	}()
	buffer := make([]byte, 4096)
	n, err := out.Read(buffer)
	if err != nil || !strings.Contains(string(buffer[:n]), "target=seen") {
		t.Fatal(err, string(buffer[:n]))
	}
	s.run("client", "create", "later", "--grant-type", "client_credentials").wants(0)
	if n, err = out.Read(buffer); err != nil || !strings.Contains(string(buffer[:n]), "target=later") {
		t.Fatal(err, string(buffer[:n]))
	}
	stop()
	if code := <-ended; code != 0 {
		t.Fatalf("an interrupted tail exits with %d", code)
	}

	journals := filepath.Join(s.dir, "data", "journal")
	key := filepath.Join(s.dir, "data", "master.key")
	s.run("audit", "verify", journals).wants(0, "ok", "records in 1 file,")
	s.run("audit", "verify", "--master-key-file", key, journals).wants(0, "signed up to record")
	if r := s.run("audit", "verify", "-o", "json", journals).wants(0, `"ok": true`, `"checkpoints": `); regexp.MustCompile(`"[A-Z]\w*":|signed_seq`).MatchString(r.out) {
		t.Fatal(r.out)
	}
	s.run("audit", "verify", "-o", "json", "--master-key-file", key, journals).wants(0, `"signed_seq": `)
	s.run("audit", "verify", filepath.Join(s.dir, "nothing")).wants(1)
	s.run("audit", "verify").wants(2)
}

func TestAuditVerifyNoticesAChangedRecord(t *testing.T) {
	s := newShell(t)
	s.run("client", "create", "evidence", "--grant-type", "client_credentials").wants(0)
	s.run("client", "create", "after-it", "--grant-type", "client_credentials").wants(0) // the chain holds what has a successor
	files, err := filepath.Glob(filepath.Join(s.dir, "data", "journal", "*.jsonl"))
	if err != nil || len(files) != 1 {
		t.Fatal(err, files)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	forged := filepath.Join(s.dir, "forged")
	if err := os.MkdirAll(forged, 0o700); err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("evidence"), []byte("innocent"), 1)
	if err := os.WriteFile(filepath.Join(forged, filepath.Base(files[0])), text, 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("audit", "verify", forged).wants(1, "BROKEN", "tampered")
	s.run("audit", "verify", forged, "-o", "json").wants(1, `"ok": false`, `"kind": "changed"`, `"line": `)
}

func TestWhereTheTokenComesFrom(t *testing.T) {
	s := newShell(t)
	file := filepath.Join(s.dir, "admin.token")
	if err := os.WriteFile(file, []byte(s.ready.AdminToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	nothing := map[string]string{}
	in := strings.NewReader("")
	execute(t, t.Context(), nothing, in, "client", "list", "--admin-url", s.ready.AdminURL).wants(2, "SIGNALBOX_ADMIN_TOKEN")
	execute(t, t.Context(), nothing, in, "client", "list", "--admin-url", s.ready.AdminURL, "--admin-token-file", file).wants(0, "demo-service")
	execute(t, t.Context(), map[string]string{"SIGNALBOX_ADMIN_TOKEN_FILE": file, "SIGNALBOX_ADMIN_URL": s.ready.AdminURL + "/"}, in, "client", "list").wants(0, "demo-service")
	execute(t, t.Context(), map[string]string{"SIGNALBOX_ADMIN_TOKEN": "wrong", "SIGNALBOX_ADMIN_URL": s.ready.AdminURL}, in, "client", "list").wants(1, "not valid")
	for _, url := range []string{"", "ftp://x", "http://user:pass@x", "127.0.0.1:9090"} {
		execute(t, t.Context(), s.env, in, "client", "list", "--admin-url", url).wants(2, "--admin-url")
	}
	execute(t, t.Context(), s.env, in, "client", "list", "--admin-url", "http://127.0.0.1:1").wants(1, "cannot be reached", "--admin-url")
}

// TestHostileAnswersStayOffTheTerminal: what others chose must not act.
func TestHostileAnswersStayOffTheTerminal(t *testing.T) {
	hostile := "\x1b]0;owned\x07\u009b2J\u202egnp\r\n"
	page, err := json.Marshal(admin.Page[admin.Client]{Items: []admin.Client{{ClientID: hostile, ClientName: hostile, GrantTypes: []string{hostile}}}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/clients"):
			_, _ = w.Write(page)
		case strings.HasSuffix(r.URL.Path, "/journal"):
			_, _ = w.Write([]byte(`{"items":[{"seq":1,"time":"2026-01-01T00:00:00Z","type":"x","reason":"\u001b[2J\r\nforged","client_id":"a b=\"c"}]}`))
		case strings.HasSuffix(r.URL.Path, "/redirect"):
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case r.URL.Path == "/elsewhere":
			t.Error("a redirect took the token elsewhere")
		default:
			w.WriteHeader(http.StatusConflict)
			_ = json.NewEncoder(w).Encode(admin.Error{Code: "conflict", Description: hostile, RequestID: hostile})
		}
	}))
	defer server.Close()
	vars := map[string]string{"SIGNALBOX_ADMIN_URL": server.URL, "SIGNALBOX_ADMIN_TOKEN": "t"}
	for _, args := range [][]string{
		{"client", "list"}, {"client", "list", "-o", "json"}, {"client", "show", "x"}, {"client", "enable", hostile}, {"user", "show", hostile}, {"client", "show", "redirect"},
		{"audit", "search"}, {"audit", "search", "-o", "json"},
	} {
		r := execute(t, t.Context(), vars, strings.NewReader(""), args...)
		if bad := regexp.MustCompile(`[\x00-\x09\x0b-\x1f\x7f-\x{9f}\x{202e}]`).FindString(r.out + r.err); bad != "" {
			t.Errorf("%q lets %q through: %q", args, bad, r.out+r.err)
		}
		if strings.Contains(r.out, "\nforged") {
			t.Errorf("%q: a value made a line of its own: %q", args, r.out)
		}
	}
	// The value itself survives in JSON.
	var clients []admin.Client
	execute(t, t.Context(), vars, strings.NewReader(""), "client", "list", "-o", "json").wants(0).into(&clients)
	if clients[0].ClientID != hostile {
		t.Errorf("%q", clients[0].ClientID)
	}
}

// TestEveryCommandHelps: an example and a summary, for each.
func TestEveryCommandHelps(t *testing.T) {
	env := &Environment{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, Getenv: func(string) string { return "" }}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" || !strings.Contains(cmd.Example, "signalbox ") || cmd.Args == nil || cmd.RunE == nil {
			t.Errorf("%s has no summary, example, argument check or action", cmd.CommandPath())
		}
		if strings.Contains(cmd.Example, "s list") || regexp.MustCompile(` (CLIENT|USER|GRANT|RESOURCE|URI|KID|ID)\b`).MatchString(cmd.Example) {
			t.Errorf("%s: odd example %q", cmd.CommandPath(), cmd.Example)
		}
		for _, name := range []string{"password", "secret", "token"} {
			if flag := cmd.Flags().Lookup(name); flag != nil {
				t.Errorf("%s takes a secret in a flag", cmd.CommandPath())
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	for _, cmd := range adminCommands(env) {
		walk(cmd)
	}
}

func TestCompletionOffersIDs(t *testing.T) {
	s := newShell(t)
	s.run("__complete", "client", "show", "demo-s").wants(0, "demo-service", "demo-spa")
	s.run("__complete", "panic", "--user", "a").wants(0, "ada")
	s.run("__complete", "key", "rotate", "").wants(0, "ES256")
}

func TestAClientThatAWorkloadProves(t *testing.T) {
	s := newShell(t)
	keys := filepath.Join(s.dir, "hub.jwks.json")
	if err := os.WriteFile(keys, []byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("cluster", "add", "hub", "--issuer", "https://kubernetes.default.svc", "--jwks-file", keys).wants(0)
	const workload = "cluster:hub:ns:argocd:sa:argocd-server"
	made := s.run("client", "create", "argocd", "--grant-type", "none", "--federated-credential", workload).wants(0, "federated_jwt", "argocd-server")
	if strings.Contains(made.out+made.err, "sbx_cs_") {
		t.Error("it has a secret")
	}
	s.run("client", "create", "again", "--grant-type", "none", "--federated-credential", workload).wants(1, "one workload is one client")
	s.run("client", "create", "x", "--grant-type", "none", "--federated-credential", "argocd-server").wants(2, "--federated-credential", "cluster:NAME:ns:NAMESPACE:sa:ACCOUNT")
	s.run("client", "create", "x", "--redirect-uri", "https://app.example.com/cb", "--auth-method", "none", "--federated-credential", workload).wants(1, "no use")
	s.run("client", "show", "argocd").wants(0, "federated_credential", "hub")
}

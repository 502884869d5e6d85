package e2e

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/test/postgres"
	"github.com/signalbox-sts/signalbox/test/proxy"
)

// Promises that no other test of this package is about: docs/explanation/promises.md.

// TestTokensWriteNoRows: promise 4. What needs no permission of a person leaves the database as it was.
func TestTokensWriteNoRows(t *testing.T) {
	onEachEngine(t, "", func(t *testing.T, w *world) {
		w.allKeys(t)
		before := w.rows(t)
		for range 50 {
			for _, resource := range []string{api, "https://opaque.example.com"} { // a JWT, and an opaque token
				r := w.post(t, "/token", params("grant_type", "client_credentials", "resource", resource), basic(machine))
				checkTokenAnswer(t, r, "")
				if !w.active(t, r.str("access_token")) {
					t.Fatalf("a new token for %s is not active", resource)
				}
			}
			w.get(t, "/.well-known/openid-configuration")
			w.get(t, "/jwks")
		}
		for table, n := range w.rows(t) {
			if n != before[table] && table != "journal_heads" { // one row per node, replaced
				t.Errorf("table %s: %d rows before, %d after 100 tokens", table, before[table], n)
			}
		}
	})
}

// TestStolenDatabase: whoever reads the database, the journal or the log finds nothing to
// use: no token, code, cookie, secret or password, neither as sent nor decoded.
func TestStolenDatabase(t *testing.T) {
	onEachEngine(t, "", func(t *testing.T, w *world) {
		secret := w.manage(t, "POST", "/clients", map[string]any{
			"client_id": "robbed", "grant_types": []string{"client_credentials"}, "resources": []string{api}, "scope": "orders:read",
		}).str("client_secret")
		u, _ := w.newUser(t, "rosa")

		b, r := newBrowser(t), newCodeRequest(webTwo)
		code := b.authorize(w.authorizeURL(r.query), u, "allow").Get("code")
		first := w.post(t, "/token", r.redeem(code), basic(webTwo))
		checkTokenAnswer(t, first, "")
		next := w.refresh(t, webTwo, first.str("refresh_token"))
		checkTokenAnswer(t, next, "")
		opaque := w.post(t, "/token", params("grant_type", "client_credentials", "resource", "https://opaque.example.com"), basic(machine))
		checkTokenAnswer(t, opaque, "")

		secrets := map[string]string{
			"a client secret": secret, "a password": u.Password, "a code": code, "a spent refresh token": first.str("refresh_token"),
			"a refresh token": next.str("refresh_token"), "an access token": next.str("access_token"), "an ID token": first.str("id_token"),
			"an opaque access token": opaque.str("access_token"), "a secret of the file": machine.Secret,
		}
		at, err := url.Parse(w.Issuer)
		if err != nil {
			t.Fatal(err)
		}
		for _, cookie := range b.http.Jar.Cookies(at) {
			secrets["the cookie "+cookie.Name] = cookie.Value
		}
		if len(secrets) < 10 {
			t.Fatal("the browser has no cookie")
		}
		for what, value := range secrets {
			if len(value) < 12 {
				t.Fatalf("%s is %q", what, value)
			}
			w.storesNot(t, what, value)
			if strings.HasPrefix(value, "sbx_") { // three letters, an underscore, and a checksum at the end
				raw, err := base64.RawURLEncoding.DecodeString(value[len("sbx_xx_"):])
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				w.storesNot(t, what+", decoded", string(raw[:len(raw)-4]))
			}
		}
	})
}

// TestAnyNodeServesAnyRequest: promise 6. A load balancer that sends each request to
// another node disturbs nobody, and what is spent at one node is spent at the other.
func TestAnyNodeServesAnyRequest(t *testing.T) {
	storage := onPostgres(postgres.New(t))
	var nodes []*server
	var turn atomic.Int64
	balancer := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		to, err := url.Parse(nodes[turn.Add(1)%2].Issuer)
		if err != nil {
			t.Error(err)
		}
		r.SetURL(to)
	}})
	t.Cleanup(balancer.Close)
	for range 2 {
		n := runServe(t, t.TempDir(), balancer.URL, serveHead+storage+houseBody, houseFiles())
		t.Cleanup(n.stop)
		nodes = append(nodes, n)
	}
	s := &server{Issuer: balancer.URL, AdminURL: nodes[0].AdminURL}

	for shift := range 2 { // every step once at each node
		turn.Add(int64(shift))
		tokens := s.signedIn(t, webTwo, ada)
		for range 3 {
			tokens = s.refresh(t, webTwo, tokens.str("refresh_token"))
			checkTokenAnswer(t, tokens, "")
			if r := s.get(t, "/userinfo", bearer(tokens.str("access_token"))); r.Status != http.StatusOK {
				t.Errorf("UserInfo: %s", r)
			}
			if !s.active(t, tokens.str("access_token")) {
				t.Error("introspection: not active")
			}
			turn.Add(1)
		}
	}

	r := newCodeRequest(webTwo)
	code := r.redeem(s.code(t, r, ada))
	now := time.Now().Unix()
	proof := jws(map[string]any{"alg": "ES256", "kid": "signer-1"}, map[string]any{
		"iss": "signer", "sub": "signer", "aud": balancer.URL, "jti": "once", "iat": now, "exp": now + 60,
	}, signerKey)
	for what, form := range map[string]url.Values{
		"a code": code,
		"a client assertion": params("grant_type", "client_credentials", "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
			"client_assertion", proof),
	} {
		var won atomic.Int64
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range 16 {
			wg.Go(func() {
				<-begin
				change := func(*http.Request) {}
				if what == "a code" {
					change = basic(webTwo)
				}
				if nodes[i%2].post(t, "/token", form, change).Status == http.StatusOK {
					won.Add(1)
				}
			})
		}
		close(begin)
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%s was spent %d times at two nodes", what, won.Load())
		}
	}
}

// TestCutOffNodeRefuses: promise 1. A node that cannot hear about revocations does not
// accept a token for longer than one that can.
func TestCutOffNodeRefuses(t *testing.T) {
	t.Parallel() // it waits
	database := postgres.New(t)
	between := proxy.Start(t, database.Host)
	behind := *database
	behind.Host = between.Addr().String()
	w := startPostgres(t, database, "")
	other := runServe(t, t.TempDir(), w.Issuer, serveHead+onPostgres(&behind)+houseBody, houseFiles())
	t.Cleanup(other.stop)
	tokens := w.signedIn(t, webTwo, ada)
	if !other.active(t, tokens.str("access_token")) {
		t.Fatal("a good token is not active at the other node")
	}
	between.Hang()
	w.manage(t, "POST", "/revocations", map[string]any{"username": ada.Username})
	time.Sleep(within) // the promise is a time
	introspected := other.post(t, "/introspect", params("token", tokens.str("access_token")), basic(apiServer))
	if !unavailable(introspected) && introspected.JSON["active"] != false {
		t.Errorf("introspection %v after the revocation: %s", within, introspected)
	}
	if r := other.get(t, "/userinfo", bearer(tokens.str("access_token"))); r.Status == http.StatusOK {
		t.Errorf("UserInfo %v after the revocation: %s", within, r)
	}
	between.Restore()
}

// TestRestore: docs/how-to/back-up.md. A backup brings old tokens back, and ending
// everything older, as the page says, ends them for good.
func TestRestore(t *testing.T) {
	w := newSQLite(t, "")
	kept := w.signedIn(t, webTwo, ada)
	backup := filepath.Join(t.TempDir(), "signalbox.db")
	w.exec(t, "VACUUM INTO '"+backup+"'") // what sqlite3's .backup does, while the service runs
	newer := w.refresh(t, webTwo, kept.str("refresh_token"))
	checkTokenAnswer(t, newer, "")
	w.manage(t, "POST", "/revocations", map[string]any{"client_id": webTwo.ID})
	if w.active(t, newer.str("access_token")) {
		t.Fatal("revoked, and active")
	}

	w.stop()
	_ = w.db.Close()
	copied, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"signalbox.db-wal", "signalbox.db-shm"} {
		_ = os.Remove(filepath.Join(w.dir, name))
	}
	if err := os.WriteFile(filepath.Join(w.dir, "signalbox.db"), copied, 0o600); err != nil {
		t.Fatal(err)
	}
	w.serve(t)
	if !w.active(t, kept.str("access_token")) {
		t.Error("the backup does not hold the state before the revocation: is it the file that was restored?")
	}
	if _, problem, code := w.command(t, "panic", "--everything", "--yes"); code != 0 {
		t.Fatal(problem)
	}
	for _, tokens := range []reply{kept, newer} {
		if w.active(t, tokens.str("access_token")) {
			t.Error("an access token from before the restore is active")
		}
		checkTokenAnswer(t, w.refresh(t, webTwo, tokens.str("refresh_token")), "invalid_grant")
	}
	if !bytes.Contains(w.signedIn(t, webTwo, ada).Body, []byte("refresh_token")) {
		t.Error("nobody can sign in any more")
	}
}

// TestSecretChangedInItsFile: docs/how-to/register-a-client.md. A new secret in the file of
// a client replaces the old one, with no restart and no signal.
func TestSecretChangedInItsFile(t *testing.T) {
	s := newHouse(t)
	changed := client{ID: machine.ID, Secret: "another-secret-0123456789abcdef0123456789"}
	ask := func(c client) reply {
		return s.post(t, "/token", params("grant_type", "client_credentials", "resource", api), basic(c), from(nextAddress()))
	}
	checkTokenAnswer(t, ask(machine), "")
	if err := os.WriteFile(filepath.Join(s.dir, "machine.secret"), []byte(changed.Secret), 0o600); err != nil {
		t.Fatal(err)
	}
	s.proc.wait(t, "a token for the new secret", func() bool { return ask(changed).Status == http.StatusOK })
	checkTokenAnswer(t, ask(machine), "invalid_client")
}

// TestTailTakesANewToken: docs/how-to/admin-access.md. Following the journal outlasts the
// token with which it began, if the token's file holds a new one.
func TestTailTakesANewToken(t *testing.T) {
	s := newHouse(t)
	file := filepath.Join(t.TempDir(), "token")
	hold := func(token string) {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first := s.adminToken(t)
	hold(first)
	tail := start(t, s.dir, nil, "audit", "tail", "--type", "client.changed", "--from", "1", "--admin-url", s.AdminURL, "--admin-token-file", file)
	t.Cleanup(func() { tail.stop(os.Interrupt) })
	create := func(id string) {
		s.manage(t, "POST", "/clients", map[string]any{"client_id": id, "grant_types": []string{"client_credentials"}, "resources": []string{api}, "scope": "orders:read"})
		tail.wait(t, "the record of "+id, func() bool { return strings.Contains(tail.out.String(), "target="+id) })
	}
	create("seen-with-the-first")
	hold(s.adminToken(t))
	s.manage(t, "POST", "/revocations", map[string]any{"token": first})
	create("seen-with-the-next")
}

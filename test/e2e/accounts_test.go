package e2e

import (
	"bytes"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// C39, C41, C42, E70: accounts that are limited, rotated, disabled, changed and deleted
// while somebody holds their tokens.

// newClient creates a client like web-two through the admin API, so in the database.
func (s *server) newClient(t *testing.T, id string) client {
	t.Helper()
	r := s.manage(t, "POST", "/clients", map[string]any{
		"client_id": id, "client_name": "Made by the API", "redirect_uris": webTwo.RedirectURIs,
		"grant_types": []string{"authorization_code", "refresh_token", "client_credentials"},
		"scope":       "openid offline_access orders:read orders:write", "resources": []string{api},
	})
	return client{ID: id, Secret: r.str("client_secret"), RedirectURIs: webTwo.RedirectURIs}
}

func (s *server) newUser(t *testing.T, name string) (user, string) {
	t.Helper()
	u := user{name, "a long pass phrase of " + name}
	return u, s.manage(t, "POST", "/users", map[string]any{"username": u.Username, "password": u.Password}).str("user_id")
}

func TestAccounts(t *testing.T) {
	onEachEngine(t, "", func(t *testing.T, w *world) {
		nodes := []*server{w.server}
		if w.engine == "PostgreSQL" {
			nodes = append(nodes, w.node(t))
		}
		dead := func(t *testing.T, c client, tokens reply, refreshed string) {
			t.Helper()
			for _, n := range nodes {
				n.proc.wait(t, "the token's end", func() bool { return !n.active(t, tokens.str("access_token")) })
				if r := n.get(t, "/userinfo", bearer(tokens.str("access_token"))); r.Status != http.StatusUnauthorized {
					t.Errorf("UserInfo: %s", r)
				}
				checkTokenAnswer(t, n.refresh(t, c, tokens.str("refresh_token")), refreshed)
			}
		}
		own := func(n *server, c client) reply {
			return n.post(t, "/token", params("grant_type", "client_credentials", "resource", api), basic(c), from(nextAddress()))
		}

		t.Run("C42 a disabled client is out at once", func(t *testing.T) {
			c := w.newClient(t, "disabled")
			tokens := w.signedIn(t, c, ada)
			code := newCodeRequest(c)
			redeem := code.redeem(w.code(t, code, ada))
			w.manage(t, "POST", "/clients/disabled/disable", nil)
			dead(t, c, tokens, "invalid_client")
			for _, n := range nodes {
				checkTokenAnswer(t, own(n, c), "invalid_client")
				checkTokenAnswer(t, n.post(t, "/token", redeem, basic(c), from(nextAddress())), "invalid_client")
				if got := n.outcome(t, newBrowser(t).get(n.authorizeURL(code.query)), code.query.Get("state")); got != errorPage {
					t.Errorf("/authorize for a disabled client came to %s", got)
				}
			}
			w.manage(t, "POST", "/clients/disabled/enable", nil)
			for _, n := range nodes {
				n.proc.wait(t, "the client's return", func() bool { return own(n, c).Status == http.StatusOK })
			}
			dead(t, c, tokens, "invalid_grant") // what was ended stays ended
			checkTokenAnswer(t, w.post(t, "/token", redeem, basic(c)), "invalid_grant")
		})
		t.Run("C42 what a client gets at the last moment is dead too", func(t *testing.T) {
			c := w.newClient(t, "hasty")
			var wg sync.WaitGroup
			var mu sync.Mutex
			var got []string
			for i := range 4 {
				wg.Go(func() {
					for !t.Failed() {
						r := nodes[i%len(nodes)].post(t, "/token", params("grant_type", "client_credentials", "resource", api), basic(c))
						if r.Status != http.StatusOK {
							checkTokenAnswer(t, r, "invalid_client")
							return
						}
						mu.Lock()
						got = append(got, r.str("access_token"))
						mu.Unlock()
					}
				})
			}
			w.proc.wait(t, "some tokens", func() bool { mu.Lock(); defer mu.Unlock(); return len(got) > 50 })
			w.manage(t, "POST", "/clients/hasty/disable", nil)
			wg.Wait()
			w.manage(t, "POST", "/clients/hasty/enable", nil)
			for _, n := range nodes {
				n.proc.wait(t, "the client's return", func() bool { return own(n, c).Status == http.StatusOK })
				n.proc.wait(t, "the end of its last token", func() bool { return !n.active(t, got[len(got)-1]) })
				for i, token := range got {
					if n.active(t, token) {
						t.Fatalf("token %d of %d from before it was disabled is active", i+1, len(got))
					}
				}
			}
		})
		t.Run("C42 a deleted client is out at once", func(t *testing.T) {
			c := w.newClient(t, "deleted")
			tokens := w.signedIn(t, c, ada)
			w.manage(t, "DELETE", "/clients/deleted", nil)
			dead(t, c, tokens, "invalid_client")
			// Nobody else ever gets the id, and with it what is still said about it.
			again := w.administer(t, "POST", "/clients", map[string]any{"client_id": "deleted", "grant_types": []string{"client_credentials"}})
			if again.Status != http.StatusConflict {
				t.Errorf("the id is given again: %s", again)
			}
		})
		for _, row := range []struct {
			sentence string
			do       func(t *testing.T, id string)
		}{
			{"disabled", func(t *testing.T, id string) { w.manage(t, "POST", "/users/"+id+"/disable", nil) }},
			{"deleted", func(t *testing.T, id string) { w.manage(t, "DELETE", "/users/"+id, nil) }},
			{"given another password", func(t *testing.T, id string) {
				w.manage(t, "POST", "/users/"+id+"/password", map[string]any{"password": "another long pass phrase"})
			}},
		} {
			t.Run("E70 a user who is "+row.sentence, func(t *testing.T) {
				who, id := w.newUser(t, strings.ReplaceAll(row.sentence, " ", "-"))
				b := newBrowser(t)
				r := newCodeRequest(webTwo)
				tokens := w.post(t, "/token", r.redeem(b.authorize(w.authorizeURL(r.query), who, "allow").Get("code")), basic(webTwo))
				checkTokenAnswer(t, tokens, "")
				pending := r.redeem(b.authorize(w.authorizeURL(r.query), who, "allow").Get("code"))
				row.do(t, id)
				dead(t, webTwo, tokens, "invalid_grant")
				checkTokenAnswer(t, w.post(t, "/token", pending, basic(webTwo)), "invalid_grant")
				for _, n := range nodes {
					if p := b.follow(b.get(n.Issuer + "/authorize?" + r.query.Encode())); !p.form.has("password") {
						t.Errorf("the browser is still signed in: %s", p.reply)
					}
				}
				p := b.follow(b.get(w.authorizeURL(r.query)))
				if p = b.follow(b.press(p, "sign-in", url.Values{"username": {who.Username}, "password": {who.Password}})); !p.form.has("password") {
					t.Errorf("signed in with the old password: %s", p.reply)
				}
			})
		}
		t.Run("E70 a scope that was taken from the client", func(t *testing.T) {
			c := w.newClient(t, "narrowed")
			r := newCodeRequest(c)
			r.query.Set("scope", "openid offline_access orders:read orders:write")
			tokens := w.post(t, "/token", r.redeem(w.code(t, r, ada)), basic(c))
			if !strings.Contains(tokens.str("scope"), "orders:write") {
				t.Fatalf("scope %q", tokens.str("scope"))
			}
			w.manage(t, "PATCH", "/clients/narrowed", map[string]any{"scope": "openid offline_access orders:read"})
			for _, n := range nodes {
				var got reply
				n.proc.wait(t, "the narrower scope", func() bool {
					got = n.refresh(t, c, tokens.str("refresh_token"))
					return got.Status != http.StatusOK || !strings.Contains(got.str("scope"), "orders:write")
				})
				checkTokenAnswer(t, got, "")
			}
		})
		t.Run("E70 a grant type that was taken from the client", func(t *testing.T) {
			c := w.newClient(t, "no-refresh")
			tokens := w.signedIn(t, c, ada)
			w.manage(t, "PATCH", "/clients/no-refresh", map[string]any{"grant_types": []string{"authorization_code"}})
			checkTokenAnswer(t, w.refresh(t, c, tokens.str("refresh_token")), "unauthorized_client")
		})
		t.Run("C41 two secrets live while one is rotated", func(t *testing.T) {
			c := w.newClient(t, "rotated")
			if !strings.HasPrefix(c.Secret, "sbx_cs_") {
				t.Errorf("the secret begins with %.7q", c.Secret)
			}
			next := c
			next.Secret = w.manage(t, "POST", "/clients/rotated/secret", map[string]any{"old_expires_in": 3600}).str("client_secret")
			for _, n := range nodes {
				n.proc.wait(t, "the new secret", func() bool { return own(n, next).Status == http.StatusOK })
				checkTokenAnswer(t, own(n, c), "")
			}
			third := c
			third.Secret = w.manage(t, "POST", "/clients/rotated/secret", map[string]any{"old_expires_in": 1}).str("client_secret")
			for _, n := range nodes {
				n.proc.wait(t, "the end of the old secret", func() bool { return own(n, next).Status == http.StatusUnauthorized })
				checkTokenAnswer(t, own(n, c), "invalid_client") // never more than two
				checkTokenAnswer(t, own(n, third), "")
			}
			last := c
			last.Secret = w.manage(t, "POST", "/clients/rotated/secret", map[string]any{}).str("client_secret")
			checkTokenAnswer(t, own(w.server, third), "invalid_client")
			checkTokenAnswer(t, own(w.server, last), "")
			for _, secret := range []string{c.Secret, next.Secret, third.Secret, last.Secret} {
				w.storesNot(t, "a client's secret", secret)
			}
			if r := w.manage(t, "GET", "/clients/rotated", nil); strings.Contains(string(r.Body), "sbx_cs_") {
				t.Errorf("the secret is shown again: %s", r)
			}
		})
		verifyJournal(t, w.server)
	})
}

// storesNot looks for a value in every cell of the database, and in every file of the node.
func (w *world) storesNot(t *testing.T, what, value string) {
	t.Helper()
	looked := 0
	for table := range w.rows(t) {
		rows, err := w.db.Query(`SELECT * FROM "` + table + `"`)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			cells, places := make([]any, len(columns)), make([]any, len(columns))
			for i := range cells {
				places[i] = &cells[i]
			}
			if err := rows.Scan(places...); err != nil {
				t.Fatal(err)
			}
			for i, cell := range cells {
				looked++
				var text []byte
				switch c := cell.(type) {
				case []byte:
					text = c
				case string:
					text = []byte(c)
				}
				if bytes.Contains(text, []byte(value)) {
					t.Errorf("%s is in %s.%s", what, table, columns[i])
				}
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	if looked < 50 {
		t.Errorf("only %d cells were looked at", looked)
	}
	files, err := filepath.Glob(filepath.Join(w.dir, "journal", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(raw, []byte(value)) {
			t.Errorf("%s is in %s", what, f)
		}
	}
	if strings.Contains(w.proc.out.String(), value) {
		t.Errorf("%s is in the log", what)
	}
}

// C39: guessing is slowed down for the guesser and for nobody else.
func TestGuessing(t *testing.T) {
	s := newHouse(t)
	ask := func(c client, address string) reply {
		return s.post(t, "/token", params("grant_type", "client_credentials", "resource", api), basic(c), from(address))
	}
	guess := client{ID: machine.ID, Secret: "wrong-secret-0123456789abcdef0123456789"}
	for _, id := range []string{machine.ID, "nobody"} {
		t.Run("C39 the secret of "+id, func(t *testing.T) {
			attacker, guess := nextAddress(), client{ID: id, Secret: guess.Secret}
			tried := 0
			for ; tried < 200; tried++ {
				r := ask(guess, attacker)
				if r.Status == http.StatusTooManyRequests {
					if r.Header.Get("Retry-After") == "" {
						t.Errorf("no Retry-After: %s", r)
					}
					break
				}
				checkTokenAnswer(t, r, "invalid_client")
			}
			if tried == 200 || tried < 5 {
				t.Fatalf("%d guesses were taken in a row", tried)
			}
			if id != machine.ID {
				return
			}
			// The client itself still works, also from the same address: a stranger behind the same gateway must not lock it out.
			checkTokenAnswer(t, ask(machine, attacker), "")
			checkTokenAnswer(t, ask(machine, nextAddress()), "")
			checkTokenAnswer(t, ask(apiServer, attacker), "") // and another client is not affected
		})
	}
	t.Run("C39 introspection and revocation count too", func(t *testing.T) {
		for _, path := range []string{"/introspect", "/revoke"} {
			attacker, limited := nextAddress(), false
			for range 200 {
				if r := s.post(t, path, params("token", "x"), basic(guess), from(attacker)); r.Status == http.StatusTooManyRequests {
					limited = true
					break
				}
			}
			if !limited {
				t.Errorf("200 guesses at %s", path)
			}
		}
	})
	t.Run("J104 a person's password", func(t *testing.T) {
		b := newBrowser(t)
		address := nextAddress()
		b.http.Transport = clientFrom(address).Transport
		p := b.follow(b.get(s.authorizeURL(newCodeRequest(webTwo).query)))
		// Refused attempts are answered slowly, so the guesses continue until there is time to look.
		wait := 0
		for i := 0; i < 50 && wait < 3; i++ {
			name := []string{"ada", "Ada", " ADA "}[i%3] // one account, however it is written
			p = b.press(p, "sign-in", url.Values{"username": {name}, "password": {"wrong pass phrase"}})
			wait, _ = strconv.Atoi(p.Header.Get("Retry-After"))
		}
		if wait < 3 {
			t.Error("50 wrong passwords in a row, and no wait of three seconds")
		}
		p = b.press(p, "sign-in", url.Values{"username": {ada.Username}, "password": {ada.Password}})
		if p.Status != http.StatusTooManyRequests {
			t.Errorf("the right password is told apart while the attacker waits: %s", p.reply)
		}
		// The owner is somewhere else and gets in.
		if got := newBrowser(t).authorize(s.authorizeURL(newCodeRequest(webTwo).query), ada, "allow"); got.Get("code") == "" {
			t.Errorf("the owner is locked out: %v", got)
		}
	})
	t.Run("J103 who is unknown looks like who is known", func(t *testing.T) {
		page := func(name string) string {
			b := newBrowser(t)
			b.http.Transport = clientFrom(nextAddress()).Transport
			p := b.follow(b.get(s.authorizeURL(newCodeRequest(webTwo).query)))
			p = b.press(p, "sign-in", url.Values{"username": {name}, "password": {"wrong pass phrase"}})
			text := strings.ReplaceAll(string(p.Body), p.Header.Get("X-Request-Id"), "REQUEST")
			for _, hidden := range p.form.fields {
				for _, v := range hidden {
					if len(v) > 20 {
						text = strings.ReplaceAll(text, v, "HIDDEN")
					}
				}
			}
			text = strings.ReplaceAll(text, name, "NAME") // last: random text may hold three letters
			return http.StatusText(p.Status) + "\n" + text
		}
		known, unknown, disabled := page("bob"), page("nobody"), page("eve")
		if known != unknown || known != disabled {
			t.Errorf("they differ:\n%s\n%s\n%s", known, unknown, disabled)
		}
	})
}

package e2e

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/journal/query"
)

// Promise 1, E73: dead means dead, on every node, within a second of the answer.

// holder is a client or person with tokens.
type holder struct {
	name    string
	client  client
	access  string
	refresh string // empty for a machine
}

const within = time.Second // of the answer to the revocation

func TestRevocation(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		w := newSQLite(t, "")
		testRevocation(t, w, w.server)
	})
	t.Run("two nodes on one PostgreSQL", func(t *testing.T) {
		w := newPostgres(t, "")
		testRevocation(t, w, w.node(t))
	})
}

func testRevocation(t *testing.T, w *world, other *server) {
	claim := func(h holder, name string) string {
		_, claims := claimsOf(t, h.access)
		text, _ := claims[name].(string)
		return text
	}
	byAdmin := func(body func(map[string]holder) map[string]any) func(*testing.T, map[string]holder) {
		return func(t *testing.T, all map[string]holder) {
			b := body(all)
			b["dry_run"] = true
			would := w.manage(t, "POST", "/revocations", b)
			for name, h := range all {
				if !w.active(t, h.access) {
					t.Fatalf("a dry run ended the token of %s", name)
				}
			}
			delete(b, "dry_run")
			done := w.manage(t, "POST", "/revocations", b)
			if would.JSON["dry_run"] != true || done.JSON["dry_run"] != false || would.JSON["kind"] != done.JSON["kind"] || would.JSON["active_grants"] != done.JSON["active_grants"] {
				t.Errorf("the dry run said %s, the deed %s", would, done)
			}
		}
	}
	byClient := func(c client, value func(map[string]holder) string, more ...string) func(*testing.T, map[string]holder) {
		return func(t *testing.T, all map[string]holder) {
			v, auth := as(c, params(append([]string{"token", value(all)}, more...)...))
			if r := w.post(t, "/revoke", v, auth); r.Status != http.StatusOK {
				t.Fatalf("revocation: %s", r)
			}
		}
	}
	access := func(name string) func(map[string]holder) string {
		return func(all map[string]holder) string { return all[name].access }
	}
	refresh := func(name string) func(map[string]holder) string {
		return func(all map[string]holder) string { return all[name].refresh }
	}
	type m = map[string]any
	type all = map[string]holder
	everybody := []string{"ada at web-two", "ada at web", "bob at web-two", "machine", "machine with opaque tokens"}
	rows := []struct {
		sentence string
		revoke   func(*testing.T, map[string]holder)
		dead     []string // whose access tokens
		over     []string // whose refresh tokens
	}{
		{"an access token, by its client", byClient(webTwo, access("ada at web-two")), []string{"ada at web-two"}, nil},
		{"an access token, with a wrong hint (RFC 7009 §2.1)", byClient(webTwo, access("ada at web-two"), "token_type_hint", "refresh_token"), []string{"ada at web-two"}, nil},
		{"an access token, with a hint that nobody knows", byClient(webTwo, access("ada at web-two"), "token_type_hint", "surprise"), []string{"ada at web-two"}, nil},
		{"an access token, by another client: nothing", byClient(webApp, access("ada at web-two")), nil, nil},
		{"an access token, by a public client: nothing", byClient(nativeApp, access("ada at web-two")), nil, nil},
		{"a refresh token, by its client", byClient(webTwo, refresh("ada at web-two")), []string{"ada at web-two"}, []string{"ada at web-two"}},
		{"a refresh token, with a wrong hint", byClient(webTwo, refresh("ada at web-two"), "token_type_hint", "access_token"), []string{"ada at web-two"}, []string{"ada at web-two"}},
		{"a refresh token, by another client: nothing", byClient(webApp, refresh("ada at web-two")), nil, nil},
		{"an opaque token, by its client", byClient(machine, access("machine with opaque tokens")), []string{"machine with opaque tokens"}, nil},
		{"what is not a token: nothing", byClient(webTwo, func(all) string { return "nothing" }), nil, nil},

		{"a token, by an administrator", byAdmin(func(a all) m { return m{"token": a["ada at web-two"].access} }), []string{"ada at web-two"}, nil},
		{"an opaque token, by an administrator", byAdmin(func(a all) m { return m{"token": a["machine with opaque tokens"].access} }), []string{"machine with opaque tokens"}, nil},
		{"a token with its grant", byAdmin(func(a all) m { return m{"token": a["ada at web-two"].access, "with_grant": true} }), []string{"ada at web-two"}, []string{"ada at web-two"}},
		{"a grant", byAdmin(func(a all) m { return m{"grant_id": claim(a["ada at web-two"], "grant_id")} }), []string{"ada at web-two"}, []string{"ada at web-two"}},
		{"a grant that has no row", byAdmin(func(a all) m { return m{"grant_id": claim(a["machine"], "grant_id")} }), []string{"machine"}, nil},
		{"a client", byAdmin(func(all) m { return m{"client_id": "web-two"} }), []string{"ada at web-two", "bob at web-two"}, []string{"ada at web-two", "bob at web-two"}},
		{"a client that is a machine", byAdmin(func(all) m { return m{"client_id": "machine"} }), []string{"machine", "machine with opaque tokens"}, nil},
		{"a user by name", byAdmin(func(all) m { return m{"username": "ada"} }), []string{"ada at web-two", "ada at web"}, []string{"ada at web-two", "ada at web"}},
		{"a user by id", byAdmin(func(a all) m { return m{"user_id": claim(a["bob at web-two"], "sub")} }), []string{"bob at web-two"}, []string{"bob at web-two"}},
		{"everything", byAdmin(func(all) m { return m{"everything": true} }), everybody, everybody[:3]},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			everyone := w.holders(t)
			row.revoke(t, everyone)
			since := time.Now()
			for _, name := range row.dead {
				if w.active(t, everyone[name].access) {
					t.Errorf("the access token of %s lives on where it was revoked", name)
				}
			}
			for _, name := range row.dead {
				for other.active(t, everyone[name].access) {
					if time.Since(since) > within {
						t.Fatalf("the access token of %s still lives on the other node %v after it was revoked", name, within)
					}
					time.Sleep(5 * time.Millisecond)
				}
			}
			for name, h := range everyone {
				dead := slices.Contains(row.dead, name)
				for _, node := range []*server{w.server, other} {
					if node.active(t, h.access) == dead {
						t.Errorf("the access token of %s: dead %v, want %v", name, !dead, dead)
					}
					if h.refresh != "" {
						if got := node.get(t, "/userinfo", bearer(h.access)).Status; (got == http.StatusUnauthorized) != dead {
							t.Errorf("UserInfo answers %d to the token of %s", got, name)
						}
					}
				}
				if h.refresh == "" {
					continue
				}
				want := ""
				if slices.Contains(row.over, name) {
					want = "invalid_grant"
				}
				checkTokenAnswer(t, other.refresh(t, h.client, h.refresh), want)
			}
		})
	}
	t.Run("what is new after an epoch is good", func(t *testing.T) {
		for name, h := range w.holders(t) {
			if !w.active(t, h.access) || !other.active(t, h.access) {
				t.Errorf("the new token of %s is dead", name)
			}
		}
	})
	t.Run("a user's browser is signed out too", func(t *testing.T) {
		b := newBrowser(t)
		r := newCodeRequest(webTwo)
		b.authorize(w.authorizeURL(r.query), ada, "allow")
		if p := b.follow(b.get(w.authorizeURL(r.query))); p.redirect() == nil {
			t.Fatalf("signed in and consented, but asked again: %s", p.reply)
		}
		w.manage(t, "POST", "/revocations", m{"username": "ada"})
		if p := b.follow(b.get(w.authorizeURL(r.query))); !p.form.has("password") {
			t.Errorf("the browser of a revoked user is still signed in: %s", p.reply)
		}
	})
	t.Run("all of it is in the journal, with who did it", func(t *testing.T) {
		kinds := map[string]int{}
		for _, r := range journalOf(t, w.server, query.Query{Types: []string{"token.revoked", "grant.ended", "epoch.set"}}) {
			kinds[r.Type]++
			if r.Type == "epoch.set" && r.Actor != "admin" {
				t.Errorf("the actor of an epoch is %q: %s", r.Actor, r.Raw)
			}
		}
		if kinds["token.revoked"] < 7 || kinds["grant.ended"] < 5 || kinds["epoch.set"] < 6 {
			t.Errorf("records: %v", kinds)
		}
	})
	verifyJournal(t, w.server)
}

func (w *world) holders(t *testing.T) map[string]holder {
	t.Helper()
	everyone := map[string]holder{}
	add := func(name string, c client, r reply) {
		if r.Status != http.StatusOK {
			t.Fatalf("tokens for %s: %s", name, r)
		}
		everyone[name] = holder{name, c, r.str("access_token"), r.str("refresh_token")}
	}
	add("ada at web-two", webTwo, w.signedIn(t, webTwo, ada))
	add("ada at web", webApp, w.signedIn(t, webApp, ada))
	add("bob at web-two", webTwo, w.signedIn(t, webTwo, bob))
	get := func(resource string) reply {
		return w.post(t, "/token", url.Values{"grant_type": {"client_credentials"}, "resource": {resource}}, basic(machine))
	}
	add("machine", machine, get(api))
	add("machine with opaque tokens", machine, get("https://opaque.example.com"))
	return everyone
}

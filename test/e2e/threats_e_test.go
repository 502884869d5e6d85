package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/journal/query"
)

// Threats E: tokens, refresh, revocation, introspection. What refresh does in parallel,
// over restarts and on several nodes is in refresh_test.go, revocation in
// revocation_test.go, failing storage in storage_test.go.

func TestThreatsE_Refresh(t *testing.T) {
	s := atHome(t)
	upper := func(v string) string { return v[:len("sbx_rt_")] + strings.ToUpper(v[len("sbx_rt_"):]) }
	rows := []struct {
		sentence string
		change   func(v url.Values, c *client)
		want     string
		alive    bool // whether the honest client can continue afterwards
	}{
		{"E64 a good refresh", func(url.Values, *client) {}, "", false},
		{"E70 by another client", func(_ url.Values, c *client) { *c = webApp }, "invalid_grant", true},
		{"E70 by a public client", func(_ url.Values, c *client) { *c = nativeApp }, "invalid_grant", true},
		{"E70 by a client without the grant type", func(_ url.Values, c *client) { *c = machine }, "unauthorized_client", true},
		{"E71 a part of the scope", func(v url.Values, _ *client) { v.Set("scope", "openid orders:read") }, "", false},
		{"E71 a scope that was not granted", func(v url.Values, _ *client) { v.Set("scope", "openid orders:write") }, "invalid_scope", true},
		{"E71 a scope of another resource", func(v url.Values, _ *client) { v.Set("scope", "other:read") }, "invalid_scope", true},
		{"E71 another audience", func(v url.Values, _ *client) { v.Set("resource", "https://other.example.com") }, "invalid_target", true},
		{"E71 the client's other resource, which was not granted", func(v url.Values, _ *client) { v["resource"] = []string{api, "https://other.example.com"} }, "invalid_target", true},
		{"E72 cut by one", func(v url.Values, _ *client) {
			v.Set("refresh_token", v.Get("refresh_token")[:len(v.Get("refresh_token"))-1])
		}, "invalid_grant", true},
		{"E72 one letter more", func(v url.Values, _ *client) { v.Set("refresh_token", v.Get("refresh_token")+"A") }, "invalid_grant", true},
		{"E72 in capitals", func(v url.Values, _ *client) { v.Set("refresh_token", upper(v.Get("refresh_token"))) }, "invalid_grant", true},
		{"E72 with one letter changed", func(v url.Values, _ *client) { v.Set("refresh_token", flip(v.Get("refresh_token"), 40)) }, "invalid_grant", true},
		{"E72 with padding", func(v url.Values, _ *client) { v.Set("refresh_token", v.Get("refresh_token")+"=") }, "invalid_grant", true},
		{"E72 without its prefix", func(v url.Values, _ *client) {
			v.Set("refresh_token", strings.TrimPrefix(v.Get("refresh_token"), "sbx_rt_"))
		}, "invalid_grant", true},
		{"E72 under the prefix of an access token", func(v url.Values, _ *client) {
			v.Set("refresh_token", strings.Replace(v.Get("refresh_token"), "_rt_", "_at_", 1))
		}, "invalid_grant", true},
		{"E72 nothing", func(v url.Values, _ *client) { v.Del("refresh_token") }, "invalid_request", true},
		{"E72 a huge one", func(v url.Values, _ *client) { v.Set("refresh_token", "sbx_rt_"+strings.Repeat("A", 30<<10)) }, "invalid_grant|invalid_request", true},
		{"A13 twice", func(v url.Values, _ *client) { v.Add("refresh_token", v.Get("refresh_token")) }, "invalid_request", true},
	}
	b := newBrowser(t)
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			b.t = t
			r := newCodeRequest(webTwo)
			first := s.post(t, "/token", r.redeem(b.authorize(s.authorizeURL(r.query), ada, "allow").Get("code")), basic(webTwo))
			checkTokenAnswer(t, first, "")
			v, c := params("grant_type", "refresh_token", "refresh_token", first.str("refresh_token")), webTwo
			row.change(v, &c)
			v, auth := as(c, v)
			got := s.post(t, "/token", v, auth, from(nextAddress()))
			checkTokenAnswer(t, got, row.want)
			if row.alive {
				checkTokenAnswer(t, s.refresh(t, webTwo, first.str("refresh_token")), "")
			}
			if row.want == "" {
				if rt := got.str("refresh_token"); !strings.HasPrefix(rt, "sbx_rt_") || len(rt) < 60 {
					t.Errorf("E72: refresh token of %d letters without its prefix", len(rt))
				}
				// What is asked for once is not forgotten for the next time.
				next := s.refresh(t, webTwo, got.str("refresh_token"))
				if next.str("scope") != first.str("scope") {
					t.Errorf("E71: scope %q after a narrower refresh, was %q", next.str("scope"), first.str("scope"))
				}
			}
			if row.sentence == "E71 a part of the scope" {
				_, claims := claimsOf(t, got.str("access_token"))
				if claims["scope"] != "openid orders:read" {
					t.Errorf("asked for openid orders:read, got %v", claims["scope"])
				}
			}
		})
	}
	t.Run("E66 ten rotations within a second", func(t *testing.T) {
		got := s.signedIn(t, webTwo, ada)
		seen := map[string]bool{}
		for range 10 {
			got = s.refresh(t, webTwo, got.str("refresh_token"))
			checkTokenAnswer(t, got, "")
			_, claims := claimsOf(t, got.str("access_token"))
			for _, v := range []string{got.str("refresh_token"), got.str("access_token"), claims["jti"].(string)} {
				if seen[v] {
					t.Fatal("a value came twice")
				}
				seen[v] = true
			}
		}
	})
	t.Run("E64 reuse is in the journal as what it is", func(t *testing.T) {
		got := s.signedIn(t, webTwo, ada)
		first := got.str("refresh_token")
		for range 2 {
			got = s.refresh(t, webTwo, got.str("refresh_token"))
		}
		checkTokenAnswer(t, s.refresh(t, webTwo, first), "invalid_grant")
		_, claims := claimsOf(t, got.str("access_token"))
		if len(journalOf(t, s, query.Query{Types: []string{"grant.reuse_detected"}, GrantID: claims["grant_id"].(string)})) != 1 {
			t.Error("no record of the reuse")
		}
	})
}

// E68: a token from a refresh that races a revocation is dead.
func TestThreatsE_RefreshRacesRevocation(t *testing.T) {
	onEachEngine(t, "", func(t *testing.T, w *world) {
		nodes := []*server{w.server}
		if w.engine == "PostgreSQL" {
			nodes = append(nodes, w.node(t))
		}
		for round := range 8 {
			first := w.signedIn(t, webTwo, ada)
			var mu sync.Mutex
			got := []reply{first}
			var wg sync.WaitGroup
			begin := make(chan struct{})
			for i := range 16 {
				wg.Go(func() {
					<-begin
					token := first.str("refresh_token")
					for range 4 {
						r := nodes[i%len(nodes)].refresh(t, webTwo, token)
						if r.Status != http.StatusOK {
							checkTokenAnswer(t, r, "invalid_grant")
							return
						}
						mu.Lock()
						got = append(got, r)
						mu.Unlock()
					}
				})
			}
			wg.Go(func() {
				<-begin
				time.Sleep(time.Duration(round) * time.Millisecond)
				if r := w.post(t, "/revoke", params("token", first.str("refresh_token")), basic(webTwo)); r.Status != http.StatusOK {
					t.Errorf("revocation: %s", r)
				}
			})
			close(begin)
			wg.Wait()
			since := time.Now()
			for _, r := range got {
				for _, n := range nodes {
					for n.active(t, r.str("access_token")) {
						if time.Since(since) > within {
							t.Fatalf("an access token of %d outlived the revocation of its grant", len(got))
						}
						time.Sleep(time.Millisecond)
					}
					checkTokenAnswer(t, n.refresh(t, webTwo, r.str("refresh_token")), "invalid_grant")
				}
			}
		}
	})
}

// E72: opaque access tokens.
func TestThreatsE_Opaque(t *testing.T) {
	s := atHome(t)
	r := s.post(t, "/token", params("grant_type", "client_credentials", "resource", "https://opaque.example.com"), basic(machine))
	checkTokenAnswer(t, r, "")
	good := r.str("access_token")
	if !strings.HasPrefix(good, "sbx_at_") || strings.Contains(good, ".") {
		t.Fatalf("an opaque token begins with %.8q", good)
	}
	if !s.active(t, good) {
		t.Fatal("the good token is not active")
	}
	for sentence, token := range map[string]string{
		"cut by one":              good[:len(good)-1],
		"cut in half":             good[:len(good)/2],
		"one letter more":         good + "A",
		"in capitals":             strings.ToUpper(good),
		"with one letter changed": flip(good, len(good)/2),
		"with its last changed":   flip(good, len(good)-1),
		"without its prefix":      strings.TrimPrefix(good, "sbx_at_"),
		"as a refresh token":      strings.Replace(good, "_at_", "_rt_", 1),
		"as a client secret":      strings.Replace(good, "_at_", "_cs_", 1),
		"with padding":            good + "==",
	} {
		t.Run("E72 "+sentence, func(t *testing.T) {
			got := s.post(t, "/introspect", params("token", token), basic(apiServer))
			if got.Status != http.StatusOK || len(got.JSON) != 1 || got.JSON["active"] != false {
				t.Errorf("%s", got)
			}
		})
	}
}

// E74: who may see a token.
func TestThreatsE_Introspection(t *testing.T) {
	s := atHome(t)
	people := s.signedIn(t, webTwo, ada)
	opaque := s.post(t, "/token", params("grant_type", "client_credentials", "resource", "https://opaque.example.com"), basic(machine)).str("access_token")
	ask := func(t *testing.T, c client, token string) reply {
		return s.post(t, "/introspect", params("token", token), basic(c))
	}
	for _, row := range []struct {
		sentence, token string
		who             client
		sees            bool
	}{
		{"the resource server that it is for", people.str("access_token"), apiServer, true},
		{"the client that it was issued to", people.str("access_token"), webTwo, true},
		{"another resource server (CVE-2026-37979)", people.str("access_token"), otherServer, false},
		{"another client", people.str("access_token"), machine, false},
		{"an opaque token, by its resource server", opaque, apiServer, true},
		{"an opaque token, by another", opaque, otherServer, false},
		{"a refresh token, by its client", people.str("refresh_token"), webTwo, true},
		{"a refresh token, by a resource server", people.str("refresh_token"), apiServer, false},
		{"a refresh token, by another client", people.str("refresh_token"), webApp, false},
		{"an ID token, by its client", people.str("id_token"), webTwo, false},
		{"an authorization code's look-alike", "sbx_ac_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", webTwo, false},
		{"a word", "x", apiServer, false},
	} {
		t.Run("E74 "+row.sentence, func(t *testing.T) {
			got := ask(t, row.who, row.token)
			if got.Status != http.StatusOK || got.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s", got)
			}
			if !row.sees {
				if len(got.JSON) != 1 || got.JSON["active"] != false {
					t.Errorf("it learns more than that there is nothing: %s", got)
				}
				return
			}
			if got.JSON["active"] != true || got.str("client_id") == "" {
				t.Errorf("%s", got)
			}
		})
	}
	t.Run("E74 what is said is what the token says", func(t *testing.T) {
		_, claims := claimsOf(t, people.str("access_token"))
		got := ask(t, apiServer, people.str("access_token"))
		for _, name := range []string{"iss", "sub", "client_id", "scope", "jti", "exp", "iat", "grant_id"} {
			if claims[name] == nil || fmt.Sprint(got.JSON[name]) != fmt.Sprint(claims[name]) {
				t.Errorf("%s: %v in the answer, %v in the token", name, got.JSON[name], claims[name])
			}
		}
	})
	t.Run("E74 a public client learns nothing", func(t *testing.T) {
		own := s.signedIn(t, nativeApp, ada)
		r := s.post(t, "/introspect", params("token", own.str("access_token"), "client_id", nativeApp.ID))
		if r.Status != http.StatusUnauthorized || r.JSON["active"] != nil {
			t.Errorf("%s", r)
		}
		// But it may revoke its own token (RFC 7009 §2.1).
		if r := s.post(t, "/revoke", params("token", own.str("access_token"), "client_id", nativeApp.ID)); r.Status != http.StatusOK || s.active(t, own.str("access_token")) {
			t.Errorf("a public client cannot revoke its own token: %s", r)
		}
	})
	for name, change := range map[string]func(url.Values){
		"no token":    func(v url.Values) { v.Del("token") },
		"token twice": func(v url.Values) { v.Add("token", "x") },
	} {
		for _, path := range []string{"/introspect", "/revoke"} {
			t.Run("A13 "+path+" with "+name, func(t *testing.T) {
				v := params("token", people.str("access_token"))
				change(v)
				if r := s.post(t, path, v, basic(webTwo)); r.Status != http.StatusBadRequest || r.str("error") != "invalid_request" {
					t.Errorf("%s", r)
				}
			})
		}
	}
}

// E75: UserInfo and RFC 6750.
func TestThreatsE_UserInfo(t *testing.T) {
	s := atHome(t)
	people := s.signedIn(t, webApp, ada)
	good := people.str("access_token")
	withScope := func(scope string) string {
		r := newCodeRequest(webApp)
		r.query.Set("scope", scope)
		return s.post(t, "/token", r.redeem(s.code(t, r, ada)), basic(webApp)).str("access_token")
	}
	noOpenID := withScope("offline_access orders:read")
	form := params("access_token", good)
	for _, row := range []struct {
		sentence  string
		ask       func(t *testing.T) reply
		status    int
		challenge string // what WWW-Authenticate must hold; "-" for no error in it
	}{
		{"a good token", func(t *testing.T) reply { return s.get(t, "/userinfo", bearer(good)) }, 200, ""},
		{"the scheme in small letters (RFC 9110 §11.1)", func(t *testing.T) reply { return s.get(t, "/userinfo", header("Authorization", "bearer "+good)) }, 200, ""},
		{"by POST with the header", func(t *testing.T) reply { return s.post(t, "/userinfo", url.Values{}, bearer(good)) }, 200, ""},
		{"by POST in the form", func(t *testing.T) reply { return s.post(t, "/userinfo", form) }, 200, ""},
		{"in the form and the header", func(t *testing.T) reply { return s.post(t, "/userinfo", form, bearer(good)) }, 400, `error="invalid_request"`},
		{"in the URL", func(t *testing.T) reply { return s.get(t, "/userinfo?access_token="+url.QueryEscape(good)) }, 400, `error="invalid_request"`},
		{"in the URL and the header", func(t *testing.T) reply {
			return s.get(t, "/userinfo?access_token="+url.QueryEscape(good), bearer(good))
		}, 400, `error="invalid_request"`},
		{"two headers", func(t *testing.T) reply {
			return s.get(t, "/userinfo", func(r *http.Request) {
				r.Header.Add("Authorization", "Bearer "+good)
				r.Header.Add("Authorization", "Bearer "+good)
			})
		}, 400, `error="invalid_request"`},
		{"no token", func(t *testing.T) reply { return s.get(t, "/userinfo") }, 401, "-"},
		{"another scheme", func(t *testing.T) reply { return s.get(t, "/userinfo", basic(webApp)) }, 401, "-"},
		{"an empty token", func(t *testing.T) reply { return s.get(t, "/userinfo", header("Authorization", "Bearer ")) }, 401, ""},
		{"a token that is none", func(t *testing.T) reply { return s.get(t, "/userinfo", bearer("x")) }, 401, `error="invalid_token"`},
		{"a token without openid", func(t *testing.T) reply { return s.get(t, "/userinfo", bearer(noOpenID)) }, 403, `error="insufficient_scope"`},
		{"the token of a machine", func(t *testing.T) reply { return s.get(t, "/userinfo", bearer(s.machineToken(t))) }, 403, `error="insufficient_scope"`},
		{"an ID token", func(t *testing.T) reply { return s.get(t, "/userinfo", bearer(people.str("id_token"))) }, 401, `error="invalid_token"`},
		{"a refresh token", func(t *testing.T) reply { return s.get(t, "/userinfo", bearer(people.str("refresh_token"))) }, 401, `error="invalid_token"`},
	} {
		t.Run("E75 "+row.sentence, func(t *testing.T) {
			r := row.ask(t)
			if r.Status != row.status || (r.JSON["sub"] != nil) != (row.status == 200) {
				t.Fatalf("want %d: %s", row.status, r)
			}
			challenge := r.Header.Get("WWW-Authenticate")
			switch {
			case row.status == 200:
			case !strings.HasPrefix(challenge, "Bearer"), row.challenge == "-" && strings.Contains(challenge, "error"), row.challenge != "-" && !strings.Contains(challenge, row.challenge):
				t.Errorf("WWW-Authenticate: %q", challenge)
			}
			if r.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("it may be cached: %q", r.Header.Get("Cache-Control"))
			}
		})
	}
	t.Run("E75 claims as the scopes say", func(t *testing.T) {
		for scope, want := range map[string][]string{
			"openid":         {"sub"},
			"openid profile": {"sub", "name"},
			"openid email":   {"sub", "email", "email_verified"},
		} {
			r := s.get(t, "/userinfo", bearer(withScope(scope)))
			for _, name := range []string{"sub", "name", "email", "email_verified"} {
				if _, has := r.JSON[name]; has != slices.Contains(want, name) {
					t.Errorf("scope %q: %s is there: %v", scope, name, has)
				}
			}
		}
	})
}

// E76: the browser's session.
func TestThreatsE_Session(t *testing.T) {
	s := atHome(t)
	session := func(b *browser) (found []*http.Cookie) {
		u, _ := url.Parse(s.Issuer)
		for _, c := range b.http.Jar.Cookies(u) {
			if strings.Contains(c.Name, "session") {
				found = append(found, c)
			}
		}
		return found
	}
	signIn := func(b *browser, who user) {
		q := newCodeRequest(webApp).query
		q.Set("prompt", "login")
		b.authorize(s.authorizeURL(q), who, "allow")
	}
	t.Run("E76 what the cookies are", func(t *testing.T) {
		b := newBrowser(t)
		signIn(b, ada)
		for _, p := range b.answer {
			if cookies := (&http.Response{Header: p.Header}).Cookies(); len(cookies) > 0 {
				checkCookies(t, cookies, "signalbox_", false) // http on loopback: no Secure, no __Host-
			}
		}
	})
	t.Run("E76 a new session for every sign-in", func(t *testing.T) {
		b := newBrowser(t)
		signIn(b, ada)
		first := session(b)
		signIn(b, ada)
		second := session(b)
		if len(first) != 1 || len(second) != 1 || first[0].Value == second[0].Value {
			t.Errorf("before %v, after %v", first, second)
		}
	})
	t.Run("E76 a session that was planted is not taken over", func(t *testing.T) {
		attacker := newBrowser(t)
		signIn(attacker, bob)
		planted := session(attacker)[0]
		victim := newBrowser(t)
		u, _ := url.Parse(s.Issuer)
		victim.http.Jar.SetCookies(u, []*http.Cookie{{Name: planted.Name, Value: planted.Value, Path: "/"}})
		signIn(victim, ada)
		if session(victim)[0].Value == planted.Value {
			t.Error("the planted session is now the victim's")
		}
	})
	t.Run("E76 a made-up session is none", func(t *testing.T) {
		b := newBrowser(t)
		u, _ := url.Parse(s.Issuer)
		b.http.Jar.SetCookies(u, []*http.Cookie{{Name: "signalbox_session", Value: strings.Repeat("A", 43), Path: "/"}})
		if p := b.follow(b.get(s.authorizeURL(newCodeRequest(webApp).query))); !p.form.has("password") {
			t.Errorf("%s", p.reply)
		}
	})
	t.Run("E76 after signing out the old cookie is worth nothing", func(t *testing.T) {
		b := newBrowser(t)
		signIn(b, ada)
		old := session(b)[0]
		p := b.follow(b.get(s.Issuer + "/logout"))
		checkPage(t, "a sign-out page", p)
		p = b.follow(b.press(p, "sign-out", nil))
		if p.Status != http.StatusOK {
			t.Errorf("signing out: %s", p.reply)
		}
		if len(session(b)) != 0 {
			t.Error("the browser still has a session cookie")
		}
		thief := newBrowser(t)
		u, _ := url.Parse(s.Issuer)
		thief.http.Jar.SetCookies(u, []*http.Cookie{{Name: old.Name, Value: old.Value, Path: "/"}})
		if p := thief.follow(thief.get(s.authorizeURL(newCodeRequest(webApp).query))); !p.form.has("password") {
			t.Errorf("the old cookie still signs in: %s", p.reply)
		}
	})
	t.Run("E70 a grant without offline_access ends with the session", func(t *testing.T) {
		b := newBrowser(t)
		tokens := func(scope string) reply {
			r := newCodeRequest(webApp)
			r.query.Set("scope", scope)
			return s.post(t, "/token", r.redeem(b.authorize(s.authorizeURL(r.query), ada, "allow").Get("code")), basic(webApp))
		}
		online, offline := tokens("openid orders:read"), tokens("openid offline_access orders:read")
		p := b.follow(b.get(s.Issuer + "/logout"))
		b.follow(b.press(p, "sign-out", nil))
		if s.active(t, online.str("access_token")) || !s.active(t, offline.str("access_token")) {
			t.Errorf("after signing out: online %v, offline %v", s.active(t, online.str("access_token")), s.active(t, offline.str("access_token")))
		}
		if rt := online.str("refresh_token"); rt != "" {
			checkTokenAnswer(t, s.refresh(t, webApp, rt), "invalid_grant")
		}
		checkTokenAnswer(t, s.refresh(t, webApp, offline.str("refresh_token")), "")
	})
	t.Run("J110 nobody signs a person out from elsewhere", func(t *testing.T) {
		b := newBrowser(t)
		signIn(b, ada)
		p := b.follow(b.get(s.Issuer + "/logout"))
		button, ok := p.form.button("sign-out")
		if !ok {
			t.Fatalf("no confirmation is asked: %s", p.reply)
		}
		b.submit(p, button, nil, func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Origin", "https://evil.example")
		})
		if p := b.get(s.authorizeURL(newCodeRequest(webApp).query)); p.redirect() == nil || !p.redirect().Query().Has("code") {
			t.Errorf("signed out by another site: %s", p.reply)
		}
	})
}

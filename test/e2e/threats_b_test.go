package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// Threats B: the authorization code and PKCE. A row starts from one good code and
// one good token request, and changes one thing.
func TestThreatsB_Redeem(t *testing.T) {
	s := atHome(t)
	set := func(name, value string) func(url.Values, *client) {
		return func(v url.Values, _ *client) { v.Set(name, value) }
	}
	edit := func(name string, change func(string) string) func(url.Values, *client) {
		return func(v url.Values, _ *client) { v.Set(name, change(v.Get(name))) }
	}
	other := newPKCE()
	rows := []struct {
		sentence string
		change   func(v url.Values, c *client)
		want     string // error codes joined by |; empty: success
	}{
		{"B0 a good redemption", func(url.Values, *client) {}, ""},
		{"B26 by another client", func(_ url.Values, c *client) { *c = webApp }, "invalid_grant"},
		{"B26 by a client that may not redeem codes", func(_ url.Values, c *client) { *c = machine }, "invalid_grant|unauthorized_client"},
		{"B26 by a public client", func(_ url.Values, c *client) { *c = nativeApp }, "invalid_grant"},
		{"B26 with another registered redirect URI", set("redirect_uri", "https://two.example.com/other"), "invalid_grant"},
		{"B26 with a redirect URI that is not registered", set("redirect_uri", "https://evil.example/"), "invalid_grant"},
		{"A6 with the redirect URI escaped once more", edit("redirect_uri", url.QueryEscape), "invalid_grant"},
		{"A6 with an escaped letter in the redirect URI", set("redirect_uri", "https://two.example.com/c%61llback"), "invalid_grant"},
		{"B26 for another resource", set("resource", "https://other.example.com"), "invalid_target"},

		{"B28 a code cut by one", edit("code", func(c string) string { return c[:len(c)-1] }), "invalid_grant"},
		{"B28 a code cut in half", edit("code", func(c string) string { return c[:len(c)/2] }), "invalid_grant"},
		{"B28 a code with a letter added", edit("code", func(c string) string { return c + "A" }), "invalid_grant"},
		{"B28 a code with a space added", edit("code", func(c string) string { return c + " " }), "invalid_grant|invalid_request"},
		{"B28 a code in capitals", edit("code", strings.ToUpper), "invalid_grant"},
		{"B28 a code with one letter changed", edit("code", func(c string) string { return flip(c, len(c)/2) }), "invalid_grant"},
		{"B28 a code of another kind", set("code", "sbx_rt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), "invalid_grant"},
		{"B28 no code", func(v url.Values, _ *client) { v.Del("code") }, "invalid_request"},
		{"B28 an empty code", set("code", ""), "invalid_request|invalid_grant"},
		{"B28 a huge code", set("code", strings.Repeat("A", 60<<10)), "invalid_grant|invalid_request"},

		{"B29 no verifier", func(v url.Values, _ *client) { v.Del("code_verifier") }, "invalid_grant|invalid_request"},
		{"B29 an empty verifier", set("code_verifier", ""), "invalid_grant|invalid_request"},
		{"B29 the verifier of another request", set("code_verifier", other.verifier), "invalid_grant"},
		{"B29 a verifier of 42 characters", set("code_verifier", strings.Repeat("a", 42)), "invalid_grant|invalid_request"},
		{"B29 a verifier of 129 characters", set("code_verifier", strings.Repeat("a", 129)), "invalid_grant|invalid_request"},
		{"B29 a verifier with a character that is not allowed", edit("code_verifier", func(v string) string { return v[:42] + "+" }), "invalid_grant|invalid_request"},
		{"B29 a verifier with a new line", edit("code_verifier", func(v string) string { return v + "\n" }), "invalid_grant|invalid_request"},
		{"B29 a method that would weaken the check", set("code_challenge_method", "plain"), ""}, // ignored here: the request fixed it
		{"B29 a verifier sent twice", func(v url.Values, _ *client) { v.Add("code_verifier", v.Get("code_verifier")) }, "invalid_request"},
		{"A13 a code sent twice", func(v url.Values, _ *client) { v.Add("code", v.Get("code")) }, "invalid_request"},
		{"a grant type in other letters", set("grant_type", "Authorization_Code"), "unsupported_grant_type"},
		{"a grant type that nobody knows", set("grant_type", "password"), "unsupported_grant_type"},
		{"no grant type", func(v url.Values, _ *client) { v.Del("grant_type") }, "invalid_request"},
	}
	b := newBrowser(t)
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			b.t = t
			r := newCodeRequest(webTwo)
			got := b.authorize(s.authorizeURL(r.query), ada, "allow")
			if got.Get("code") == "" {
				t.Fatalf("no code: %v", got)
			}
			v, c := r.redeem(got.Get("code")), r.client
			row.change(v, &c)
			v, auth := as(c, v)
			checkTokenAnswer(t, s.post(t, "/token", v, auth), row.want)
		})
	}
	t.Run("B29 the challenge itself as verifier", func(t *testing.T) {
		r := newCodeRequest(webTwo)
		v := r.redeem(s.code(t, r, ada))
		v.Set("code_verifier", r.pkce.challenge)
		checkTokenAnswer(t, s.post(t, "/token", v, basic(webTwo)), "invalid_grant")
	})
	t.Run("B31 the code of one person with the verifier of another", func(t *testing.T) {
		victim, attacker := newCodeRequest(webTwo), newCodeRequest(webTwo)
		v := attacker.redeem(s.code(t, victim, ada))
		checkTokenAnswer(t, s.post(t, "/token", v, basic(webTwo)), "invalid_grant")
	})
}

// checkTokenAnswer checks an answer of /token against RFC 6749 §5: want is the allowed
// codes, joined by |, or empty for success.
func checkTokenAnswer(t *testing.T, r reply, want string) {
	t.Helper()
	if r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the answer may be cached: %q", r.Header.Get("Cache-Control"))
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		t.Errorf("Content-Type %q", r.Header.Get("Content-Type"))
	}
	if want == "" {
		if r.Status != http.StatusOK || r.str("access_token") == "" || !strings.EqualFold(r.str("token_type"), "Bearer") {
			t.Errorf("want a token, got %s", r)
		}
		return
	}
	code := r.str("error")
	if r.JSON["access_token"] != nil || !contains(want, code) {
		t.Errorf("want %s, got %s", want, r)
	}
	status := http.StatusBadRequest
	if code == "invalid_client" {
		status = http.StatusUnauthorized
	}
	if r.Status != status {
		t.Errorf("%s with status %d, want %d", code, r.Status, status)
	}
}

// B29: what a request must carry to get a code at all.
func TestThreatsB_Challenge(t *testing.T) {
	s := atHome(t)
	set := func(name, value string) func(url.Values) { return func(q url.Values) { q.Set(name, value) } }
	drop := func(name string) func(url.Values) { return func(q url.Values) { q.Del(name) } }
	for _, row := range []struct {
		sentence string
		change   func(url.Values)
	}{
		{"B29 no challenge", func(q url.Values) { q.Del("code_challenge"); q.Del("code_challenge_method") }},
		{"B29 a method without a challenge", drop("code_challenge")},
		{"B29 no method, which would mean plain", drop("code_challenge_method")},
		{"B29 the method plain", set("code_challenge_method", "plain")},
		{"B29 the method in small letters", set("code_challenge_method", "s256")},
		{"B29 a method that nobody knows", set("code_challenge_method", "S512")},
		{"B29 a challenge that is too short", set("code_challenge", strings.Repeat("a", 42))},
		{"B29 a challenge that is too long", set("code_challenge", strings.Repeat("a", 44))},
		{"B29 a challenge that is not base64url", set("code_challenge", strings.Repeat("a", 42)+"+")},
		{"B29 an empty challenge", set("code_challenge", "")},
	} {
		for _, c := range []client{webApp, nativeApp} {
			t.Run(row.sentence+", client "+c.ID, func(t *testing.T) {
				q := newCodeRequest(c).query
				row.change(q)
				got := s.outcome(t, newBrowser(t).get(s.authorizeURL(q)), q.Get("state"))
				if got != redirectError("invalid_request") {
					t.Errorf("came to %q", got)
				}
			})
		}
	}
}

// B29, B31: a client may do without PKCE; what it sends is enforced all the same.
func TestThreatsB_WithoutPKCE(t *testing.T) {
	s := atHome(t)
	other := newPKCE()
	without := func(q url.Values) { q.Del("code_challenge"); q.Del("code_challenge_method") }
	for _, row := range []struct {
		sentence string
		request  func(url.Values)
		redeem   func(url.Values)
		want     string
	}{
		{"B29 neither challenge nor verifier", without, func(v url.Values) { v.Del("code_verifier") }, ""},
		{"B29 a verifier for a challenge that somebody removed", without, func(url.Values) {}, "invalid_grant"},
		{"B29 a challenge and its verifier", func(url.Values) {}, func(url.Values) {}, ""},
		{"B29 a challenge and no verifier", func(url.Values) {}, func(v url.Values) { v.Del("code_verifier") }, "invalid_grant"},
		{"B29 a challenge and another verifier", func(url.Values) {}, func(v url.Values) { v.Set("code_verifier", other.verifier) }, "invalid_grant"},
		{"B29 nor is a nonce demanded instead", func(q url.Values) { without(q); q.Del("nonce") }, func(v url.Values) { v.Del("code_verifier") }, ""},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			r := newCodeRequest(webOld)
			row.request(r.query)
			v := r.redeem(s.code(t, r, ada))
			row.redeem(v)
			checkTokenAnswer(t, s.post(t, "/token", v, basic(webOld)), row.want)
		})
	}
	t.Run("B29 the plain method", func(t *testing.T) {
		q := newCodeRequest(webOld).query
		q.Set("code_challenge_method", "plain")
		if got := s.outcome(t, newBrowser(t).get(s.authorizeURL(q)), q.Get("state")); got != redirectError("invalid_request") {
			t.Errorf("came to %q", got)
		}
	})
}

// B27: of many redemptions at once, one succeeds. A later one ends what the first gave.
func TestThreatsB_Once(t *testing.T) {
	s := atHome(t)
	r := newCodeRequest(webTwo)
	v := r.redeem(s.code(t, r, ada))

	const parallel = 16
	answers := make([]reply, parallel)
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range answers {
		wg.Go(func() {
			<-begin
			answers[i] = s.post(t, "/token", v, basic(webTwo))
		})
	}
	close(begin)
	wg.Wait()
	var won []reply
	for _, a := range answers {
		if a.Status == http.StatusOK {
			won = append(won, a)
		} else {
			checkTokenAnswer(t, a, "invalid_grant")
		}
	}
	if len(won) != 1 {
		t.Fatalf("B27: %d of %d redemptions succeeded", len(won), parallel)
	}
	checkTokenAnswer(t, s.post(t, "/token", v, basic(webTwo)), "invalid_grant")
	// RFC 6749 §4.1.2: what came from a code that was used twice is revoked.
	if got := s.post(t, "/introspect", params("token", won[0].str("access_token")), basic(apiServer)); got.JSON["active"] != false {
		t.Errorf("B27: the access token of a code used twice is still good: %s", got)
	}
	refresh := params("grant_type", "refresh_token", "refresh_token", won[0].str("refresh_token"))
	checkTokenAnswer(t, s.post(t, "/token", refresh, basic(webTwo)), "invalid_grant")
}

// B30: the nonce is exactly that of the request, or absent.
func TestThreatsB_Nonce(t *testing.T) {
	s := atHome(t)
	for _, nonce := range []string{"", "n", "spaces and \"quotes\" and ünïcode", strings.Repeat("n", 500)} {
		r := newCodeRequest(webTwo)
		r.query.Set("nonce", nonce)
		if nonce == "" {
			r.query.Del("nonce")
		}
		got := s.post(t, "/token", r.redeem(s.code(t, r, ada)), basic(webTwo))
		_, claims := claimsOf(t, got.str("id_token"))
		if have, ok := claims["nonce"]; (nonce == "" && ok) || (nonce != "" && have != nonce) {
			t.Errorf("B30: nonce %q came back as %v", nonce, have)
		}
	}
}

// B32 and the promise that no secret is written down.
func TestThreatsB_Silence(t *testing.T) {
	s := newHouse(t)
	r := newCodeRequest(webTwo)
	code := s.code(t, r, ada)
	tokens := s.post(t, "/token", r.redeem(code), basic(webTwo))
	refreshed := s.post(t, "/token", params("grant_type", "refresh_token", "refresh_token", tokens.str("refresh_token")), basic(webTwo))
	wrong := r.redeem(code)
	s.post(t, "/token", wrong, basic(webTwo)) // a refusal is logged too
	s.get(t, "/userinfo", bearer(tokens.str("access_token")))
	s.stop()
	secrets := map[string]string{
		"the code":            code,
		"the verifier":        r.pkce.verifier,
		"an access token":     tokens.str("access_token"),
		"a refresh token":     tokens.str("refresh_token"),
		"the next one":        refreshed.str("refresh_token"),
		"the ID token":        tokens.str("id_token"),
		"the client's secret": webTwo.Secret,
		"the password":        ada.Password,
	}
	for place, text := range everythingWritten(t, s) {
		for what, secret := range secrets {
			if secret == "" {
				t.Fatalf("the flow gave no value for %s", what)
			}
			if strings.Contains(text, secret) {
				t.Errorf("B32: %s is in %s", what, place)
			}
		}
	}
}

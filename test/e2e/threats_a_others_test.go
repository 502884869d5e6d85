package e2e

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The rest of the threats A and B: what is not offered, and what belongs to another issuer
// or another time.

// A7: one redirect URI is registered and none is sent. OAuth 2.1 §4.1.1 allows it, OpenID
// Connect Core §3.1.2.1 does not.
func TestThreatsA_NoRedirectURI(t *testing.T) {
	s := atHome(t)
	b := newBrowser(t)
	r := newCodeRequest(webApp)
	r.query.Del("redirect_uri")
	if got := s.outcome(t, newBrowser(t).get(s.authorizeURL(r.query)), r.query.Get("state")); got != errorPage && got != redirectError("invalid_request") {
		t.Errorf("with openid: came to %q", got)
	}
	r.query.Set("scope", "offline_access orders:read")
	p := b.follow(b.get(s.authorizeURL(r.query)))
	if !p.form.has("password") {
		t.Fatalf("without openid: %s", p.reply)
	}
	code := b.authorize(s.authorizeURL(r.query), ada, "allow").Get("code")
	v, wrong := r.redeem(code), r.redeem(code)
	v.Del("redirect_uri")
	wrong.Set("redirect_uri", "https://evil.example/")
	checkTokenAnswer(t, s.post(t, "/token", wrong, basic(webApp)), "invalid_grant")
	checkTokenAnswer(t, s.post(t, "/token", v, basic(webApp)), "")
}

// A9, A18, A23, A24: what is not offered is neither served nor announced.
func TestThreatsA_NotOffered(t *testing.T) {
	s := atHome(t)
	metadata := s.get(t, "/.well-known/openid-configuration")
	for name, path := range map[string]string{
		"registration_endpoint": "/register", "pushed_authorization_request_endpoint": "/par",
		"device_authorization_endpoint": "/device_authorization", "check_session_iframe": "/check-session",
		"backchannel_authentication_endpoint": "/bc-authorize",
	} {
		if metadata.JSON[name] != nil {
			t.Errorf("%s is announced", name)
		}
		if r := s.post(t, path, url.Values{}); r.Status != http.StatusNotFound {
			t.Errorf("POST %s: %s", path, r)
		}
	}
	for name, want := range map[string][]string{
		"response_types_supported":         {"code"},
		"response_modes_supported":         {"form_post", "query"},
		"grant_types_supported":            {"authorization_code", "client_credentials", "refresh_token", "urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:ietf:params:oauth:grant-type:token-exchange"},
		"code_challenge_methods_supported": {"S256"},
	} {
		var got []string
		list, _ := metadata.JSON[name].([]any)
		for _, v := range list {
			got = append(got, v.(string))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	for _, mode := range []string{"fragment", "web_message", "jwt", "query.jwt", "form_post.jwt"} {
		q := newCodeRequest(webApp).query
		q.Set("response_mode", mode)
		p := newBrowser(t).get(s.authorizeURL(q))
		if got := s.outcome(t, p, q.Get("state")); got != errorPage && got != redirectError("invalid_request") {
			t.Errorf("A18: response_mode %s came to %q", mode, got)
		}
		if to := p.redirect(); to != nil && to.Fragment != "" {
			t.Errorf("A17: an answer in the fragment: %s", to)
		}
	}
}

// A21: two issuers, even with one master key, have nothing in common.
func TestThreatsA_TwoIssuers(t *testing.T) {
	one, two := atHome(t), newHouse(t)
	r := newCodeRequest(webTwo)
	code := r.redeem(one.code(t, r, ada))
	checkTokenAnswer(t, two.post(t, "/token", code, basic(webTwo)), "invalid_grant")
	tokens := one.post(t, "/token", code, basic(webTwo))
	checkTokenAnswer(t, tokens, "")
	checkTokenAnswer(t, two.refresh(t, webTwo, tokens.str("refresh_token")), "invalid_grant")
	opaque := one.post(t, "/token", params("grant_type", "client_credentials", "resource", "https://opaque.example.com"), basic(machine)).str("access_token")
	for _, token := range []string{tokens.str("access_token"), opaque, one.machineToken(t)} {
		if !one.active(t, token) || two.active(t, token) {
			t.Errorf("A21: active where it was issued: %v, elsewhere: %v", one.active(t, token), two.active(t, token))
		}
	}
	if r := two.get(t, "/userinfo", bearer(tokens.str("access_token"))); r.Status != http.StatusUnauthorized {
		t.Errorf("UserInfo: %s", r)
	}
	if r := two.administerAs(t, one.adminToken(t), "GET", "/clients", nil); r.Status != http.StatusUnauthorized {
		t.Errorf("the admin API: %s", r)
	}
	// None of this has ended the grant.
	checkTokenAnswer(t, one.refresh(t, webTwo, tokens.str("refresh_token")), "")
}

// B28: a code lives for a minute.
func TestThreatsB_Lifetime(t *testing.T) {
	onEachEngine(t, "", func(t *testing.T, w *world) {
		late, soon := newCodeRequest(webTwo), newCodeRequest(webTwo)
		lateCode := late.redeem(w.code(t, late, ada))
		w.exec(t, "UPDATE grants SET code_expires_at = code_expires_at - 61000000")
		soonCode := soon.redeem(w.code(t, soon, ada))
		w.exec(t, "UPDATE grants SET code_expires_at = code_expires_at - 50000000")
		checkTokenAnswer(t, w.post(t, "/token", lateCode, basic(webTwo)), "invalid_grant")
		checkTokenAnswer(t, w.post(t, "/token", soonCode, basic(webTwo)), "")
	})
	t.Run("nobody can configure more", func(t *testing.T) {
		dir := t.TempDir()
		for name, content := range map[string]string{
			"master.key": "6532652d6d61737465722d6b6579206f6620746869727479206279746573212100",
			"signalbox.yaml": "issuer: http://127.0.0.1:1\ntls: {off: true}\nsecrets: {master_key_file: master.key}\n" +
				"storage: {url: \"sqlite:signalbox.db\"}\ntokens: {code_ttl: 61s}\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, errOut, code := run(t, "", "config", "validate", "--config", filepath.Join(dir, "signalbox.yaml"))
		if code != 1 || !strings.Contains(errOut, "code_ttl") || !strings.Contains(errOut, ":5:") {
			t.Errorf("code %d\n%s%s", code, out, errOut)
		}
	})
}

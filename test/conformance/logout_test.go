package conformance

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestRPInitiatedLogout: oidcc-rp-initiated-logout-certification-test-plan.
func TestRPInitiatedLogout(t *testing.T) {
	p := plan{"oidcc-rp-initiated-logout-certification-test-plan", ""}
	t.Run("oidcc-rp-initiated-logout-discovery-endpoint-verification", func(t *testing.T) {
		if got := send(t, http.MethodGet, "/.well-known/openid-configuration", nil).text("end_session_endpoint"); got != issuer+"/logout" {
			t.Errorf("end_session_endpoint is %q", got)
		}
	})
	modified := func(token string) string { return token[:len(token)-6] + strings.Repeat("A", 6) }
	for _, row := range []struct {
		name    string
		request func(token string) url.Values
		goes    bool // back to the client; else the person stays on a page
		ends    bool // the session
	}{
		{"oidcc-rp-initiated-logout", func(token string) url.Values {
			return url.Values{"id_token_hint": {token}, "post_logout_redirect_uri": {goodbye}, "state": {"s-1"}}
		}, true, true},
		{"oidcc-rp-initiated-logout-bad-post-logout-redirect-uri", func(token string) url.Values {
			return url.Values{"id_token_hint": {token}, "post_logout_redirect_uri": {goodbye + "/other"}, "state": {"s-1"}}
		}, false, false},
		{"oidcc-rp-initiated-logout-modified-id-token-hint", func(token string) url.Values {
			return url.Values{"id_token_hint": {modified(token)}, "post_logout_redirect_uri": {goodbye}, "state": {"s-1"}}
		}, false, false},
		{"oidcc-rp-initiated-logout-no-id-token-hint", func(string) url.Values {
			return url.Values{"post_logout_redirect_uri": {goodbye}, "state": {"s-1"}}
		}, false, false},
		{"oidcc-rp-initiated-logout-no-params", func(string) url.Values { return url.Values{} }, false, true},
		{"oidcc-rp-initiated-logout-no-post-logout-redirect-uri", func(token string) url.Values {
			return url.Values{"id_token_hint": {token}, "state": {"s-1"}}
		}, false, true},
		{"oidcc-rp-initiated-logout-no-state", func(token string) url.Values {
			return url.Values{"id_token_hint": {token}, "post_logout_redirect_uri": {goodbye}}
		}, true, true},
		{"oidcc-rp-initiated-logout-only-state", func(string) url.Values { return url.Values{"state": {"s-1"}} }, false, true},
		{"oidcc-rp-initiated-logout-query-added-to-post-logout-redirect-uri", func(token string) url.Values {
			return url.Values{"id_token_hint": {token}, "post_logout_redirect_uri": {goodbye + "?more=1"}, "state": {"s-1"}}
		}, false, false},
		{"oidcc-rp-initiated-logout-bad-id-token-hint", func(string) url.Values {
			return url.Values{"id_token_hint": {"nobody's token"}, "post_logout_redirect_uri": {goodbye}, "state": {"s-1"}}
		}, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBrowser(t)
			tokens, _ := p.signIn(b, p.request("basic"))
			request := row.request(tokens.text("id_token"))
			got := b.open(issuer + "/logout?" + request.Encode())
			if row.goes && (got.uri != goodbye || got.Get("state") != request.Get("state")) || !row.goes && got.uri != "" {
				t.Errorf("arrived at %q with %v, %d %s", got.uri, got.Values, got.status, got.page)
			}
			v := p.request("basic", "prompt", "none")
			after := b.open(authorize(v))
			if row.ends {
				p.refused(t, after, v, "login_required", "interaction_required")
			} else if after.Get("code") == "" {
				t.Errorf("signed out although the request was refused: %v", after.Values)
			}
		})
	}
}

package authorize_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/server/authorize"
)

func TestClaimsParameter(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	for _, row := range []struct {
		name, claims      string
		userInfo, idToken []string
		refused           oauth.Code
	}{
		{"one for each place", `{"userinfo":{"name":{"essential":true}},"id_token":{"email":null}}`, []string{"name"}, []string{"email"}, ""},
		{"claims that nobody knows, and one in a language", `{"userinfo":{"shoe_size":null,"name#ja":null,"nickname":{}}}`, []string{"nickname"}, nil, ""},
		{"members that nobody knows", `{"elsewhere":{"name":null}}`, nil, nil, ""},
		{"a place that is null", `{"userinfo":null}`, nil, nil, ""},
		{"of a scope that the client has not", `{"userinfo":{"phone_number":{"essential":true},"address":null}}`, nil, nil, ""},
		{"those that are there anyway", `{"id_token":{"auth_time":{"essential":true},"acr":{"values":["urn:other"]}}}`, nil, nil, ""},
		{"the person who is signed in", `{"id_token":{"sub":{"value":"u-ada"}}}`, nil, nil, ""},
		{"an essential acr that a sign-in has", `{"id_token":{"acr":{"essential":true,"values":["urn:other","urn:signalbox:acr:password"]}}}`, nil, nil, ""},
		{"an essential acr that no sign-in has", `{"id_token":{"acr":{"essential":true,"value":"urn:other"}}}`, nil, nil, oauth.UnmetAuthentication},
		{"no JSON", `name`, nil, nil, oauth.InvalidRequest},
		{"a list", `["name"]`, nil, nil, oauth.InvalidRequest},
		{"a list in a place", `{"userinfo":["name"]}`, nil, nil, oauth.InvalidRequest},
		{"a name twice", `{"userinfo":{"name":null,"name":null}}`, nil, nil, oauth.InvalidRequest},
		{"a person who is a number", `{"id_token":{"sub":{"value":7}}}`, nil, nil, oauth.InvalidRequest},
		{"A 25: too long", `{"userinfo":{"` + strings.Repeat("a", authorize.MaxClaims) + `":null}}`, nil, nil, oauth.InvalidRequest},
		{"A 25: nested without end", strings.Repeat(`{"a":`, 400) + "1" + strings.Repeat("}", 400), nil, nil, oauth.InvalidRequest},
	} {
		t.Run(row.name, func(t *testing.T) {
			page := b.Get(asked("claims", row.claims, "prompt", "consent"))
			if row.refused != "" {
				if got := page.Back().Get("error"); oauth.Code(got) != row.refused {
					t.Fatalf("%d %q", page.Code, got)
				}
				return
			}
			g := wo.grantOf(b.allow(page))
			if !slices.Equal(g.Claims.UserInfo, row.userInfo) || !slices.Equal(g.Claims.IDToken, row.idToken) {
				t.Errorf("the grant has %+v", g.Claims)
			}
		})
	}
	if got := b.Get(asked("claims", `{"id_token":{"sub":{"value":"u-bob"}}}`, "prompt", "none")).Back().Get("error"); got != "login_required" {
		t.Errorf("somebody else: %q", got)
	}
}

// docs/security/threats.md A 22: what is asked for by name is shown, and asked about once.
func TestConsentNamesTheClaims(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	redeem := func(g authority.Grant) {
		t.Helper()
		g.State, g.ExpiresAt = authority.GrantActive, g.CreatedAt.Add(authority.MaxTokenTTL)
		if err := wo.DB.RedeemCode(t.Context(), g.ID, g.Code.Hash, authority.Refresh{}, g.ExpiresAt, g.CreatedAt); err != nil {
			t.Fatal(err)
		}
	}
	page := b.Get(asked("claims", `{"userinfo":{"email":null}}`))
	if page.Is() != "allow" || !strings.Contains(page.Body.String(), "See your email") {
		t.Fatalf("%d %s", page.Code, page.Body)
	}
	redeem(wo.grantOf(b.allow(page)))
	if again := b.Get(asked("claims", `{"id_token":{"email":null}}`)); again.Code != http.StatusSeeOther || again.Back().Get("code") == "" {
		t.Errorf("the same claim is asked about again: %d %s", again.Code, again.Body)
	}
	if more := b.Get(asked("claims", `{"userinfo":{"email":null,"nickname":null}}`)); more.Is() != "allow" || !strings.Contains(more.Body.String(), "See your nickname") {
		t.Errorf("another claim is not asked about: %d %s", more.Code, more.Body)
	}
}

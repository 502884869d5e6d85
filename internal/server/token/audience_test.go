package token_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// audienceOf is the aud of an access token that was handed out.
func audienceOf(t *testing.T, r reply) []string {
	t.Helper()
	if r.status != http.StatusOK {
		t.Fatalf("%d %v", r.status, r.body)
	}
	_, claims, err := jose.InspectUnverified(r.text("access_token"))
	if err != nil {
		t.Fatal(err)
	}
	aud, _, err := claims.Strings("aud")
	if err != nil {
		one, _, err := claims.String("aud")
		if err != nil {
			t.Fatal(err)
		}
		return []string{one}
	}
	return aud
}

// wantTarget is either an audience or the error invalid_target, which says what to do.
func wantTarget(t *testing.T, r reply, want ...string) {
	t.Helper()
	if len(want) == 0 {
		if r.text("error") != string(oauth.InvalidTarget) || !strings.Contains(r.text("error_description"), "resource") {
			t.Fatalf("%d %v, want invalid_target", r.status, r.body)
		}
		return
	}
	if got := audienceOf(t, r); !slices.Equal(got, want) {
		t.Fatalf("aud is %q, want %q", got, want)
	}
}

// A token that is good at two APIs can be used by each of them at the other.
func TestATokenIsGoodAtOneAPI(t *testing.T) {
	w := newWorld(t)
	ruler := w.Static.Clients["service"]
	ruler.ID, ruler.Scopes, ruler.Resources = "ruler", oauth.MustScopes("read", "clients:write"), []string{testAPI, authority.AdminResource}
	ruler.AllowMultipleAudiences = true
	both := w.Static.Clients["service"]
	both.ID, both.Scopes = "both", oauth.MustScopes("read", "other")
	risky := both
	risky.ID, risky.AllowMultipleAudiences = "risky", true
	for _, c := range []authority.Client{ruler, both, risky} {
		c.Secrets = []authority.ClientSecret{{Hash: oauth.SecretOf(secretOf(c.ID)).Hash()}}
		w.Static.Clients[c.ID] = c
	}
	w.Declare()
	for _, row := range []struct {
		name, client, scope string
		resources           []string
		want                []string // nil: invalid_target
	}{
		{"scopes of one API", "both", "read", nil, []string{testAPI}},
		{"scopes of two APIs", "both", "read other", nil, nil},
		{"all scopes, which two APIs own", "both", "", nil, nil},
		{"one of two APIs, named", "both", "", []string{otherAPI}, []string{otherAPI}},
		{"two APIs, named", "both", "read other", []string{testAPI, otherAPI}, nil},
		{"one API, named twice", "both", "read", []string{testAPI, testAPI}, []string{testAPI}},
		{"two APIs, by a client that may", "risky", "read other", nil, []string{testAPI, otherAPI}},
		{"two APIs, named by a client that may", "risky", "", []string{otherAPI, testAPI}, []string{otherAPI, testAPI}},
		{"the admin API beside another, by a client that may have several", "ruler", "read clients:write", nil, nil},
		{"the admin API and another, named", "ruler", "", []string{authority.AdminResource, testAPI}, nil},
		{"the admin API alone", "ruler", "", []string{authority.AdminResource}, []string{authority.AdminResource}},
		{"the other API alone", "ruler", "", []string{testAPI}, []string{testAPI}},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := form("grant_type", "client_credentials", "scope", row.scope)
			f["resource"] = row.resources
			wantTarget(t, w.token(row.client, f), row.want...)
		})
	}
}

// A grant may be for several APIs; each of its tokens is for one.
func TestAGrantForTwoAPIsGivesTokensForEach(t *testing.T) {
	w := newWorld(t)
	w.changeClient("web", func(c *authority.Client) { c.Scopes = oauth.MustScopes("openid", "read", "other") })
	_, code := w.approve("web", "openid read other", func(g *authority.Grant) { g.Resources = []string{testAPI, otherAPI} })
	wantTarget(t, w.token("web", redeem(code))) // and the code is not spent
	first := w.token("web", with(redeem(code), "resource", testAPI))
	wantTarget(t, first, testAPI, testIssuer)
	refresh := func(token string, more ...string) reply {
		return w.token("web", with(refreshForm(token), more...))
	}
	wantTarget(t, refresh(first.text("refresh_token")))
	second := refresh(first.text("refresh_token"), "resource", otherAPI)
	wantTarget(t, second, otherAPI, testIssuer)
	if second.text("scope") != "openid other" {
		t.Errorf("scope is %q", second.text("scope"))
	}
	third := refresh(second.text("refresh_token"), "scope", "read")
	wantTarget(t, third, testAPI)
	if got := refresh(third.text("refresh_token"), "scope", "read other", "resource", testAPI); got.text("error") != string(oauth.InvalidScope) {
		t.Errorf("a scope of the other API, by name: %v", got.body)
	}
}

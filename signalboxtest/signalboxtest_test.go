package signalboxtest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/signalbox-sts/signalbox/signalboxtest"
)

const (
	orders  = "https://orders.example.com"
	reports = "https://reports.example.com"
)

// world is an issuer with something of everything.
func world(t testing.TB) *signalboxtest.Issuer {
	return signalboxtest.New(t,
		signalboxtest.Client{ID: "shop", Resources: []string{orders}, Scopes: []string{"openid", "email", "offline_access", "orders:read", "orders:write"}},
		signalboxtest.Client{ID: "app", Public: true, Resources: []string{orders}, Scopes: []string{"openid", "orders:read"}},
		signalboxtest.Client{ID: "batch", Resources: []string{reports}, Scopes: []string{"reports:read"}},
		signalboxtest.Client{ID: "orders-api"},
		signalboxtest.Resource{ID: orders, Scopes: []string{"orders:read", "orders:write"}, IntrospectionClients: []string{"orders-api"}},
		signalboxtest.Resource{ID: reports, Scopes: []string{"reports:read"}, Opaque: true, AccessTTL: time.Minute, IntrospectionClients: []string{"orders-api"}},
		signalboxtest.User{Username: "ada", Name: "Ada Lovelace", Email: "ada@example.com"},
		signalboxtest.User{Username: "bob"},
	)
}

type claims struct {
	Subject  string `json:"sub"`
	ClientID string `json:"client_id"`
	Scope    string `json:"scope"`
}

// verify is an API that checks JWTs offline, at the time at.
func verify(t testing.TB, i *signalboxtest.Issuer, token, audience string, at func() time.Time) (claims, error) {
	t.Helper()
	ctx := oidc.ClientContext(t.Context(), i.HTTPClient())
	provider, err := oidc.NewProvider(ctx, i.URL)
	if err != nil {
		t.Fatal(err)
	}
	verified, err := provider.Verifier(&oidc.Config{ClientID: audience, Now: at, SupportedSigningAlgs: []string{oidc.ES256}}).Verify(ctx, token)
	if err != nil {
		return claims{}, err
	}
	var c claims
	return c, verified.Claims(&c)
}

// active introspects as the API orders-api.
func active(t testing.TB, i *signalboxtest.Issuer, token string) bool {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, i.URL+"/introspect", strings.NewReader(url.Values{"token": {token}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth("orders-api", i.Secret("orders-api"))
	response, err := i.HTTPClient().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct{ Active bool }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response.Status, err)
	}
	return answer.Active
}

func TestTokensAreGoodForAnyVerifier(t *testing.T) {
	i := world(t)
	machine := i.Token(signalboxtest.Request{Client: "shop", Scopes: []string{"orders:read"}})
	if c, err := verify(t, i, machine.AccessToken, orders, time.Now); err != nil || c.Subject != "shop" || c.Scope != "orders:read" {
		t.Errorf("of a client: %+v %v", c, err)
	}
	if _, err := verify(t, i, machine.AccessToken, reports, time.Now); err == nil {
		t.Error("a token for another API is good here")
	}
	person := i.Token(signalboxtest.Request{Client: "shop", User: "ada"})
	if c, err := verify(t, i, person.AccessToken, orders, time.Now); err != nil || c.Subject != i.Subject("ada") || c.ClientID != "shop" {
		t.Errorf("of a person: %+v %v", c, err)
	}
	if c, err := verify(t, i, person.IDToken, "shop", time.Now); err != nil || c.Subject != i.Subject("ada") || person.RefreshToken == "" {
		t.Errorf("with an ID token: %+v %v", c, err)
	}
	provider, err := oidc.NewProvider(t.Context(), i.URL)
	if err != nil {
		t.Fatal(err)
	}
	info, err := provider.UserInfo(t.Context(), oauth2.StaticTokenSource(&oauth2.Token{AccessToken: person.AccessToken}))
	if err != nil || info.Email != "ada@example.com" || !info.EmailVerified {
		t.Errorf("UserInfo: %+v %v", info, err)
	}
	public := i.Token(signalboxtest.Request{Client: "app", User: "bob", Scopes: []string{"orders:read"}})
	if c, err := verify(t, i, public.AccessToken, orders, time.Now); err != nil || c.Subject != i.Subject("bob") || public.IDToken != "" {
		t.Errorf("of a public client: %+v %v", c, err)
	}
	opaque := i.Token(signalboxtest.Request{Client: "batch"})
	if !strings.HasPrefix(opaque.AccessToken, "sbx_at_") || opaque.ExpiresIn != 60 || !active(t, i, opaque.AccessToken) {
		t.Errorf("an opaque one: %+v", opaque)
	}
	again := i.Token(signalboxtest.Request{Client: "shop", User: "ada", Scopes: []string{"orders:read"}}) // she is signed in
	if c, err := verify(t, i, again.AccessToken, orders, time.Now); err != nil || c.Scope != "orders:read" {
		t.Errorf("a second one: %+v %v", c, err)
	}
}

func TestWhatIsRevokedIsDeadAndWhatComesNextIsNot(t *testing.T) {
	i := world(t)
	mine := func() signalboxtest.Token { return i.Token(signalboxtest.Request{Client: "shop", User: "ada"}) }
	machine := func() signalboxtest.Token {
		return i.Token(signalboxtest.Request{Client: "shop", Scopes: []string{"orders:read"}})
	}
	for _, row := range []struct {
		name   string
		get    func() signalboxtest.Token
		revoke func(token string)
	}{
		{"a token", mine, i.RevokeToken},
		{"a token of a client", machine, i.RevokeToken},
		{"a grant", mine, i.RevokeGrant},
		{"a grant of a client", machine, i.RevokeGrant},
		{"a user", mine, func(string) { i.RevokeUser("ada") }},
		{"a client", mine, func(string) { i.RevokeClient("shop") }},
		{"a client that acts for itself", machine, func(string) { i.RevokeClient("shop") }},
	} {
		token := row.get()
		if !active(t, i, token.AccessToken) {
			t.Fatalf("%s: dead before", row.name)
		}
		behind := time.Until(i.Now())
		row.revoke(token.AccessToken)
		if time.Until(i.Now())-behind < time.Millisecond { // an epoch ends all of its millisecond
			t.Errorf("%s: what comes next may be as old as the end", row.name)
		}
		if active(t, i, token.AccessToken) {
			t.Errorf("%s: still alive", row.name)
		}
		if !active(t, i, row.get().AccessToken) {
			t.Errorf("%s: the next one is dead", row.name)
		}
	}
}

func TestTimePasses(t *testing.T) {
	i := world(t)
	token := i.Token(signalboxtest.Request{Client: "shop", Scopes: []string{"orders:read"}}).AccessToken
	i.Advance(4 * time.Minute)
	if _, err := verify(t, i, token, orders, i.Now); err != nil || !active(t, i, token) {
		t.Errorf("before its time: %v", err)
	}
	i.Advance(2 * time.Minute)
	if _, err := verify(t, i, token, orders, i.Now); err == nil || active(t, i, token) {
		t.Error("a token outlives its time")
	}
	// Long enough that keys rotate by themselves; everything keeps working.
	i.Advance(60 * 24 * time.Hour)
	person := i.Token(signalboxtest.Request{Client: "shop", User: "ada"})
	if _, err := verify(t, i, person.AccessToken, orders, i.Now); err != nil || !active(t, i, person.AccessToken) {
		t.Errorf("two months later: %v", err)
	}
}

func TestAnExpiredTokenIsExpiredByTheRealClock(t *testing.T) {
	i := world(t)
	for _, user := range []string{"", "ada"} {
		token := i.ExpiredToken(signalboxtest.Request{Client: "shop", User: user, Scopes: []string{"orders:read"}}).AccessToken
		if _, err := verify(t, i, token, orders, time.Now); err == nil || !strings.Contains(err.Error(), "expired") || active(t, i, token) {
			t.Errorf("of %q: %v", user, err)
		}
		good := i.Token(signalboxtest.Request{Client: "shop", User: user, Scopes: []string{"orders:read"}}).AccessToken
		if _, err := verify(t, i, good, orders, time.Now); err != nil || !active(t, i, good) {
			t.Errorf("the next one of %q: %v", user, err)
		}
	}
}

func TestKeysRotate(t *testing.T) {
	i := world(t)
	get := func() string {
		return i.Token(signalboxtest.Request{Client: "shop", Scopes: []string{"orders:read"}}).AccessToken
	}
	before := get()
	kid := i.RotateKeys()
	after := get()
	i.Advance(10 * time.Minute)
	if next := i.RotateKeys(); next == kid || kid == "" {
		t.Errorf("the second rotation: %q after %q", next, kid)
	}
	for name, token := range map[string]string{"before": before, "after": after} {
		if _, err := verify(t, i, token, orders, time.Now); err != nil {
			t.Errorf("a token from %s the rotation: %v", name, err)
		}
	}
	if i.URL == "" || strings.Split(before, ".")[0] == strings.Split(after, ".")[0] {
		t.Error("the key is the same")
	}
}

func TestMoreCanBeAddedLater(t *testing.T) {
	i := signalboxtest.New(t)
	i.Add(signalboxtest.Resource{ID: orders, Scopes: []string{"orders:read"}})
	i.Add(signalboxtest.Client{ID: "shop", Resources: []string{orders}, Scopes: []string{"orders:read"}, RedirectURIs: []string{"https://shop.example.com/callback"}})
	if _, err := verify(t, i, i.Token(signalboxtest.Request{Client: "shop", Resource: orders}).AccessToken, orders, time.Now); err != nil {
		t.Error(err)
	}
}

// A mistake of the test's own ends it, with what to do.
func TestMistakesEndTheTest(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(i *signalboxtest.Issuer)
		says string
	}{
		{"a client that nobody added", func(i *signalboxtest.Issuer) { i.Token(signalboxtest.Request{Client: "nobody"}) }, `no client "nobody"`},
		{"a user whom nobody added", func(i *signalboxtest.Issuer) { i.Token(signalboxtest.Request{Client: "shop", User: "eve"}) }, `no user "eve"`},
		{"a scope that the client may not have", func(i *signalboxtest.Issuer) {
			i.Token(signalboxtest.Request{Client: "shop", Scopes: []string{"orders:delete"}})
		}, "invalid_scope"},
		{"a scope that the person may not be asked for", func(i *signalboxtest.Issuer) {
			i.Token(signalboxtest.Request{Client: "shop", User: "ada", Scopes: []string{"orders:delete"}})
		}, "invalid_scope"},
		{"a client twice", func(i *signalboxtest.Issuer) { i.Add(signalboxtest.Client{ID: "shop"}) }, `there is a client "shop" already`},
		{"back in time", func(i *signalboxtest.Issuer) { i.Advance(-time.Second) }, "forward only"},
	} {
		t.Run(row.name, func(t *testing.T) {
			i := signalboxtest.Start(
				signalboxtest.Resource{ID: orders, Scopes: []string{"orders:read"}},
				signalboxtest.Client{ID: "shop", Resources: []string{orders}, Scopes: []string{"orders:read"}}, signalboxtest.User{Username: "ada"})
			defer i.Close()
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, row.says) {
					t.Errorf("%s, want %q", got, row.says)
				}
			}()
			row.do(i)
		})
	}
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	i := signalboxtest.Start()
	i.Close()
	i.Close()
	if _, err := i.HTTPClient().Get(i.URL + "/jwks"); err == nil {
		t.Error("it still answers")
	}
	if left, err := os.ReadDir(temporary); err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "signalboxtest") }) {
		t.Errorf("left behind: %v %v", left, err)
	}
}

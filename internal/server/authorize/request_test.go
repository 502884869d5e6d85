package authorize

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func TestAnswerKeepsTheQueryOfTheRedirectURI(t *testing.T) {
	for uri, want := range map[string]string{
		"https://a.example/cb": "https://a.example/cb?code=x", "https://a.example/cb?": "https://a.example/cb?code=x",
		"https://a.example/cb?t=1": "https://a.example/cb?t=1&code=x", "https://a.example/cb?t=1&": "https://a.example/cb?t=1&code=x",
		"com.example:/cb": "com.example:/cb?code=x",
	} {
		if got := withQuery(uri, url.Values{"code": {"x"}}); got != want {
			t.Errorf("%s becomes %s; want %s", uri, got, want)
		}
	}
}

func TestScopesInWords(t *testing.T) {
	for scope, want := range map[string]string{
		"orders:read": "See orders", "orders:write": "See and change orders", "purchase_orders:delete": "Delete purchase orders",
		"Mail.Send": "Mail.Send", "mail.send": "Send mail", "https://api.example.com/read": "https://api.example.com/read", ":read": ":read", "orders:frob": "orders:frob",
	} {
		if got := scopeInWords(scope); got.Words != want {
			t.Errorf("%s: %q; want %q", scope, got.Words, want)
		}
	}
}

func TestCodeLivesAMinuteAtMost(t *testing.T) {
	for ttl, want := range map[time.Duration]time.Duration{time.Hour: time.Minute, 20 * time.Second: 20 * time.Second} {
		h := &Handler{Settings: func() authority.Issuer { return authority.Issuer{CodeTTL: ttl} }}
		if got := h.codeTTL(); got != want {
			t.Errorf("B 28: the code lives %v", got)
		}
	}
}

// empty is a database with nothing in it.
type empty struct{ authority.ObjectStore }

func (empty) Object(context.Context, authority.Kind, string) (authority.Object, error) {
	return authority.Object{}, authority.ErrNotFound
}

// FuzzRequest throws queries at the parser of authorization requests.
func FuzzRequest(f *testing.F) {
	f.Add(good().Encode())
	f.Add(good("prompt", "none login", "max_age", "5").Encode())
	f.Add(good("scope", "", "resource", api).Encode() + "&resource=https%3A%2F%2Fbilling.example.com")
	f.Add(good("client_id", "cli", "redirect_uri", "http://127.0.0.1:5/cb", "state", "é\\%").Encode())
	f.Add("client_id=web&%zz;&=&&a=b=c")
	complete, err := declared().Complete()
	if err != nil {
		f.Fatal(err)
	}
	h := &Handler{
		Settings:  func() authority.Issuer { return authority.Issuer{URL: issuerURL} },
		Directory: authority.DirectoryOf(empty{}, func() *authority.StaticObjects { return complete }),
	}
	f.Fuzz(func(t *testing.T, query string) {
		params, err := readQuery(query)
		if err != nil {
			return
		}
		to, err := h.destination(t.Context(), params)
		if err != nil {
			return
		}
		if !to.client.AllowsRedirect(to.redirectURI) || to.client.Disabled || !to.client.MayUse(oauth.AuthorizationCode) {
			t.Fatalf("%q goes to %q", query, to.redirectURI)
		}
		req, err := h.request(t.Context(), params, to)
		if err != nil {
			return
		}
		if req.challenge.IsZero() || !to.client.Scopes.Covers(req.target.Scopes) || params.Get("response_type") != "code" {
			t.Fatalf("%q gives %+v", query, req)
		}
		for _, r := range req.target.ResourceIDs() {
			if !to.client.MayReach(r) {
				t.Fatalf("%q reaches %q", query, r)
			}
		}
		// What travels in the form is the same request.
		params, err = readQuery(req.query())
		if err != nil {
			t.Fatalf("%q does not survive: %v", query, err)
		}
		again, err := h.request(t.Context(), params, to)
		if err != nil || again.query() != req.query() || again.state != req.state || again.nonce != req.nonce ||
			again.target.Scopes.String() != req.target.Scopes.String() || again.prompt != req.prompt || again.maxAge != req.maxAge {
			t.Fatalf("%q became %+v, %v", query, again, err)
		}
	})
}

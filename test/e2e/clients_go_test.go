package e2e

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// TestGoOIDC: github.com/coreos/go-oidc and golang.org/x/oauth2 work with the service.
func TestGoOIDC(t *testing.T) {
	s := atHome(t)
	ctx := t.Context()
	provider, err := oidc.NewProvider(ctx, s.Issuer)
	if err != nil {
		t.Fatalf("discovery: %v", err)
	}

	for _, c := range []client{webApp, nativeApp} {
		t.Run("authorization code with PKCE, client "+c.ID, func(t *testing.T) {
			conf := oauth2.Config{
				ClientID: c.ID, ClientSecret: c.Secret, RedirectURL: c.RedirectURIs[0], Endpoint: provider.Endpoint(),
				Scopes: []string{oidc.ScopeOpenID, "profile", "email", oidc.ScopeOfflineAccess, "orders:read"},
			}
			verifier := oauth2.GenerateVerifier()
			target := conf.AuthCodeURL("state-1", oauth2.S256ChallengeOption(verifier), oidc.Nonce("nonce-1"),
				oauth2.SetAuthURLParam("resource", api))
			got := newBrowser(t).authorize(target, ada, "allow")
			if got.Get("state") != "state-1" || got.Get("iss") != s.Issuer || got.Get("code") == "" {
				t.Fatalf("redirect parameters: %v", got)
			}
			token, err := conf.Exchange(ctx, got.Get("code"), oauth2.VerifierOption(verifier))
			if err != nil {
				t.Fatalf("redeeming the code: %v", err)
			}
			checkIDToken(ctx, t, provider, c, token, "nonce-1")
			info, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
			if err != nil {
				t.Fatalf("UserInfo: %v", err)
			}
			if info.Email != "ada@example.com" || !info.EmailVerified {
				t.Errorf("UserInfo says %q, verified %v", info.Email, info.EmailVerified)
			}

			if token.RefreshToken == "" {
				t.Fatal("offline_access was granted without a refresh token")
			}
			expired := &oauth2.Token{RefreshToken: token.RefreshToken}
			next, err := conf.TokenSource(ctx, expired).Token()
			if err != nil {
				t.Fatalf("refresh: %v", err)
			}
			if next.AccessToken == token.AccessToken || next.RefreshToken == token.RefreshToken {
				t.Error("a refresh gave back the same token")
			}
			if _, ok := next.Extra("id_token").(string); ok {
				checkIDToken(ctx, t, provider, c, next, "") // OpenID Connect Core §12.2: no nonce is due
			}
		})
	}

	t.Run("client credentials", func(t *testing.T) {
		for style, c := range map[oauth2.AuthStyle]client{oauth2.AuthStyleInHeader: machine, oauth2.AuthStyleInParams: machinePost} {
			conf := clientcredentials.Config{
				ClientID: c.ID, ClientSecret: c.Secret, TokenURL: provider.Endpoint().TokenURL, AuthStyle: style,
				Scopes: []string{"orders:read"}, EndpointParams: url.Values{"resource": {api}},
			}
			token, err := conf.Token(ctx)
			if err != nil {
				t.Fatalf("%s: %v", c.ID, err)
			}
			if token.RefreshToken != "" {
				t.Errorf("%s: client credentials gave a refresh token (RFC 6749 §4.4.3)", c.ID)
			}
			head, claims := claimsOf(t, token.AccessToken)
			if head["typ"] != "at+jwt" || claims["sub"] != c.ID || claims["client_id"] != c.ID {
				t.Errorf("%s: header %v, claims %v", c.ID, head, claims)
			}
		}
	})
}

func checkIDToken(ctx context.Context, t *testing.T, provider *oidc.Provider, c client, token *oauth2.Token, nonce string) {
	t.Helper()
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		t.Fatal("no id_token in the answer")
	}
	id, err := provider.Verifier(&oidc.Config{ClientID: c.ID}).Verify(ctx, raw)
	if err != nil {
		t.Fatalf("ID token: %v", err)
	}
	if nonce != "" && id.Nonce != nonce {
		t.Errorf("nonce %q, want %q", id.Nonce, nonce)
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			t.Errorf("at_hash: %v", err)
		}
	}
	if !slices.Equal(id.Audience, []string{c.ID}) || id.Subject == "" || strings.Contains(id.Subject, "@") {
		t.Errorf("ID token for %v about %q", id.Audience, id.Subject)
	}
}

// TestDev: everything in the ready file of `signalbox dev` works.
func TestDev(t *testing.T) {
	s := dev(t)
	ctx := t.Context()
	provider, err := oidc.NewProvider(ctx, s.Issuer)
	if err != nil {
		t.Fatalf("discovery: %v", err)
	}
	if len(s.Users) == 0 || s.AdminURL == "" || s.AdminToken == "" {
		t.Fatalf("the ready file lacks users or the admin's URL and token: %+v", s)
	}
	t.Run("client credentials", func(t *testing.T) {
		c := s.machine(t)
		conf := clientcredentials.Config{ClientID: c.ID, ClientSecret: c.Secret, TokenURL: provider.Endpoint().TokenURL}
		token, err := conf.Token(ctx)
		if err != nil {
			t.Fatal(err)
		}
		rs := s.resourceServer(t)
		got := s.post(t, "/introspect", params("token", token.AccessToken), basic(rs))
		if got.Status != 200 || got.JSON["active"] != true {
			t.Errorf("the demo resource server introspects the demo token: %s", got)
		}
	})
	for name, c := range map[string]client{"confidential": s.webApp(t), "public": s.nativeApp(t)} {
		t.Run("sign-in with the "+name+" client", func(t *testing.T) {
			conf := oauth2.Config{ClientID: c.ID, ClientSecret: c.Secret, RedirectURL: c.RedirectURIs[0],
				Endpoint: provider.Endpoint(), Scopes: []string{oidc.ScopeOpenID}}
			verifier := oauth2.GenerateVerifier()
			got := newBrowser(t).authorize(conf.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier), oidc.Nonce("n")), s.Users[0], "allow")
			token, err := conf.Exchange(ctx, got.Get("code"), oauth2.VerifierOption(verifier))
			if err != nil {
				t.Fatalf("redirect %v: %v", got, err)
			}
			checkIDToken(ctx, t, provider, c, token, "n")
		})
	}
}

// TestDenied: when a person denies, the client gets access_denied with the issuer.
func TestDenied(t *testing.T) {
	s := atHome(t)
	r := newCodeRequest(webTwo)
	got := newBrowser(t).authorize(s.authorizeURL(r.query), bob, "deny")
	if got.Get("error") != "access_denied" || got.Get("state") != r.query.Get("state") || got.Get("iss") != s.Issuer || got.Has("code") {
		t.Errorf("redirect parameters: %v", got)
	}
}

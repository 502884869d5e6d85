// Package server is the HTTP face: which path leads where, and what happens to
// every request whatever its path.
package server

import (
	"context"
	"net/http"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/server/authorize"
	"github.com/signalbox-sts/signalbox/internal/server/metadata"
	"github.com/signalbox-sts/signalbox/internal/server/token"
	"github.com/signalbox-sts/signalbox/internal/ui"
)

// Public is the public listener. All fields are required.
type Public struct {
	Issuer         authority.Issuer
	Token          *token.Handler
	Authorize      *authorize.Handler
	KeySet         func() (body []byte, etag string)
	KeySetMaxAge   int
	Algorithms     []string // of our signatures, the default first
	AssertionAlgs  []string // of client assertions
	ResourceScopes []string // the scopes of the declared resources
	Ready          func(ctx context.Context) error
}

// route is one row of the table that routes requests and makes the metadata.
type route struct {
	method, path string // an empty method: the handler looks at it itself
	serve        http.HandlerFunc
	crossOrigin  bool // scripts of any origin may read the answer; no cookie is ever looked at here
}

// Handler builds the routes.
func (p Public) Handler(middleware *Middleware) http.Handler {
	discovery := &metadata.Handler{KeySet: p.KeySet, KeySetMaxAge: p.KeySetMaxAge}
	routes := []route{
		{"GET", "/.well-known/openid-configuration", discovery.Discovery, true},
		{"GET", "/.well-known/oauth-authorization-server", discovery.Discovery, true},
		{"GET", "/jwks", discovery.JWKS, true},
		{"POST", "/token", p.Token.Token, true},
		{"POST", "/introspect", p.Token.Introspect, false},
		{"POST", "/revoke", p.Token.Revocation, true},
		{"GET", "/userinfo", p.Token.UserInfo, true},
		{"POST", "/userinfo", p.Token.UserInfo, true},
		{"GET", "/readyz", ready(p.Ready), false},
	}
	pages := http.NewServeMux()
	p.Authorize.Mount(pages)
	for _, path := range []string{"/authorize", "/login", "/consent", "/logout", "/{$}", ui.StylePath()} {
		routes = append(routes, route{"", path, pages.ServeHTTP, false})
	}
	discovery.Document = p.document(routes)
	return middleware.mount(routes)
}

func (p Public) document(routes []route) metadata.Document {
	confidential := []oauth.AuthMethod{oauth.AuthClientSecretBasic, oauth.AuthClientSecretPost, oauth.AuthPrivateKeyJWT}
	withPublic := append([]oauth.AuthMethod{oauth.AuthNone}, confidential...)
	document := metadata.Document{
		Issuer:                 p.Issuer.URL,
		ScopesSupported:        append(oauth.StandardScopes.List(), p.ResourceScopes...),
		ResponseTypesSupported: []string{"code"},
		ResponseModesSupported: []string{"query"},
		GrantTypesSupported:    token.GrantTypes(),
		SubjectTypesSupported:  []string{"public"},
		IDTokenSigningAlgs:     p.Algorithms,
		TokenAuthMethods:       withPublic,
		TokenAuthAlgs:          p.AssertionAlgs,
		IntrospectAuthMethods:  confidential,
		IntrospectAuthAlgs:     p.AssertionAlgs,
		RevokeAuthMethods:      withPublic,
		RevokeAuthAlgs:         p.AssertionAlgs,
		CodeChallengeMethods:   []string{"S256"},
		PromptValues:           []string{"none", "login", "consent", "select_account"},
		ClaimsSupported: []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "amr", "sid", "at_hash",
			"name", "preferred_username", "updated_at", "email", "email_verified"},
		IssParameter: true,
	}
	for _, r := range routes {
		document.SetEndpoint(r.path)
	}
	return document
}

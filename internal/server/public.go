// Package server is the HTTP face: which path leads where, and what happens to
// every request whatever its path.
package server

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/server/authorize"
	"github.com/signalbox-sts/signalbox/internal/server/kubernetes"
	"github.com/signalbox-sts/signalbox/internal/server/metadata"
	"github.com/signalbox-sts/signalbox/internal/server/token"
	"github.com/signalbox-sts/signalbox/internal/signin"
)

// Public is the public listener. All fields are required.
type Public struct {
	Issuer        authority.Issuer
	Token         *token.Handler
	Pages         *browser.Pages
	Sessions      *browser.Sessions
	SignIn        *signin.Handler
	Authorize     *authorize.Handler
	Kubernetes    *kubernetes.Handler
	KeySet        func() (body []byte, etag string, maxAge time.Duration)
	Cluster       func(ctx context.Context, name string) (authority.Cluster, error)
	ClusterKeys   func(name string) ([]byte, error) // for their mirrors
	Supported     func() metadata.Supported         // as the configuration says now
	AssertionAlgs []string                          // of client assertions
	Ready         func(ctx context.Context) error
}

// Handler builds the routes.
func (p Public) Handler(middleware *Middleware) http.Handler {
	discovery := &metadata.Handler{KeySet: p.KeySet, Cluster: p.Cluster, ClusterKeys: p.ClusterKeys}
	routes := []route{
		{method: "GET", path: "/.well-known/openid-configuration", serve: discovery.Discovery, crossOrigin: true},
		{method: "GET", path: "/.well-known/oauth-authorization-server", serve: discovery.Discovery, crossOrigin: true},
		{method: "GET", path: "/jwks", serve: discovery.JWKS, crossOrigin: true},
		{method: "POST", path: "/token", serve: p.Token.Token, crossOrigin: true},
		{method: "POST", path: "/introspect", serve: p.Token.Introspect},
		{method: "POST", path: "/revoke", serve: p.Token.Revocation, crossOrigin: true},
		{method: "GET", path: "/userinfo", serve: p.Token.UserInfo, crossOrigin: true},
		{method: "POST", path: "/userinfo", serve: p.Token.UserInfo, crossOrigin: true},
		{method: "POST", path: "/kubernetes/tokenreview", serve: p.Kubernetes.TokenReview},
		{method: "GET", path: "/clusters/{name}/.well-known/openid-configuration", serve: discovery.ClusterDiscovery, crossOrigin: true},
		{method: "GET", path: "/clusters/{name}/jwks", serve: discovery.ClusterKeySet, crossOrigin: true},
		{method: "GET", path: readyPath, serve: ready(p.Ready)},
	}
	for _, page := range slices.Concat(p.Authorize.Routes(), p.SignIn.Routes(), p.Sessions.Routes()) {
		routes = append(routes, route{path: page.Path, serve: p.Pages.Serve(page)})
	}
	fixed := p.document(routes)
	discovery.Document = func() metadata.Document { return fixed.With(p.Supported()) }
	return middleware.mount(routes, p.notFound)
}

// notFound is a page for people and JSON for programs.
func (p Public) notFound(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		httpx.NotFound(w, r)
		return
	}
	p.Pages.NotFound(w, r)
}

func (p Public) document(routes []route) metadata.Document {
	confidential := []oauth.AuthMethod{oauth.AuthClientSecretBasic, oauth.AuthClientSecretPost, oauth.AuthPrivateKeyJWT, oauth.AuthFederatedJWT}
	withPublic := append([]oauth.AuthMethod{oauth.AuthNone}, confidential...)
	document := metadata.Document{
		Issuer:                 p.Issuer.URL,
		ResponseTypesSupported: []string{"code"},
		ResponseModesSupported: authorize.ResponseModes,
		GrantTypesSupported:    oauth.GrantTypes,
		SubjectTypesSupported:  []string{"public"},
		TokenAuthMethods:       withPublic,
		TokenAuthAlgs:          p.AssertionAlgs,
		IntrospectAuthMethods:  confidential,
		IntrospectAuthAlgs:     p.AssertionAlgs,
		RevokeAuthMethods:      withPublic,
		RevokeAuthAlgs:         p.AssertionAlgs,
		CodeChallengeMethods:   []string{"S256"},
		PromptValues:           []string{"none", "login", "consent", "select_account"},
		ClaimsSupported:        []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid", "at_hash"},
		ACRValues:              authority.ACRs,
		ClaimsParameter:        true,
		RequestObjectAlgs:      p.AssertionAlgs,
		IssParameter:           true,
		BackchannelLogout:      true,
		BackchannelSession:     true,
		FrontchannelLogout:     true,
		FrontchannelSession:    true,
	}
	for _, c := range authority.PersonClaims {
		document.ClaimsSupported = append(document.ClaimsSupported, c.Name)
	}
	for _, r := range routes {
		document.SetEndpoint(r.path)
	}
	return document
}

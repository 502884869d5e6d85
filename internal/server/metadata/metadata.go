// Package metadata publishes what the issuer is and its keys: OpenID Connect
// Discovery, RFC 8414 and the JWKS; and mirrors those of registered clusters. The document is built from the table that
// routes requests, so it lists exactly what is served.
package metadata

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Handler serves the metadata. All fields are required.
type Handler struct {
	// Document gives the metadata as it is now: a reload of the configuration may
	// change it.
	Document func() Document
	// KeySet returns the JWKS, a tag that changes with it, and for how long a
	// verifier may keep it: less than a key is published before it signs.
	KeySet func() (body []byte, etag string, maxAge time.Duration)
	// Cluster finds a registered cluster; authority.ErrNotFound.
	Cluster func(ctx context.Context, name string) (authority.Cluster, error)
	// ClusterKeys gives the key set of a cluster; authority.ErrNotFound where it has
	// none here.
	ClusterKeys func(name string) ([]byte, error)
}

// Supported is the part of the metadata that the configuration decides.
type Supported struct {
	Algorithms     []string // of our signatures, the default first
	ResourceScopes []string // of the declared resources
}

// Document is the authorization server metadata (RFC 8414 §2, OpenID Connect
// Discovery §3). Endpoints that are not served stay empty and are left out.
type Document struct {
	Issuer                 string             `json:"issuer"`
	AuthorizationEndpoint  string             `json:"authorization_endpoint,omitempty"`
	TokenEndpoint          string             `json:"token_endpoint,omitempty"`
	JWKSURI                string             `json:"jwks_uri,omitempty"`
	UserInfoEndpoint       string             `json:"userinfo_endpoint,omitempty"`
	IntrospectionEndpoint  string             `json:"introspection_endpoint,omitempty"`
	RevocationEndpoint     string             `json:"revocation_endpoint,omitempty"`
	EndSessionEndpoint     string             `json:"end_session_endpoint,omitempty"`
	ScopesSupported        []string           `json:"scopes_supported"`
	ResponseTypesSupported []string           `json:"response_types_supported"`
	ResponseModesSupported []string           `json:"response_modes_supported"`
	GrantTypesSupported    []oauth.GrantType  `json:"grant_types_supported"`
	SubjectTypesSupported  []string           `json:"subject_types_supported"`
	IDTokenSigningAlgs     []string           `json:"id_token_signing_alg_values_supported"`
	TokenAuthMethods       []oauth.AuthMethod `json:"token_endpoint_auth_methods_supported"`
	TokenAuthAlgs          []string           `json:"token_endpoint_auth_signing_alg_values_supported"`
	IntrospectAuthMethods  []oauth.AuthMethod `json:"introspection_endpoint_auth_methods_supported"`
	IntrospectAuthAlgs     []string           `json:"introspection_endpoint_auth_signing_alg_values_supported"`
	RevokeAuthMethods      []oauth.AuthMethod `json:"revocation_endpoint_auth_methods_supported"`
	RevokeAuthAlgs         []string           `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	CodeChallengeMethods   []string           `json:"code_challenge_methods_supported"`
	PromptValues           []string           `json:"prompt_values_supported"`
	ClaimsSupported        []string           `json:"claims_supported"`
	ACRValues              []string           `json:"acr_values_supported"`
	IssParameter           bool               `json:"authorization_response_iss_parameter_supported"` // RFC 9207 §3
	ClaimsParameter        bool               `json:"claims_parameter_supported"`
	RequestParameter       bool               `json:"request_parameter_supported"`
	RequestURIParameter    bool               `json:"request_uri_parameter_supported"`
	BackchannelLogout      bool               `json:"backchannel_logout_supported"`
	BackchannelSession     bool               `json:"backchannel_logout_session_supported"`
	FrontchannelLogout     bool               `json:"frontchannel_logout_supported"`
	FrontchannelSession    bool               `json:"frontchannel_logout_session_supported"`
	// RequestObjectAlgs says that none is not among them. No request object is
	// taken, but a list that is not there would mean that unsigned ones are.
	RequestObjectAlgs []string `json:"request_object_signing_alg_values_supported"`
}

// SetEndpoint fills in the endpoint that a path serves, if the metadata has a
// name for it.
func (d *Document) SetEndpoint(path string) {
	named := map[string]*string{
		"/authorize":  &d.AuthorizationEndpoint,
		"/token":      &d.TokenEndpoint,
		"/jwks":       &d.JWKSURI,
		"/userinfo":   &d.UserInfoEndpoint,
		"/introspect": &d.IntrospectionEndpoint,
		"/revoke":     &d.RevocationEndpoint,
		"/logout":     &d.EndSessionEndpoint,
	}
	if field, ok := named[path]; ok {
		*field = d.Issuer + path
	}
}

// With is the document with what the configuration says.
func (d Document) With(s Supported) Document {
	d.ScopesSupported = append(oauth.StandardScopes.List(), s.ResourceScopes...)
	d.IDTokenSigningAlgs = s.Algorithms
	return d
}

const documentMaxAge = 5 * time.Minute

// Discovery is GET /.well-known/openid-configuration and
// /.well-known/oauth-authorization-server.
func (h *Handler) Discovery(w http.ResponseWriter, r *http.Request) {
	body, err := json.Marshal(h.Document())
	if err != nil {
		httpx.Error(w, r, err)
		return
	}
	cacheable(w, body, documentMaxAge)
}

// JWKS is GET /jwks (RFC 7517 §5).
func (h *Handler) JWKS(w http.ResponseWriter, r *http.Request) {
	body, etag, maxAge := h.KeySet()
	w.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.Header().Set("Cache-Control", cacheControl(maxAge))
		w.WriteHeader(http.StatusNotModified)
		return
	}
	cacheable(w, body, maxAge)
}

func cacheable(w http.ResponseWriter, body []byte, maxAge time.Duration) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", cacheControl(maxAge))
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

func cacheControl(maxAge time.Duration) string {
	return "public, max-age=" + strconv.Itoa(int(maxAge/time.Second))
}

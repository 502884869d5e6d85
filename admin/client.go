package admin

import (
	"context"
	"encoding/json"
	"time"

	"github.com/signalbox-sts/signalbox/internal/operation"
)

// Client is a client as the API shows it. Its secrets are never shown.
type Client struct {
	ClientID     string               `json:"client_id"`
	ClientName   string               `json:"client_name,omitempty"`
	RedirectURIs []string             `json:"redirect_uris,omitempty"`
	PostLogout   []string             `json:"post_logout_redirect_uris,omitempty"`
	BackLogout   string               `json:"backchannel_logout_uri,omitempty"`
	BackSession  bool                 `json:"backchannel_logout_session_required,omitempty"`
	FrontLogout  string               `json:"frontchannel_logout_uri,omitempty"`
	FrontSession bool                 `json:"frontchannel_logout_session_required,omitempty"`
	GrantTypes   []string             `json:"grant_types"`
	AuthMethod   string               `json:"token_endpoint_auth_method"`
	JWKS         json.RawMessage      `json:"jwks,omitempty" doc:"JSON Web Key Set, for private_key_jwt."`
	Federated    *FederatedCredential `json:"federated_credential,omitempty" doc:"The workload whose tokens prove the client, for federated_jwt."`
	Scope        string               `json:"scope"`
	Resources    []string             `json:"resources,omitempty"`
	IDTokenAlg   string               `json:"id_token_signed_response_alg,omitempty"`
	Audiences    bool                 `json:"allow_multiple_audiences,omitempty" doc:"Each API of this client's tokens can use them at the others."`
	RequirePKCE  *bool                `json:"require_pkce,omitempty" doc:"false: a code of this client that is stolen can be redeemed through it."`
	Secrets      []LiveSecret         `json:"secrets,omitempty" doc:"One entry for each secret that works now."`
	Problems     []Problem            `json:"problems,omitempty" doc:"The rules that it breaks, since they have become stricter: it is off until it is changed and enabled."`
	Disabled     bool                 `json:"disabled"`
	Source       string               `json:"source" enum:"file,database"`
	CreatedAt    *time.Time           `json:"created_at,omitempty"`
	UpdatedAt    *time.Time           `json:"updated_at,omitempty"`
}

// LiveSecret says since when there is a secret, and until when it works.
type LiveSecret struct {
	Current   bool       `json:"current" doc:"It works until it is rotated. false: it was, and works until expires_at."`
	CreatedAt *time.Time `json:"created_at,omitempty" doc:"Missing for a secret of the configuration file."`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// ClientFields is what may be set. What is not sent stays as it is.
type ClientFields struct {
	ClientName   *string              `json:"client_name,omitempty"`
	RedirectURIs *[]string            `json:"redirect_uris,omitempty" doc:"Compared character by character; only the port of a loopback address may differ."`
	PostLogout   *[]string            `json:"post_logout_redirect_uris,omitempty"`
	BackLogout   *string              `json:"backchannel_logout_uri,omitempty" doc:"Where a logout token is posted when a session has ended. Empty: nowhere."`
	BackSession  *bool                `json:"backchannel_logout_session_required,omitempty" doc:"true: each logout token names the session (sid)."`
	FrontLogout  *string              `json:"frontchannel_logout_uri,omitempty" doc:"What the signed-out page loads in a hidden frame. Empty: nothing."`
	FrontSession *bool                `json:"frontchannel_logout_session_required,omitempty" doc:"true adds iss and sid to it."`
	GrantTypes   *[]string            `json:"grant_types,omitempty" doc:"authorization_code, refresh_token, client_credentials"`
	AuthMethod   *string              `json:"token_endpoint_auth_method,omitempty" enum:"none,client_secret_basic,client_secret_post,private_key_jwt,federated_jwt" doc:"Default client_secret_basic."`
	JWKS         *json.RawMessage     `json:"jwks,omitempty" doc:"JSON Web Key Set with public keys, for private_key_jwt."`
	Federated    *FederatedCredential `json:"federated_credential,omitempty" doc:"For federated_jwt: cluster, namespace and service_account, or trusted_issuer and subject. One workload is one client."`
	Scope        *string              `json:"scope,omitempty" doc:"Values parted by spaces; each must belong to one of the resources, or to OpenID Connect."`
	Resources    *[]string            `json:"resources,omitempty"`
	IDTokenAlg   *string              `json:"id_token_signed_response_alg,omitempty"`
	Audiences    *bool                `json:"allow_multiple_audiences,omitempty" doc:"Dangerous: lets one token be good at several resources, and then each of them can use it at the others."`
	RequirePKCE  *bool                `json:"require_pkce,omitempty" doc:"false is dangerous: takes requests without a code_challenge, so that a stolen code can be redeemed through the client. Default true; never false for a public client."`
}

// NewClient is the body that creates a client.
type NewClient struct {
	ClientID string `json:"client_id,omitempty" doc:"Made up if it is not sent."`
	ClientFields
}

// ClientCredentials is a client with its new secret, which is shown once.
type ClientCredentials struct {
	Client
	ClientSecret    string `json:"client_secret,omitempty" doc:"Shown this once."`
	SecretExpiresAt *int64 `json:"client_secret_expires_at,omitempty" doc:"0: it does not expire (RFC 7591 §3.2.1)."`
}

// RotateSecret is the body that rotates a secret.
type RotateSecret struct {
	OldExpiresIn int64 `json:"old_expires_in,omitempty" doc:"Seconds for which the old secret still works, at most 30 days. Default 0: it ends now."`
}

// FederatedCredential is the workload that a client proves itself with: that of a registered cluster, or one of
// a trusted issuer.
type FederatedCredential struct {
	Cluster        string `json:"cluster,omitempty"`
	Namespace      string `json:"namespace,omitempty"`
	ServiceAccount string `json:"service_account,omitempty"`
	TrustedIssuer  string `json:"trusted_issuer,omitempty"`
	Subject        string `json:"subject,omitempty" doc:"sub, exactly."`
}

// ListClients lists clients: those of the configuration file first.
func (a *API) ListClients(ctx context.Context, p Paging) (Page[Client], error) {
	return call[Page[Client]](ctx, a, operation.ListClients, "", nil, p)
}

// CreateClient creates a client. Its secret is in this answer and nowhere else.
func (a *API) CreateClient(ctx context.Context, c NewClient) (ClientCredentials, error) {
	return call[ClientCredentials](ctx, a, operation.CreateClient, "", c)
}

// ShowClient shows a client.
func (a *API) ShowClient(ctx context.Context, clientID string) (Client, error) {
	return call[Client](ctx, a, operation.ShowClient, clientID, nil)
}

// UpdateClient changes a client: what is sent replaces what was there. A client that now needs a secret and
// has none gets one.
func (a *API) UpdateClient(ctx context.Context, clientID string, f ClientFields) (ClientCredentials, error) {
	return call[ClientCredentials](ctx, a, operation.UpdateClient, clientID, f)
}

// DeleteClient deletes a client and ends all its tokens and grants.
func (a *API) DeleteClient(ctx context.Context, clientID string) error {
	return a.run(ctx, operation.DeleteClient, clientID)
}

// DisableClient disables a client and ends all its tokens and grants.
func (a *API) DisableClient(ctx context.Context, clientID string) (Client, error) {
	return call[Client](ctx, a, operation.DisableClient, clientID, nil)
}

// EnableClient enables a client again. What was ended stays ended.
func (a *API) EnableClient(ctx context.Context, clientID string) (Client, error) {
	return call[Client](ctx, a, operation.EnableClient, clientID, nil)
}

// RotateClientSecret gives a client a new secret.
func (a *API) RotateClientSecret(ctx context.Context, clientID string, r RotateSecret) (ClientCredentials, error) {
	return call[ClientCredentials](ctx, a, operation.RotateClientSecret, clientID, r)
}

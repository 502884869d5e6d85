// RFC 7591 §2: client metadata.
package authority

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// ClientMetadata is a client as somebody writes it: in the file, to the admin
// API, in a stored row. NewClient turns it into a Client.
type ClientMetadata struct {
	ClientID                  string              `json:"client_id"`
	ClientName                string              `json:"client_name,omitempty"`
	RedirectURIs              []string            `json:"redirect_uris,omitempty"`
	PostLogoutRedirectURIs    []string            `json:"post_logout_redirect_uris,omitempty"`
	GrantTypes                []string            `json:"grant_types"`
	TokenEndpointAuthMethod   string              `json:"token_endpoint_auth_method"`
	JWKS                      json.RawMessage     `json:"jwks,omitempty"`
	FederatedCredential       FederatedCredential `json:"federated_credential,omitzero"` // not of RFC 7591
	Scope                     string              `json:"scope"`
	Resources                 []string            `json:"resources,omitempty"`
	IDTokenSignedResponseAlg  string              `json:"id_token_signed_response_alg,omitempty"`
	BackchannelLogoutURI      string              `json:"backchannel_logout_uri,omitempty"`               // Back-Channel Logout 1.0 §2.2
	FrontchannelLogoutURI     string              `json:"frontchannel_logout_uri,omitempty"`              // Front-Channel Logout 1.0 §2
	FrontchannelLogoutSession bool                `json:"frontchannel_logout_session_required,omitempty"` // the same
	BackchannelLogoutSession  bool                `json:"backchannel_logout_session_required,omitempty"`  // the same
	AllowMultipleAudiences    bool                `json:"allow_multiple_audiences,omitempty"`             // not of RFC 7591
	RequirePKCE               *bool               `json:"require_pkce,omitempty"`                         // not of RFC 7591; nil means true

	// ClientSecrets never travel with the rest: a secret is shown once, and its
	// hash never.
	ClientSecrets []ClientSecret `json:"-"`
}

var authMethods = []oauth.AuthMethod{oauth.AuthNone, oauth.AuthClientSecretBasic, oauth.AuthClientSecretPost, oauth.AuthPrivateKeyJWT, oauth.AuthFederatedJWT}

// GrantTypes lists what grant_types may hold.
func GrantTypes() []string { return texts(oauth.GrantTypes) }

// AuthMethods lists what token_endpoint_auth_method may be.
func AuthMethods() []string { return texts(authMethods) }

func texts[T ~string](values []T) (list []string) {
	for _, v := range values {
		list = append(list, string(v))
	}
	return list
}

const maxClientKeys = 20

// NewClient makes a Client of what was written. The error is Problems.
func NewClient(m ClientMetadata) (Client, error) {
	c, found := m.client()
	if len(found) > 0 {
		return Client{}, found
	}
	return c, nil
}

func (m *ClientMetadata) client() (Client, Problems) {
	scopes, found := m.parse()
	if len(found) > 0 {
		return Client{}, found
	}
	c := Client{
		ID: m.ClientID, Name: m.ClientName, AuthMethod: oauth.AuthMethod(m.TokenEndpointAuthMethod), Secrets: m.ClientSecrets,
		JWKS: m.JWKS, Federated: m.FederatedCredential, Scopes: scopes, Resources: m.Resources, IDTokenAlg: m.IDTokenSignedResponseAlg, AllowMultipleAudiences: m.AllowMultipleAudiences,
		OptionalPKCE: m.PKCEIsOptional(), BackchannelLogout: Logout{m.BackchannelLogoutURI, m.BackchannelLogoutSession},
		FrontchannelLogout: Logout{m.FrontchannelLogoutURI, m.FrontchannelLogoutSession},
	}
	for _, s := range m.RedirectURIs {
		c.RedirectURIs = append(c.RedirectURIs, RedirectURI{s})
	}
	for _, s := range m.PostLogoutRedirectURIs {
		c.PostLogoutRedirectURIs = append(c.PostLogoutRedirectURIs, RedirectURI{s})
	}
	for _, s := range m.GrantTypes {
		c.GrantTypes = append(c.GrantTypes, oauth.GrantType(s))
	}
	return c, nil
}

// Metadata is the client as it is written. Changing it changes no Client.
func (c Client) Metadata() ClientMetadata {
	if c.broken != nil {
		return *c.broken
	}
	m := ClientMetadata{
		ClientID: c.ID, ClientName: c.Name, GrantTypes: texts(c.GrantTypes), TokenEndpointAuthMethod: string(c.AuthMethod),
		JWKS: slices.Clone(c.JWKS), FederatedCredential: c.Federated, Scope: c.Scopes.String(), Resources: slices.Clone(c.Resources),
		IDTokenSignedResponseAlg: c.IDTokenAlg, AllowMultipleAudiences: c.AllowMultipleAudiences, ClientSecrets: slices.Clone(c.Secrets),
		BackchannelLogoutURI: c.BackchannelLogout.URI, BackchannelLogoutSession: c.BackchannelLogout.SessionRequired,
		FrontchannelLogoutURI: c.FrontchannelLogout.URI, FrontchannelLogoutSession: c.FrontchannelLogout.SessionRequired,
	}
	if c.OptionalPKCE {
		m.RequirePKCE = new(bool)
	}
	for _, u := range c.RedirectURIs {
		m.RedirectURIs = append(m.RedirectURIs, u.raw)
	}
	for _, u := range c.PostLogoutRedirectURIs {
		m.PostLogoutRedirectURIs = append(m.PostLogoutRedirectURIs, u.raw)
	}
	return m
}

func (m *ClientMetadata) has(g oauth.GrantType) bool { return slices.Contains(m.GrantTypes, string(g)) }

func (m *ClientMetadata) authenticates(methods ...oauth.AuthMethod) bool {
	return slices.Contains(methods, oauth.AuthMethod(m.TokenEndpointAuthMethod))
}

// UsesSecret says whether the client proves itself with a client secret.
func (m ClientMetadata) UsesSecret() bool {
	return m.authenticates(oauth.AuthClientSecretBasic, oauth.AuthClientSecretPost)
}

// PKCEIsOptional says whether the client may ask for a code without a challenge.
func (m ClientMetadata) PKCEIsOptional() bool { return m.RequirePKCE != nil && !*m.RequirePKCE }

// Validate finds what breaks a rule, without asking about other objects.
func (m ClientMetadata) Validate() []Problem {
	_, found := m.parse()
	return found
}

func (m *ClientMetadata) parse() (scopes oauth.Scopes, found Problems) {
	found.at("client_id", checkID(m.ClientID))
	found.at("client_name", checkName(m.ClientName))
	m.validateURIs(&found, "redirect_uris", m.RedirectURIs)
	m.validateURIs(&found, "post_logout_redirect_uris", m.PostLogoutRedirectURIs)
	m.validateGrantTypes(&found)
	m.validateCredentials(&found)
	m.validateFederatedCredential(&found)
	scopes = m.validateScope(&found)
	if found.list("resources", m.Resources, maxMembers) {
		found.each("resources", m.Resources, checkResourceID)
	}
	if len(m.IDTokenSignedResponseAlg) > maxName || m.IDTokenSignedResponseAlg != "" && !isToken(m.IDTokenSignedResponseAlg) {
		found.add("id_token_signed_response_alg", quote(m.IDTokenSignedResponseAlg)+" is not an algorithm", "write one such as ES256")
	}
	m.validateLogout(&found)
	if m.PKCEIsOptional() && m.authenticates(oauth.AuthNone) {
		// RFC 9700 §2.1.1: PKCE is all that protects the code of a public client.
		found.add("require_pkce", "is false, and token_endpoint_auth_method is none", "remove it, or give the client a secret or a key")
	}
	return scopes, found
}

func (m *ClientMetadata) validateURIs(found *Problems, field string, uris []string) {
	if found.list(field, uris, maxMembers) {
		found.each(field, uris, checkRedirectURI)
	}
}

// validateLogout: who is told of the end of a session is a client that people sign in to.
func (m *ClientMetadata) validateLogout(found *Problems) {
	check := func(channel, uri string, session bool) {
		switch {
		case uri == "" && session:
			found.add(channel+"_logout_session_required", "is true, and there is no "+channel+"_logout_uri", "add the URI, or remove it")
		case uri != "" && !m.has(oauth.AuthorizationCode):
			found.add(channel+"_logout_uri", "has no use without authorization_code in grant_types: nobody signs in to this client", "remove it")
		case uri != "":
			found.at(channel+"_logout_uri", checkWebURI(uri))
		}
	}
	check("backchannel", m.BackchannelLogoutURI, m.BackchannelLogoutSession)
	check("frontchannel", m.FrontchannelLogoutURI, m.FrontchannelLogoutSession)
	// Front-Channel Logout 1.0 §2: the page of a sign-out shows no site that the client has not proved to be its own.
	same := func(redirect string) bool { return OriginOf(redirect) == OriginOf(m.FrontchannelLogoutURI) }
	if m.FrontchannelLogoutURI != "" && m.has(oauth.AuthorizationCode) && checkWebURI(m.FrontchannelLogoutURI) == nil && !slices.ContainsFunc(m.RedirectURIs, same) {
		found.add("frontchannel_logout_uri", "has another scheme, host or port than every redirect URI", "use a URL of the site that people come back to")
	}
}

func (m *ClientMetadata) validateGrantTypes(found *Problems) {
	if !found.list("grant_types", m.GrantTypes, len(oauth.GrantTypes)) {
		return
	}
	known := func(g string) bool { return slices.Contains(oauth.GrantTypes, oauth.GrantType(g)) }
	if i := slices.IndexFunc(m.GrantTypes, func(g string) bool { return !known(g) }); i >= 0 {
		found.add(member("grant_types", i), quote(m.GrantTypes[i])+" is not accepted here", "write one of: "+strings.Join(GrantTypes(), ", "))
		return
	}
	code, public := m.has(oauth.AuthorizationCode), m.authenticates(oauth.AuthNone)
	switch {
	case len(m.GrantTypes) == 0 && public:
		// A client that proves who it is may do without: an API that only introspects.
		found.add("grant_types", "is empty", "a public client without a grant can do nothing; write authorization_code")
	case code && slices.Contains(m.Resources, AdminResource):
		// Accounts have no roles: whoever can sign in could approve himself an administrator.
		found.add("grant_types", "authorization_code is beside the resource "+AdminResource, "give administrators a client of their own, with client_credentials alone")
	case code && len(m.RedirectURIs) == 0:
		found.add("redirect_uris", "is missing: authorization_code sends the code there", "add it, or write client_credentials alone in grant_types")
	case !code && m.has(oauth.RefreshToken):
		found.add("grant_types", "refresh_token needs authorization_code", "add authorization_code, or remove refresh_token")
	case public && m.has(oauth.ClientCredentials):
		found.add("grant_types", "client_credentials needs a client that proves who it is, and token_endpoint_auth_method is none", "give it a secret or a key, or remove client_credentials")
	}
}

func (m *ClientMetadata) validateCredentials(found *Problems) {
	method := m.TokenEndpointAuthMethod
	if !slices.Contains(authMethods, oauth.AuthMethod(method)) {
		found.add("token_endpoint_auth_method", quote(method)+" is not accepted here", "write one of: "+strings.Join(AuthMethods(), ", "))
		return
	}
	switch n := len(m.ClientSecrets); {
	case m.UsesSecret() && n == 0:
		found.add("client_secret", "is missing: "+method+" needs a secret", "add one; for an app that cannot keep one set token_endpoint_auth_method to none")
	case !m.UsesSecret() && n > 0:
		found.add("client_secret", "has no use with token_endpoint_auth_method "+method, "remove it, or use client_secret_basic")
	case n > maxSecrets:
		found.add("client_secret", "has more than "+strconv.Itoa(maxSecrets)+" values", "remove the oldest")
	}
	switch keys := len(m.JWKS) > 0; {
	case !keys && m.authenticates(oauth.AuthPrivateKeyJWT):
		found.add("jwks", "is missing: private_key_jwt needs the client's public keys", "add them")
	case keys && !m.authenticates(oauth.AuthPrivateKeyJWT):
		found.add("jwks", "has no use with token_endpoint_auth_method "+method, "remove it, or use private_key_jwt")
	case keys:
		found.at("jwks", checkKeySet(m.JWKS))
	}
}

func checkKeySet(jwks []byte) *Problem {
	const form = `write {"keys": [ … ]} with public keys, each with kty and what belongs to it`
	keys, err := jose.ParseKeySet(jwks)
	switch {
	case err != nil:
		return problem("cannot be used: "+err.Error(), form)
	case len(keys) == 0:
		return problem("has no key that can verify a signature", form)
	case len(keys) > maxClientKeys:
		return problem("has more than "+strconv.Itoa(maxClientKeys)+" keys", "remove those that are no longer in use")
	}
	return nil
}

func (m *ClientMetadata) validateScope(found *Problems) oauth.Scopes {
	const form = "write values separated by single spaces, each of them once"
	scopes, err := oauth.ParseScopes(m.Scope)
	if err != nil {
		found.add("scope", "cannot be used: "+err.Error(), form)
		return scopes
	}
	count := 0
	for name := range strings.FieldsSeq(m.Scope) {
		found.at("scope", checkScope(name))
		count++
	}
	if count != scopes.Len() {
		found.add("scope", "has a value twice", form)
	}
	return scopes
}

// CheckReferences finds what does not fit the other objects. An error is a
// failure to look at them.
func (m ClientMetadata) CheckReferences(r References) (_ []Problem, err error) {
	var found Problems
	owned := oauth.StandardScopes.List()
	for i, id := range m.Resources {
		resource, there, err := known(r.Resource, id)
		if err != nil {
			return nil, err
		}
		switch _, cluster := ClusterOf(id, r.Issuer); {
		case cluster:
			found.add(member("resources", i), quote(id)+" is the place of a cluster, where trust policies alone lead", "write a policy")
		case !there:
			found.add(member("resources", i), "there is no resource "+quote(id), "register the resource first")
		}
		owned = append(owned, resource.Scopes...)
	}
	// One wrong reference would make every scope behind it look wrong.
	if len(found) == 0 {
		for name := range strings.FieldsSeq(m.Scope) {
			if !slices.Contains(owned, name) {
				found.add("scope", "none of the client's resources has the scope "+quote(name), "add it to a resource's scopes, and the resource to the client's")
			}
		}
	}
	if alg := m.IDTokenSignedResponseAlg; alg != "" && !slices.Contains(r.Algorithms, alg) {
		found.add("id_token_signed_response_alg", quote(alg)+" is not an algorithm that this service signs with", "write one of "+strings.Join(r.Algorithms, ", "))
	}
	if err := m.checkFederatedCredential(r, &found); err != nil {
		return nil, err
	}
	// The aud of an ID token is the client, that of an access token a resource: one
	// name for both would let a careless API take the one for the other.
	_, taken, err := known(r.Resource, m.ClientID)
	if taken || m.ClientID == r.Issuer {
		found.add("client_id", quote(m.ClientID)+" is the id of a resource", "choose another")
	}
	return found, err
}

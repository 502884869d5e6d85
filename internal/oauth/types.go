package oauth

// GrantType is a value of the grant_type parameter (RFC 6749 §4).
type GrantType string

// The grant types of this version.
const (
	AuthorizationCode GrantType = "authorization_code"                              // RFC 6749 §4.1
	ClientCredentials GrantType = "client_credentials"                              // RFC 6749 §4.4
	RefreshToken      GrantType = "refresh_token"                                   // RFC 6749 §6
	TokenExchange     GrantType = "urn:ietf:params:oauth:grant-type:token-exchange" // RFC 8693 §2.1
	JWTBearer         GrantType = "urn:ietf:params:oauth:grant-type:jwt-bearer"     // RFC 7523 §2.1
)

// GrantTypes is the one list of them: discovery, the configuration and the
// admin API read it, and the token endpoint has a function for each.
var GrantTypes = []GrantType{AuthorizationCode, RefreshToken, ClientCredentials, TokenExchange, JWTBearer}

// AuthMethod is a value of token_endpoint_auth_method (RFC 7591 §2).
type AuthMethod string

// The ways in which a client may prove itself.
const (
	AuthNone              AuthMethod = "none"                // a public client
	AuthClientSecretBasic AuthMethod = "client_secret_basic" // RFC 6749 §2.3.1
	AuthClientSecretPost  AuthMethod = "client_secret_post"  // RFC 6749 §2.3.1
	AuthPrivateKeyJWT     AuthMethod = "private_key_jwt"     // RFC 7523 §2.2, signed with a key of the client's own
	AuthFederatedJWT      AuthMethod = "federated_jwt"       // RFC 7523 §2.2, made by another issuer; the name is ours
)

// TokenType is a token type identifier (RFC 8693 §3).
type TokenType string

// The token types that are taken or given.
const (
	TokenTypeAccessToken TokenType = "urn:ietf:params:oauth:token-type:access_token" // one of ours
	TokenTypeJWT         TokenType = "urn:ietf:params:oauth:token-type:jwt"          // in: another issuer's; out: one of ours that is a JWT
)

// Media types of our tokens: values of the `typ` header.
const (
	TypAccessToken = "at+jwt" // RFC 9068 §2.1
	TypIDToken     = "JWT"
	TypLogoutToken = "logout+jwt" // OpenID Connect Back-Channel Logout 1.0 §2.4
)

// AssertionTypeJWTBearer is the only client_assertion_type (RFC 7523 §2.2).
const AssertionTypeJWTBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// The scopes that belong to the issuer itself and to no resource
// (OpenID Connect Core §5.4 and §11).
const (
	ScopeOpenID        = "openid"
	ScopeProfile       = "profile"
	ScopeEmail         = "email"
	ScopeAddress       = "address"
	ScopePhone         = "phone"
	ScopeOfflineAccess = "offline_access"
)

// StandardScopes are the scopes of OpenID Connect that every issuer knows.
var StandardScopes = MustScopes(ScopeOpenID, ScopeProfile, ScopeEmail, ScopeAddress, ScopePhone, ScopeOfflineAccess)

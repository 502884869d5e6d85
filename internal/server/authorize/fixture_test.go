package authorize

import (
	"encoding/base64"
	"net/url"

	"golang.org/x/crypto/argon2"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

const (
	issuerURL = "https://sts.example.com"
	callback  = "https://app.example.com/callback"
	api       = "https://api.example.com"
)

func uri(s string) authority.RedirectURI {
	u, err := authority.ParseRedirectURI(s)
	if err != nil {
		panic(err)
	}
	return u
}

// phc is a valid hash that costs nothing: these tests are not about its cost.
func phc(password string) string {
	salt := []byte("0123456789abcdef")
	b64 := base64.RawStdEncoding
	return "$argon2id$v=19$m=8,t=1,p=1$" + b64.EncodeToString(salt) + "$" + b64.EncodeToString(argon2.IDKey([]byte(password), salt, 1, 8, 1, 32))
}

// declared is what the configuration file of the tests holds.
func declared() authority.StaticObjects {
	grants := []oauth.GrantType{oauth.AuthorizationCode, oauth.RefreshToken}
	scopes := oauth.MustScopes("openid", "profile", "email", "offline_access", "orders:read", "orders:write")
	return authority.StaticObjects{
		Users: map[string]authority.User{
			"u-ada":  {ID: "u-ada", Username: "ada", Name: "Ada", PasswordHash: phc("lovelace")},
			"u-bob":  {ID: "u-bob", Username: "bob", Name: "Bob", PasswordHash: phc("builder")},
			"u-gone": {ID: "u-gone", Username: "gone", PasswordHash: phc("lovelace"), Disabled: true},
		},
		Clients: map[string]authority.Client{
			"web": {ID: "web", Name: "Example web app", RedirectURIs: []authority.RedirectURI{uri(callback)},
				PostLogoutRedirectURIs: []authority.RedirectURI{uri("https://app.example.com/bye"), uri("http://127.0.0.1/bye")},
				GrantTypes:             grants, AuthMethod: oauth.AuthClientSecretBasic, Scopes: scopes, Resources: []string{api}},
			"spa": {ID: "spa", Name: "Browser app", RedirectURIs: []authority.RedirectURI{uri("https://spa.example.com/cb")},
				GrantTypes: grants, AuthMethod: oauth.AuthNone, Scopes: scopes, Resources: []string{api}},
			"cli": {ID: "cli", Name: "Command line", RedirectURIs: []authority.RedirectURI{uri("http://127.0.0.1/cb"), uri("com.example.cli:/cb")},
				GrantTypes: grants, AuthMethod: oauth.AuthNone, Scopes: scopes, Resources: []string{api}},
			"daemon": {ID: "daemon", RedirectURIs: []authority.RedirectURI{uri(callback)}, GrantTypes: []oauth.GrantType{oauth.ClientCredentials},
				AuthMethod: oauth.AuthClientSecretBasic, Scopes: scopes, Resources: []string{api}},
			"off": {ID: "off", RedirectURIs: []authority.RedirectURI{uri(callback)}, GrantTypes: grants, AuthMethod: oauth.AuthNone, Scopes: scopes, Disabled: true},
		},
		Resources: map[string]authority.Resource{
			api:                           {ID: api, Scopes: oauth.MustScopes("orders:read", "orders:write"), Format: authority.FormatJWT},
			"https://billing.example.com": {ID: "https://billing.example.com", Scopes: oauth.MustScopes("bills:read"), Format: authority.FormatJWT},
		},
	}
}

const verifierChallenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" // RFC 7636 Appendix B

// good is one good authorization request that a row then changes.
func good(change ...string) url.Values {
	v := url.Values{
		"response_type": {"code"}, "client_id": {"web"}, "redirect_uri": {callback}, "scope": {"openid orders:read"},
		"state": {"xyz"}, "nonce": {"n-1"}, "code_challenge": {verifierChallenge}, "code_challenge_method": {"S256"},
	}
	for i := 0; i+1 < len(change); i += 2 {
		if change[i+1] == "" {
			v.Del(change[i])
		} else {
			v.Set(change[i], change[i+1])
		}
	}
	return v
}

// For the tests on a whole node, which are outside of the package.
const (
	IssuerURL, Callback, API, VerifierChallenge = issuerURL, callback, api, verifierChallenge
	MaxState, MaxName, MaxNonce, MaxIgnored     = maxState, maxName, maxNonce, maxIgnored
	MaxClaims                                   = maxClaims
)

var Static, Good, URI = declared, good, uri

package authority

import (
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Client is a registered application or machine that asks for tokens. The
// names are those of RFC 7591 §2.
type Client struct {
	ID                     string
	Name                   string
	RedirectURIs           []RedirectURI
	PostLogoutRedirectURIs []RedirectURI
	GrantTypes             []oauth.GrantType
	AuthMethod             oauth.AuthMethod
	Secrets                []ClientSecret
	JWKS                   []byte              // JSON Web Key Set, for private_key_jwt
	Federated              FederatedCredential // for federated_jwt
	Scopes                 oauth.Scopes
	Resources              []string
	AllowMultipleAudiences bool   // each API of a token can use it at the others
	OptionalPKCE           bool   // a stolen code can be redeemed through the client
	IDTokenAlg             string // empty means the issuer's first algorithm
	BackchannelLogout      Logout
	FrontchannelLogout     Logout
	Disabled               bool
	Source                 Source
	Revision               int64 // in the database
	CreatedAt              time.Time
	UpdatedAt              time.Time

	Problems Problems // of a stored client that breaks the rule book: it is disabled
	broken   *ClientMetadata
}

// Logout is where a client is told that a session has ended. The zero value is nowhere.
type Logout struct {
	URI             string
	SessionRequired bool // it wants to hear which session, and not only whose
}

// ClientSecret is one live secret of a client. There may be two while a
// secret is being rotated.
type ClientSecret struct {
	Hash      [32]byte  // SHA-256: the secret is machine-made, so a fast hash is right
	CreatedAt time.Time // zero means that it is not known
	ExpiresAt time.Time // zero means that it does not expire
}

// IsPublic says whether the client cannot keep a secret.
func (c Client) IsPublic() bool { return c.AuthMethod == oauth.AuthNone }

// MayUse says whether the client is registered for a grant type.
func (c Client) MayUse(g oauth.GrantType) bool { return slices.Contains(c.GrantTypes, g) }

// MayReach says whether the client may ask for tokens for a resource.
func (c Client) MayReach(resource string) bool { return slices.Contains(c.Resources, resource) }

// maxSecrets is how many secrets a client has at most: two, while one replaces the other.
const maxSecrets = 2

// AcceptsSecret compares a secret with every one that the client could have,
// all of them in every case, so that the time tells neither which one matched
// nor how many there are.
func (c Client) AcceptsSecret(presented oauth.Secret, now time.Time) bool {
	hash := presented.Hash()
	match := 0
	for i := range max(len(c.Secrets), maxSecrets) {
		var secret ClientSecret
		if i < len(c.Secrets) {
			secret = c.Secrets[i]
		}
		live := i < len(c.Secrets) && (secret.ExpiresAt.IsZero() || now.Before(secret.ExpiresAt))
		equal := subtle.ConstantTimeCompare(hash[:], secret.Hash[:])
		if live {
			match |= equal
		}
	}
	return match == 1
}

// RedirectDigest is what a person consents to besides scopes and resources: the
// redirect URI that the answer goes to, and all that the client has registered.
// If one of them changes, the consent is for something else. requested is one
// that the client allows; the port of a loopback address does not count.
func (c Client) RedirectDigest(requested string) [32]byte {
	registered := slices.SortedFunc(slices.Values(c.RedirectURIs), func(a, b RedirectURI) int { return strings.Compare(a.raw, b.raw) })
	var used string
	var all strings.Builder
	for _, r := range registered {
		if used == "" && r.Allows(requested) {
			used = r.raw
		}
		all.WriteString(r.raw + "\n") // no URI holds a line break
	}
	return sha256.Sum256([]byte(used + "\n" + all.String()))
}

// AllowsRedirect says whether a requested redirect URI is one of the
// registered ones (see RedirectURI.Allows).
func (c Client) AllowsRedirect(requested string) bool {
	return slices.ContainsFunc(c.RedirectURIs, func(r RedirectURI) bool { return r.Allows(requested) })
}

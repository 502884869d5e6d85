// RFC 9068 §2.2: the claims of an access token. OpenID Connect Core §2 and
// §5.1: those of an ID token.
package issue

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// accessToken is what an access token says, before it is encoded.
type accessToken struct {
	authority.Authorization
	issuer          string
	id              authority.ID
	issued, expires time.Time
	audience        []string
}

func newAccessToken(issuer string, a authority.Authorization) accessToken {
	issued := a.At.Truncate(time.Second)
	expires := issued.Add(min(a.Life, authority.MaxTokenTTL))
	if expires.After(a.Grant.ExpiresAt) {
		expires = a.Grant.ExpiresAt // no token outlives its grant
	}
	return accessToken{a, issuer, authority.NewID(a.At), issued, expires, a.Target.Audience(issuer)}
}

func (t accessToken) claims() []byte {
	o := newObject()
	o.text("iss", t.issuer)
	o.text("sub", t.Grant.Subject.ID)
	o.text("sub_profile", string(t.Grant.Subject.Kind))
	o.oneOrList("aud", t.audience)
	o.text("client_id", t.Client.ID)
	o.text("scope", t.Target.Scopes.String())
	o.number("iat", t.issued.Unix())
	o.number("nbf", t.issued.Unix())
	o.number("exp", t.expires.Unix())
	o.text("jti", t.id.String())
	o.text("grant_id", t.Grant.ID.String())
	ids, clients := ancestors(t.Grant.Lineage)
	o.list("lineage", ids)
	o.list("lineage_clients", clients)
	o.list("client_workloads", t.Grant.Workloads)
	if t.Grant.Evidence.Kind == authority.EvidenceSession {
		o.text("sid", t.Grant.Evidence.Key)
	}
	if !t.Grant.AuthTime.IsZero() {
		o.number("auth_time", t.Grant.AuthTime.Unix())
	}
	o.text("acr", authority.ACR(t.Grant.AMR))
	o.list("amr", t.Grant.AMR)
	o.list("userinfo_claims", t.Claims().UserInfo)
	o.list("groups", t.Groups)
	o.text("policy", t.Policy)
	if t.Actor != nil {
		o.json("act", t.Actor)
	}
	if !t.Confirmation.IsZero() {
		o.json("cnf", cnfClaim{t.Confirmation.JKT})
	}
	return o.end()
}

// ancestors are two lists of one length, since the clients of a lineage end
// their tokens too, and JSON has no pairs.
func ancestors(lineage []authority.Ancestor) (ids, clients []string) {
	for _, a := range lineage {
		ids, clients = append(ids, a.GrantID.String()), append(clients, a.ClientID)
	}
	return ids, clients
}

// ClaimsOf are the claims about a person that the scopes open, and those that
// were asked for by name (OpenID Connect Core §5.4, §5.5).
func ClaimsOf(u authority.User, scopes oauth.Scopes, asked []string) map[string]any {
	claims := map[string]any{}
	for _, c := range authority.PersonClaims {
		if scopes.Has(c.Scope) || slices.Contains(asked, c.Name) {
			if value := c.Of(u); value != nil {
				claims[c.Name] = value
			}
		}
	}
	return claims
}

// idToken says who has signed in. What is known about the person is at UserInfo,
// unless the client asked for it here by name (OpenID Connect Core §5.4).
func (i *Issuer) idToken(issuer authority.Issuer, a authority.Authorization, user authority.User, accessToken string) (string, error) {
	signer, err := i.Signer(jose.Algorithm(a.Client.IDTokenAlg), oauth.TypIDToken)
	if err != nil {
		return "", err
	}
	issued := a.At.Truncate(time.Second)
	o := newObject()
	o.text("iss", issuer.URL)
	o.text("sub", a.Grant.Subject.ID)
	o.text("aud", a.Client.ID)
	o.number("iat", issued.Unix())
	o.number("exp", issued.Add(min(issuer.IDTTL, authority.MaxTokenTTL)).Unix())
	o.number("auth_time", a.Grant.AuthTime.Unix())
	o.text("nonce", a.Grant.Nonce)
	o.text("sid", a.Grant.SessionID.String())
	o.text("acr", authority.ACR(a.Grant.AMR))
	o.list("amr", a.Grant.AMR)
	o.text("at_hash", atHash(signer.Algorithm(), accessToken))
	for name, value := range ClaimsOf(user, oauth.Scopes{}, a.Claims().IDToken) {
		o.json(name, value)
	}
	return signer.Sign(o.end())
}

// atHash is the left half of the access token's hash, with the hash of the ID
// token's algorithm (OpenID Connect Core §3.1.3.6): SHA-512 for EdDSA with Ed25519,
// SHA-256 for ES256 and RS256. There are no others: see idTokenJWT.
func atHash(alg jose.Algorithm, accessToken string) string {
	if alg == jose.EdDSA {
		sum := sha512.Sum512([]byte(accessToken))
		return base64.RawURLEncoding.EncodeToString(sum[:32])
	}
	sum := sha256.Sum256([]byte(accessToken))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// HashOf names a token in the journal without its value: the first half of
// its SHA-256, in hex.
func HashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:16])
}

// cnfClaim is the `cnf` of a bound token (RFC 7800 §3.1, RFC 9449 §6.1).
type cnfClaim struct {
	JKT string `json:"jkt"`
}

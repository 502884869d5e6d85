// RFC 9068 §2.2: the claims of an access token. OpenID Connect Core §2 and
// §5.1: those of an ID token.
package issue

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// plan is what an access token will be, before it is encoded.
type plan struct {
	id              authority.ID
	issued, expires time.Time
	audience        []string
}

func (i *Issuer) plan(issuer authority.Issuer, a authority.Authorization) plan {
	issued := a.At.Truncate(time.Second)
	expires := issued.Add(a.Target.AccessTTL(issuer))
	if expires.After(a.Grant.ExpiresAt) {
		expires = a.Grant.ExpiresAt // no token outlives its grant
	}
	return plan{authority.NewID(a.At), issued, expires, a.Target.Audience(issuer.URL)}
}

func (i *Issuer) accessToken(issuer authority.Issuer, a authority.Authorization, p plan) (string, error) {
	o := newObject()
	o.text("iss", issuer.URL)
	o.text("sub", a.Grant.Subject.ID)
	o.oneOrList("aud", p.audience)
	o.text("client_id", a.Client.ID)
	o.text("scope", a.Target.Scopes.String())
	o.number("iat", p.issued.Unix())
	o.number("nbf", p.issued.Unix())
	o.number("exp", p.expires.Unix())
	o.text("jti", p.id.String())
	o.text("grant_id", a.Grant.ID.String())
	o.text("sid", boundSession(a.Grant).String())
	if !a.Grant.AuthTime.IsZero() {
		o.number("auth_time", a.Grant.AuthTime.Unix())
	}
	o.list("amr", a.Grant.AMR)
	body := o.end()
	if a.Target.Format() == authority.FormatOpaque {
		return oauth.EncodeOpaque(oauth.PrefixAccessToken, i.Opaque.Seal(body, p.expires)), nil
	}
	signer, err := i.Signer("", oauth.TypAccessToken)
	if err != nil {
		return "", err
	}
	return signer.Sign(body)
}

type idClaims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience string   `json:"aud"`
	IssuedAt int64    `json:"iat"`
	Expires  int64    `json:"exp"`
	AuthTime int64    `json:"auth_time"`
	Nonce    string   `json:"nonce,omitempty"`
	Session  string   `json:"sid,omitempty"`
	AMR      []string `json:"amr,omitempty"`
	AtHash   string   `json:"at_hash"`
	Profile
}

// Profile are the claims about a person that scopes open
// (OpenID Connect Core §5.4). UserInfo answers with the same.
type Profile struct {
	Name              string `json:"name,omitempty"`
	PreferredUsername string `json:"preferred_username,omitempty"`
	UpdatedAt         int64  `json:"updated_at,omitempty"`
	Email             string `json:"email,omitempty"`
	EmailVerified     *bool  `json:"email_verified,omitempty"`
}

// ProfileOf gives the claims that the scopes allow.
func ProfileOf(u authority.User, scopes oauth.Scopes) Profile {
	var p Profile
	if scopes.Has(oauth.ScopeProfile) {
		p.Name, p.PreferredUsername = u.Name, u.Username
		if !u.UpdatedAt.IsZero() {
			p.UpdatedAt = u.UpdatedAt.Unix()
		}
	}
	if scopes.Has(oauth.ScopeEmail) && u.Email != "" {
		p.Email, p.EmailVerified = u.Email, &u.EmailVerified
	}
	return p
}

func (i *Issuer) idToken(issuer authority.Issuer, a authority.Authorization, user authority.User, accessToken string) (string, error) {
	signer, err := i.Signer(jose.Algorithm(a.Client.IDTokenAlg), oauth.TypIDToken)
	if err != nil {
		return "", err
	}
	issued := a.At.Truncate(time.Second)
	body, err := json.Marshal(idClaims{
		Issuer: issuer.URL, Subject: a.Grant.Subject.ID, Audience: a.Client.ID,
		IssuedAt: issued.Unix(), Expires: issued.Add(min(issuer.IDTTL, authority.MaxTokenTTL)).Unix(),
		AuthTime: a.Grant.AuthTime.Unix(), Nonce: a.Grant.Nonce, Session: a.Grant.SessionID.String(), AMR: a.Grant.AMR,
		AtHash: atHash(signer.Algorithm(), accessToken), Profile: ProfileOf(user, a.Target.Scopes),
	})
	if err != nil {
		return "", err
	}
	return signer.Sign(body)
}

// atHash is the left half of the access token's hash, with the hash of the ID
// token's algorithm (OpenID Connect Core §3.1.3.6). EdDSA with Ed25519 hashes
// with SHA-512.
func atHash(alg jose.Algorithm, accessToken string) string {
	var sum []byte
	switch alg {
	case jose.ES384:
		h := sha512.Sum384([]byte(accessToken))
		sum = h[:]
	case jose.EdDSA, jose.ES512:
		h := sha512.Sum512([]byte(accessToken))
		sum = h[:]
	default:
		h := sha256.Sum256([]byte(accessToken))
		sum = h[:]
	}
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}

// HashOf names a token in the journal without its value: the first half of
// its SHA-256, in hex.
func HashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:16])
}

package issue

import (
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

// idTokenJWT takes ID tokens alone: access tokens of ours have another type.
var idTokenJWT = jose.Expect{
	Algorithms: []jose.Algorithm{jose.ES256, jose.RS256, jose.EdDSA},
	Types:      []string{"JWT"},
}

// IDToken is an ID token of ours. It says who signed in to which client, and grants
// nothing.
type IDToken struct {
	ClientID  string // aud
	Subject   authority.Subject
	SessionID authority.ID // zero where it names none
	IssuedAt  time.Time
	Expires   time.Time
}

// IDToken reads an ID token of ours, also one that has expired: as an id_token_hint
// (OpenID Connect RP-Initiated Logout §4), or to say what it is.
func (r *Reader) IDToken(raw string) (IDToken, error) {
	verified, err := jose.Verify(raw, idTokenJWT, r.Find)
	if err != nil {
		return IDToken{}, err
	}
	f := fields{claims: verified.Claims}
	token := IDToken{
		ClientID: f.text("aud"), IssuedAt: f.time("iat"), Expires: f.time("exp"),
		Subject: authority.Subject{Issuer: f.text("iss"), ID: f.text("sub"), Kind: authority.SubjectUser},
	}
	if f.claims.Has("sid") {
		token.SessionID = f.id("sid")
	}
	if f.err == nil && token.Subject.Issuer != r.Issuer {
		f.err = errNotOurs
	}
	return token, f.err
}

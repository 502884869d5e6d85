package issue

import (
	"github.com/signalbox-sts/signalbox/internal/jose"
)

// idTokenJWT takes an ID token that is over, as hints are. Access tokens of
// ours have another type.
var idTokenJWT = jose.Expect{
	Algorithms: []jose.Algorithm{jose.ES256, jose.RS256, jose.EdDSA},
	Types:      []string{"JWT"},
}

// IDTokenHint reads an id_token_hint: an ID token of ours, also an old one
// (OpenID Connect RP-Initiated Logout §4). It says whose it was and grants nothing.
func (r *Reader) IDTokenHint(raw string) (clientID, subject, sid string, err error) {
	verified, err := jose.Verify(raw, idTokenJWT, r.Find)
	if err != nil {
		return "", "", "", err
	}
	iss, _, err := verified.Claims.String("iss")
	if err != nil || iss != r.Issuer {
		return "", "", "", errNotOurs
	}
	if clientID, _, err = verified.Claims.String("aud"); err != nil {
		return "", "", "", err
	}
	if subject, _, err = verified.Claims.String("sub"); err != nil {
		return "", "", "", err
	}
	sid, _, err = verified.Claims.String("sid")
	return clientID, subject, sid, err
}

// OpenID Connect Back-Channel Logout 1.0 §2.4: the logout token.
package issue

import (
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// logoutTokenTTL is what §2.4 recommends at most. Each try to deliver has a token of
// its own.
const logoutTokenTTL = 2 * time.Minute

// logoutEvent is the one event that a logout token is about.
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// LogoutToken says to a client that a person's session has ended; the zero session means
// all of them. It is signed like the client's ID tokens, has a type of its own and no
// nonce, so that nobody takes the one for the other (docs/security/threats.md D 59, M 122).
func (i *Issuer) LogoutToken(client authority.Client, subject string, session authority.ID, at time.Time) (string, authority.ID, error) {
	signer, err := i.Signer(jose.Algorithm(client.IDTokenAlg), oauth.TypLogoutToken)
	if err != nil {
		return "", authority.ID{}, err
	}
	id, issued := authority.NewID(at), at.Truncate(time.Second)
	o := newObject()
	o.text("iss", i.Settings().URL)
	o.text("sub", subject)
	o.text("aud", client.ID)
	o.number("iat", issued.Unix())
	o.number("exp", issued.Add(logoutTokenTTL).Unix())
	o.text("jti", id.String())
	o.text("sid", session.String())
	o.json("events", map[string]struct{}{logoutEvent: {}})
	raw, err := signer.Sign(o.end())
	return raw, id, err
}

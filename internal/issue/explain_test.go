package issue

import (
	"errors"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

func TestATokenThatIsOverOrRevokedIsExplainedAndNotAccepted(t *testing.T) {
	for _, format := range []authority.TokenFormat{authority.FormatJWT, authority.FormatOpaque} {
		b := newBench(t)
		a := b.decision()
		a.Format = format
		response := b.issue(t, a)
		b.now = b.now.Add(time.Hour)
		b.revoked[a.Grant.ID.String()] = true
		b.staleErr = errors.New("cut off")
		token, err := b.Reader.Explain(response.AccessToken)
		if err != nil || token.GrantID != a.Grant.ID || token.ClientID != "web" || !token.Expires.Before(b.now) || len(token.Links) == 0 {
			t.Fatalf("%s: %+v %v", format, token, err)
		}
		if _, err := b.Reader.Authenticate(response.AccessToken); !errors.Is(err, ErrInactive) {
			t.Errorf("%s: what was explained is accepted: %v", format, err)
		}
		for name, raw := range map[string]string{
			"cut off": response.AccessToken[:len(response.AccessToken)-1], "an ID token": response.IDToken, "a refresh token": response.RefreshToken.Reveal(),
			"nothing": "", "of another issuer": newBench(t).issue(t, a).AccessToken,
		} {
			if name == "of another issuer" && format == authority.FormatOpaque {
				continue // the benches share the key of opaque tokens
			}
			if _, err := b.Reader.Explain(raw); !errors.Is(err, ErrInactive) {
				t.Errorf("%s: %s is explained: %v", format, name, err)
			}
		}
	}
}

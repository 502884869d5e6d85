// RFC 7523 §2.2 and §3: client assertions, private_key_jwt.
package clientauth

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

const maxAssertionLife = 5 * time.Minute

var assertionJWT = jose.Expect{
	Algorithms: []jose.Algorithm{jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.RS256, jose.EdDSA},
	Types:      []string{"", "JWT", "client-authentication+jwt"},
}

func assertionSubject(assertion string) (string, error) {
	_, claims, err := jose.InspectUnverified(assertion)
	if err != nil {
		return "", err
	}
	sub, ok, err := claims.String("sub")
	if err != nil || !ok {
		return "", errors.New("the assertion has no sub")
	}
	return sub, nil
}

// spendAssertion checks a client assertion (RFC 7523 §3) and spends its jti.
// The audience is our issuer, as one string, and nothing else: an assertion
// that was made for somebody else's token endpoint is worth nothing here.
func (a *Authenticator) spendAssertion(ctx context.Context, client authority.Client, assertion string) error {
	keySet, err := jose.ParseKeySet(client.JWKS)
	if err != nil {
		return errClient.Because(err)
	}
	verified, err := jose.Verify(assertion, assertionJWT, keySet.Find)
	if err != nil {
		return errClient.Because(err)
	}
	claims := verified.Claims
	for name, want := range map[string]string{"iss": client.ID, "sub": client.ID, "aud": a.Issuer} {
		if got, ok, err := claims.String(name); err != nil || !ok || got != want {
			return errClient.Because(errors.New("the assertion's " + name + " is wrong"))
		}
	}
	times, err := claims.CheckTimes(a.Now(), jose.TimeRules{Leeway: authority.Leeway, MaxLife: maxAssertionLife})
	if err != nil {
		return errClient.Because(err)
	}
	jti, ok, err := claims.String("jti")
	if err != nil || !ok || jti == "" {
		return errClient.Because(errors.New("the assertion has no jti"))
	}
	err = a.Tickets.TakeTicket(ctx, authority.Ticket{
		Kind:      authority.TicketAssertion,
		Hash:      sha256.Sum256([]byte(client.ID + "\x00" + jti)),
		ExpiresAt: times.Expires.Add(2 * authority.Leeway),
	})
	if errors.Is(err, authority.ErrSpent) {
		return errClient.Because(errors.New("the assertion has been used already"))
	}
	return err
}

// AssertionAlgorithms lists the signature algorithms of client assertions, for discovery.
func AssertionAlgorithms() []string {
	var names []string
	for _, alg := range assertionJWT.Algorithms {
		names = append(names, string(alg))
	}
	return names
}

// RFC 7523 §2.2 and §3: client assertions. private_key_jwt: the client has signed it;
// federated_jwt: another issuer has made it for the client's workload.
package clientauth

import (
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

const maxAssertionLife = 5 * time.Minute

var assertionJWT = jose.Expect{
	Algorithms: []jose.Algorithm{jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.RS256, jose.EdDSA},
	Types:      []string{"", "JWT", "client-authentication+jwt"},
}

// assertion is a client assertion, and what it says of itself before any of it is believed.
type assertion struct {
	raw       string
	algorithm jose.Algorithm
}

// readAssertion says whose assertion it claims to be, and of which kind. A client's own has
// the client's id as iss and sub. Another issuer knows nothing of our ids: its assertion comes
// with client_id.
func readAssertion(raw, clientID string) (proof, error) {
	header, claims, err := jose.InspectUnverified(raw)
	if err != nil {
		return proof{}, err
	}
	iss, _, err := claims.String("iss")
	if err != nil {
		return proof{}, err
	}
	sub, ok, err := claims.String("sub")
	if err != nil || !ok {
		return proof{}, errors.New("the assertion has no sub")
	}
	if clientID != "" && iss != clientID && iss != sub {
		return proof{method: oauth.AuthFederatedJWT, clientID: clientID, assertion: assertion{raw: raw}}, nil
	}
	if !slices.Contains(assertionJWT.Algorithms, header.Algorithm) {
		return proof{}, jose.ErrAlgorithm
	}
	return proof{method: oauth.AuthPrivateKeyJWT, clientID: sub, assertion: assertion{raw, header.Algorithm}}, nil
}

// vouches says why a proof of another issuer does not prove the client. It may be shown again until
// it expires: a pod reads one token from its file for every request (docs/decisions/0022).
func (a *Authenticator) vouches(proof authority.Proof, client authority.Client) error {
	claims, err := jose.ParseClaims(proof.Claims)
	switch {
	case err != nil:
		return err
	case proof.WorkloadID() != client.Federated.WorkloadID():
		return errors.New("the assertion is of " + proof.WorkloadID() + ", which is not the client's federated_credential")
	case claims.Has("cnf"):
		return errors.New("the assertion is bound to a key, and no proof of that key is accepted here")
	case claims.Has("act"), claims.Has("may_act"):
		return errors.New("the assertion says that somebody else acts for its subject, or may")
	case proof.Expires.Sub(a.Now()) < time.Second: // its issuer's clock may be behind, and nothing would be left for a token
		return errors.New("the assertion has expired")
	}
	return nil
}

// verify checks a client assertion (RFC 7523 §3) and returns the ticket that
// spends its jti. The audience is our issuer, as one string, and nothing else:
// an assertion that was made for somebody else's token endpoint is worth
// nothing here. A client without the key has its signature checked all the
// same, with a key that signs nothing.
func (a *Authenticator) verify(client authority.Client, presented assertion) (authority.Ticket, error) {
	jwks := client.JWKS
	if len(jwks) == 0 {
		jwks = []byte(decoyJWKS[presented.algorithm])
	}
	set, parseErr := jose.ParseKeySet(jwks)
	genuine := len(client.JWKS) > 0
	verified, err := verifyJWT(presented.raw, assertionJWT, func(kid string, alg jose.Algorithm) (jose.PublicKey, bool) {
		key, ok := set.Find(kid, alg)
		if !ok {
			genuine = false
			key, ok = decoys()[alg].Find("", alg)
		}
		return key, ok
	})
	switch {
	case parseErr != nil && len(client.JWKS) > 0:
		return authority.Ticket{}, parseErr
	case err != nil:
		return authority.Ticket{}, err
	case !genuine:
		return authority.Ticket{}, errors.New("the assertion is signed by a key that is not the client's")
	}
	claims := verified.Claims
	for name, want := range map[string]string{"iss": client.ID, "sub": client.ID, "aud": a.Issuer} {
		if got, ok, err := claims.String(name); err != nil || !ok || got != want {
			return authority.Ticket{}, errors.New("the assertion's " + name + " is wrong")
		}
	}
	times, err := claims.CheckTimes(a.Now(), jose.TimeRules{Leeway: authority.Leeway, MaxLife: maxAssertionLife})
	if err != nil {
		return authority.Ticket{}, err
	}
	jti, ok, err := claims.String("jti")
	if err != nil || !ok || jti == "" {
		return authority.Ticket{}, errors.New("the assertion has no jti")
	}
	return authority.Ticket{
		Kind:      authority.TicketAssertion,
		Hash:      sha256.Sum256([]byte(client.ID + "\x00" + jti)),
		ExpiresAt: times.Expires.Add(2 * authority.Leeway),
	}, nil
}

// AssertionAlgorithms lists the signature algorithms of client assertions, for discovery.
func AssertionAlgorithms() []string {
	var names []string
	for _, alg := range assertionJWT.Algorithms {
		names = append(names, string(alg))
	}
	return names
}

// decoys are decoyJWKS, parsed.
var decoys = sync.OnceValue(func() map[jose.Algorithm]jose.KeySet {
	sets := map[jose.Algorithm]jose.KeySet{}
	for alg, jwks := range decoyJWKS {
		set, err := jose.ParseKeySet([]byte(jwks))
		if err != nil {
			panic(err) // a test parses them
		}
		sets[alg] = set
	}
	return sets
})

// decoyJWKS holds a key of each algorithm for clients that have none of their
// own. Their private halves were never kept, and what they verify is refused.
var decoyJWKS = map[jose.Algorithm]string{
	jose.ES256: `{"keys":[{"use":"sig","alg":"ES256","crv":"P-256","kty":"EC","x":"JM098yc7zlmzx_BuRbRES9sO5Jsyim7k9E7-jJv75mc","y":"hB9PQzmuy8_3PKvKi2HDcRNI8Bk2UhBFfcUElClyc5g"}]}`,
	jose.ES384: `{"keys":[{"use":"sig","alg":"ES384","crv":"P-384","kty":"EC","x":"B6FEBAJ-z_kaDFZPOpanJuOHd1R3xvXgZV6I1BKAvLx2gzBG4igJjU0wETx96x-3","y":"g1h_hPMma8wsuVOoTT8ESt4rl2t5GRXvGW_ne0n9inSdoQ2AoWoh9mlBu3Lydpvm"}]}`,
	jose.ES512: `{"keys":[{"use":"sig","alg":"ES512","crv":"P-521","kty":"EC","x":"ALHbjt1AYM2MGyH63uGlQjjNYlf9eADCyv3PiDj43E5RFh5xcVC0YKNyA4pnfzSrjT2RfHS2x-3xZpn0DRkCc2UK","y":"AZvAXJJAqwDVr-XE_rmgvYOu10pfU7IdLQQGzVFu5Z6PEa11M2Kw_X7RY9OZrFnsHoIxaZRcgvs_cAN3c5nC8aWj"}]}`,
	jose.EdDSA: `{"keys":[{"use":"sig","alg":"EdDSA","crv":"Ed25519","kty":"OKP","x":"48GUrSsqTNLme0I4dhDJTZt-VbQktIWERwnHE71A9Ro"}]}`,
	jose.PS256: `{"keys":[{"use":"sig","alg":"PS256","e":"AQAB","kty":"RSA","n":"peAWEsrwwx0kEV1tA6SseOSvOxaS_bzWis6efl198oAcH_jMigWwtAY6jvOP1DA7axwJSZ1fBEcsHZqj4XL1iRAKPXwO3wBl4Ho0RRvk11rKmBa3lEDiknhUS8h1M-746rvkEsEIZe6deggEBByYRbsnks1CWYYU3ZZ7n60YnYjnL_fwRIZpO9ljeo-EgL_QDfYRueABxC6TDTJKxqeJBLM0_GdN1ichvSp10IS5HArFkA8XfQ7ZbtqGyCDisLptwo2qgzlxOpkGcA1m5lalzgX7FriPdoGy7swNXKfEkt9i50urJSboquwIGANOrwdjk_1Am1sjDoSCYYg9GfviZQ"}]}`,
	jose.RS256: `{"keys":[{"use":"sig","alg":"RS256","e":"AQAB","kty":"RSA","n":"tLfXUcQFZ_5XkZvvRBITNnb5zRAL4izFBtoICDWUW-dfAYa1ELNFKJRfcCg85731Gcy-dR8g43nWEr7HRf8NY0B6gIP2uEeViN_jdzWXhgGe8jMyVbcbanmsXhlUiusaxNqIQasOVR9KmXtnuOfHQXAZ_Y-cjBo2UAcnKcJ2VVQD5CwPVK7WmwJqPG_J1cIzckTFqtHMNnEvuEK3a_FLDHAJaB7q8NoQLIJV98KZLJEMbW2VUmzT64YksjGSHzp9m4PQFjRPvkB0zl9vozAZUcucTdJeAHz0TJEY0_RsgW4Mrb9TbxsuYuPGpGqJTBPvPljRt2URhfbVTBgqFx_irw"}]}`,
}

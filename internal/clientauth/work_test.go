package clientauth

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// work is what a refusal has cost.
type work struct{ lookups, secrets, signatures, proofs int }

// counted runs f and counts the work that it causes.
func (w *world) counted(f func()) work {
	var done work
	accepts, verify := acceptsSecret, verifyJWT
	defer func() { acceptsSecret, verifyJWT = accepts, verify }()
	acceptsSecret = func(c authority.Client, s oauth.Secret, now time.Time) bool {
		done.secrets++
		return accepts(c, s, now)
	}
	verifyJWT = func(raw string, want jose.Expect, find func(string, jose.Algorithm) (jose.PublicKey, bool)) (jose.Verified, error) {
		return verify(raw, want, func(kid string, alg jose.Algorithm) (jose.PublicKey, bool) {
			key, ok := find(kid, alg)
			if ok {
				done.signatures++ // jose verifies with the key that it is given
			}
			return key, ok
		})
	}
	w.mu.Lock()
	w.lookups, w.proofs = 0, 0
	w.mu.Unlock()
	f()
	w.mu.Lock()
	defer w.mu.Unlock()
	done.lookups, done.proofs = w.lookups, w.proofs
	return done
}

// everyKindOfClient makes clients of every method, declared and stored, usable
// and disabled, and returns their ids. "nosuch" is unknown.
func (w *world) everyKindOfClient() []string {
	w.t.Helper()
	ids := []string{"nosuch"}
	w.signedClient("signed")
	redirect, err := authority.ParseRedirectURI("https://app.example.com/")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, method := range []oauth.AuthMethod{oauth.AuthClientSecretBasic, oauth.AuthClientSecretPost, oauth.AuthNone, oauth.AuthPrivateKeyJWT, oauth.AuthFederatedJWT} {
		for _, disabled := range []bool{false, true} {
			c := testClient(fmt.Sprintf("%s-%v", method, disabled), method)
			c.Disabled, c.CreatedAt, c.UpdatedAt = disabled, w.clock(), w.clock()
			if method == oauth.AuthPrivateKeyJWT {
				c.Secrets, c.JWKS = nil, w.declared.Clients["signed"].JWKS
			}
			if method == oauth.AuthNone {
				c.Secrets, c.GrantTypes = nil, []oauth.GrantType{oauth.AuthorizationCode}
				c.RedirectURIs = []authority.RedirectURI{redirect}
			}
			declared, stored := c, c
			if method == oauth.AuthFederatedJWT {
				declared.Secrets, stored.Secrets = nil, nil
				declared.Federated = authority.FederatedCredential{TrustedIssuer: "ci", Subject: fmt.Sprint("declared", disabled)}
				stored.Federated = authority.FederatedCredential{TrustedIssuer: "ci", Subject: fmt.Sprint("stored", disabled)}
			}
			declared.ID, declared.Source = "declared-"+c.ID, authority.FromFile
			stored.ID, stored.Source = "stored-"+c.ID, authority.FromDatabase
			w.declared.Clients[declared.ID] = declared
			if err := authority.Clients(w.db).Create(w.t.Context(), stored); err != nil {
				w.t.Fatal(err)
			}
			ids = append(ids, declared.ID, stored.ID)
		}
	}
	twoSecrets := testClient("two secrets", oauth.AuthClientSecretBasic)
	twoSecrets.Secrets = append(twoSecrets.Secrets, authority.ClientSecret{Hash: sha256.Sum256([]byte("the new one"))})
	w.declared.Clients["two secrets"] = twoSecrets
	w.declare()
	return append(ids, "two secrets")
}

// attempts are guesses by every method.
func (w *world) attempts(t testing.TB, id string) map[string][]func(*http.Request) {
	stranger := newAssertionKey(t, "stranger")
	sameKid := newAssertionKey(t, "key of signed")
	eddsa := assertionKey{"key of signed", jose.EdDSA, mustEd25519(t)}
	claims := w.claims("iss", id, "sub", id)
	foreign := stranger.sign(t, w.claims("iss", "https://ci.example.com", "sub", "repo:else"))
	w.vouch(foreign, authority.Proof{TrustedIssuer: "ci", Subject: "repo:else"})
	return map[string][]func(*http.Request){
		"basic":                                {authorization(basic(url.QueryEscape(id) + ":guess"))},
		"post":                                 {addForm("client_id", id, "client_secret", "guess")},
		"an assertion under an unknown kid":    {signedWith(stranger.sign(t, claims))},
		"an assertion under the client's kid":  {signedWith(sameKid.sign(t, claims))},
		"an assertion of another algorithm":    {signedWith(eddsa.sign(t, claims))},
		"an assertion of no algorithm of ours": {signedWith(unsigned(`{"alg":"none"}`, claims))},
		"another issuer's assertion":           {addForm("client_id", id), signedWith(stranger.sign(t, w.claims("iss", "https://ci.example.com", "sub", "repo:acme")))},
		"an assertion of another workload":     {addForm("client_id", id), signedWith(foreign)},
		"nothing but the id":                   {addForm("client_id", id)},
	}
}

// docs/security/threats.md C 39: what is refused costs the same, whether the client is known or not.
func TestEveryRefusalIsTheSameWork(t *testing.T) {
	w := newWorld(t)
	ids := w.everyKindOfClient()
	for attempt := range w.attempts(t, "nosuch") {
		want := w.counted(func() { w.ask(goodForm, w.attempts(t, "nosuch")[attempt]...) })
		for _, id := range ids {
			var got reply
			done := w.counted(func() { got = w.ask(goodForm, w.attempts(t, id)[attempt]...) })
			if got.status == http.StatusOK && attempt == "nothing but the id" {
				continue // a public client that is known is let in, whatever we do
			}
			if got.status != http.StatusUnauthorized || done != want {
				t.Errorf("%s by %s: %d after %+v; an unknown client is refused after %+v", attempt, id, got.status, done, want)
			}
		}
		switch {
		case attempt == "an assertion of no algorithm of ours":
			if want != (work{}) {
				t.Errorf("%s: %+v", attempt, want)
			}
		case want.lookups != 1 || want.secrets > 1 || want.signatures > 1:
			t.Errorf("%s: %+v, want one of each at most", attempt, want)
		case attempt == "basic" || attempt == "post":
			if want.secrets != 1 {
				t.Errorf("%s: no secret is compared", attempt)
			}
		case attempt == "another issuer's assertion" || attempt == "an assertion of another workload":
			if want != (work{lookups: 1, proofs: 1}) {
				t.Errorf("%s: %+v", attempt, want)
			}
		case attempt != "nothing but the id" && want.signatures != 1:
			t.Errorf("%s: no signature is verified", attempt)
		}
	}
}

func TestAGoodProofCostsNoMore(t *testing.T) {
	w := newWorld(t)
	if done := w.counted(func() { w.ask(goodForm, authorization(basic("service:"+secretOf("service")))) }); done != (work{secrets: 1}) {
		t.Errorf("a declared client that is right: %+v", done)
	}
}

func TestEveryAlgorithmHasADecoy(t *testing.T) {
	for _, alg := range assertionJWT.Algorithms {
		if _, ok := decoys()[alg].Find("", alg); !ok {
			t.Errorf("%s has none, so an unknown client is told from a known one", alg)
		}
	}
	if len(decoyJWKS) != len(assertionJWT.Algorithms) {
		t.Errorf("%d decoys for %d algorithms", len(decoyJWKS), len(assertionJWT.Algorithms))
	}
}

// BenchmarkRefusal: the times of one method should not differ.
func BenchmarkRefusal(b *testing.B) {
	w := newWorld(b)
	w.everyKindOfClient()
	form := url.Values{"grant_type": {"client_credentials"}}
	for _, attempt := range []string{"basic", "an assertion under the client's kid"} {
		for _, id := range []string{"nosuch", "declared-client_secret_basic-false", "stored-client_secret_basic-false", "declared-private_key_jwt-false", "stored-private_key_jwt-false"} {
			b.Run(attempt+"/"+id, func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					change := w.attempts(b, id)[attempt]
					b.StartTimer()
					w.ask(form, change...)
				}
			})
		}
	}
}

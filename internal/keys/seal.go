package keys

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

// ErrMasterKey says that a stored key does not open. Usually the master key is not the one that sealed it; a changed row looks the same.
var ErrMasterKey = errors.New("the master key does not open the stored signing keys")

const sealVersion = 1

// sealer seals private keys with AES-256-GCM. Its nonces are random, which is sound for the few keys that an installation ever makes.
type sealer struct{ aead cipher.AEAD }

func newSealer(master MasterKey) sealer {
	key := master.Derive("signing keys v1")
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // only for a key of the wrong length, which the type rules out
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return sealer{aead}
}

// bound is what a sealed key is tied to: it opens in no other row and for no other algorithm.
func bound(kid string, alg jose.Algorithm) []byte {
	return fmt.Appendf(nil, "%q %q", kid, string(alg))
}

// newKeyPair makes a key pair. Its kid is its thumbprint (RFC 7638), so a kid can never name two keys.
func newKeyPair(alg jose.Algorithm) (crypto.Signer, jose.PublicKey, error) {
	for {
		private, err := newPrivateKey(alg)
		if err != nil {
			return nil, jose.PublicKey{}, err
		}
		unnamed, err := jose.NewPublicKey("", alg, private.Public())
		if err != nil {
			return nil, jose.PublicKey{}, err
		}
		kid := unnamed.Thumbprint()
		if strings.HasPrefix(kid, "-") {
			continue // One kid in 64. `signalbox key remove -yx…`, typed in an emergency, would read it as flags.
		}
		public, err := jose.NewPublicKey(kid, alg, private.Public())
		return private, public, err
	}
}

// generate makes a key pair and seals its private part.
func (s sealer) generate(alg jose.Algorithm, state authority.KeyState, now func() time.Time) (authority.Key, error) {
	private, public, err := newKeyPair(alg)
	if err != nil {
		return authority.Key{}, err
	}
	jwk, err := json.Marshal(public)
	if err != nil {
		return authority.Key{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return authority.Key{}, err
	}
	sealed := s.aead.Seal([]byte{sealVersion}, nil, der, bound(public.KeyID(), alg))
	clear(der)
	// The clock is read last: making an RSA key takes a while, and the lead is counted from CreatedAt.
	key := authority.Key{ID: public.KeyID(), Algorithm: string(alg), Public: jwk, Sealed: sealed, State: state, CreatedAt: now().UTC()}
	if state == authority.KeyCurrent {
		key.PromotedAt = key.CreatedAt
	}
	return key, nil
}

// open checks a stored row as a whole: the private part must open for this kid and algorithm, and the public part must belong to it. Otherwise whoever can
// write to the database could publish a foreign key under our name.
func (s sealer) open(row authority.Key) (crypto.Signer, jose.PublicKey, error) {
	alg, err := jose.ParseAlgorithm(row.Algorithm)
	if err != nil {
		return nil, jose.PublicKey{}, fmt.Errorf("signing key %q: %w", row.ID, err)
	}
	if len(row.Sealed) < 1 || row.Sealed[0] != sealVersion {
		return nil, jose.PublicKey{}, fmt.Errorf("signing key %q: sealed in a format that this version does not support", row.ID)
	}
	der, err := s.aead.Open(nil, nil, row.Sealed[1:], bound(row.ID, alg))
	if err != nil {
		return nil, jose.PublicKey{}, fmt.Errorf("%w (kid %q)", ErrMasterKey, row.ID)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	clear(der)
	if err != nil {
		return nil, jose.PublicKey{}, fmt.Errorf("signing key %q: not a private key", row.ID)
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, jose.PublicKey{}, fmt.Errorf("signing key %q: not a signing key", row.ID)
	}
	public, err := jose.NewPublicKey(row.ID, alg, private.Public())
	if err != nil {
		return nil, jose.PublicKey{}, fmt.Errorf("signing key %q: %w", row.ID, err)
	}
	stored, err := jose.ParsePublicKey(row.Public)
	if err != nil || !stored.Equal(public) {
		return nil, jose.PublicKey{}, fmt.Errorf("signing key %q: the stored public part is not that of the private part", row.ID)
	}
	return private, public, nil
}

func newPrivateKey(alg jose.Algorithm) (crypto.Signer, error) {
	switch alg {
	case jose.ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.ES512:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512:
		// 2048 bits sign three times faster than 3072, and no key lives long enough for the difference.
		return rsa.GenerateKey(rand.Reader, 2048)
	case jose.EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return nil, fmt.Errorf("no signing keys for algorithm %q", string(alg))
}

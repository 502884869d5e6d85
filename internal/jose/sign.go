package jose

// RFC 7515 section 5.1, for tokens that we make ourselves.

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// Signer signs claims with one key under one header. It is safe for concurrent use if its crypto.Signer is.
type Signer struct {
	public PublicKey
	params parameters
	typ    string
	key    crypto.Signer
	opts   crypto.SignerOpts
	header []byte // base64url of the header, and the dot
	length int    // of the signature in bytes
}

// NewSigner prepares the header once. An empty kid or typ is omitted.
func NewSigner(kid string, alg Algorithm, typ string, key crypto.Signer) (*Signer, error) {
	if key == nil {
		return nil, badKey("it is empty")
	}
	public, err := NewPublicKey(kid, alg, key.Public())
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(struct {
		Alg Algorithm `json:"alg"`
		Kid string    `json:"kid,omitempty"`
		Typ string    `json:"typ,omitempty"`
	}{alg, kid, typ})
	if err != nil {
		return nil, err
	}
	if len(text) > maxHeader {
		return nil, malformed("the header is too large")
	}
	params, _ := alg.parameters()
	s := &Signer{public: public, params: params, typ: typ, key: key, opts: params.hash}
	switch pub := public.key.(type) {
	case *rsa.PublicKey:
		s.length = pub.Size()
		if params.family == familyPSS {
			s.opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: params.hash}
		}
	case *ecdsa.PublicKey:
		s.length = 2 * params.size
	default:
		s.length = 64
	}
	s.header = append(base64.RawURLEncoding.AppendEncode(nil, text), '.')
	return s, nil
}

func (s *Signer) KeyID() string        { return s.public.kid }
func (s *Signer) Algorithm() Algorithm { return s.public.alg }
func (s *Signer) Type() string         { return s.typ }
func (s *Signer) PublicKey() PublicKey { return s.public }

// String keeps the private key out of anything printed with %v or %+v.
func (s *Signer) String() string   { return "signer " + s.public.kid + " [redacted]" }
func (s *Signer) GoString() string { return s.String() }

// Sign makes a token of claims, which are one JSON object that the caller has built.
func (s *Signer) Sign(claims []byte) (string, error) {
	if len(claims) < 2 || claims[0] != '{' || claims[len(claims)-1] != '}' {
		return "", malformed("claims are not a JSON object")
	}
	enc := base64.RawURLEncoding
	token := make([]byte, 0, len(s.header)+enc.EncodedLen(len(claims))+1+enc.EncodedLen(s.length))
	token = append(token, s.header...)
	token = enc.AppendEncode(token, claims)

	var room [sha512.Size]byte
	digest := s.params.digest(token, &room)
	random := rand.Reader
	if _, ours := s.key.(*ecdsa.PrivateKey); ours {
		// Without randomness crypto/ecdsa takes the nonce from the key and the message (RFC 6979): 27 instead of 35 µs, and nothing depends
		// on the random source. Hedged nonces protect against faults injected while one message is signed twice; no two tokens have the same jti.
		random = nil
	}
	signature, err := s.key.Sign(random, digest, s.opts)
	if err != nil {
		return "", fmt.Errorf("jose: sign: %w", err)
	}
	token = append(token, '.')
	if s.params.family == familyECDSA {
		var raw [2 * 66]byte
		if !splitECDSA(raw[:s.length], s.params.size, signature) {
			return "", errors.New("jose: sign: the signer gave no ASN.1 signature")
		}
		return string(enc.AppendEncode(token, raw[:s.length])), nil
	}
	return string(enc.AppendEncode(token, signature)), nil
}

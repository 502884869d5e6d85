package jose

// RFC 7517: JSON Web Key and JWK Set. RFC 7638: thumbprint. RFC 8037 section 2: OKP keys.

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
)

const (
	maxKeySet     = 256 << 10 // sets with certificate chains of large providers stay far below
	maxKeys       = 128
	maxKid        = 256
	maxRSAModulus = 8192 / 8
)

// PublicKey is a key that may verify signatures of one algorithm. One that was not made by this package's functions verifies nothing.
type PublicKey struct {
	kid string
	alg Algorithm
	key crypto.PublicKey
}

// NewPublicKey binds a key to one kid and one algorithm. kid may be empty for a key that its owner did not name.
func NewPublicKey(kid string, alg Algorithm, pub crypto.PublicKey) (PublicKey, error) {
	p, ok := alg.parameters()
	if !ok {
		return PublicKey{}, badKey("the algorithm is not known")
	}
	if !validKid(kid) {
		return PublicKey{}, badKey("kid is longer than 256 bytes or holds control characters")
	}
	if err := p.checkKey(pub); err != nil {
		return PublicKey{}, err
	}
	return PublicKey{kid, alg, pub}, nil
}

// validKid keeps what reaches logs and look-ups short and printable. What a kid means is for a map to say: it is never a path or a query.
func validKid(kid string) bool {
	if len(kid) > maxKid {
		return false
	}
	for i := range len(kid) {
		if kid[i] < 0x20 || kid[i] == 0x7f {
			return false
		}
	}
	return true
}

func (k PublicKey) KeyID() string               { return k.kid }
func (k PublicKey) Algorithm() Algorithm        { return k.alg }
func (k PublicKey) CryptoKey() crypto.PublicKey { return k.key }
func (k PublicKey) Equal(other PublicKey) bool {
	return k.kid == other.kid && k.alg == other.alg && k.SameKey(other)
}

// SameKey compares the key material alone.
func (k PublicKey) SameKey(other PublicKey) bool {
	key, ok := k.key.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(other.key)
}

// jwk lists its members in the order that RFC 7638 section 3.2 asks for the required ones (crv, e, kty, n, x, y), so that the same
// type gives the thumbprint.
type jwk struct {
	Use string `json:"use,omitempty"`
	Alg string `json:"alg,omitempty"`
	Kid string `json:"kid,omitempty"`
	Crv string `json:"crv,omitempty"`
	E   string `json:"e,omitempty"`
	Kty string `json:"kty"`
	N   string `json:"n,omitempty"`
	X   string `json:"x,omitempty"`
	Y   string `json:"y,omitempty"`
}

func (k PublicKey) required() (jwk, error) {
	encode := base64.RawURLEncoding.EncodeToString
	switch key := k.key.(type) {
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			return jwk{}, badKey("the point is not on the curve")
		}
		size := len(point) / 2
		return jwk{Kty: "EC", Crv: key.Curve.Params().Name, X: encode(point[1 : 1+size]), Y: encode(point[1+size:])}, nil
	case *rsa.PublicKey:
		return jwk{Kty: "RSA", N: encode(key.N.Bytes()), E: encode(big.NewInt(int64(key.E)).Bytes())}, nil
	case ed25519.PublicKey:
		return jwk{Kty: "OKP", Crv: "Ed25519", X: encode(key)}, nil
	}
	return jwk{}, badKey("it is empty")
}

// MarshalJSON writes a JWK with use, alg and kid.
func (k PublicKey) MarshalJSON() ([]byte, error) {
	out, err := k.required()
	if err != nil {
		return nil, err
	}
	out.Use, out.Alg, out.Kid = "sig", string(k.alg), k.kid
	return json.Marshal(out)
}

// Thumbprint is the SHA-256 JWK thumbprint (RFC 7638), base64url, as in `jkt` and in kids made by us. An empty key has none.
func (k PublicKey) Thumbprint() string {
	required, err := k.required()
	if err != nil {
		return ""
	}
	text, err := json.Marshal(required)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// KeySet is a JWK Set: at most one key for a kid.
type KeySet []PublicKey

// MarshalJSON writes {"keys":[…]}.
func (s KeySet) MarshalJSON() ([]byte, error) {
	keys := []PublicKey(s)
	if keys == nil {
		keys = []PublicKey{}
	}
	return json.Marshal(struct {
		Keys []PublicKey `json:"keys"`
	}{keys})
}

// Find has the shape that Verify takes. A token without kid gets the only key of its algorithm, and none if there are two.
func (s KeySet) Find(kid string, alg Algorithm) (PublicKey, bool) {
	var found PublicKey
	matches := 0
	for _, key := range s {
		if key.alg == alg && (kid == "" || key.kid == kid) {
			found = key
			matches++
		}
	}
	return found, matches == 1
}

// ParseKeySet reads another party's JWK Set. What is dangerous refuses the whole set: private or symmetric keys, weak keys, points
// off their curve, two keys with one kid. What we merely do not use is skipped, as RFC 7517 section 5 asks: encryption keys, other key types,
// curves and algorithms. x5c, x5u and the like have no effect. A key without alg is pinned to the one algorithm of its curve; RSA to RS256.
func ParseKeySet(data []byte) (KeySet, error) {
	return parseKeySet(data, signsTokens)
}

// ParseBundle reads the bundle of a SPIFFE trust domain (SPIFFE Trust Domain and Bundle §4) under the rules of ParseKeySet. Only keys
// that say use=jwt-svid are taken: the others of a bundle are certificates, and their keys sign no tokens.
func ParseBundle(data []byte) (KeySet, error) {
	return parseKeySet(data, func(use string, _ bool) bool { return use == "jwt-svid" })
}

// signsTokens: RFC 7517 section 4.2.
func signsTokens(use string, said bool) bool { return !said || use == "sig" }

func parseKeySet(data []byte, signs func(use string, said bool) bool) (KeySet, error) {
	if len(data) > maxKeySet {
		return nil, badKey("the key set is larger than 256 KiB")
	}
	set, err := ParseClaims(data)
	if err != nil {
		return nil, err
	}
	raw, ok := set.find("keys")
	if !ok || raw[0] != '[' {
		return nil, badKey("the key set has no array named keys")
	}
	var elements []string
	p := scanner{s: raw}
	if err := p.array(func(element string) { elements = append(elements, element) }); err != nil {
		return nil, malformed(err.Error())
	}
	if len(elements) > maxKeys {
		return nil, badKey("the key set holds more than 128 keys")
	}
	keys := KeySet{}
	seen := map[string]bool{}
	for _, element := range elements {
		members, err := parseObject(element)
		if err != nil {
			return nil, badKey("a member of keys is not an object")
		}
		key, use, err := parseJWK(Claims{element, members}, signs)
		if err != nil {
			return nil, err
		}
		if !use {
			continue
		}
		if seen[key.kid] {
			return nil, badKey("two keys of the set have the same kid")
		}
		seen[key.kid] = true
		keys = append(keys, key)
	}
	return keys, nil
}

// ParsePublicKey reads one JWK, under the rules of ParseKeySet; a key that a set would skip is an error here.
func ParsePublicKey(data []byte) (PublicKey, error) {
	if len(data) > maxKeySet {
		return PublicKey{}, badKey("the key is larger than 256 KiB")
	}
	members, err := ParseClaims(data)
	if err != nil {
		return PublicKey{}, err
	}
	key, use, err := parseJWK(members, signsTokens)
	if err == nil && !use {
		err = badKey("its type, use or algorithm is not supported")
	}
	return key, err
}

// parseJWK gives use = false for a key that is sound or unknown to us but not for verifying signatures.
func parseJWK(c Claims, signs func(use string, said bool) bool) (key PublicKey, use bool, err error) {
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if c.Has(private) {
			return PublicKey{}, false, badKey("it holds a private or symmetric key")
		}
	}
	fields := map[string]string{}
	for _, name := range []string{"kty", "use", "alg", "kid", "crv", "x", "y", "n", "e"} {
		value, _, err := c.String(name)
		if err != nil {
			return PublicKey{}, false, badKey(name + " is not a string")
		}
		fields[name] = value
	}
	if fields["kty"] == "" {
		return PublicKey{}, false, badKey("kty is missing")
	}
	if fields["kty"] == "oct" {
		return PublicKey{}, false, badKey("it holds a private or symmetric key")
	}
	if !signs(fields["use"], c.Has("use")) {
		return PublicKey{}, false, nil
	}
	if operations, ok, err := c.Strings("key_ops"); err != nil {
		return PublicKey{}, false, badKey("key_ops is not an array of strings")
	} else if ok && !contains(operations, "verify") {
		return PublicKey{}, false, nil
	}
	alg := Algorithm(fields["alg"])
	if !c.Has("alg") {
		alg = onlyAlgorithm(fields["kty"], fields["crv"])
	}
	p, ok := alg.parameters()
	if !ok {
		return PublicKey{}, false, nil
	}
	var pub crypto.PublicKey
	switch fields["kty"] {
	case "EC":
		if p.family != familyECDSA || fields["crv"] != p.curve.Params().Name {
			return PublicKey{}, false, badKey("alg does not fit the curve")
		}
		x, okX := decode(fields["x"], p.size)
		y, okY := decode(fields["y"], p.size)
		if !okX || !okY || len(x) != p.size || len(y) != p.size { // RFC 7518 section 6.2.1.2: full width
			return PublicKey{}, false, badKey("a coordinate has the wrong length")
		}
		point := append(append([]byte{4}, x...), y...)
		pub, err = ecdsa.ParseUncompressedPublicKey(p.curve, point)
		if err != nil {
			return PublicKey{}, false, badKey("the point is not on the curve")
		}
	case "RSA":
		n, okN := decode(fields["n"], maxRSAModulus+1)
		e, okE := decode(fields["e"], 8)
		exponent := new(big.Int).SetBytes(e)
		if !okN || !okE || exponent.BitLen() > 31 {
			return PublicKey{}, false, badKey("n or e is missing or too large")
		}
		pub = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}
	case "OKP":
		if fields["crv"] != "Ed25519" {
			return PublicKey{}, false, nil
		}
		x, ok := decode(fields["x"], ed25519.PublicKeySize)
		if !ok {
			return PublicKey{}, false, badKey("a coordinate has the wrong length")
		}
		pub = ed25519.PublicKey(x)
	default:
		return PublicKey{}, false, nil
	}
	key, err = NewPublicKey(fields["kid"], alg, pub)
	return key, err == nil, err
}

func onlyAlgorithm(kty, crv string) Algorithm {
	switch kty + " " + crv {
	case "EC P-256":
		return ES256
	case "EC P-384":
		return ES384
	case "EC P-521":
		return ES512
	case "OKP Ed25519":
		return EdDSA
	case "RSA ":
		return RS256
	}
	return ""
}

// decode reads canonical base64url of at most size bytes, and at least one.
func decode(text string, size int) ([]byte, bool) {
	if len(text) > base64.RawURLEncoding.EncodedLen(size) || !onlyBase64(text) {
		return nil, false
	}
	data, err := strictBase64.DecodeString(text)
	return data, err == nil && len(data) > 0
}

func contains(list []string, want string) bool {
	for _, s := range list {
		if s == want {
			return true
		}
	}
	return false
}

package jose

// RFC 7518 section 3 and RFC 8037 section 3.1: signature algorithms. Symmetric ones and none do not exist here.

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Algorithm is a value of the `alg` header, compared exactly.
type Algorithm string

const (
	ES256 Algorithm = "ES256"
	ES384 Algorithm = "ES384"
	ES512 Algorithm = "ES512"
	RS256 Algorithm = "RS256"
	RS384 Algorithm = "RS384"
	RS512 Algorithm = "RS512"
	PS256 Algorithm = "PS256"
	PS384 Algorithm = "PS384"
	PS512 Algorithm = "PS512"
	EdDSA Algorithm = "EdDSA" // with Ed25519 only
)

type family uint8

const (
	familyECDSA family = 1 + iota
	familyPKCS1
	familyPSS
	familyEd25519
)

// parameters are what one algorithm fixes. size is the width of r and of s.
type parameters struct {
	family family
	hash   crypto.Hash
	curve  elliptic.Curve
	size   int
}

func (a Algorithm) parameters() (parameters, bool) {
	switch a {
	case ES256:
		return parameters{familyECDSA, crypto.SHA256, elliptic.P256(), 32}, true
	case ES384:
		return parameters{familyECDSA, crypto.SHA384, elliptic.P384(), 48}, true
	case ES512:
		return parameters{familyECDSA, crypto.SHA512, elliptic.P521(), 66}, true
	case RS256:
		return parameters{family: familyPKCS1, hash: crypto.SHA256}, true
	case RS384:
		return parameters{family: familyPKCS1, hash: crypto.SHA384}, true
	case RS512:
		return parameters{family: familyPKCS1, hash: crypto.SHA512}, true
	case PS256:
		return parameters{family: familyPSS, hash: crypto.SHA256}, true
	case PS384:
		return parameters{family: familyPSS, hash: crypto.SHA384}, true
	case PS512:
		return parameters{family: familyPSS, hash: crypto.SHA512}, true
	case EdDSA:
		return parameters{family: familyEd25519}, true
	}
	return parameters{}, false
}

// ParseAlgorithm accepts exactly the names above.
func ParseAlgorithm(name string) (Algorithm, error) {
	if _, ok := Algorithm(name).parameters(); !ok {
		return "", fmt.Errorf("%w: it must be one of %v", ErrAlgorithm, Algorithms())
	}
	return Algorithm(name), nil
}

// Algorithms lists every algorithm that this package verifies.
func Algorithms() []Algorithm {
	return []Algorithm{ES256, ES384, ES512, RS256, RS384, RS512, PS256, PS384, PS512, EdDSA}
}

// digest hashes the signing input into room, so that it needs no allocation; EdDSA signs the input itself.
func (p parameters) digest(input []byte, room *[sha512.Size]byte) []byte {
	switch p.hash {
	case crypto.SHA256:
		sum := sha256.Sum256(input)
		return room[:copy(room[:], sum[:])]
	case crypto.SHA384:
		sum := sha512.Sum384(input)
		return room[:copy(room[:], sum[:])]
	case crypto.SHA512:
		*room = sha512.Sum512(input)
		return room[:]
	}
	return input
}

// verify calls the standard library directly. Why it does not go through go-jose, which is the oracle of the tests:
// docs/decisions/0017-jose-verifies-by-itself.md.
func (p parameters) verify(key crypto.PublicKey, input, signature []byte) bool {
	var room [sha512.Size]byte
	digest := p.digest(input, &room)
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if len(signature) != 2*p.size {
			return false
		}
		var der [2*66 + 16]byte
		asn1Signature, ok := appendECDSA(der[:0], signature[:p.size], signature[p.size:])
		return ok && ecdsa.VerifyASN1(key, digest, asn1Signature)
	case *rsa.PublicKey:
		if p.family == familyPSS {
			return rsa.VerifyPSS(key, p.hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(key, p.hash, digest, signature) == nil
	case ed25519.PublicKey:
		return len(signature) == ed25519.SignatureSize && ed25519.Verify(key, input, signature)
	}
	return false
}

// appendECDSA writes r and s, fixed width, as the ASN.1 that crypto/ecdsa takes. Zero is refused here as well as there:
// a library without this check accepted such a signature for any message ("psychic signatures", CVE-2022-21449).
func appendECDSA(der, r, s []byte) ([]byte, bool) {
	r, s = trimZeros(r), trimZeros(s)
	if len(r) == 0 || len(s) == 0 {
		return nil, false
	}
	length := 4 + len(r) + int(r[0]>>7) + len(s) + int(s[0]>>7)
	der = append(der, 0x30)
	if length > 127 { // two integers of P-521
		der = append(der, 0x81)
	}
	der = append(der, byte(length))
	for _, n := range [2][]byte{r, s} {
		der = append(der, 0x02, byte(len(n)+int(n[0]>>7)))
		if n[0]>>7 == 1 {
			der = append(der, 0)
		}
		der = append(der, n...)
	}
	return der, true
}

func trimZeros(n []byte) []byte {
	for len(n) > 0 && n[0] == 0 {
		n = n[1:]
	}
	return n
}

// splitECDSA writes an ASN.1 signature as r and s of fixed width into raw, which is 2*size long and zero.
func splitECDSA(raw []byte, size int, der []byte) bool {
	input := cryptobyte.String(der)
	var inner cryptobyte.String
	var r, s []byte
	if !input.ReadASN1(&inner, asn1.SEQUENCE) || !input.Empty() ||
		!inner.ReadASN1Integer(&r) || !inner.ReadASN1Integer(&s) || !inner.Empty() ||
		len(r) > size || len(s) > size {
		return false
	}
	copy(raw[size-len(r):size], r)
	copy(raw[2*size-len(s):], s)
	return true
}

// checkKey says why a key can't serve an algorithm; nil means that it can.
func (p parameters) checkKey(key crypto.PublicKey) error {
	switch p.family {
	case familyECDSA:
		ec, ok := key.(*ecdsa.PublicKey)
		//lint:ignore SA1019 only to see that there is a point: the methods that replace X and Y panic without one
		if !ok || ec == nil || ec.Curve != p.curve || ec.X == nil || ec.Y == nil {
			return badKey("this algorithm needs an elliptic curve key on " + p.curve.Params().Name)
		}
		if _, err := ec.ECDH(); err != nil { // refuses a point off the curve and the point at infinity
			return badKey("the point is not on the curve")
		}
	case familyPKCS1, familyPSS:
		rsaKey, ok := key.(*rsa.PublicKey)
		if !ok || rsaKey == nil || rsaKey.N == nil {
			return badKey("this algorithm needs an RSA key")
		}
		switch bits := rsaKey.N.BitLen(); {
		case bits < 2048:
			return badKey("an RSA key needs at least 2048 bits")
		case bits > 8192: // verification time grows with the square
			return badKey("an RSA key may have at most 8192 bits")
		case rsaKey.N.Bit(0) == 0:
			return badKey("an RSA modulus is odd")
		case rsaKey.E < 65537 || rsaKey.E&1 == 0 || rsaKey.E > 1<<31-1:
			return badKey("the RSA exponent must be odd and at least 65537")
		}
	case familyEd25519:
		ed, ok := key.(ed25519.PublicKey)
		if !ok || len(ed) != ed25519.PublicKeySize {
			return badKey("this algorithm needs an Ed25519 key")
		}
		if !usableEd25519(ed) {
			return badKey("the Ed25519 key is of small order or not canonical")
		}
	}
	return nil
}

var ed25519Prime = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))

// smallOrder are the y coordinates of the eight points of small order, little-endian. Under such a key a signature
// made by anyone verifies for many messages. crypto/ed25519 accepts them.
var smallOrder = [5][32]byte{
	{},
	{1},
	{0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
		0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
	{0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
		0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
	{0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
}

func usableEd25519(key ed25519.PublicKey) bool {
	y := [32]byte(key)
	y[31] &= 0x7f // the top bit is the sign of x
	for _, small := range smallOrder {
		if y == small {
			return false
		}
	}
	var bigEndian [32]byte
	for i := range y {
		bigEndian[31-i] = y[i]
	}
	return new(big.Int).SetBytes(bigEndian[:]).Cmp(ed25519Prime) < 0
}

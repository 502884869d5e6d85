// Package jose parses, verifies and signs compact JSON Web Tokens (RFC 7515, RFC 7519, RFC 8725). It knows asymmetric signatures
// only: no shared keys, no encryption, no JSON serialization, no none.
package jose

import (
	"encoding/base64"
	"fmt"
	"slices"
)

const (
	defaultMaxSize = 16 << 10
	maxHeader      = 4 << 10
)

// strictBase64 refuses trailing bits that are not zero: one signature has one spelling.
var strictBase64 = base64.RawURLEncoding.Strict()

// Expect says what the caller accepts. Nothing is accepted by default: empty lists refuse every token.
type Expect struct {
	Algorithms []Algorithm
	// Types are the accepted values of typ, without "application/". An empty string accepts a token without typ.
	Types []string
	// MaxSize bounds the whole token in bytes. Zero means 16 KiB.
	MaxSize int
}

// Header is the protected header. Only Verify has checked it.
type Header struct {
	Algorithm Algorithm
	KeyID     string
	Type      string
	// Fields are all members, jwk, jku, x5c and x5u among them if the sender put them in; nothing in this package reads those.
	Fields Claims
}

// Verified is a token whose signature is good. Its times, issuer and audience are still to be checked.
type Verified struct {
	Header Header
	Claims Claims
	Key    PublicKey
}

// Verify checks in this order: size, characters, header, algorithm, type, key, signature, and only then the claims. So an error
// about claims always means that the signature is good (docs/security/threats.md D 62).
// find gets the kid from the header, empty if it is absent, and an algorithm that is in want.
func Verify(raw string, want Expect, find func(kid string, alg Algorithm) (PublicKey, bool)) (Verified, error) {
	limit := want.MaxSize
	if limit == 0 {
		limit = defaultMaxSize
	}
	parts, err := split(raw, limit)
	if err != nil {
		return Verified{}, err
	}
	header, err := parseHeader(parts.header)
	if err != nil {
		return Verified{}, err
	}
	for _, name := range [...]string{"crit", "b64", "zip", "enc"} {
		// RFC 7515 section 4.1.11: an extension that is not understood refuses the token, and we understand none.
		if header.Fields.Has(name) {
			return Verified{}, fmt.Errorf("%w: %s", ErrHeader, name)
		}
	}
	p, known := header.Algorithm.parameters()
	if !known || !slices.Contains(want.Algorithms, header.Algorithm) {
		return Verified{}, ErrAlgorithm
	}
	if !slices.ContainsFunc(want.Types, func(t string) bool { return sameType(t, header.Type) }) {
		return Verified{}, ErrType
	}
	key, ok := find(header.KeyID, header.Algorithm)
	if !ok {
		return Verified{}, badKey("none is known for this kid and algorithm")
	}
	// One key, one algorithm: what find gives must have been made for what the header says.
	if key.key == nil || key.alg != header.Algorithm {
		return Verified{}, badKey("it is for another algorithm")
	}
	signature, err := strictBase64.DecodeString(parts.signature)
	if err != nil {
		return Verified{}, malformed("the signature is not canonical base64url")
	}
	if !p.verify(key.key, []byte(parts.signed), signature) {
		return Verified{}, ErrSignature
	}
	claims, err := parsePart(parts.payload, "payload")
	if err != nil {
		return Verified{}, err
	}
	return Verified{header, claims, key}, nil
}

// InspectUnverified decodes a token for showing it to its owner. NOTHING in it is proved: anyone can have written it.
func InspectUnverified(raw string) (Header, Claims, error) {
	parts, err := split(raw, defaultMaxSize)
	if err != nil {
		return Header{}, Claims{}, err
	}
	header, err := parseHeader(parts.header)
	if err != nil {
		return Header{}, Claims{}, err
	}
	claims, err := parsePart(parts.payload, "payload")
	if err != nil {
		return Header{}, Claims{}, err
	}
	return header, claims, nil
}

type compact struct {
	signed, header, payload, signature string
}

// split looks at every byte before anything is decoded (RFC 8725bis section 3.13), and allocates nothing.
func split(raw string, limit int) (compact, error) {
	if len(raw) > limit {
		return compact{}, malformed("the token is too large")
	}
	var dots [2]int
	count := 0
	for i := range len(raw) {
		c := raw[i]
		if c == '.' {
			if count == 2 {
				return compact{}, malformed("the token does not have three parts")
			}
			dots[count] = i
			count++
			continue
		}
		if !base64Byte[c] {
			return compact{}, malformed("the token holds a character that does not belong there")
		}
	}
	if count != 2 {
		return compact{}, malformed("the token does not have three parts")
	}
	parts := compact{raw[:dots[1]], raw[:dots[0]], raw[dots[0]+1 : dots[1]], raw[dots[1]+1:]}
	if base64.RawURLEncoding.DecodedLen(len(parts.header)) > maxHeader {
		return compact{}, malformed("the header is too large")
	}
	return parts, nil
}

var base64Byte = func() (table [256]bool) {
	for c := range 256 {
		table[c] = c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_'
	}
	return table
}()

func onlyBase64(s string) bool {
	for i := range len(s) {
		if !base64Byte[s[i]] {
			return false
		}
	}
	return true
}

func parsePart(part, name string) (Claims, error) {
	text, err := strictBase64.DecodeString(part)
	if err != nil {
		return Claims{}, malformed("the " + name + " is not canonical base64url")
	}
	claims, err := ParseClaims(text)
	if err != nil {
		return Claims{}, fmt.Errorf("%w (%s)", err, name)
	}
	return claims, nil
}

func parseHeader(part string) (Header, error) {
	fields, err := parsePart(part, "header")
	if err != nil {
		return Header{}, err
	}
	header := Header{Fields: fields}
	alg, hasAlg, err := fields.String("alg")
	if err != nil || !hasAlg {
		return Header{}, fmt.Errorf("%w: the header names none", ErrAlgorithm)
	}
	header.Algorithm = Algorithm(alg)
	if header.KeyID, _, err = fields.String("kid"); err != nil || !validKid(header.KeyID) {
		return Header{}, malformed("kid is not a string of at most 256 printable bytes")
	}
	typ, hasTyp, err := fields.String("typ")
	if err != nil || hasTyp && typ == "" {
		return Header{}, malformed("typ is not a string")
	}
	header.Type = typ
	return header, nil
}

// sameType compares media types as RFC 7515 section 4.1.9 says. Letters are folded in ASCII only: strings.EqualFold would take
// the Kelvin sign for a k.
func sameType(want, got string) bool {
	const prefix = "application/"
	if len(got) > len(prefix) && equalFoldASCII(got[:len(prefix)], prefix) {
		got = got[len(prefix):]
	}
	return equalFoldASCII(want, got)
}

func equalFoldASCII(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

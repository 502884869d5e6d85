package jose

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	gojose "github.com/go-jose/go-jose/v4"
)

const goodEC = `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"a"}`

func TestParseKeySet(t *testing.T) {
	with := func(key, change string) string { return strings.TrimSuffix(key, "}") + "," + change + "}" }
	set := func(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }
	swap := func(old, new string) string { return strings.Replace(goodEC, old, new, 1) }
	modulus := func(bits int) string {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		return b64(n.SetBit(n, 0, 1).Bytes())
	}
	rsaKey := func(bits int, e string) string {
		return fmt.Sprintf(`{"kty":"RSA","kid":"r","n":%q,"e":%q}`, modulus(bits), e)
	}
	okp := func(x string) string {
		data, err := hex.DecodeString(x)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":"o","x":%q}`, b64(data))
	}
	many := make([]string, maxKeys+1)
	for i := range many {
		many[i] = strings.Replace(goodEC, `"a"`, fmt.Sprintf(`"k%d"`, i), 1)
	}

	for _, row := range []struct {
		name string
		set  string
		keys int // -1 means that the set is refused
	}{
		{"one key", set(goodEC), 1},
		{"no key", `{"keys":[]}`, 0},
		{"unknown members beside keys and in a key", `{"x":1,"keys":[` + with(goodEC, `"y2":[1]`) + `]}`, 1},
		{"use sig", set(with(goodEC, `"use":"sig"`)), 1},
		{"use enc is skipped", set(with(goodEC, `"use":"enc"`)), 0},
		{"key_ops verify", set(with(goodEC, `"key_ops":["verify"]`)), 1},
		{"key_ops without verify is skipped", set(with(goodEC, `"key_ops":["encrypt"]`)), 0},
		{"x5c and x5u have no effect", set(with(goodEC, `"x5c":["not a certificate"],"x5u":"http://127.0.0.1:1/"`)), 1},
		{"an unknown key type is skipped", set(goodEC, `{"kty":"AKP","kid":"z"}`), 1},
		{"secp256k1 is skipped", set(goodEC, `{"kty":"EC","crv":"secp256k1","kid":"z","x":"AA","y":"AA"}`), 1},
		{"X25519 is skipped", set(`{"kty":"OKP","crv":"X25519","kid":"z","x":"AA"}`), 0},
		{"an encryption algorithm is skipped", set(with(goodEC, `"alg":"ECDH-ES"`)), 0},
		{"RSA without alg", set(rsaKey(2048, "AQAB")), 1},
		{"RSA of 8192 bits", set(rsaKey(8192, "AQAB")), 1},
		{"one key without kid", set(strings.Replace(goodEC, `,"kid":"a"`, "", 1)), 1},
		{"the most keys", set(many[:maxKeys]...), maxKeys},

		{"too many keys", set(many...), -1},
		{"not JSON", `keys`, -1},
		{"an array", `[]`, -1},
		{"keys missing", `{}`, -1},
		{"keys an object", `{"keys":{}}`, -1},
		{"keys holds a string", `{"keys":["a"]}`, -1},
		{"keys twice", `{"keys":[],"keys":[]}`, -1},
		{"a member twice", set(with(goodEC, `"kid":"b"`)), -1},
		{"two keys with one kid", set(goodEC, goodEC), -1},
		{"more than 256 KiB", `{"keys":[],"x":"` + strings.Repeat("x", maxKeySet) + `"}`, -1},
		{"a private EC key", set(with(goodEC, `"d":"AA"`)), -1},
		{"a private RSA key, by one prime", set(with(rsaKey(2048, "AQAB"), `"p":"AA"`)), -1},
		{"a symmetric key", set(`{"kty":"oct","k":"AAAA","kid":"s"}`), -1},
		{"a symmetric key without k", set(`{"kty":"oct","kid":"s"}`), -1},
		{"a private key of a type that is skipped", set(`{"kty":"AKP","d":"AA"}`), -1},
		{"kty missing", set(`{"kid":"a"}`), -1},
		{"kid a number", set(swap(`"kid":"a"`, `"kid":1`)), -1},
		{"kid with a newline", set(swap(`"kid":"a"`, `"kid":"a\n"`)), -1},
		{"alg RS256 on an EC key", set(with(goodEC, `"alg":"RS256"`)), -1},
		{"alg ES384 on P-256", set(with(goodEC, `"alg":"ES384"`)), -1},
		{"alg ES256 on an RSA key", set(with(rsaKey(2048, "AQAB"), `"alg":"ES256"`)), -1},
		{"a point off the curve", set(swap("x_FE", "y_FE")), -1},
		{"the point (0, 0)", set(`{"kty":"EC","crv":"P-256","kid":"a","x":"` + b64(make([]byte, 32)) + `","y":"` + b64(make([]byte, 32)) + `"}`), -1},
		{"a coordinate one byte short", set(swap("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVA")), -1},
		{"a coordinate with padding", set(swap("RVEU", "RVEU=")), -1},
		{"a coordinate with other trailing bits", set(swap("RVEU", "RVEV")), -1},
		{"a coordinate with a newline", set(swap("RVEU", `RVEU\n`)), -1},
		{"y missing", set(`{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"}`), -1},
		{"RSA of 2047 bits", set(rsaKey(2047, "AQAB")), -1},
		{"RSA of 1024 bits", set(rsaKey(1024, "AQAB")), -1},
		{"RSA of 16384 bits", set(rsaKey(16384, "AQAB")), -1},
		{"RSA with e = 1", set(rsaKey(2048, "AQ")), -1},
		{"RSA with e = 3", set(rsaKey(2048, "Aw")), -1},
		{"RSA with an even e", set(rsaKey(2048, "AQAC")), -1},
		{"RSA with an e of 40 bits", set(rsaKey(2048, "AQAAAAE")), -1},
		{"RSA without e", set(fmt.Sprintf(`{"kty":"RSA","n":%q}`, modulus(2048))), -1},
		{"RSA with an even modulus", set(`{"kty":"RSA","e":"AQAB","n":"` + b64(append(bytes.Repeat([]byte{0xff}, 255), 0xfe)) + `"}`), -1},
		{"Ed25519 of order 1", set(okp("01" + strings.Repeat("00", 31))), -1},
		{"Ed25519 of order 1, other sign", set(okp("01" + strings.Repeat("00", 30) + "80")), -1},
		{"Ed25519 of order 4", set(okp(strings.Repeat("00", 32))), -1},
		{"Ed25519 of order 8", set(okp("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")), -1},
		{"Ed25519 not canonical", set(okp("f0" + strings.Repeat("ff", 30) + "7f")), -1},
		{"Ed25519 of 31 bytes", set(okp(strings.Repeat("11", 31))), -1},
	} {
		t.Run(row.name, func(t *testing.T) {
			keys, err := ParseKeySet([]byte(row.set))
			if row.keys < 0 {
				if err == nil {
					t.Fatal("accepted")
				}
				if !errors.Is(err, ErrKey) && !errors.Is(err, ErrMalformed) {
					t.Fatal("untyped error:", err)
				}
				return
			}
			if err != nil || len(keys) != row.keys {
				t.Fatal(len(keys), err)
			}
		})
	}
}

func TestABundleGivesOnlyTheKeysForTokens(t *testing.T) {
	const rest = `"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	for _, row := range []struct {
		name, set string
		keys      int
	}{
		{"a key for tokens beside one of certificates", `{"spiffe_sequence":1,"keys":[{"use":"jwt-svid","kid":"a",` + rest + `,{"use":"x509-svid","x5c":["AAAA"],` + rest + `]}`, 1},
		{"a key set of OpenID Connect", `{"keys":[{"use":"sig","kid":"a",` + rest + `]}`, 0},
		{"a key without use", `{"keys":[{"kid":"a",` + rest + `]}`, 0},
		{"an empty use", `{"keys":[{"use":"","kid":"a",` + rest + `]}`, 0},
		{"a private key for tokens", `{"keys":[{"use":"jwt-svid","d":"AAAA","kid":"a",` + rest + `]}`, -1},
		{"a private key of a certificate", `{"keys":[{"use":"x509-svid","d":"AAAA",` + rest + `]}`, -1},
	} {
		keys, err := ParseBundle([]byte(row.set))
		if (err != nil) != (row.keys < 0) || err == nil && len(keys) != row.keys {
			t.Errorf("%s: %d keys, %v", row.name, len(keys), err)
		}
	}
	if keys, err := ParseKeySet([]byte(`{"keys":[{"use":"jwt-svid","kid":"a",` + rest + `]}`)); err != nil || len(keys) != 0 {
		t.Errorf("a key of a bundle signs for OpenID Connect: %v, %v", keys, err)
	}
}

// This is why small orders are refused: crypto/ed25519 alone accepts one fixed signature for many messages.
func TestSmallOrderKeyWouldVerifyAnything(t *testing.T) {
	forged := make([]byte, 64)
	forged[0] = 1 // R is the neutral point, S is zero
	accepted := 0
	for i := range 64 {
		if ed25519.Verify(smallOrder[2][:], []byte{byte(i)}, forged) {
			accepted++
		}
	}
	if accepted == 0 {
		t.Fatal("the table holds a point that is not of small order")
	}
	for _, point := range smallOrder {
		if _, err := NewPublicKey("k", EdDSA, ed25519.PublicKey(point[:])); !errors.Is(err, ErrKey) {
			t.Error(err)
		}
	}
}

func TestNewPublicKeyRefuses(t *testing.T) {
	ec := testKeys()[ES256].Public()
	for name, make := range map[string]func() (PublicKey, error){
		"an unknown algorithm":         func() (PublicKey, error) { return NewPublicKey("k", "HS256", ec) },
		"none":                         func() (PublicKey, error) { return NewPublicKey("k", "none", ec) },
		"a key of another type":        func() (PublicKey, error) { return NewPublicKey("k", RS256, ec) },
		"a key on another curve":       func() (PublicKey, error) { return NewPublicKey("k", ES384, ec) },
		"no key":                       func() (PublicKey, error) { return NewPublicKey("k", ES256, nil) },
		"a nil EC key":                 func() (PublicKey, error) { return NewPublicKey("k", ES256, (*ecdsa.PublicKey)(nil)) },
		"an EC key without point":      func() (PublicKey, error) { return NewPublicKey("k", ES256, &ecdsa.PublicKey{Curve: elliptic.P256()}) },
		"a secret":                     func() (PublicKey, error) { return NewPublicKey("k", ES256, []byte("secret")) },
		"an RSA key without a modulus": func() (PublicKey, error) { return NewPublicKey("k", RS256, &rsa.PublicKey{}) },
		"a short Ed25519 key":          func() (PublicKey, error) { return NewPublicKey("k", EdDSA, ed25519.PublicKey{1}) },
		"a kid with a line feed":       func() (PublicKey, error) { return NewPublicKey("k\n", ES256, ec) },
	} {
		if _, err := make(); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeySetRoundTrip(t *testing.T) {
	var set KeySet
	for _, alg := range Algorithms() {
		key, err := NewPublicKey("kid-"+string(alg), alg, testKeys()[alg].Public())
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, key)
	}
	text, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseKeySet(text)
	if err != nil || len(back) != len(set) {
		t.Fatal(len(back), err)
	}
	var theirs gojose.JSONWebKeySet
	if err := json.Unmarshal(text, &theirs); err != nil {
		t.Fatal("go-jose does not read our key set:", err)
	}
	for i, key := range set {
		if !back[i].Equal(key) {
			t.Errorf("%s comes back as another key", key.Algorithm())
		}
		if theirs.Keys[i].Use != "sig" || theirs.Keys[i].Algorithm != string(key.Algorithm()) || theirs.Keys[i].KeyID != key.KeyID() {
			t.Errorf("go-jose reads %+v", theirs.Keys[i])
		}
		sum, err := theirs.Keys[i].Thumbprint(crypto.SHA256)
		if err != nil || b64(sum) != key.Thumbprint() {
			t.Errorf("%s: go-jose computes another thumbprint", key.Algorithm())
		}
	}
	if text, err := json.Marshal(KeySet(nil)); err != nil || string(text) != `{"keys":[]}` {
		t.Error(string(text), err)
	}
	if _, err := json.Marshal(PublicKey{}); err == nil {
		t.Error("an empty key marshals")
	}
}

func TestKeySetFind(t *testing.T) {
	a, _ := NewPublicKey("a", ES256, testKeys()[ES256].Public())
	b, _ := NewPublicKey("b", RS256, testKeys()[RS256].Public())
	c, _ := NewPublicKey("c", RS256, testKeys()[RS256].Public())
	set := KeySet{a, b, c}
	for _, row := range []struct {
		name, kid string
		alg       Algorithm
		want      bool
	}{
		{"by kid and algorithm", "b", RS256, true},
		{"by kid with another algorithm", "a", RS256, false},
		{"unknown kid", "z", ES256, false},
		{"no kid, one key of the algorithm", "", ES256, true},
		{"no kid, two keys of the algorithm", "", RS256, false},
	} {
		if key, ok := set.Find(row.kid, row.alg); ok != row.want || ok && row.kid != "" && key.KeyID() != row.kid {
			t.Errorf("%s: %v", row.name, ok)
		}
	}
}

func FuzzParseKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[` + goodEC + `]}`))
	for _, alg := range []Algorithm{ES384, ES512, RS256, EdDSA} {
		key, _ := NewPublicKey("k", alg, testKeys()[alg].Public())
		text, err := json.Marshal(KeySet{key})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AA"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := ParseKeySet(data)
		if err != nil {
			return
		}
		for _, key := range set {
			if _, err := NewPublicKey(key.KeyID(), key.Algorithm(), key.CryptoKey()); err != nil {
				t.Fatal(err)
			}
		}
		text, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseKeySet(text)
		if err != nil || len(back) != len(set) {
			t.Fatal("a set that we wrote is refused:", err)
		}
		for i := range set {
			if !back[i].Equal(set[i]) {
				t.Fatal("a key changed")
			}
		}
	})
}

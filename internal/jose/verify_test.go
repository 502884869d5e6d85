package jose

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	gojose "github.com/go-jose/go-jose/v4"
)

var b64 = base64.RawURLEncoding.EncodeToString

// testKeys are made once: RSA generation is slow.
var testKeys = sync.OnceValue(func() map[Algorithm]crypto.Signer {
	must := func(key crypto.Signer, err error) crypto.Signer {
		if err != nil {
			panic(err)
		}
		return key
	}
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return map[Algorithm]crypto.Signer{
		ES256: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		ES384: must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		ES512: must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
		RS256: rsaKey, RS384: rsaKey, RS512: rsaKey, PS256: rsaKey, PS384: rsaKey, PS512: rsaKey,
		EdDSA: ed,
	}
})

func testKey(t testing.TB, alg Algorithm) (crypto.Signer, PublicKey) {
	t.Helper()
	private := testKeys()[alg]
	public, err := NewPublicKey("k1", alg, private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

// forge signs any header and payload, well-formed or not, with a real key.
func forge(t testing.TB, alg Algorithm, header, payload string) string {
	t.Helper()
	private := testKeys()[alg]
	p, _ := alg.parameters()
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	return signed + "." + b64(rawSignature(t, p, private, signed))
}

func rawSignature(t testing.TB, p parameters, private crypto.Signer, signed string) []byte {
	t.Helper()
	var room [sha512.Size]byte
	digest := p.digest([]byte(signed), &room)
	signature, err := private.Sign(rand.Reader, digest, p.hash)
	if err != nil {
		t.Fatal(err)
	}
	if p.family == familyECDSA {
		raw := make([]byte, 2*p.size)
		if !splitECDSA(raw, p.size, signature) {
			t.Fatal("no ASN.1 signature")
		}
		return raw
	}
	return signature
}

const (
	goodHeader  = `{"alg":"ES256","kid":"k1","typ":"at+jwt"}`
	goodPayload = `{"iss":"https://sts.example.com","exp":4000000000}`
)

var expectAccess = Expect{Algorithms: []Algorithm{ES256, RS256, EdDSA}, Types: []string{"at+jwt"}}

func header(change string) string  { return strings.TrimSuffix(goodHeader, "}") + "," + change + "}" }
func payload(change string) string { return strings.TrimSuffix(goodPayload, "}") + "," + change + "}" }

func TestVerify(t *testing.T) {
	ec, ecPublic := testKey(t, ES256)
	_, rsaPublic := testKey(t, RS256)
	find := func(kid string, alg Algorithm) (PublicKey, bool) {
		if kid != "k1" {
			return PublicKey{}, false
		}
		switch alg {
		case ES256:
			return ecPublic, true
		case RS256:
			return rsaPublic, true
		}
		return PublicKey{}, false
	}
	good := forge(t, ES256, goodHeader, goodPayload)
	parts := strings.Split(good, ".")
	signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
	sign := func(header string) string { return forge(t, ES256, header, goodPayload) }
	claims := func(payload string) string { return forge(t, ES256, goodHeader, payload) }
	alg := func(name string) string { return strings.Replace(goodHeader, `"ES256"`, name, 1) }
	typ := func(name string) string { return strings.Replace(goodHeader, `"at+jwt"`, name, 1) }
	withSignature := func(raw []byte) string { return parts[0] + "." + parts[1] + "." + b64(raw) }

	// RS to HS confusion: the attacker signs with the public key, in each spelling that a library once took for a secret.
	hs := func(secret []byte) string {
		signed := b64([]byte(alg(`"HS256"`))) + "." + parts[1]
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(signed))
		return signed + "." + b64(mac.Sum(nil))
	}
	der, err := x509.MarshalPKIXPublicKey(rsaPublic.CryptoKey())
	if err != nil {
		t.Fatal(err)
	}
	rsaJWK, _ := json.Marshal(rsaPublic)

	// An attacker's own key, embedded.
	attacker, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	attackerPublic, _ := NewPublicKey("k1", ES256, attacker.Public())
	attackerJWK, _ := json.Marshal(attackerPublic)
	p256, _ := ES256.parameters()
	byAttacker := func(header string) string {
		signed := b64([]byte(header)) + "." + parts[1]
		return signed + "." + b64(rawSignature(t, p256, attacker, signed))
	}
	order := elliptic.P256().Params().N
	pad := func(n []byte) []byte { return append(make([]byte, 32-len(n)), n...) }
	asn1, err := ec.Sign(rand.Reader, bytes.Repeat([]byte{1}, 32), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	manyNames := func(last string) string {
		var b strings.Builder
		for i := range 40 {
			fmt.Fprintf(&b, `"c%d":1,`, i)
		}
		return payload(b.String() + last)
	}
	nested := func(depth int) string {
		return payload(`"a":` + strings.Repeat("[", depth) + strings.Repeat("]", depth))
	}

	for _, row := range []struct {
		name string
		raw  string
		want error
	}{
		{"a good token", good, nil},
		{"typ in capitals", sign(typ(`"AT+JWT"`)), nil},
		{"typ as full media type", sign(typ(`"application/at+jwt"`)), nil},
		{"typ as full media type in capitals", sign(typ(`"Application/AT+jwt"`)), nil},
		{"an escaped name that is unique", claims(payload(`"na\u006de":1`)), nil},
		{"nesting up to the limit", claims(nested(maxDepth - 1)), nil},
		{"white space around everything", claims(" \n{ \"a\" : [ 1 , 2 ] } \t"), nil},

		// 43
		{"alg none without signature", b64([]byte(alg(`"none"`))) + "." + parts[1] + ".", ErrAlgorithm},
		{"alg none with a signature", sign(alg(`"none"`)), ErrAlgorithm},
		{"alg noNE", sign(alg(`"noNE"`)), ErrAlgorithm},
		{"alg NONE", sign(alg(`"NONE"`)), ErrAlgorithm},
		{"alg none with a space", sign(alg(`"none "`)), ErrAlgorithm},
		{"alg none written with an escape", sign(alg(`"n\u006fne"`)), ErrAlgorithm},
		{"alg empty", sign(alg(`""`)), ErrAlgorithm},
		{"alg missing", sign(`{"kid":"k1","typ":"at+jwt"}`), ErrAlgorithm},
		{"alg null", sign(alg(`null`)), ErrAlgorithm},
		{"alg a number", sign(alg(`256`)), ErrAlgorithm},
		{"alg an array", sign(alg(`["ES256"]`)), ErrAlgorithm},
		{"alg in lower case", sign(alg(`"es256"`)), ErrAlgorithm},
		{"Alg with a capital is not alg", sign(`{"Alg":"ES256","kid":"k1","typ":"at+jwt"}`), ErrAlgorithm},
		{"a good token with its signature cut off", parts[0] + "." + parts[1] + ".", ErrSignature},
		// 44
		{"HS256 with the public key as DER", hs(der), ErrAlgorithm},
		{"HS256 with the public key as JWK", hs(rsaJWK), ErrAlgorithm},
		{"HS256 with an empty secret", hs(nil), ErrAlgorithm},
		// 45
		{"a known algorithm that is not in the list", forge(t, ES384, alg(`"ES384"`), goodPayload), ErrAlgorithm},
		{"PS256 under the key that is pinned to RS256", forge(t, RS256, alg(`"PS256"`), goodPayload), ErrAlgorithm},
		{"an algorithm of the list for which the kid has no key", forge(t, EdDSA, alg(`"EdDSA"`), goodPayload), ErrKey},
		{"RS256 in the header over an ES256 signature", sign(alg(`"RS256"`)), ErrSignature},
		// 46
		{"the attacker's key embedded as jwk", byAttacker(header(`"jwk":` + string(attackerJWK))), ErrSignature},
		{"a jwk embedded in an honest token has no effect", sign(header(`"jwk":` + string(attackerJWK))), nil},
		{"jku of the attacker", byAttacker(header(`"jku":"http://127.0.0.1:1/jwks"`)), ErrSignature},
		{"x5c of the attacker", byAttacker(header(`"x5c":["MIIB"]`)), ErrSignature},
		{"x5u of the attacker", byAttacker(header(`"x5u":"http://127.0.0.1:1/"`)), ErrSignature},
		// 47
		{"kid with SQL", sign(strings.Replace(goodHeader, "k1", "k1' OR '1'='1", 1)), ErrKey},
		{"kid with a path", sign(strings.Replace(goodHeader, "k1", "../../dev/null", 1)), ErrKey},
		{"kid with a newline", sign(strings.Replace(goodHeader, "k1", `k1\n`, 1)), ErrMalformed},
		{"kid with a NUL", sign(strings.Replace(goodHeader, "k1", `k1\u0000`, 1)), ErrMalformed},
		{"kid longer than 256 bytes", sign(strings.Replace(goodHeader, "k1", strings.Repeat("k", 257), 1)), ErrMalformed},
		{"kid of 1 MB", sign(strings.Replace(goodHeader, "k1", strings.Repeat("k", 1<<20), 1)), ErrMalformed},
		{"kid a number", sign(strings.Replace(goodHeader, `"k1"`, `1`, 1)), ErrMalformed},
		{"kid missing", sign(`{"alg":"ES256","typ":"at+jwt"}`), ErrKey},
		// 48, 56
		{"crit with an unknown name", sign(header(`"crit":["x"],"x":1`)), ErrHeader},
		{"crit empty", sign(header(`"crit":[]`)), ErrHeader},
		{"crit with a name that we know", sign(header(`"crit":["exp"],"exp":1`)), ErrHeader},
		{"b64 false", sign(header(`"b64":false`)), ErrHeader},
		{"b64 false with crit", sign(header(`"b64":false,"crit":["b64"]`)), ErrHeader},
		{"b64 true", sign(header(`"b64":true`)), ErrHeader},
		{"zip DEF", sign(header(`"zip":"DEF"`)), ErrHeader},
		// 49, 55, 57
		{"a JWE of five parts", b64([]byte(`{"alg":"RSA-OAEP","enc":"A256GCM"}`)) + ".AA.AA.AA.AA", ErrMalformed},
		{"a JWE header over three parts", sign(`{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483647,"p2s":"AAAA","kid":"k1","typ":"at+jwt"}`), ErrHeader},
		{"a JWE algorithm alone", sign(alg(`"ECDH-ES"`)), ErrAlgorithm},
		{"enc beside a signature algorithm", sign(header(`"enc":"A128GCM"`)), ErrHeader},
		{"a nested JWT", claims(good), ErrMalformed},
		{"a nested JWT as JSON string", claims(`"` + good + `"`), ErrMalformed},
		// 50
		{"JSON serialization, flattened", `{"protected":"` + parts[0] + `","payload":"` + parts[1] + `","signature":"` + parts[2] + `"}`, ErrMalformed},
		{"JSON serialization, general", `{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`, ErrMalformed},
		{"a leading space", " " + good, ErrMalformed},
		{"a trailing newline", good + "\n", ErrMalformed},
		{"a newline inside", parts[0] + ".\n" + parts[1] + "." + parts[2], ErrMalformed},
		{"padding", good + "==", ErrMalformed},
		{"the other base64 alphabet", parts[0] + "." + parts[1] + "." + strings.NewReplacer("-", "+", "_", "/").Replace(b64(bytes.Repeat([]byte{0xfb, 0xff}, 32))), ErrMalformed},
		{"a percent escape", strings.Replace(good, ".", "%2e", 1), ErrMalformed},
		{"a NUL", good[:10] + "\x00" + good[10:], ErrMalformed},
		{"a letter of another script", good[:10] + "е" + good[10:], ErrMalformed},
		{"the empty string", "", ErrMalformed},
		{"two dots alone", "..", ErrMalformed},
		{"two parts", parts[0] + "." + parts[1], ErrMalformed},
		{"four parts", good + ".AAAA", ErrMalformed},
		{"trailing bits in the signature", good[:len(good)-1] + string(nextBase64(good[len(good)-1])), ErrMalformed},
		{"an impossible base64 length", parts[0] + "." + parts[1] + "A." + parts[2], ErrSignature},
		// 51
		{"alg twice in the header", sign(header(`"alg":"ES256"`)), ErrMalformed},
		{"kid twice in the header", sign(header(`"kid":"k1"`)), ErrMalformed},
		{"a name twice in an object in the header", sign(header(`"x":{"a":1,"a":1}`)), ErrMalformed},
		{"exp twice in the payload", claims(payload(`"exp":1`)), ErrMalformed},
		{"exp twice, once written with an escape", claims(payload(`"e\u0078p":1`)), ErrMalformed},
		{"a name twice in a nested object", claims(payload(`"act":{"sub":"a","sub":"b"}`)), ErrMalformed},
		{"a name twice in an object in an array", claims(payload(`"l":[{"a":1,"a":1}]`)), ErrMalformed},
		{"many names", claims(manyNames(`"c40":1`)), nil},
		{"the last of many names repeats an early one", claims(manyNames(`"c1":1`)), ErrMalformed},
		{"the last of many names repeats a late one", claims(manyNames(`"c39":1`)), ErrMalformed},
		// 52
		{"bad UTF-8 in the payload", claims(payload("\"a\":\"\xff\"")), ErrMalformed},
		{"an overlong UTF-8 sequence", claims(payload("\"a\":\"\xc0\xae\"")), ErrMalformed},
		{"a surrogate in UTF-8", claims(payload("\"a\":\"\xed\xa0\x80\"")), ErrMalformed},
		{"half a surrogate pair", claims(payload(`"a":"\ud800"`)), ErrMalformed},
		{"the second half of a surrogate pair", claims(payload(`"a":"\udc00"`)), ErrMalformed},
		{"a surrogate followed by a letter", claims(payload(`"a":"\ud800x"`)), ErrMalformed},
		{"a surrogate followed by another escape", claims(payload(`"a":"\ud800\u0041"`)), ErrMalformed},
		{"a whole surrogate pair", claims(payload(`"a":"\ud83d\ude00"`)), nil},
		{"a BOM before the payload", claims("\ufeff" + goodPayload), ErrMalformed},
		{"a BOM before the header", sign("\ufeff" + goodHeader), ErrMalformed},
		{"UTF-16", claims("{\x00}\x00"), ErrMalformed},
		{"data after the payload", claims(goodPayload + "{}"), ErrMalformed},
		{"a NUL after the payload", claims(goodPayload + "\x00"), ErrMalformed},
		{"data after the header", sign(goodHeader + "x"), ErrMalformed},
		{"nesting beyond the limit", claims(nested(maxDepth)), ErrMalformed},
		{"nesting of 5,000 levels", claims(nested(5000)), ErrMalformed},
		{"objects nested beyond the limit", claims(payload(`"a":` + strings.Repeat(`{"a":`, maxDepth) + "1" + strings.Repeat("}", maxDepth))), ErrMalformed},
		{"the payload is an array", claims(`[]`), ErrMalformed},
		{"the payload is null", claims(`null`), ErrMalformed},
		{"the payload is empty", claims(``), ErrMalformed},
		{"the header is an array", sign(`[]`), ErrMalformed},
		{"a trailing comma", claims(`{"a":1,}`), ErrMalformed},
		{"a comment", claims(`{"a":1/**/}`), ErrMalformed},
		{"a single quote", claims(`{'a':1}`), ErrMalformed},
		{"NaN", claims(`{"a":NaN}`), ErrMalformed},
		{"a number with a leading zero", claims(`{"a":01}`), ErrMalformed},
		{"a number with a plus", claims(`{"a":+1}`), ErrMalformed},
		{"a bare fraction", claims(`{"a":.5}`), ErrMalformed},
		{"a raw control character in a string", claims("{\"a\":\"\t\"}"), ErrMalformed},
		{"an unknown escape", claims(`{"a":"\x41"}`), ErrMalformed},
		{"an unfinished string", claims(`{"a":"b`), ErrMalformed},
		{"an unfinished escape", claims(`{"a":"\u00`), ErrMalformed},
		{"an unfinished object", claims(`{"a":1`), ErrMalformed},
		{"a name without value", claims(`{"a"}`), ErrMalformed},
		{"an unquoted name", claims(`{a:1}`), ErrMalformed},
		// 53
		{"r = s = 0", withSignature(make([]byte, 64)), ErrSignature},
		{"r = 0", withSignature(append(make([]byte, 32), signature[32:]...)), ErrSignature},
		{"s = 0", withSignature(append(bytes.Clone(signature[:32]), make([]byte, 32)...)), ErrSignature},
		{"r = s = the order of the curve", withSignature(append(pad(order.Bytes()), pad(order.Bytes())...)), ErrSignature},
		{"r = s = 2^256-1", withSignature(bytes.Repeat([]byte{0xff}, 64)), ErrSignature},
		{"an ASN.1 signature", withSignature(asn1), ErrSignature},
		{"a signature one byte short", withSignature(signature[:63]), ErrSignature},
		{"a signature one byte long", withSignature(append(bytes.Clone(signature), 0)), ErrSignature},
		{"r and s padded to 48 bytes each", withSignature(append(append(make([]byte, 16), signature[:32]...), append(make([]byte, 16), signature[32:]...)...)), ErrSignature},
		{"one bit of the payload changed", parts[0] + "." + b64([]byte(strings.Replace(goodPayload, "4000000000", "4000000001", 1))) + "." + parts[2], ErrSignature},
		{"one bit of the header changed", b64([]byte(strings.Replace(goodHeader, "at+jwt", "AT+jwt", 1))) + "." + parts[1] + "." + parts[2], ErrSignature},
		// 54
		{"dots alone, within the size", strings.Repeat(".", defaultMaxSize), ErrMalformed},
		{"1 MB of dots", strings.Repeat(".", 1<<20), ErrMalformed},
		{"a header of 1 MB", strings.Repeat("A", 1<<20) + ".e30.AA", ErrMalformed},
		{"a header above 4 KiB", sign(header(`"x":"` + strings.Repeat("x", 4<<10) + `"`)), ErrMalformed},
		{"a header below 4 KiB", sign(header(`"x":"` + strings.Repeat("x", 3<<10) + `"`)), nil},
		{"a token above 16 KiB", claims(payload(`"x":"` + strings.Repeat("x", 16<<10) + `"`)), ErrMalformed},
		// 59
		{"an ID token", sign(typ(`"JWT"`)), ErrType},
		{"a logout token", sign(typ(`"logout+jwt"`)), ErrType},
		{"a request object", sign(typ(`"oauth-authz-req+jwt"`)), ErrType},
		{"a DPoP proof", sign(typ(`"dpop+jwt"`)), ErrType},
		{"typ missing", sign(`{"alg":"ES256","kid":"k1"}`), ErrType},
		{"typ empty", sign(typ(`""`)), ErrMalformed},
		{"typ null", sign(typ(`null`)), ErrMalformed},
		{"typ an array", sign(typ(`["at+jwt"]`)), ErrMalformed},
		{"typ with a parameter", sign(typ(`"at+jwt; x=y"`)), ErrType},
		{"typ of another top level type", sign(typ(`"text/at+jwt"`)), ErrType},
		{"typ with the prefix twice", sign(typ(`"application/application/at+jwt"`)), ErrType},
		// 62
		{"expired and badly signed", parts[0] + "." + b64([]byte(`{"exp":1}`)) + "." + parts[2], ErrSignature},
		{"payload not JSON and badly signed", parts[0] + "." + b64([]byte(`{`)) + "." + parts[2], ErrSignature},
		// 63
		{"a kid that is not known", sign(strings.Replace(goodHeader, "k1", "k2", 1)), ErrKey},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := Verify(row.raw, expectAccess, find)
			if !errors.Is(err, row.want) || (row.want == nil && err != nil) {
				t.Fatalf("got %v, want %v", err, row.want)
			}
			if err != nil && len(err.Error()) > 100 {
				t.Fatalf("the error is long and may hold the token: %v", err)
			}
		})
	}

	t.Run("find is asked once and with the header's values", func(t *testing.T) {
		calls := 0
		verified, err := Verify(good, expectAccess, func(kid string, alg Algorithm) (PublicKey, bool) {
			calls++
			if kid != "k1" || alg != ES256 {
				t.Errorf("asked for %q %q", kid, alg)
			}
			return ecPublic, true
		})
		if err != nil || calls != 1 {
			t.Fatal(err, calls)
		}
		if h := verified.Header; h.Algorithm != ES256 || h.KeyID != "k1" || h.Type != "at+jwt" || !verified.Key.Equal(ecPublic) {
			t.Fatalf("%+v", verified)
		}
	})
	t.Run("find gives a key for another algorithm", func(t *testing.T) {
		if _, err := Verify(good, expectAccess, func(string, Algorithm) (PublicKey, bool) { return rsaPublic, true }); !errors.Is(err, ErrKey) {
			t.Fatal(err)
		}
	})
	t.Run("find gives an empty key", func(t *testing.T) {
		if _, err := Verify(good, expectAccess, func(string, Algorithm) (PublicKey, bool) { return PublicKey{}, true }); !errors.Is(err, ErrKey) {
			t.Fatal(err)
		}
	})
	t.Run("find gives a key and says no", func(t *testing.T) {
		if _, err := Verify(good, expectAccess, func(string, Algorithm) (PublicKey, bool) { return ecPublic, false }); !errors.Is(err, ErrKey) {
			t.Fatal(err)
		}
	})
	t.Run("empty lists accept nothing", func(t *testing.T) {
		if _, err := Verify(good, Expect{Types: []string{"at+jwt"}}, find); !errors.Is(err, ErrAlgorithm) {
			t.Fatal(err)
		}
		if _, err := Verify(good, Expect{Algorithms: Algorithms()}, find); !errors.Is(err, ErrType) {
			t.Fatal(err)
		}
	})
	t.Run("none in the caller's list still refuses", func(t *testing.T) {
		raw := b64([]byte(alg(`"none"`))) + "." + parts[1] + "."
		if _, err := Verify(raw, Expect{Algorithms: []Algorithm{"none", ES256}, Types: []string{"at+jwt"}}, find); !errors.Is(err, ErrAlgorithm) {
			t.Fatal(err)
		}
	})
	t.Run("an empty type in the list accepts an absent typ only", func(t *testing.T) {
		want := Expect{Algorithms: []Algorithm{ES256}, Types: []string{"", "JWT"}}
		if _, err := Verify(sign(`{"alg":"ES256","kid":"k1"}`), want, find); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(good, want, find); !errors.Is(err, ErrType) {
			t.Fatal(err)
		}
	})
	t.Run("MaxSize of the caller", func(t *testing.T) {
		want := expectAccess
		want.MaxSize = len(good) - 1
		if _, err := Verify(good, want, find); !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
	})
}

func TestSameType(t *testing.T) {
	for _, row := range []struct {
		name, want, got string
		same            bool
	}{
		{"equal", "token+jwt", "token+jwt", true},
		{"other case", "token+jwt", "TOKEN+Jwt", true},
		{"with prefix", "token+jwt", "APPLICATION/token+jwt", true},
		{"the Kelvin sign is not a k", "token+jwt", "to\u212aen+jwt", false},
		{"the prefix alone", "", "application/", false},
		{"absent", "", "", true},
		{"another type", "token+jwt", "token+jws", false},
	} {
		if sameType(row.want, row.got) != row.same {
			t.Error(row.name)
		}
	}
}

func nextBase64(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[(strings.IndexByte(alphabet, c)+1)%64]
}

func TestVectors(t *testing.T) {
	t.Run("RFC 7515 A.3", func(t *testing.T) {
		key, err := ParsePublicKey([]byte(`{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`))
		if err != nil {
			t.Fatal(err)
		}
		raw := "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ." +
			"DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
		verified, err := Verify(raw, Expect{Algorithms: []Algorithm{ES256}, Types: []string{""}}, KeySet{key}.Find)
		if err != nil {
			t.Fatal(err)
		}
		if iss, _, _ := verified.Claims.String("iss"); iss != "joe" {
			t.Fatal(iss)
		}
	})
	t.Run("RFC 8037 A.4, whose payload is not a JSON object", func(t *testing.T) {
		key, err := ParsePublicKey([]byte(`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`))
		if err != nil {
			t.Fatal(err)
		}
		raw := "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
		if _, err := Verify(raw, Expect{Algorithms: []Algorithm{EdDSA}, Types: []string{""}}, KeySet{key}.Find); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "payload") {
			t.Fatal(err)
		}
		// S + L in place of S: the same equation holds, and the signature must be refused all the same.
		signature, _ := base64.RawURLEncoding.DecodeString(raw[strings.LastIndexByte(raw, '.')+1:])
		addOrder(signature[32:])
		if _, err := Verify(raw[:strings.LastIndexByte(raw, '.')+1]+b64(signature), Expect{Algorithms: []Algorithm{EdDSA}, Types: []string{""}}, KeySet{key}.Find); !errors.Is(err, ErrSignature) {
			t.Fatal(err)
		}
		if got := key.Thumbprint(); got != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" {
			t.Fatal(got)
		}
	})
	t.Run("RFC 7638 section 3.1", func(t *testing.T) {
		key, err := ParsePublicKey([]byte(`{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := key.Thumbprint(); got != "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" {
			t.Fatal(got)
		}
	})
}

// addOrder adds the order of the Ed25519 group to a little-endian scalar.
func addOrder(s []byte) {
	order := [32]byte{0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 31: 0x10}
	carry := 0
	for i := range s {
		carry += int(s[i]) + int(order[i])
		s[i] = byte(carry)
		carry >>= 8
	}
}

func TestGoJoseAgrees(t *testing.T) {
	for _, alg := range Algorithms() {
		t.Run(string(alg), func(t *testing.T) {
			private, public := testKey(t, alg)
			signer, err := NewSigner("k1", alg, "at+jwt", private)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 20 { // enough for short r and s, which must be padded
				claims := fmt.Sprintf(`{"n":%d}`, i)
				raw, err := signer.Sign([]byte(claims))
				if err != nil {
					t.Fatal(err)
				}
				theirs, err := gojose.ParseSignedCompact(raw, []gojose.SignatureAlgorithm{gojose.SignatureAlgorithm(alg)})
				if err != nil {
					t.Fatal(err)
				}
				if payload, err := theirs.Verify(public.CryptoKey()); err != nil || string(payload) != claims {
					t.Fatal("go-jose does not verify what we signed:", err)
				}

				theirSigner, err := gojose.NewSigner(gojose.SigningKey{Algorithm: gojose.SignatureAlgorithm(alg), Key: private},
					(&gojose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", "k1"))
				if err != nil {
					t.Fatal(err)
				}
				object, err := theirSigner.Sign([]byte(claims))
				if err != nil {
					t.Fatal(err)
				}
				raw, _ = object.CompactSerialize()
				verified, err := Verify(raw, Expect{Algorithms: []Algorithm{alg}, Types: []string{"at+jwt"}}, KeySet{public}.Find)
				if err != nil || string(verified.Claims.JSON()) != claims {
					t.Fatal("we do not verify what go-jose signed:", err)
				}
			}
		})
	}
}

func TestInspectUnverified(t *testing.T) {
	raw := b64([]byte(`{"alg":"none","crit":["x"]}`)) + "." + b64([]byte(`{"sub":"ada"}`)) + "."
	header, claims, err := InspectUnverified(raw)
	if err != nil || header.Algorithm != "none" || !header.Fields.Has("crit") {
		t.Fatal(header, err)
	}
	if sub, _, _ := claims.String("sub"); sub != "ada" {
		t.Fatal(sub)
	}
	if _, _, err := InspectUnverified("not a token"); !errors.Is(err, ErrMalformed) {
		t.Fatal(err)
	}
}

func FuzzVerify(f *testing.F) {
	_, public := testKey(f, ES256)
	find := KeySet{public}.Find
	good := forge(f, ES256, goodHeader, goodPayload)
	f.Add(good)
	f.Add(forge(f, ES256, `{"alg":"none"}`, `{"a":"\ud83d\ude00"}`))
	f.Add("..")
	f.Add("")
	// go-jose is the oracle: what we accept, it accepts with the same payload. (The reverse need not hold: we are stricter.)
	f.Fuzz(func(t *testing.T, raw string) {
		verified, err := Verify(raw, expectAccess, find)
		if err != nil {
			return
		}
		theirs, err := gojose.ParseSignedCompact(raw, []gojose.SignatureAlgorithm{gojose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		payload, err := theirs.Verify(public.CryptoKey())
		if err != nil || string(payload) != string(verified.Claims.JSON()) {
			t.Fatal(err)
		}
		if raw != good {
			t.Fatal("a token that we did not sign is accepted")
		}
	})
}

// FuzzSigned signs any header and payload. go-jose is the oracle: where it accepts what we accept, it has read the same
// algorithm, kid and payload, so no two readers of one token see two tokens.
func FuzzSigned(f *testing.F) {
	_, public := testKey(f, ES256)
	find := func(string, Algorithm) (PublicKey, bool) { return public, true }
	for _, header := range []string{goodHeader, `{"alg":"ES256","typ":"at+jwt"}`, `{"alg":"ES256","\u006bid":"k2","kid ":"k1","typ":"AT+jwt"}`, `{"Alg":"none","alg":"ES256","typ":"at+jwt"}`} {
		f.Add(header, goodPayload)
	}
	f.Fuzz(func(t *testing.T, header, payload string) {
		raw := forge(t, ES256, header, payload)
		ours, err := Verify(raw, expectAccess, find)
		if err != nil {
			return
		}
		theirs, err := gojose.ParseSignedCompact(raw, []gojose.SignatureAlgorithm{gojose.ES256})
		if err != nil {
			return // it reads jwk and x5c, which we ignore
		}
		read, err := theirs.Verify(public.CryptoKey())
		if err != nil || string(read) != string(ours.Claims.JSON()) {
			t.Fatalf("go-jose reads %q: %v", read, err)
		}
		if h := theirs.Signatures[0].Header; h.Algorithm != string(ours.Header.Algorithm) || h.KeyID != ours.Header.KeyID {
			t.Fatalf("go-jose reads %q and %q in the header; we read %q and %q", h.Algorithm, h.KeyID, ours.Header.Algorithm, ours.Header.KeyID)
		}
	})
}

func FuzzParseClaims(f *testing.F) {
	for _, seed := range []string{goodPayload, `{"a":[1,-2.5e+3,true,null,{"b":"\u00e9\ud83d\ude00"}]}`, `{"a":1,"\u0061":2}`, "{}", `{"a":"\ud800"}`, `{"a":1e400}`} {
		f.Add([]byte(seed))
	}
	// encoding/json is the oracle: what we accept, it accepts, and reads the same.
	f.Fuzz(func(t *testing.T, data []byte) {
		claims, err := ParseClaims(data)
		if err != nil {
			return
		}
		var theirs map[string]json.RawMessage
		if err := json.Unmarshal(data, &theirs); err != nil {
			t.Fatalf("we accept what encoding/json refuses: %v", err)
		}
		if len(theirs) != len(claims.Names()) {
			t.Fatalf("%d names, encoding/json has %d", len(claims.Names()), len(theirs))
		}
		for _, name := range claims.Names() {
			raw, _ := claims.Raw(name)
			if !bytes.Equal(bytes.TrimSpace(theirs[name]), raw) {
				t.Fatalf("%q: %q, encoding/json reads %q", name, raw, theirs[name])
			}
			value, ok, err := claims.String(name)
			var want string
			if wantErr := json.Unmarshal(raw, &want); ok && (err != nil || wantErr != nil || value != want) {
				t.Fatalf("%q: %q, encoding/json reads %q", name, value, want)
			}
			claims.Strings(name)
			claims.Bool(name)
			claims.Time(name)
			claims.Object(name)
		}
	})
}

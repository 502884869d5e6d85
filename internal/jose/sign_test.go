package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	gojose "github.com/go-jose/go-jose/v4"
)

const realClaims = `{"iss":"https://sts.example.com","sub":"ada","aud":"https://api.example.com","client_id":"web","scope":"orders:read orders:write",` +
	`"iat":1700000000,"nbf":1700000000,"exp":1700000300,"jti":"0123456789abcdef0123456789","grant_id":"g_0123456789abcdef"}`

func TestSignerHeader(t *testing.T) {
	private, public := testKey(t, ES256)
	signer, err := NewSigner(`k"1`, ES256, "at+jwt", private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signer.Sign([]byte(realClaims))
	if err != nil {
		t.Fatal(err)
	}
	header, claims, err := InspectUnverified(raw)
	if err != nil || header.KeyID != `k"1` || header.Algorithm != ES256 || header.Type != "at+jwt" || string(claims.JSON()) != realClaims {
		t.Fatal(header, err)
	}
	if signer.KeyID() != `k"1` || signer.Algorithm() != ES256 || signer.Type() != "at+jwt" || !signer.PublicKey().SameKey(public) {
		t.Fatal("the signer tells something else than its tokens")
	}
	for _, claims := range []string{"", "[]", "x", `{"a":1`} {
		if _, err := signer.Sign([]byte(claims)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", claims, err)
		}
	}
	for _, text := range []string{fmt.Sprintf("%v", signer), fmt.Sprintf("%+v", signer), fmt.Sprintf("%#v", signer)} {
		if !strings.HasSuffix(text, "[redacted]") {
			t.Error("a signer prints", text)
		}
	}
}

func TestNewSignerRefuses(t *testing.T) {
	private, _ := testKey(t, ES256)
	if _, err := NewSigner("k", RS256, "", private); !errors.Is(err, ErrKey) {
		t.Error("an algorithm that is not the key's:", err)
	}
	if _, err := NewSigner("k", "none", "", private); !errors.Is(err, ErrKey) {
		t.Error("none:", err)
	}
	if _, err := NewSigner("k", ES256, "", nil); !errors.Is(err, ErrKey) {
		t.Error("no key:", err)
	}
}

// remote is a crypto.Signer that is not *ecdsa.PrivateKey, as a hardware module is.
type remote struct {
	crypto.Signer
	random    bool
	signature []byte
}

func (r *remote) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	r.random = random != nil
	if r.signature != nil {
		return r.signature, nil
	}
	return r.Signer.Sign(random, digest, opts)
}

func TestSignThroughAnyCryptoSigner(t *testing.T) {
	private, public := testKey(t, ES256)
	device := &remote{Signer: private}
	signer, err := NewSigner("k1", ES256, "at+jwt", device)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signer.Sign([]byte(realClaims))
	if err != nil || !device.random {
		t.Fatal(err)
	}
	if _, err := Verify(raw, expectAccess, KeySet{public}.Find); err != nil {
		t.Fatal(err)
	}
	for name, signature := range map[string][]byte{
		"nothing":                {},
		"raw r and s":            make([]byte, 64),
		"integers too wide":      {0x30, 0x46, 0x02, 0x21, 32 + 4: 1, 0x02, 0x21, 72 - 1: 0},
		"bytes after a sequence": {0x30, 0x06, 0x02, 0x01, 1, 0x02, 0x01, 1, 0},
		"a negative integer":     {0x30, 0x06, 0x02, 0x01, 0xff, 0x02, 0x01, 1},
	} {
		device.signature = signature
		if raw, err := signer.Sign([]byte(realClaims)); err == nil {
			t.Errorf("a device that gives %s makes the token %s", name, raw)
		}
	}
}

func TestECDSAFormsRoundTrip(t *testing.T) {
	for _, n := range [][2][]byte{{{1}, {1}}, {{0x80}, {0x7f}}, {{0, 0, 1, 0}, {0xff, 0xff}}} {
		raw := make([]byte, 8)
		copy(raw[4-len(n[0]):4], n[0])
		copy(raw[8-len(n[1]):], n[1])
		der, ok := appendECDSA(nil, raw[:4], raw[4:])
		back := make([]byte, 8)
		if !ok || !splitECDSA(back, 4, der) || string(back) != string(raw) {
			t.Errorf("%x becomes %x becomes %x", raw, der, back)
		}
	}
}

func TestZeroIsNoSignature(t *testing.T) {
	zero, one := make([]byte, 32), append(make([]byte, 31), 1)
	for _, pair := range [][2][]byte{{zero, zero}, {zero, one}, {one, zero}} {
		if _, ok := appendECDSA(nil, pair[0], pair[1]); ok {
			t.Errorf("r = %x, s = %x", pair[0], pair[1])
		}
	}
}

func BenchmarkSign(b *testing.B) {
	for _, alg := range []Algorithm{ES256, RS256, EdDSA} {
		b.Run(string(alg), func(b *testing.B) {
			private, _ := testKey(b, alg)
			signer, err := NewSigner("k1", alg, "at+jwt", private)
			if err != nil {
				b.Fatal(err)
			}
			claims := []byte(realClaims)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := signer.Sign(claims); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("bare ecdsa, hedged", func(b *testing.B) {
		private, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		digest := make([]byte, 32)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ecdsa.SignASN1(rand.Reader, private, digest); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bare ecdsa, RFC 6979", func(b *testing.B) {
		private, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		digest := make([]byte, 32)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := private.Sign(nil, digest, crypto.SHA256); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for _, alg := range []Algorithm{ES256, RS256, EdDSA} {
		b.Run(string(alg), func(b *testing.B) {
			_, public := testKey(b, alg)
			raw := forge(b, alg, strings.Replace(goodHeader, "ES256", string(alg), 1), realClaims)
			find := func(string, Algorithm) (PublicKey, bool) { return public, true }
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Verify(raw, expectAccess, find); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("bare ecdsa", func(b *testing.B) {
		private, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		digest := make([]byte, 32)
		signature, _ := ecdsa.SignASN1(rand.Reader, private, digest)
		for b.Loop() {
			if !ecdsa.VerifyASN1(&private.PublicKey, digest, signature) {
				b.Fatal()
			}
		}
	})
	b.Run("everything but the signature", func(b *testing.B) {
		raw := forge(b, ES256, goodHeader, realClaims)
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := InspectUnverified(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkVerifyThroughGoJose(b *testing.B) {
	_, public := testKey(b, ES256)
	raw := forge(b, ES256, goodHeader, realClaims)
	b.ReportAllocs()
	for b.Loop() {
		token, err := gojose.ParseSignedCompact(raw, []gojose.SignatureAlgorithm{gojose.ES256})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := token.Verify(public.CryptoKey()); err != nil {
			b.Fatal(err)
		}
	}
}

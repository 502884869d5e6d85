package password

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"
)

// cheap is a valid hash that costs little, for tests that are not about cost.
func cheap(password string) string {
	salt := []byte("0123456789abcdef")
	sum := argon2.IDKey([]byte(password), salt, 1, 8, 1, 32)
	return "$argon2id$v=19$m=8,t=1,p=1$" + encoding.EncodeToString(salt) + "$" + encoding.EncodeToString(sum)
}

func TestHashThenVerify(t *testing.T) {
	phc, err := Hash("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("hash is %q", phc)
	}
	other, err := Hash("correct horse")
	if err != nil || other == phc {
		t.Fatalf("two hashes of one password are the same: no salt (%v)", err)
	}
	for password, want := range map[string]bool{
		"correct horse": true, "correct horse ": false, "Correct horse": false, "": false, "\x00": false,
	} {
		if got, err := Verify(t.Context(), Caller{}, phc, password); err != nil || got != want {
			t.Errorf("Verify(%q) = %v, %v; want %v", password, got, err, want)
		}
	}
}

// RFC 9106 §5.3 has secret and data, which x/crypto does not take; this vector
// is from the reference implementation's own test suite.
func TestVerifiesTheReferenceImplementation(t *testing.T) {
	const phc = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	if ok, err := Verify(t.Context(), Caller{}, phc, "password"); err != nil || !ok {
		t.Fatalf("Verify = %v, %v", ok, err)
	}
}

func TestPasswordLength(t *testing.T) {
	long := strings.Repeat("x", MaxLength)
	if ok, err := Verify(t.Context(), Caller{}, cheap(long), long); err != nil || !ok {
		t.Errorf("1024 bytes: %v, %v", ok, err)
	}
	if ok, err := Verify(t.Context(), Caller{}, cheap(long+"x"), long+"x"); err != nil || ok {
		t.Errorf("1025 bytes: %v, %v; want refused", ok, err)
	}
	for _, p := range []string{"", long + "x"} {
		if _, err := Hash(p); !errors.Is(err, ErrLength) {
			t.Errorf("Hash of %d bytes: %v", len(p), err)
		}
	}
}

func TestStoredHashIsReadStrictly(t *testing.T) {
	good := cheap("x")
	for name, phc := range map[string]string{
		"empty":                         "",
		"plain text":                    "x",
		"another argon2":                strings.Replace(good, "argon2id", "argon2i", 1),
		"another version":               strings.Replace(good, "v=19", "v=16", 1),
		"memory beyond bounds":          strings.Replace(good, "m=8", "m=65537", 1),
		"memory below eight per lane":   strings.Replace(good, "p=1", "p=2", 1),
		"passes beyond bounds":          strings.Replace(good, "t=1", "t=11", 1),
		"no passes":                     strings.Replace(good, "t=1", "t=0", 1),
		"lanes beyond bounds":           strings.Replace(good, "m=8,t=1,p=1", "m=64,t=1,p=5", 1),
		"no lanes":                      strings.Replace(good, "p=1", "p=0", 1),
		"a leading zero":                strings.Replace(good, "t=1", "t=01", 1),
		"a sign":                        strings.Replace(good, "t=1", "t=+1", 1),
		"a number that does not fit":    strings.Replace(good, "m=8", "m=99999999999999999999", 1),
		"a parameter missing":           strings.Replace(good, ",p=1", "", 1),
		"a parameter more":              strings.Replace(good, "p=1", "p=1,x=1", 1),
		"parameters in another order":   strings.Replace(good, "m=8,t=1", "t=1,m=8", 1),
		"padding":                       good + "=",
		"a line break in the base64":    good[:len(good)-4] + "\n" + good[len(good)-4:],
		"a short salt":                  "$argon2id$v=19$m=8,t=1,p=1$AAAA$" + strings.Repeat("A", 43),
		"a short hash":                  "$argon2id$v=19$m=8,t=1,p=1$" + strings.Repeat("A", 22) + "$AAAA",
		"longer than any hash could be": good + strings.Repeat("A", 300),
	} {
		if _, err := Verify(t.Context(), Caller{}, phc, "x"); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v; want ErrFormat", name, err)
		}
	}
	for phc, ok := range map[string]bool{
		strings.Replace(good, "m=8", "m=7168", 1): true,
		strings.Replace(good, "m=8", "m=7167", 1): false, // Verify would take it, but nobody need store it
		"$2a$10$abc": false,
	} {
		if err := Check(phc); (err == nil) != ok || err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", phc, err)
		}
	}
}

func TestNobodyCostsWhatSomebodyCosts(t *testing.T) {
	somebody, err := Hash("x")
	if err != nil {
		t.Fatal(err)
	}
	dear := strings.Replace(cheap("x"), "m=8,t=1,p=1", "m=65536,t=3,p=4", 1)
	for name, tc := range map[string]struct {
		like []string
		want string
	}{
		"no hash of another make":       {nil, somebody},
		"our own hash":                  {[]string{somebody}, somebody},
		"a cheap hash":                  {[]string{cheap("x")}, somebody},
		"a dear hash among others":      {[]string{somebody, dear, cheap("x")}, dear},
		"more memory but fewer passes":  {[]string{strings.Replace(dear, "m=65536,t=3", "m=30000,t=1", 1)}, somebody},
		"a hash that cannot be used":    {[]string{"plain text", strings.Replace(dear, "t=3", "t=99", 1)}, somebody},
		"as much memory as is accepted": {[]string{strings.Replace(dear, "t=3", "t=10", 1), dear}, strings.Replace(dear, "t=3", "t=10", 1)},
	} {
		a, err := parse(tc.want)
		b := nobody(tc.like)
		if err != nil || a.memoryKiB != b.memoryKiB || a.passes != b.passes || a.lanes != b.lanes || len(b.salt) != saltSize || len(b.sum) != hashSize {
			t.Errorf("%s: the cost of nobody is %+v, of somebody %+v", name, b, a)
		}
	}
	if err := VerifyNobody(t.Context(), Caller{}, "x"); err != nil {
		t.Fatal(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(cheap("x"))
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=8,t=1,p=1$$")
	f.Fuzz(func(t *testing.T, phc string) {
		h, err := parse(phc)
		if err != nil {
			return
		}
		if h.memoryKiB > maxMemoryKiB || h.passes == 0 || h.passes > maxPasses || h.lanes == 0 || h.lanes > maxLanes || len(h.sum) < 16 {
			t.Fatalf("%q gives %+v", phc, h)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for b.Loop() {
		if err := VerifyNobody(b.Context(), Caller{}, "correct horse"); err != nil {
			b.Fatal(err)
		}
	}
}

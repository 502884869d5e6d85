package oauth

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseScopes(t *testing.T) {
	for _, row := range []struct {
		name, scope string
		want        []string // nil: refused
	}{
		{"nothing", "", []string{}},
		{"one", "read", []string{"read"}},
		{"two, in the order in which they were asked for", "write read", []string{"write", "read"}},
		{"one given twice counts once", "read write read", []string{"read", "write"}},
		{"scopes are case-sensitive", "read Read", []string{"read", "Read"}},
		{"every character that RFC 6749 allows", "!#$%&'()*+,-./:;<=>?@[]^_`{|}~", []string{"!#$%&'()*+,-./:;<=>?@[]^_`{|}~"}},
		{"a space before", " read", nil},
		{"a space after", "read ", nil},
		{"two spaces", "read  write", nil},
		{"a space alone", " ", nil},
		{"a tab", "read\twrite", nil},
		{"114: a line break", "read\nwrite", nil},
		{"a quotation mark", `re"ad`, nil},
		{"a backslash", `re\ad`, nil},
		{"DEL", "re\x7fad", nil},
		{"a letter beyond ASCII", "réad", nil},
		{"15: a hundred values", strings.TrimSpace(numbered(100)), strings.Fields(numbered(100))},
		{"15: a hundred and one values", strings.TrimSpace(numbered(101)), nil},
		{"15: 4096 bytes", strings.Repeat("a", 4096), []string{strings.Repeat("a", 4096)}},
		{"15: 4097 bytes", strings.Repeat("a", 4097), nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := ParseScopes(row.scope)
			if (err == nil) != (row.want != nil) || err == nil && !slices.Equal(got.List(), row.want) {
				t.Fatalf("%v %v, want %v", got.List(), err, row.want)
			}
		})
	}
}

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "s%d ", i)
	}
	return b.String()
}

// scopesOf draws from few values, so that sets overlap.
var someScopes = rapid.Custom(func(t *rapid.T) Scopes {
	names := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "A", "a:b"}), 0, 7).Draw(t, "names")
	return MustScopes(names...)
})

func TestScopesAreSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := someScopes.Draw(t, "a"), someScopes.Draw(t, "b"), someScopes.Draw(t, "c")
		same := func(x, y Scopes) bool { return x.Covers(y) && y.Covers(x) && len(x.List()) == len(y.List()) }
		for name, holds := range map[string]bool{
			"a covers itself":                         a.Covers(a),
			"everything covers nothing":               a.Covers(Scopes{}),
			"union covers both":                       a.Union(b).Covers(a) && a.Union(b).Covers(b),
			"union has nothing else":                  !slices.ContainsFunc(a.Union(b).List(), func(s string) bool { return !a.Has(s) && !b.Has(s) }),
			"intersection is in both":                 a.Covers(a.Intersect(b)) && b.Covers(a.Intersect(b)),
			"intersection forgets nothing":            !slices.ContainsFunc(a.List(), func(s string) bool { return b.Has(s) != a.Intersect(b).Has(s) }),
			"union is the same in either order":       same(a.Union(b), b.Union(a)),
			"intersection is the same either way":     same(a.Intersect(b), b.Intersect(a)),
			"one distributes over the other":          same(a.Intersect(b.Union(c)), a.Intersect(b).Union(a.Intersect(c))),
			"covers is transitive":                    !a.Covers(b) || !b.Covers(c) || a.Covers(c),
			"covers is the same as nothing outside":   a.Covers(b) == b.Filter(func(s string) bool { return !a.Has(s) }).IsEmpty(),
			"intersection keeps a's order":            slices.IsSortedFunc(a.Intersect(b).List(), func(x, y string) int { return slices.Index(a.List(), x) - slices.Index(a.List(), y) }),
			"union and intersection leave a as it is": same(a, MustScopes(a.List()...)),
		} {
			if !holds {
				t.Errorf("%s: a=%q b=%q c=%q", name, a, b, c)
			}
		}
		if name, is := a.FirstOutside(b); is == b.Covers(a) || is && (b.Has(name) || !a.Has(name)) {
			t.Errorf("first outside: %q %v of %q in %q", name, is, a, b)
		}
		again, err := ParseScopes(a.String())
		if err != nil || !slices.Equal(again.List(), a.List()) {
			t.Errorf("%q gives %q %v", a, again, err)
		}
	})
}

func TestAListHandedOutIsACopy(t *testing.T) {
	s := MustScopes("read")
	s.List()[0] = "admin"
	if s.Has("admin") {
		t.Fatal("a caller changed a set")
	}
	base := MustScopes("a", "b", "c", "d").Filter(func(n string) bool { return n != "d" }) // with room for one more
	x, y := base.Union(MustScopes("x")), base.Union(MustScopes("y"))
	if x.Has("y") || y.Has("x") {
		t.Fatalf("two unions share their memory: %q %q", x, y)
	}
}

func FuzzParseScopes(f *testing.F) {
	f.Add("read write")
	f.Add(" read\x00")
	f.Fuzz(func(t *testing.T, scope string) {
		s, err := ParseScopes(scope)
		if err != nil {
			if !s.IsEmpty() {
				t.Fatal("refused, and yet a set")
			}
			return
		}
		for _, name := range s.List() {
			if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= 0x20 || r >= 0x7f || r == '"' || r == '\\' }) {
				t.Fatalf("%q has %q in it", scope, name)
			}
		}
		asked := strings.Fields(scope)
		if !slices.Equal(slices.Compact(slices.Sorted(slices.Values(asked))), slices.Sorted(slices.Values(s.List()))) {
			t.Fatalf("%q became %q", scope, s)
		}
		if again, err := ParseScopes(s.String()); err != nil || again.String() != s.String() {
			t.Fatalf("%q, then %q %v", s, again, err)
		}
	})
}

const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // RFC 7636 appendix B
const challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"

func TestChallenge(t *testing.T) { // 29
	for _, row := range []struct {
		name, challenge, method string
		ok                      bool
	}{
		{"S256, as in RFC 7636 appendix B", challenge, "S256", true},
		{"none", "", "", true},
		{"plain", verifier, "plain", false},
		{"no method means plain", challenge, "", false},
		{"a method and no challenge", "", "S256", false},
		{"the method in another letter case", challenge, "s256", false},
		{"a character short", challenge[:42], "S256", false},
		{"a character long", challenge + "A", "S256", false},
		{"with padding", challenge + "=", "S256", false},
		{"bits left over", challenge[:42] + "N", "S256", false},
		{"a line break in it", challenge[:20] + "\n" + challenge[20:], "S256", false},
		{"the other base64", strings.ReplaceAll(challenge, "-", "+"), "S256", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			if c, err := ParseChallenge(row.challenge, row.method); (err == nil) != row.ok || err == nil && c.String() != row.challenge {
				t.Fatalf("%q %v", c, err)
			}
		})
	}
}

func TestVerifier(t *testing.T) { // 29
	long := strings.Repeat("~", 128)
	sum := sha256.Sum256([]byte(long))
	longChallenge := base64.RawURLEncoding.EncodeToString(sum[:])
	of := func(v string) string {
		sum := sha256.Sum256([]byte(v))
		return base64.RawURLEncoding.EncodeToString(sum[:])
	}
	for _, row := range []struct {
		name, challenge, verifier string
		ok                        bool
	}{
		{"the right one", challenge, verifier, true},
		{"128 characters", longChallenge, long, true},
		{"none where none is needed", "", "", true},
		{"one where no challenge was sent", "", verifier, false},
		{"none where a challenge was sent", challenge, "", false},
		{"the challenge itself", challenge, challenge, false},
		{"another", challenge, strings.Repeat("a", 43), false},
		{"42 characters that match", of(verifier[:42]), verifier[:42], false},
		{"129 characters that match", of(long + "~"), long + "~", false},
		{"a character that is not allowed, and matches", of(verifier[:42] + "+"), verifier[:42] + "+", false},
		{"a space in it, and matches", of(verifier[:42] + " "), verifier[:42] + " ", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			method := ""
			if row.challenge != "" {
				method = "S256"
			}
			c, err := ParseChallenge(row.challenge, method)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Verify(row.verifier); (err == nil) != row.ok {
				t.Fatal(err)
			}
		})
	}
}

func TestOpaque(t *testing.T) { // 72
	secret := NewSecret(PrefixClientSecret).Reveal()
	payload, err := DecodeOpaque(PrefixClientSecret, secret, 32)
	if err != nil || len(payload) != 32 {
		t.Fatalf("%d %v", len(payload), err)
	}
	if other := NewSecret(PrefixClientSecret); other.Reveal() == secret {
		t.Fatal("two secrets are the same")
	}
	swapped := []byte(secret)
	swapped[10], swapped[11] = swapped[11], swapped[10]
	for name, value := range map[string]string{
		"nothing": "", "the prefix alone": "sbx_cs_", "without its prefix": strings.TrimPrefix(secret, "sbx_cs_"),
		"cut off": secret[:len(secret)-1], "four cut off": secret[:len(secret)-4], "extended": secret + "A", "extended by four": secret + "AAAA",
		"with padding": secret + "=", "in another letter case": strings.ToUpper(secret), "prefix in another letter case": "SBX_cs_" + secret[7:],
		"under another prefix": "sbx_rt_" + secret[7:], "a space before": " " + secret, "a space after": secret + " ",
		"a line break after": secret + "\n", "a line break in it": secret[:20] + "\r\n" + secret[20:], "in the other base64": "sbx_cs_" + strings.Repeat("+", 48),
		"two letters swapped": string(swapped),
	} {
		if string(swapped) == secret {
			continue
		}
		if got, err := DecodeOpaque(PrefixClientSecret, value, 32); err == nil {
			t.Errorf("%s: %q gives %x", name, value, got)
		}
	}
	if _, err := DecodeOpaque(PrefixClientSecret, EncodeOpaque(PrefixClientSecret, make([]byte, 33)), 32); err == nil || errors.Is(err, ErrTypo) {
		t.Errorf("longer than any: %v", err)
	}
	last := "_"
	if strings.HasSuffix(secret, last) { // one secret in 64
		last = "-"
	}
	if _, err := DecodeOpaque(PrefixClientSecret, secret[:len(secret)-1]+last, 32); !errors.Is(err, ErrTypo) {
		t.Errorf("a typo is not told from a forged value: %v", err)
	}
}

func TestOpaqueHasOneSpelling(t *testing.T) {
	for size := range 9 {
		value := EncodeOpaque(PrefixAccessToken, make([]byte, size))
		if _, err := DecodeOpaque(PrefixAccessToken, value, 100); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		for _, other := range []string{
			value[:len(value)-1] + string(rune(value[len(value)-1]+1)), // bits left over, or a typo
			value + "\n", value[:9] + "\r" + value[9:], value + "=",
		} {
			if _, err := DecodeOpaque(PrefixAccessToken, other, 100); err == nil {
				t.Errorf("%d bytes: %q is %q", size, other, value)
			}
		}
		moved := string(PrefixRefreshToken) + strings.TrimPrefix(value, string(PrefixAccessToken))
		if _, err := DecodeOpaque(PrefixRefreshToken, moved, 100); err == nil {
			t.Errorf("%d bytes: good under another prefix", size)
		}
	}
}

func TestScopesOfSingleValues(t *testing.T) {
	for _, name := range []string{"", " ", "read write", "re\"ad"} {
		if s, err := ScopesOf("a", name); err == nil {
			t.Errorf("%q is one value of %q", name, s)
		}
	}
	if s, err := ScopesOf(); err != nil || !s.IsEmpty() {
		t.Errorf("%q %v", s, err)
	}
}

// FuzzDecodeOpaque: a value that is accepted has no second spelling, and no
// value is accepted under two prefixes.
func FuzzDecodeOpaque(f *testing.F) {
	f.Add(string(NewSecret(PrefixRefreshToken).Reveal()))
	f.Add(EncodeOpaque(PrefixAccessToken, nil))
	f.Add("sbx_cs_AAAAAA")
	f.Fuzz(func(t *testing.T, value string) {
		accepted := 0
		for _, prefix := range []Prefix{PrefixAccessToken, PrefixRefreshToken, PrefixClientSecret, PrefixAuthorizationCode} {
			payload, err := DecodeOpaque(prefix, value, 256)
			if err != nil {
				if payload != nil {
					t.Fatal("refused, and yet a payload")
				}
				continue
			}
			accepted++
			if again := EncodeOpaque(prefix, payload); again != value || len(payload) > 256 {
				t.Fatalf("%q is another spelling of %q (%d bytes)", value, again, len(payload))
			}
		}
		if accepted > 1 {
			t.Fatalf("%q is of two kinds", value)
		}
	})
}

func TestSecretsDoNotPrint(t *testing.T) { // 114
	s := NewSecret(PrefixClientSecret)
	encoded, err := json.Marshal(map[string]any{"a": s, "b": &s, "c": []Secret{s}})
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q", s, s, s, s, s), fmt.Sprintf("%v", []Secret{s}), fmt.Sprintf("%+v", struct{ S Secret }{s}), string(encoded)} {
		if strings.Contains(printed, s.Reveal()) || !strings.Contains(printed, "[redacted]") {
			t.Errorf("%s", printed)
		}
	}
	if s.IsZero() || !SecretOf("").IsZero() || SecretOf("a").Hash() != sha256.Sum256([]byte("a")) {
		t.Error("a secret is not its value")
	}
}

func TestErrors(t *testing.T) {
	cause := errors.New("the disk is gone")
	refused := Errorf(InvalidGrant, "no").Because(cause)
	if !errors.Is(refused, cause) || refused.Description != "no" || AsError(fmt.Errorf("x: %w", refused)) != refused {
		t.Errorf("%v", refused)
	}
	// 69: what is not a refusal is a fault of ours, and never the end of a grant.
	for _, fault := range []error{cause, fmt.Errorf("query: %w", cause)} {
		said := AsError(fault)
		if said.Code != TemporarilyUnavailable || strings.Contains(said.Description, "disk") || !errors.Is(said, cause) {
			t.Errorf("%v", said)
		}
	}
	for code, status := range map[Code]int{
		InvalidRequest: 400, InvalidClient: 401, InvalidGrant: 400, UnauthorizedClient: 400, UnsupportedGrantType: 400, InvalidScope: 400, InvalidTarget: 400,
		InvalidToken: 401, InsufficientScope: 403, AccessDenied: 403, TemporarilyUnavailable: http.StatusServiceUnavailable, ServerError: 500, UnsupportedTokenType: 400,
	} {
		if code.Status() != status {
			t.Errorf("%s is %d, want %d", code, code.Status(), status)
		}
	}
}

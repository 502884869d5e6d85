package explain

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func jws(header, payload string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(header)) + "." + encode([]byte(payload)) + ".AA"
}

func TestExplain(t *testing.T) {
	for _, row := range []struct {
		name, token string
		want        []string
	}{
		{"an access token", jws(`{"alg":"ES256","typ":"at+jwt"}`, `{"iss":"https://sts.example.com","exp":1772366700}`),
			[]string{"access token (RFC 9068)", "issuer: who made the token", "2026-03-01T12:05:00Z, in 5m0s", "the signature was not checked: signalbox token verify does that"}},
		{"an access token with the long media type", jws(`{"alg":"ES256","typ":"application/AT+JWT"}`, `{"exp":1772366700}`), []string{"access token (RFC 9068)"}},
		{"an ID token is not taken for an access token", jws(`{"alg":"ES256","typ":"JWT"}`, `{"exp":1772366700}`), []string{"not an access token of Signalbox", "the signature was not checked: signalbox token verify --client-id CLIENT does that, if it is an ID token"}},
		{"a token without a type", jws(`{"alg":"ES256"}`, `{"exp":1772366700}`), []string{"JSON Web Token without a type"}},
		{"an expired token", jws(`{"alg":"ES256"}`, `{"exp":1772366399}`), []string{"1s ago", "it has expired"}},
		{"a token that expires now has expired", jws(`{"alg":"ES256"}`, `{"exp":1772366400}`), []string{", now", "it has expired"}},
		{"a token without exp", jws(`{"alg":"none"}`, `{}`), []string{"it never expires"}},
		{"a claim that nobody knows is shown without a meaning", jws(`{"alg":"ES256"}`, `{"color":"red"}`), []string{`color  "red"`}},
		{"white space around it", "\n " + jws(`{"alg":"ES256"}`, `{}`) + " \n", []string{"JSON Web Token"}},
		{"an opaque access token", oauth.EncodeOpaque(oauth.PrefixAccessToken, []byte("x")), []string{"opaque access token", "nothing is missing"}},
		{"a refresh token", oauth.EncodeOpaque(oauth.PrefixRefreshToken, []byte("x")), []string{"refresh token", "nothing is missing"}},
		{"a client secret", oauth.NewSecret(oauth.PrefixClientSecret).Reveal(), []string{"client secret", "nothing is missing"}},
		{"an authorization code", oauth.EncodeOpaque(oauth.PrefixAuthorizationCode, []byte("x")), []string{"authorization code", "nothing is missing"}},
		{"a value that was cut off", oauth.NewSecret(oauth.PrefixClientSecret).Reveal()[:30], []string{"client secret", "cut off or mistyped"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			token, err := Parse(row.token, now)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range row.want {
				if !strings.Contains(token.String(), want) {
					t.Errorf("no %q in:\n%s", want, token)
				}
			}
			if strings.HasPrefix(row.token, "sbx_") && strings.Contains(token.String(), row.token) {
				t.Errorf("the explanation holds the value:\n%s", token)
			}
		})
	}
	for _, noToken := range []string{"", "x", "a.b", "a.b.c.d", "sbx_xx_abc", jws(`{"alg":"ES256"}`, `[]`), jws(`{`, `{}`)} {
		if token, err := Parse(noToken, now); err == nil {
			t.Errorf("%q is a token: %v", noToken, token)
		}
	}
}

func TestTimesOnlyWhereAClaimIsATime(t *testing.T) {
	token, err := Parse(jws(`{"alg":"ES256"}`, `{"exp":"soon","iat":1772366400,"amount":1772366400}`), now)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range token.Claims {
		if has := strings.Contains(c.Meaning, "2026"); has != (c.Name == "iat") {
			t.Errorf("%s: %s", c.Name, c.Meaning)
		}
	}
}

// FuzzExplain: whatever a token holds, its explanation has one line for each
// thing that it tells, and nothing in it that a terminal acts on (114).
func FuzzExplain(f *testing.F) {
	f.Add(`{"alg":"ES256","typ":"at+jwt"}`, `{"iss":"x","exp":1772366700}`)
	f.Add(`{"alg":"x","typ":"\u001b[2Jevil\nnote: trust me"}`, `{"a":1}`)
	f.Add(`{"alg":"x","a":"\u001b[2J"}`, `{"a\u001b]0;b":"\u202e\u009b"}`)
	f.Add(`{"alg":"x","typ":"x"}`, "{\"a\":\"\u202e\u009b\"}")
	f.Add(`{"alg":"x"}`, "{\"a\": {\n\"b\":\t1}}")
	f.Fuzz(func(t *testing.T, header, payload string) {
		token, err := Parse(jws(header, payload), now)
		if err != nil {
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("%q", err)
			}
			return
		}
		lines := strings.Split(strings.TrimSuffix(token.String(), "\n"), "\n")
		want := 2 + len(token.Claims) + len(token.Notes)
		for _, c := range token.Claims {
			if c.Meaning != "" {
				want++
			}
		}
		if len(lines) != want {
			t.Fatalf("%d lines, want %d:\n%q", len(lines), want, token.String())
		}
		for _, line := range lines {
			if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Fatalf("%q", line)
			}
		}
		if _, err := json.Marshal(token); err != nil {
			t.Fatal(err)
		}
	})
}

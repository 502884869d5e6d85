package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// TestVerifyTellsIDTokensFromAccessTokens: start from one good token of each
// kind and change one thing (docs/security/threats.md D 59).
func TestVerifyTellsIDTokensFromAccessTokens(t *testing.T) {
	const issuer = "https://sts.example.com"
	now := time.Unix(1772366400, 0)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var keys jose.KeySet
	sign := func(typ, claims string) string {
		t.Helper()
		signer, err := jose.NewSigner("k1", jose.ES256, typ, key)
		if err != nil {
			t.Fatal(err)
		}
		keys = jose.KeySet{signer.PublicKey()}
		raw, err := signer.Sign([]byte(claims))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	const id = `{"iss":"https://sts.example.com","sub":"u_1","aud":"web","iat":1772366400,"exp":1772366700}`
	with := func(old, now string) string {
		t.Helper()
		if !strings.Contains(id, old) {
			t.Fatalf("no %s", old)
		}
		return strings.Replace(id, old, now, 1)
	}
	web := expected{clientID: "web"}
	for _, row := range []struct {
		sentence    string
		typ, claims string
		want        expected
		refused     string
	}{
		{"an ID token for its client", oauth.TypIDToken, id, web, ""},
		{"an access token", oauth.TypAccessToken, id, expected{}, ""},
		{"an access token for its audience", oauth.TypAccessToken, id, expected{audience: "web"}, ""},
		{"an ID token as an access token", oauth.TypIDToken, id, expected{}, "not an access token"},
		{"an ID token as an access token for its client's id", oauth.TypIDToken, id, expected{audience: "web"}, "not an access token"},
		{"an access token as an ID token", oauth.TypAccessToken, id, web, "not an ID token"},
		{"a logout token as an ID token", "logout+jwt", id, web, "not an ID token"},
		{"an ID token for another client", oauth.TypIDToken, with(`"web"`, `"app"`), web, "not meant for the client web"},
		{"an ID token without an audience", oauth.TypIDToken, with(`"aud":"web",`, ``), web, "not meant for the client web"},
		{"an ID token for several that does not say for whom", oauth.TypIDToken, with(`"web"`, `["web","app"]`), web, "azp"},
		{"an ID token for several, made for this one", oauth.TypIDToken, with(`"web"`, `["web","app"],"azp":"web"`), web, ""},
		{"an ID token made for another one", oauth.TypIDToken, with(`"web"`, `["web","app"],"azp":"app"`), web, "azp"},
		{"an ID token about nobody", oauth.TypIDToken, with(`"sub":"u_1",`, ``), web, "it has no sub"},
		{"an ID token from no time", oauth.TypIDToken, with(`"iat":1772366400,`, ``), web, "it has no iat"},
		{"an ID token that has expired", oauth.TypIDToken, with(`1772366700`, `1772366400`), web, "expired"},
		{"an ID token of another issuer", oauth.TypIDToken, with(issuer, "https://evil.example.com"), web, "iss"},
	} {
		raw := sign(row.typ, row.claims)
		_, err := row.want.verify(keys, issuer, raw, now)
		if (err == nil) != (row.refused == "") || err != nil && !strings.Contains(err.Error(), row.refused) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.refused)
		}
	}
}

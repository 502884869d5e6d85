package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// Threats D: JOSE. Whatever is not one of our access tokens is, at introspection,
// {"active":false} and nothing more; at UserInfo, 401 invalid_token.
func TestThreatsD_AccessTokens(t *testing.T) {
	s := atHome(t)
	tokens := s.signedIn(t, webTwo, ada)
	good := tokens.str("access_token")
	parts := strings.Split(good, ".")
	h, c := claimsOf(t, good)
	jwks := s.get(t, "/jwks")

	// resign makes a token with our header and claims, changed, signed by the attacker's key.
	resign := func(change func(h, c map[string]any)) string {
		h2, c2 := copyOf(t, h), copyOf(t, c)
		change(h2, c2)
		return jws(h2, c2, signerKey)
	}
	// keep makes a token with another header but our signature.
	keep := func(change func(h map[string]any)) string {
		h2 := copyOf(t, h)
		change(h2)
		raw, _ := json.Marshal(h2)
		return b64(raw) + "." + parts[1] + "." + parts[2]
	}
	unsigned := func(alg any) string {
		h2 := copyOf(t, h)
		h2["alg"] = alg
		if alg == nil {
			delete(h2, "alg")
		}
		return jws(h2, c, nil)
	}
	claims := func(text string) string { return parts[0] + "." + b64([]byte(text)) + "." + parts[2] }

	rows := []struct{ sentence, token string }{
		{"D43 alg none", unsigned("none")},
		{"D43 alg None", unsigned("None")},
		{"D43 alg noNE with the signature left on", keep(func(h map[string]any) { h["alg"] = "noNE" })},
		{"D43 alg empty", unsigned("")},
		{"D43 alg missing", unsigned(nil)},
		{"D43 alg a number", unsigned(1)},
		{"D43 the signature cut off", parts[0] + "." + parts[1] + "."},
		{"D43 the signature and its dot cut off", parts[0] + "." + parts[1]},
		{"D44 HMAC with the JWKS for a secret", hs256(map[string]any{"alg": "HS256", "kid": h["kid"], "typ": "at+jwt"}, c, jwks.Body)},
		{"D45 another algorithm with the same key", keep(func(h map[string]any) { h["alg"] = "RS256" })},
		{"D45 ES256 by somebody else's key", resign(func(_, _ map[string]any) {})},
		{"D46 a key that came along", resign(func(h, _ map[string]any) { delete(h, "kid"); h["jwk"] = jwkOf("mine", signerKey) })},
		{"D46 a key that came along beside our kid", resign(func(h, _ map[string]any) { h["jwk"] = jwkOf("mine", signerKey) })},
		{"D46 a certificate that came along", resign(func(h, _ map[string]any) { h["x5c"] = []string{"MIIB"} })},
		{"D46 a key to be fetched", resign(func(h, _ map[string]any) { h["jku"] = "http://127.0.0.1:1/jwks"; h["kid"] = "mine" })},
		{"D47 a kid that nobody knows", keep(func(h map[string]any) { h["kid"] = "unknown" })},
		{"D47 SQL for a kid", resign(func(h, _ map[string]any) { h["kid"] = "' UNION SELECT 1 --" })},
		{"D47 a path for a kid", resign(func(h, _ map[string]any) { h["kid"] = "../../../dev/null" })},
		{"D47 a kid with a new line", resign(func(h, _ map[string]any) { h["kid"] = "x\nevent=forged" })},
		{"D47 a kid of 40 kB", resign(func(h, _ map[string]any) { h["kid"] = strings.Repeat("k", 40<<10) })},
		{"D47 no kid", keep(func(h map[string]any) { delete(h, "kid") })},
		{"D48 an unknown critical header", keep(func(h map[string]any) { h["crit"] = []string{"surprise"} })},
		{"D48 b64=false", keep(func(h map[string]any) { h["b64"] = false; h["crit"] = []string{"b64"} })},
		{"D49 five parts as of a JWE", "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA"},
		{"D50 as JSON", `{"protected":"` + parts[0] + `","payload":"` + parts[1] + `","signature":"` + parts[2] + `"}`},
		{"D50 with a space behind", good + " "},
		{"D50 with a new line inside", parts[0] + ".\n" + parts[1] + "." + parts[2]},
		{"D50 with padding", parts[0] + "." + parts[1] + "." + parts[2] + "=="},
		{"D50 in base64 that is not of the URL kind", parts[0] + "." + parts[1] + "." + strings.NewReplacer("-", "+", "_", "/").Replace("_-"+parts[2][2:])},
		{"D51 a claim twice", claims(`{"scope":"orders:write",` + string(rawOf(t, c))[1:])},
		{"D52 bytes that are not UTF-8", claims("{\"sub\":\"\xff\xfe\"}")},
		{"D52 a byte order mark", claims("\ufeff" + string(rawOf(t, c)))},
		{"D52 something behind the claims", claims(string(rawOf(t, c)) + "{}")},
		{"D52 claims 5,000 deep", claims(strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000))},
		{"D53 a signature of zeros", parts[0] + "." + parts[1] + "." + b64(make([]byte, 64))},
		{"D53 a signature that is too long", good + "AAAA"},
		{"D54 ten thousand dots", strings.Repeat(".", 10000)},
		{"D54 nothing but two dots", ".."},
		{"D55 a bomb of key derivation", b64([]byte(`{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483647,"p2s":"AAAA"}`)) + ".AAAA.AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA"},
		{"D59 an ID token", tokens.str("id_token")},
		{"D59 an ID token under the name of an access token", retype(t, tokens.str("id_token"), "at+jwt")},
		{"D59 an access token under the name of an ID token", keep(func(h map[string]any) { h["typ"] = "JWT" })},
		{"D59 an access token without its type", keep(func(h map[string]any) { delete(h, "typ") })},
		{"E72 a claim changed", claims(strings.Replace(string(rawOf(t, c)), "orders:read", "orders:admin", 1))},
		{"E72 cut by one", good[:len(good)-2]},
		{"E72 in capitals", strings.ToUpper(good)},
		{"E72 an opaque token that we never made", "sbx_at_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
		{"E72 a word", "token"},
	}
	check := func(t *testing.T, token string, wantGood bool) {
		t.Helper()
		got := s.post(t, "/introspect", params("token", token), basic(apiServer))
		if wantGood {
			if got.Status != http.StatusOK || got.JSON["active"] != true {
				t.Errorf("introspection: %s", got)
			}
		} else if len(token) > 32<<10 || strings.Contains(token, "\n") {
			if got.Status != http.StatusBadRequest || got.str("error") != "invalid_request" {
				t.Errorf("introspection of what no token can be: %s", got)
			}
		} else if got.Status != http.StatusOK || len(got.JSON) != 1 || got.JSON["active"] != false {
			t.Errorf("E74 introspection: %s", got)
		}
		if strings.ContainsAny(token, "\n") || len(token) > 30<<10 {
			return // no header can carry it
		}
		info := s.get(t, "/userinfo", bearer(token))
		challenge := info.Header.Get("WWW-Authenticate")
		switch {
		case wantGood && info.Status != http.StatusOK:
			t.Errorf("UserInfo: %s", info)
		case !wantGood && strings.HasSuffix(token, " "): // white space around a field is not part of it (RFC 9110 §5.5)
		case !wantGood && (info.Status != http.StatusUnauthorized && info.Status != http.StatusBadRequest || !strings.HasPrefix(challenge, "Bearer") || info.JSON["sub"] != nil):
			t.Errorf("UserInfo: %s", info)
		}
	}
	t.Run("D0 the good token", func(t *testing.T) { check(t, good, true) })
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			if row.token == good {
				t.Fatal("the row changed nothing")
			}
			check(t, row.token, false)
		})
	}
	t.Run("D59 a refresh token is not an access token at UserInfo", func(t *testing.T) {
		if r := s.get(t, "/userinfo", bearer(tokens.str("refresh_token"))); r.Status != http.StatusUnauthorized {
			t.Errorf("%s", r)
		}
	})
	t.Run("D59 an access token is not a client assertion", func(t *testing.T) {
		v := params("grant_type", "client_credentials", "client_assertion_type", assertionType, "client_assertion", good)
		checkTokenAnswer(t, s.post(t, "/token", v), "invalid_client|invalid_request")
	})
	t.Run("D0 the good token is still good", func(t *testing.T) { check(t, good, true) })
}

func copyOf(t *testing.T, m map[string]any) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(rawOf(t, m), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func rawOf(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// retype changes the typ of a token and keeps its signature.
func retype(t *testing.T, token, typ string) string {
	t.Helper()
	h, _ := claimsOf(t, token)
	h["typ"] = typ
	_, rest, _ := strings.Cut(token, ".")
	return b64(rawOf(t, h)) + "." + rest
}

package conformance

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// plan is the variant in which a module runs.
type plan struct {
	name string
	mode string // response_mode; empty is not sent
}

// request is one good authorization request of the client with this id; change
// sets parameters, and an empty value removes one.
func (p plan) request(id string, change ...string) url.Values {
	v := url.Values{
		"client_id": {id}, "response_type": {"code"}, "redirect_uri": {callback}, "scope": {"openid"},
		"state": {rand.Text()}, "nonce": {rand.Text()},
	}
	if p.mode != "" {
		v.Set("response_mode", p.mode)
	}
	for i := 0; i < len(change); i += 2 {
		v.Set(change[i], change[i+1])
		if change[i+1] == "" {
			v.Del(change[i])
		}
	}
	return v
}

func authorize(v url.Values) string { return issuer + "/authorize?" + v.Encode() }

// code takes a request to its code, and checks what comes with it.
func (p plan) code(b *browser, v url.Values) string {
	b.Helper()
	got := b.open(authorize(v))
	p.arrived(b.T, got, v)
	if got.Get("code") == "" || got.Has("error") {
		b.Fatalf("the client got %v, page %s", got.Values, got.page)
	}
	return got.Get("code")
}

// arrived checks that an answer, good or bad, came as the plan wants it.
func (p plan) arrived(t *testing.T, got arrival, v url.Values) {
	t.Helper()
	if got.uri != callback || got.form != (p.mode == "form_post") {
		t.Fatalf("arrived at %q, by a form: %v, %d %s", got.uri, got.form, got.status, got.page)
	}
	if got.Get("state") != v.Get("state") || got.Get("iss") != issuer {
		t.Errorf("the client got %v, want state %q", got.Values, v.Get("state"))
	}
}

// refused wants an error of these at the client.
func (p plan) refused(t *testing.T, got arrival, v url.Values, errors ...string) {
	t.Helper()
	p.arrived(t, got, v)
	if !slices.Contains(errors, got.Get("error")) || got.Has("code") {
		t.Errorf("the client got %v, want one of %q", got.Values, errors)
	}
}

// answer is a JSON answer.
type answer struct {
	status int
	header http.Header
	body   map[string]any
}

func (a answer) text(name string) string { s, _ := a.body[name].(string); return s }

func send(t *testing.T, method, path string, form url.Values, change ...func(*http.Request)) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, c := range change {
		c(request)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode, header: response.Header}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &a.body); err != nil {
		t.Fatalf("%s %s: %d %s", method, path, a.status, body)
	}
	return a
}

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

// redeem exchanges a code at the token endpoint.
func redeem(t *testing.T, id, code string, more ...string) answer {
	t.Helper()
	return atToken(t, id, append([]string{"grant_type", "authorization_code", "code", code, "redirect_uri", callback}, more...)...)
}

func atToken(t *testing.T, id string, pairs ...string) answer {
	t.Helper()
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	if id == "post" {
		v.Set("client_id", id)
		v.Set("client_secret", secret)
		return send(t, http.MethodPost, "/token", v)
	}
	return send(t, http.MethodPost, "/token", v, func(r *http.Request) { r.SetBasicAuth(id, secret) })
}

// signIn runs the whole flow, checks the token response and the ID token, and
// returns both.
func (p plan) signIn(b *browser, v url.Values, more ...string) (tokens answer, claims map[string]any) {
	b.Helper()
	tokens = redeem(b.T, v.Get("client_id"), p.code(b, v), more...)
	if tokens.status != http.StatusOK || tokens.text("access_token") == "" || tokens.text("token_type") != "Bearer" {
		b.Fatalf("%d %v", tokens.status, tokens.body)
	}
	if tokens.header.Get("Cache-Control") != "no-store" {
		b.Errorf("the tokens may be cached: %q", tokens.header.Get("Cache-Control"))
	}
	return tokens, idToken(b.T, tokens, v.Get("client_id"), v.Get("nonce"))
}

// idToken verifies an ID token with the published keys.
func idToken(t *testing.T, tokens answer, id, nonce string) (claims map[string]any) {
	t.Helper()
	claims, header := verified(t, tokens.text("id_token"))
	want := "ES256"
	if id == "basic" {
		want = "RS256"
	}
	if header.Algorithm != want {
		t.Errorf("signed with %s, want %s", header.Algorithm, want)
	}
	sum := sha256.Sum256([]byte(tokens.text("access_token")))
	now, issued, expires := float64(time.Now().Unix()), number(claims["iat"]), number(claims["exp"])
	if claims["iss"] != issuer || claims["aud"] != id || claims["sub"] == "" || claims["at_hash"] != base64.RawURLEncoding.EncodeToString(sum[:16]) {
		t.Errorf("%v", claims)
	}
	if issued > now+5 || issued < now-60 || expires <= now || expires > now+3600 {
		t.Errorf("issued at %v, expires at %v, now %v", issued, expires, now)
	}
	if got, _ := claims["nonce"].(string); got != nonce {
		t.Errorf("nonce %q, want %q", got, nonce)
	}
	for _, name := range []string{"name", "email", "phone_number", "address"} {
		if _, has := claims[name]; has {
			t.Errorf("%s is in the ID token and was not asked for there", name)
		}
	}
	return claims
}

// verified reads a token that one of the published keys has signed.
func verified(t *testing.T, raw string) (claims map[string]any, header jose.Header) {
	t.Helper()
	signed, err := jose.ParseSigned(raw, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	header = signed.Signatures[0].Header
	published := send(t, http.MethodGet, "/jwks", nil)
	text, err := json.Marshal(published.body)
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(text, &set); err != nil {
		t.Fatal(err)
	}
	keys := set.Key(header.KeyID)
	if len(keys) != 1 {
		t.Fatalf("%d keys %q", len(keys), header.KeyID)
	}
	payload, err := signed.Verify(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims, header
}

func number(v any) float64 { n, _ := v.(float64); return n }

// userInfo asks with the access token, and wants the same subject.
func userInfo(t *testing.T, tokens answer, claims map[string]any) map[string]any {
	t.Helper()
	got := send(t, http.MethodGet, "/userinfo", nil, bearer(tokens.text("access_token")))
	if got.status != http.StatusOK || got.body["sub"] != claims["sub"] {
		t.Fatalf("%d %v, want sub %v", got.status, got.body, claims["sub"])
	}
	return got.body
}

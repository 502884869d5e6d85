package conformance

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"
)

// module is one test of a plan.
type module struct {
	name string
	run  func(*browser, plan)
}

var (
	profileClaims = []string{"name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website", "gender", "birthdate", "zoneinfo", "locale", "updated_at"}
	emailClaims   = []string{"email", "email_verified"}
	addressClaims = []string{"address"}
	phoneClaims   = []string{"phone_number", "phone_number_verified"}
)

// TestBasic: oidcc-basic-certification-test-plan, response_type code, static
// clients, and the metadata of discovery.
func TestBasic(t *testing.T) { runAll(t, plan{"oidcc-basic-certification-test-plan", ""}) }

// TestFormPost: the same modules, with every answer in a form.
func TestFormPost(t *testing.T) {
	runAll(t, plan{"oidcc-formpost-basic-certification-test-plan", "form_post"})
}

func runAll(t *testing.T, p plan) {
	if len(basic) != 35 {
		t.Errorf("%d modules, the plan has 35", len(basic))
	}
	t.Parallel() // one module waits for half a minute
	for _, m := range basic {
		t.Run(m.name, func(t *testing.T) { m.run(newBrowser(t), p) })
	}
}

// flow is a module that signs in with a changed request and looks at UserInfo.
func flow(change ...string) func(*browser, plan) {
	return func(b *browser, p plan) {
		tokens, claims := p.signIn(b, p.request("basic", change...))
		userInfo(b.T, tokens, claims)
	}
}

// scope wants all claims of the scopes at UserInfo, and none of others.
func scope(scopes string, want ...string) func(*browser, plan) {
	return func(b *browser, p plan) {
		tokens, claims := p.signIn(b, p.request("basic", "scope", scopes))
		got := userInfo(b.T, tokens, claims)
		for _, name := range want {
			if got[name] == nil || got[name] == "" {
				b.Errorf("UserInfo has no %s: %v", name, got)
			}
		}
		if len(got) != len(want)+1 {
			b.Errorf("UserInfo has more than was asked for: %v", got)
		}
		if updated, has := got["updated_at"]; has && number(updated) < 1 {
			b.Errorf("updated_at is %v, not a number of seconds", updated)
		}
	}
}

// twice signs in, and once more in the same browser with a changed request.
func twice(change func(claims map[string]any) []string, check func(b *browser, first, second map[string]any)) func(*browser, plan) {
	return func(b *browser, p plan) {
		_, first := p.signIn(b, p.request("basic"))
		_, second := p.signIn(b, p.request("basic", change(first)...))
		check(b, first, second)
	}
}

func same(pairs ...string) func(map[string]any) []string {
	return func(map[string]any) []string { return pairs }
}

func samePerson(b *browser, first, second map[string]any) {
	if first["sub"] != second["sub"] || first["auth_time"] != second["auth_time"] || b.signIns != 1 {
		b.Errorf("%d sign-ins: %v, then %v", b.signIns, first, second)
	}
}

func signedInAgain(b *browser, first, second map[string]any) {
	if b.signIns != 2 || first["sub"] != second["sub"] || number(second["auth_time"]) <= number(first["auth_time"]) {
		b.Errorf("%d sign-ins, auth_time %v, then %v", b.signIns, first["auth_time"], second["auth_time"])
	}
}

// nextSecond waits until auth_time, a whole second, has another value.
func nextSecond(pairs ...string) func(map[string]any) []string {
	return func(first map[string]any) []string {
		for time.Now().Unix() <= int64(number(first["auth_time"]))+1 {
			time.Sleep(50 * time.Millisecond)
		}
		return pairs
	}
}

// reused redeems a code again, and wants the tokens of the first time dead.
func reused(wait time.Duration) func(*browser, plan) {
	return func(b *browser, p plan) {
		v := p.request("basic")
		code := p.code(b, v)
		tokens := redeem(b.T, "basic", code)
		time.Sleep(wait)
		if again := redeem(b.T, "basic", code); again.status != http.StatusBadRequest || again.text("error") != "invalid_grant" {
			b.Errorf("again: %d %v", again.status, again.body)
		}
		if got := send(b.T, http.MethodGet, "/userinfo", nil, bearer(tokens.text("access_token"))); got.status != http.StatusUnauthorized {
			b.Errorf("the access token still works: %d %v", got.status, got.body)
		}
	}
}

// unsigned is a request object that nobody has signed.
func unsigned(claims map[string]any) string {
	text, _ := json.Marshal(claims)
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(text) + "."
}

var basic = []module{
	{"oidcc-server", flow()},
	{"oidcc-response-type-missing", func(b *browser, p plan) {
		v := p.request("basic", "response_type", "")
		p.refused(b.T, b.open(authorize(v)), v, "invalid_request", "unsupported_response_type")
	}},
	{"oidcc-userinfo-get", flow()},
	{"oidcc-userinfo-post-header", func(b *browser, p plan) {
		tokens, claims := p.signIn(b, p.request("basic"))
		if got := send(b.T, http.MethodPost, "/userinfo", nil, bearer(tokens.text("access_token"))); got.body["sub"] != claims["sub"] {
			b.Errorf("%d %v", got.status, got.body)
		}
	}},
	{"oidcc-userinfo-post-body", func(b *browser, p plan) {
		tokens, claims := p.signIn(b, p.request("basic"))
		if got := send(b.T, http.MethodPost, "/userinfo", url.Values{"access_token": {tokens.text("access_token")}}); got.body["sub"] != claims["sub"] {
			b.Errorf("%d %v", got.status, got.body)
		}
	}},
	{"oidcc-ensure-request-without-nonce-succeeds-for-code-flow", flow("nonce", "")},
	{"oidcc-scope-profile", scope("openid profile", profileClaims...)},
	{"oidcc-scope-email", scope("openid email", emailClaims...)},
	{"oidcc-scope-address", scope("openid address", addressClaims...)},
	{"oidcc-scope-phone", scope("openid phone", phoneClaims...)},
	{"oidcc-scope-all", scope("openid profile email address phone", slices.Concat(profileClaims, emailClaims, addressClaims, phoneClaims)...)},
	{"oidcc-alternate-happy-flow", scope("phone openid email", slices.Concat(emailClaims, phoneClaims)...)},
	{"oidcc-display-page", flow("display", "page")},
	{"oidcc-display-popup", flow("display", "popup")},
	{"oidcc-prompt-login", twice(nextSecond("prompt", "login"), signedInAgain)},
	{"oidcc-prompt-none-not-logged-in", func(b *browser, p plan) {
		v := p.request("basic", "prompt", "none")
		p.refused(b.T, b.open(authorize(v)), v, "login_required", "interaction_required")
	}},
	{"oidcc-prompt-none-logged-in", twice(same("prompt", "none"), samePerson)},
	{"oidcc-max-age-1", twice(nextSecond("max_age", "1"), signedInAgain)},
	{"oidcc-max-age-10000", twice(same("max_age", "10000"), samePerson)},
	{"oidcc-ensure-request-with-unknown-parameter-succeeds", flow("extra", "foobar")},
	{"oidcc-id-token-hint", func(b *browser, p plan) {
		tokens, first := p.signIn(b, p.request("basic"))
		_, second := p.signIn(b, p.request("basic", "prompt", "none", "id_token_hint", tokens.text("id_token")))
		samePerson(b, first, second)
	}},
	{"oidcc-login-hint", func(b *browser, p plan) {
		flow("login_hint", "buffy@example.com")(b, p)
		if b.asked != "buffy@example.com" {
			b.Errorf("the sign-in page has filled in %q", b.asked)
		}
	}},
	{"oidcc-ui-locales", flow("ui_locales", "se")},
	{"oidcc-claims-locales", flow("claims_locales", "se")},
	{"oidcc-ensure-request-with-acr-values-succeeds", func(b *browser, p plan) {
		acr := send(b.T, http.MethodGet, "/.well-known/openid-configuration", nil).body["acr_values_supported"].([]any)[0].(string)
		if _, claims := p.signIn(b, p.request("basic", "acr_values", acr)); claims["acr"] != acr {
			b.Errorf("acr is %v, want %s", claims["acr"], acr)
		}
	}},
	{"oidcc-codereuse", reused(0)},
	{"oidcc-codereuse-30seconds", func(b *browser, p plan) {
		b.Parallel()
		reused(30*time.Second)(b, p)
	}},
	{"oidcc-ensure-registered-redirect-uri", func(b *browser, p plan) {
		got := b.open(authorize(p.request("basic", "redirect_uri", callback+"/"+rand.Text())))
		if got.uri != "" || got.status != http.StatusBadRequest {
			b.Errorf("arrived at %q with %d", got.uri, got.status)
		}
	}},
	{"oidcc-ensure-post-request-succeeds", func(b *browser, p plan) {
		v := p.request("basic")
		got := b.submit(issuer+"/authorize", v)
		p.arrived(b.T, got, v)
		if tokens := redeem(b.T, "basic", got.Get("code")); tokens.status != http.StatusOK {
			b.Errorf("%d %v", tokens.status, tokens.body)
		}
	}},
	{"oidcc-server-client-secret-post", func(b *browser, p plan) {
		tokens, claims := p.signIn(b, p.request("post"))
		userInfo(b.T, tokens, claims)
	}},
	{"oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported", func(b *browser, p plan) {
		v := p.request("basic", "state", "outside")
		v.Set("request", unsigned(map[string]any{"state": "inside", "client_id": "basic", "response_type": "code", "iss": "basic", "aud": issuer}))
		p.refused(b.T, b.open(authorize(v)), v, "request_not_supported")
	}},
	{"oidcc-claims-essential", func(b *browser, p plan) {
		tokens, claims := p.signIn(b, p.request("basic", "claims", `{"userinfo":{"name":{"essential":true}}}`))
		if got := userInfo(b.T, tokens, claims); got["name"] != "Ada Lovelace" || len(got) != 2 {
			b.Errorf("UserInfo: %v", got)
		}
	}},
	{"oidcc-ensure-request-object-with-redirect-uri", func(b *browser, p plan) {
		v := p.request("basic", "redirect_uri", callback+"/"+rand.Text())
		v.Set("request", unsigned(map[string]any{"redirect_uri": callback}))
		if got := b.open(authorize(v)); got.uri != "" || got.status != http.StatusBadRequest {
			b.Errorf("arrived at %q with %d", got.uri, got.status)
		}
	}},
	{"oidcc-refresh-token", func(b *browser, p plan) {
		tokens, first := p.signIn(b, p.request("basic", "scope", "openid offline_access", "prompt", "consent"))
		next := atToken(b.T, "basic", "grant_type", "refresh_token", "refresh_token", tokens.text("refresh_token"))
		if next.status != http.StatusOK {
			b.Fatalf("%d %v", next.status, next.body)
		}
		nonce, _ := first["nonce"].(string)
		second := idToken(b.T, next, "basic", nonce)
		if first["sub"] != second["sub"] || first["auth_time"] != second["auth_time"] || next.text("access_token") == tokens.text("access_token") {
			b.Errorf("%v, then %v", first, second)
		}
		userInfo(b.T, next, second)
		other := atToken(b.T, "second", "grant_type", "refresh_token", "refresh_token", next.text("refresh_token"))
		if other.status != http.StatusBadRequest || other.text("error") != "invalid_grant" {
			b.Errorf("another client: %d %v", other.status, other.body)
		}
	}},
	{"oidcc-ensure-request-with-valid-pkce-succeeds", func(b *browser, p plan) {
		verifier := rand.Text() + rand.Text()
		sum := sha256.Sum256([]byte(verifier))
		challenge := base64.RawURLEncoding.EncodeToString(sum[:])
		tokens, claims := p.signIn(b, p.request("basic", "code_challenge", challenge, "code_challenge_method", "S256"), "code_verifier", verifier)
		userInfo(b.T, tokens, claims)
	}},
}

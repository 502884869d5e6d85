package e2e

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Threats C: client authentication.
func TestThreatsC_Secrets(t *testing.T) {
	s := atHome(t)
	authorization := func(v string) func(*http.Request) { return header("Authorization", v) }
	b := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	good := machine.ID + ":" + machine.Secret
	rows := []struct {
		sentence string
		more     url.Values
		auth     func(*http.Request)
		want     string
	}{
		{"C0 a good request", params("resource", api), basic(machine), ""},
		{"C0 the scheme in small letters (RFC 9110 §11.1)", params("resource", api), authorization("basic " + b(good)), ""},
		{"C35 the secret form-urlencoded", params("resource", api), authorization("Basic " + b(machine.ID+":"+strings.ReplaceAll(machine.Secret, "-", "%2D"))), ""},
		{"C33 a wrong secret", nil, authorization("Basic " + b(machine.ID+":wrong")), "invalid_client"},
		{"C33 an empty secret", nil, authorization("Basic " + b(machine.ID+":")), "invalid_client"},
		{"C33 the secret cut by one", nil, authorization("Basic " + b(good[:len(good)-1])), "invalid_client"},
		{"C33 the secret with one more", nil, authorization("Basic " + b(good+"x")), "invalid_client"},
		{"C33 the secret of another client", nil, authorization("Basic " + b(machine.ID+":"+webApp.Secret)), "invalid_client"},
		{"C33 an unknown client", nil, authorization("Basic " + b("nobody:"+machine.Secret)), "invalid_client"},
		{"C33 no authentication", nil, func(*http.Request) {}, "invalid_client|invalid_request"},
		{"C33 the client's id alone", params("client_id", machine.ID), func(*http.Request) {}, "invalid_client"},
		{"C34 header and form at once", params("client_id", machine.ID, "client_secret", machine.Secret), basic(machine), "invalid_request"},
		{"C34 header and assertion at once", params("client_assertion_type", assertionType, "client_assertion", jws(map[string]any{"alg": "ES256"}, map[string]any{"sub": machine.ID}, signerKey)), basic(machine), "invalid_request"},
		{"C34 header of one client, id of another", params("client_id", "machine-post"), basic(machine), "invalid_request|invalid_client"},
		{"C34 a client of client_secret_basic in the form", params("client_id", machine.ID, "client_secret", machine.Secret), func(*http.Request) {}, "invalid_client"},
		{"C34 a client of client_secret_post in the header", nil, basic(machinePost), "invalid_client"},
		{"C34 a client of private_key_jwt with a secret", nil, basic(client{ID: "signer", Secret: "x"}), "invalid_client"},
		{"C34 client_secret_post as registered", params("client_id", machinePost.ID, "client_secret", machinePost.Secret), func(*http.Request) {}, ""},
		{"C34 the secret twice in the form", params("client_id", machinePost.ID, "client_secret", machinePost.Secret, "client_secret", machinePost.Secret), func(*http.Request) {}, "invalid_request"},
		{"C35 not base64", nil, authorization("Basic !!!!"), "invalid_client|invalid_request"},
		{"C35 no colon", nil, authorization("Basic " + b("machine")), "invalid_client|invalid_request"},
		{"C35 base64 that is not canonical", nil, authorization("Basic " + loosen(b(good))), "invalid_client|invalid_request"},
		{"C35 base64 with a line break", nil, authorization("Basic " + b(good)[:20] + " " + b(good)[20:]), "invalid_client|invalid_request"},
		{"C35 a broken escape", nil, authorization("Basic " + b(machine.ID+":%zz")), "invalid_client|invalid_request"},
		{"C35 two Authorization headers", nil, func(r *http.Request) {
			r.Header.Add("Authorization", "Basic "+b(good))
			r.Header.Add("Authorization", "Basic "+b(webApp.ID+":"+webApp.Secret))
		}, "invalid_client|invalid_request"},
		{"C35 another scheme", nil, authorization("Bearer " + machine.Secret), "invalid_client|invalid_request"},
		{"C36 a public client", params("client_id", nativeApp.ID), func(*http.Request) {}, "unauthorized_client"},
		{"C36 a client without the grant type", nil, basic(webApp), "unauthorized_client"},
		{"K113 SQL in the client's id", nil, authorization("Basic " + b("' OR 1=1 --:x")), "invalid_client"},
		{"a NUL in the client's id", nil, authorization("Basic " + b("mach\x00ine:x")), "invalid_client|invalid_request"},
		{"a scope that the client may not ask for", params("scope", "orders:read other:read"), basic(machine), "invalid_scope"},
		{"a scope in a form that is none", params("scope", "orders:read\t\"x"), basic(machine), "invalid_scope|invalid_request"},
		{"a resource that is not its own", params("resource", "https://other.example.com"), basic(machine), "invalid_target"},
		{"a resource with a fragment (RFC 8707 §2)", params("resource", api+"#x"), basic(machine), "invalid_target"},
		{"a resource that is not a URI", params("resource", "orders"), basic(machine), "invalid_target"},
		{"A13 the scope twice", params("scope", "orders:read", "scope", "orders:read"), basic(machine), "invalid_request"},
		{"A13 the grant type twice", params("grant_type", "client_credentials"), basic(machine), "invalid_request"},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			v := params("grant_type", "client_credentials")
			for name, values := range row.more {
				v[name] = append(v[name], values...)
			}
			r := s.post(t, "/token", v, row.auth)
			checkTokenAnswer(t, r, row.want)
			if r.Status == http.StatusUnauthorized && !strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Basic ") {
				t.Errorf("401 with WWW-Authenticate %q (RFC 6749 §5.2)", r.Header.Get("WWW-Authenticate"))
			}
		})
	}
	t.Run("C39 a wrong secret and an unknown client get the same answer", func(t *testing.T) {
		ask := func(id string) reply {
			return s.post(t, "/token", params("grant_type", "client_credentials"), basic(client{ID: id, Secret: "wrong"}))
		}
		known, unknown := ask(machine.ID), ask("nobody")
		checkTokenAnswer(t, known, "invalid_client")
		if known.Status != unknown.Status || known.str("error") != unknown.str("error") || known.str("error_description") != unknown.str("error_description") {
			t.Errorf("they differ:\n%s\n%s", known, unknown)
		}
	})
	t.Run("C36 a confidential client cannot leave its secret out at a refresh", func(t *testing.T) {
		tokens := s.signedIn(t, webTwo, ada)
		v := params("grant_type", "refresh_token", "refresh_token", tokens.str("refresh_token"), "client_id", webTwo.ID)
		checkTokenAnswer(t, s.post(t, "/token", v), "invalid_client")
		v.Del("client_id")
		checkTokenAnswer(t, s.post(t, "/token", v, basic(webTwo)), "")
	})
	for _, path := range []string{"/introspect", "/revoke"} {
		t.Run("C33 "+path+" wants the client's secret too", func(t *testing.T) {
			token := s.machineToken(t)
			for what, auth := range map[string]func(*http.Request){
				"no authentication": func(*http.Request) {},
				"a wrong secret":    basic(client{ID: machine.ID, Secret: "wrong"}),
				"an unknown client": basic(client{ID: "nobody", Secret: "wrong"}),
				"the token itself":  bearer(token),
			} {
				if r := s.post(t, path, params("token", token), auth); r.Status != http.StatusUnauthorized || r.JSON["active"] != nil {
					t.Errorf("%s: %s", what, r)
				}
			}
			if got := s.post(t, "/introspect", params("token", token), basic(apiServer)); got.JSON["active"] != true {
				t.Errorf("the token died of refused requests: %s", got)
			}
		})
	}
}

// loosen sets unused bits of the last base64 character, so that a lax decoder reads the
// same bytes from another text.
func loosen(std string) string {
	pad := len(std) - len(strings.TrimRight(std, "="))
	if pad == 0 {
		return std + "="
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	at := len(std) - pad - 1
	last := strings.IndexByte(alphabet, std[at])
	return std[:at] + string(alphabet[last|1]) + std[at+1:]
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// C37, C38: private_key_jwt (RFC 7523 §3). A row starts from one good assertion.
func TestThreatsC_Assertions(t *testing.T) {
	s := atHome(t)
	type assertion struct {
		header, claims map[string]any
		form           url.Values
		sign           func(a *assertion) string
	}
	withKey := func(key *ecdsa.PrivateKey) func(*assertion) string {
		return func(a *assertion) string { return jws(a.header, a.claims, key) }
	}
	now := time.Now().Unix()
	fresh := func() *assertion {
		return &assertion{
			header: map[string]any{"alg": "ES256", "kid": "signer-1", "typ": "JWT"},
			claims: map[string]any{"iss": "signer", "sub": "signer", "aud": s.Issuer, "iat": now, "exp": now + 60, "jti": rand.Text()},
			form:   params("grant_type", "client_credentials", "client_assertion_type", assertionType),
			sign:   func(a *assertion) string { return jws(a.header, a.claims, signerKey) },
		}
	}
	claim := func(name string, value any) func(*assertion) {
		return func(a *assertion) { a.claims[name] = value }
	}
	head := func(name string, value any) func(*assertion) {
		return func(a *assertion) { a.header[name] = value }
	}
	without := func(name string) func(*assertion) {
		return func(a *assertion) { delete(a.claims, name) }
	}
	input := func(name, value string) func(*assertion) {
		return func(a *assertion) { a.form.Set(name, value) }
	}
	rows := []struct {
		sentence string
		change   func(*assertion)
		ok       bool
	}{
		{"C37 a good assertion", func(*assertion) {}, true},
		{"C37 with its client_id beside it", input("client_id", "signer"), true},
		{"C37 without kid, while there is one key", func(a *assertion) { delete(a.header, "kid") }, true},
		{"C37 for the token endpoint", claim("aud", s.Issuer+"/token"), false},
		{"C37 for the issuer in a list", claim("aud", []string{s.Issuer}), false},
		{"C37 for the issuer and another", claim("aud", []string{s.Issuer, "https://evil.example"}), false},
		{"C37 for the issuer with a slash", claim("aud", s.Issuer+"/"), false},
		{"C37 for another issuer", claim("aud", "https://evil.example"), false},
		{"C37 for nobody", without("aud"), false},
		{"C37 for an empty list", claim("aud", []string{}), false},
		{"C37 for a number", claim("aud", 1), false},
		{"C37 issued by another", claim("iss", "signer-two"), false},
		{"C37 about another", claim("sub", "signer-two"), false},
		{"C37 issued by and about another", func(a *assertion) { a.claims["iss"], a.claims["sub"] = "signer-two", "signer-two" }, false},
		{"C37 without an issuer", without("iss"), false},
		{"C37 without a subject", without("sub"), false},
		{"C37 without an end", without("exp"), false},
		{"C37 that has ended", claim("exp", now-120), false},
		{"C37 that ends tomorrow", claim("exp", now+86400), false},
		{"C37 that ends as text", claim("exp", "9999999999"), false},
		{"C37 that ends at 1e400", func(a *assertion) { a.claims["exp"] = json.RawMessage("1e400") }, false},
		{"C37 that begins later", claim("nbf", now+600), false},
		{"C37 issued in the future", claim("iat", now+600), false},
		{"C37 without an id", without("jti"), false},
		{"C37 with an empty id", claim("jti", ""), false},
		{"C37 with a huge id", claim("jti", strings.Repeat("j", 20<<10)), false},
		{"C38 unsigned", func(a *assertion) { a.header["alg"] = "none"; a.sign = withKey(nil) }, false},
		{"C38 unsigned in other letters", func(a *assertion) { a.header["alg"] = "noNE"; a.sign = withKey(nil) }, false},
		{"C38 with its signature cut off", func(a *assertion) { a.sign = withKey(nil) }, false},
		{"C38 by HMAC with the public key", func(a *assertion) {
			a.header["alg"] = "HS256"
			a.sign = func(a *assertion) string { return hs256(a.header, a.claims, []byte(jwksOf("signer-1", signerKey))) }
		}, false},
		{"C38 by an algorithm that the key is not for", head("alg", "RS256"), false},
		{"C38 by the key of another client", func(a *assertion) { a.sign = withKey(signerTwoKey) }, false},
		{"C38 by the key of another client under its own name", func(a *assertion) { a.header["kid"] = "signer-two-1"; a.sign = withKey(signerTwoKey) }, false},
		{"D46 by a key that came along", func(a *assertion) {
			delete(a.header, "kid")
			a.header["jwk"] = jwkOf("mine", signerTwoKey)
			a.sign = withKey(signerTwoKey)
		}, false},
		{"D46 by a key to be fetched", func(a *assertion) {
			a.header["jku"] = "http://127.0.0.1:1/jwks"
			a.header["kid"] = "signer-two-1"
			a.sign = withKey(signerTwoKey)
		}, false},
		{"D47 with a kid that nobody knows", head("kid", "unknown"), false},
		{"D47 with SQL for a kid", head("kid", "' OR 1=1 --"), false},
		{"D47 with a path for a kid", head("kid", "../../../dev/null"), false},
		{"D48 with an unknown critical header", head("crit", []string{"surprise"}), false},
		{"D48 with b64=false", func(a *assertion) { a.header["b64"] = false; a.header["crit"] = []string{"b64"} }, false},
		{"D59 that is an access token by its type", head("typ", "at+jwt"), false},
		{"D59 that is a request object by its type", head("typ", "oauth-authz-req+jwt"), false},
		{"D59 that is a DPoP proof by its type", head("typ", "dpop+jwt"), false},
		{"D50 as JSON", func(a *assertion) {
			a.sign = func(a *assertion) string {
				p := strings.Split(jws(a.header, a.claims, signerKey), ".")
				return `{"protected":"` + p[0] + `","payload":"` + p[1] + `","signature":"` + p[2] + `"}`
			}
		}, false},
		{"D51 with a claim twice", func(a *assertion) {
			a.sign = func(a *assertion) string {
				h, _ := json.Marshal(a.header)
				c, _ := json.Marshal(a.claims)
				c = append([]byte(`{"sub":"signer-two",`), c[1:]...)
				return jwsRaw(b64(h), b64(c), signerKey)
			}
		}, false},
		{"C37 with no type", func(a *assertion) { a.form.Del("client_assertion_type") }, false},
		{"C37 with another type", input("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"), false},
		{"C37 with another client_id beside it", input("client_id", "signer-two"), false},
		{"C37 with a secret beside it", input("client_secret", "x"), false},
		{"C37 sent twice", func(a *assertion) { a.form.Add("client_assertion", "x.y.z") }, false},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			a := fresh()
			row.change(a)
			a.form.Add("client_assertion", a.sign(a))
			want := "invalid_client|invalid_request"
			if row.ok {
				want = ""
			}
			checkTokenAnswer(t, s.post(t, "/token", a.form, from(nextAddress())), want)
		})
	}

	use := func(t *testing.T, s *server, token string) reply {
		return s.post(t, "/token", params("grant_type", "client_credentials", "client_assertion_type", assertionType, "client_assertion", token))
	}
	t.Run("C37 used again", func(t *testing.T) {
		a := fresh()
		token := a.sign(a)
		checkTokenAnswer(t, use(t, s, token), "")
		checkTokenAnswer(t, use(t, s, token), "invalid_client")
	})
	t.Run("C37 its id used again in another assertion", func(t *testing.T) {
		a, b := fresh(), fresh()
		b.claims["jti"] = a.claims["jti"]
		b.claims["exp"] = now + 59
		checkTokenAnswer(t, use(t, s, a.sign(a)), "")
		checkTokenAnswer(t, use(t, s, b.sign(b)), "invalid_client")
	})
	t.Run("C37 the same id from another client is not a replay", func(t *testing.T) {
		a, b := fresh(), fresh()
		b.header["kid"] = "signer-two-1"
		b.claims = maps.Clone(a.claims)
		b.claims["iss"], b.claims["sub"] = "signer-two", "signer-two"
		checkTokenAnswer(t, use(t, s, a.sign(a)), "")
		checkTokenAnswer(t, use(t, s, jws(b.header, b.claims, signerTwoKey)), "")
	})
	t.Run("C37 used 16 times at once", func(t *testing.T) {
		a := fresh()
		token := a.sign(a)
		answers := make([]reply, 16)
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range answers {
			wg.Go(func() { <-begin; answers[i] = use(t, s, token) })
		}
		close(begin)
		wg.Wait()
		var won int
		for _, r := range answers {
			if r.Status == http.StatusOK {
				won++
			}
		}
		if won != 1 {
			t.Errorf("%d of 16 succeeded", won)
		}
	})
	t.Run("C37 used again after a restart", func(t *testing.T) {
		s := newHouse(t)
		a := fresh()
		a.claims["aud"] = s.Issuer
		token := a.sign(a)
		checkTokenAnswer(t, use(t, s, token), "")
		s.stop()
		s.serve(t)
		checkTokenAnswer(t, use(t, s, token), "invalid_client")
	})
}

func hs256(header, claims map[string]any, key []byte) string {
	h, _ := json.Marshal(header)
	c, _ := json.Marshal(claims)
	input := b64(h) + "." + b64(c)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(input))
	return input + "." + b64(mac.Sum(nil))
}

// everythingWritten is what a stopped service left behind: its log and all its files,
// except those that the test itself wrote.
func everythingWritten(t *testing.T, s *server) map[string]string {
	t.Helper()
	places := map[string]string{"the log": s.proc.out.String()}
	ours := houseFiles()
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if _, mine := ours[d.Name()]; mine {
			return nil
		}
		raw, err := os.ReadFile(path)
		places[path] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(places) < 3 {
		t.Fatalf("only %d places to look at: was anything stored?", len(places))
	}
	return places
}

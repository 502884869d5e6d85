package clientauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// assertionKey signs assertions with a header that the test chooses.
type assertionKey struct {
	kid     string
	alg     jose.Algorithm
	private crypto.Signer
}

func newAssertionKey(t testing.TB, kid string) assertionKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return assertionKey{kid, jose.ES256, private}
}

func (k assertionKey) sign(t testing.TB, claims map[string]any) string {
	return k.signAs(t, "JWT", claims)
}

func (k assertionKey) signAs(t testing.TB, typ string, claims map[string]any) string {
	t.Helper()
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return k.signRaw(t, typ, string(body))
}

func (k assertionKey) signRaw(t testing.TB, typ, body string) string {
	t.Helper()
	signer, err := jose.NewSigner(k.kid, k.alg, typ, k.private)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Sign([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// withHeader signs (ES256) under a header that no honest signer would write.
func (k assertionKey) withHeader(t *testing.T, header string, claims map[string]any) string {
	t.Helper()
	body, _ := json.Marshal(claims)
	signed := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString(body)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, k.private.(*ecdsa.PrivateKey), digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// signedClient registers keys for a client of private_key_jwt, made like "signed".
func (w *world) signedClient(id string, more ...assertionKey) assertionKey {
	w.t.Helper()
	key := newAssertionKey(w.t, "key of "+id)
	var set jose.KeySet
	for _, k := range append([]assertionKey{key}, more...) {
		public, err := jose.NewPublicKey(k.kid, k.alg, k.private.Public())
		if err != nil {
			w.t.Fatal(err)
		}
		set = append(set, public)
	}
	body, err := json.Marshal(set)
	if err != nil {
		w.t.Fatal(err)
	}
	c := w.declared.Clients["signed"]
	c.ID, c.JWKS = id, body
	w.declared.Clients[id] = c
	w.declare()
	return key
}

var jtis atomic.Int64

// claims are those of a good assertion of the client "signed", each time with another jti.
func (w *world) claims(change ...any) map[string]any {
	now := w.clock()
	claims := map[string]any{
		"iss": "signed", "sub": "signed", "aud": testIssuer, "jti": fmt.Sprint("jti-", jtis.Add(1)),
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}
	for i := 0; i < len(change); i += 2 {
		if change[i+1] == nil {
			delete(claims, change[i].(string))
			continue
		}
		claims[change[i].(string)] = change[i+1]
	}
	return claims
}

func signedWith(token string) func(*http.Request) {
	return addForm("client_assertion_type", oauth.AssertionTypeJWTBearer, "client_assertion", token)
}

func addForm(pairs ...string) func(*http.Request) {
	return func(r *http.Request) {
		if err := r.ParseForm(); err != nil {
			panic(err)
		}
		v := maps.Clone(r.PostForm)
		for i := 0; i < len(pairs); i += 2 {
			v.Add(pairs[i], pairs[i+1])
		}
		setBody(r, v.Encode())
	}
}

func setBody(r *http.Request, body string) {
	r.Body, r.ContentLength, r.PostForm, r.Form = http.NoBody, 0, nil, nil
	if body != "" {
		r.Body, r.ContentLength = readCloser{strings.NewReader(body)}, int64(len(body))
	}
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func TestAssertion(t *testing.T) {
	w := newWorld(t)
	ed := assertionKey{"ed", jose.EdDSA, mustEd25519(t)}
	rs := assertionKey{"rs", jose.RS256, mustRSA(t)}
	key := w.signedClient("signed", ed, rs)
	other := w.signedClient("other")
	now := w.clock()
	in := func(d time.Duration) int64 { return now.Add(d).Unix() }
	c := w.claims
	publicPEM := rs.private.Public().(*rsa.PublicKey).N.Bytes()
	for _, row := range []struct {
		name  string
		token string
		want  bool
	}{
		{"the good assertion", key.sign(t, c()), true},
		{"EdDSA, by another registered key", ed.sign(t, c()), true},
		{"RS256, by another registered key", rs.sign(t, c()), true},
		{"the explicit type", key.signAs(t, "client-authentication+jwt", c()), true},
		{"without a type", key.signAs(t, "", c()), true},
		{"without iat", key.sign(t, c("iat", nil)), true},
		{"37: the audience in an array", key.sign(t, c("aud", []string{testIssuer})), false},
		{"37: two audiences", key.sign(t, c("aud", []string{testIssuer, "https://evil.example"})), false},
		{"37: the token endpoint as audience", key.sign(t, c("aud", testIssuer+"/token")), false},
		{"37: the issuer with a slash as audience", key.sign(t, c("aud", testIssuer+"/")), false},
		{"37: another server as audience", key.sign(t, c("aud", "https://evil.example")), false},
		{"37: the client itself as audience", key.sign(t, c("aud", "signed")), false},
		{"37: no audience", key.sign(t, c("aud", nil)), false},
		{"37: audience null", key.signRaw(t, "JWT", fmt.Sprintf(`{"iss":"signed","sub":"signed","aud":null,"jti":"null","exp":%d}`, in(time.Minute))), false},
		{"37: another iss", key.sign(t, c("iss", "other")), false},
		{"37: no iss", key.sign(t, c("iss", nil)), false},
		{"37: iss is our issuer", key.sign(t, c("iss", testIssuer)), false},
		{"37: another client as sub, by its key", other.sign(t, c("iss", "signed", "sub", "other")), false},
		{"37: another client as sub, by our key", key.sign(t, c("sub", "other")), false},
		{"37: no sub", key.sign(t, c("sub", nil)), false},
		{"37: an empty sub", key.sign(t, c("sub", "")), false},
		{"37: a number as sub", key.sign(t, c("sub", 7)), false},
		{"37: no jti", key.sign(t, c("jti", nil)), false},
		{"37: an empty jti", key.sign(t, c("jti", "")), false},
		{"37: a number as jti", key.sign(t, c("jti", 7)), false},
		{"60: no exp", key.sign(t, c("exp", nil)), false},
		{"37: exp five minutes ahead", key.sign(t, c("exp", in(5*time.Minute))), true},
		{"37: exp an hour ahead", key.sign(t, c("exp", in(time.Hour))), false},
		{"37: exp six minutes ahead", key.sign(t, c("exp", in(6*time.Minute))), false},
		{"37: expired a minute ago", key.sign(t, c("exp", in(-time.Minute))), false},
		{"37: expired just now, within what clocks may differ", key.sign(t, c("exp", in(-20*time.Second))), true},
		{"37: iat a minute ahead", key.sign(t, c("iat", in(time.Minute))), false},
		{"37: nbf a minute ahead", key.sign(t, c("nbf", in(time.Minute))), false},
		{"61: exp as text", key.sign(t, c("exp", fmt.Sprint(in(time.Minute)))), false},
		{"61: exp of 1e400", key.signRaw(t, "JWT", `{"iss":"signed","sub":"signed","aud":"`+testIssuer+`","jti":"big","exp":1e400}`), false},
		{"61: exp below zero", key.sign(t, c("exp", -1)), false},
		{"51: sub twice", key.signRaw(t, "JWT", fmt.Sprintf(`{"iss":"signed","sub":"other","sub":"signed","aud":%q,"jti":"twice","exp":%d}`, testIssuer, in(time.Minute))), false},
		{"43: alg none", unsigned(`{"alg":"none","typ":"JWT"}`, c()), false},
		{"43: alg noNE", unsigned(`{"alg":"noNE","typ":"JWT"}`, c()), false},
		{"43: no alg", unsigned(`{"typ":"JWT"}`, c()), false},
		{"38: HS256 with the public key", hmacSigned(publicPEM, c()), false},
		{"38: an algorithm that is not the key's", assertionKey{"rs", jose.ES256, newAssertionKey(t, "").private}.sign(t, c()), false},
		{"38: PS256 with a key of RS256", assertionKey{"rs", jose.PS256, rs.private}.sign(t, c()), false},
		{"38: a key that nobody registered", newAssertionKey(t, "stranger").sign(t, c()), false},
		{"38: a key that nobody registered, under a registered kid", newAssertionKey(t, key.kid).sign(t, c()), false},
		{"38: a key of another client", other.sign(t, c()), false},
		{"46: a stranger's key in the header", newAssertionKey(t, "").embedded(t, key.kid, c()), false},
		{"48: crit", key.withHeader(t, `{"alg":"ES256","kid":"`+key.kid+`","crit":["exp"]}`, c()), false},
		{"59: an access token's type", key.signAs(t, "at+jwt", c()), false},
		{"59: a DPoP proof's type", key.signAs(t, "dpop+jwt", c()), false},
		{"59: a request object's type", key.signAs(t, "oauth-authz-req+jwt", c()), false},
		{"50: an empty signature", strings.TrimRight(key.sign(t, c()), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"), false},
		{"50: four parts", key.sign(t, c()) + ".e30", false},
		{"54: many dots", strings.Repeat(".", 10000), false},
		{"not a token", "x", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := w.ask(goodForm, signedWith(row.token))
			if (r.status == 200) != row.want {
				t.Fatalf("%d %v", r.status, r.body)
			}
			if !row.want && (r.status != 401 || r.text("error_description") != "client authentication failed") {
				t.Fatalf("39: the answer is not the one that everybody gets: %d %v", r.status, r.body)
			}
			w.Limit = NewLimiter(w.clock)
		})
	}
}

// A decoy makes an unknown key cost what a known one does, and nothing else.
func TestADecoyProvesNothing(t *testing.T) {
	w := newWorld(t)
	w.signedClient("signed")
	thief := newAssertionKey(t, "")
	public, err := jose.NewPublicKey("", thief.alg, thief.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	before := decoys
	defer func() { decoys = before }()
	decoys = func() map[jose.Algorithm]jose.KeySet { return map[jose.Algorithm]jose.KeySet{jose.ES256: {public}} }
	thief.kid = "unknown"
	for _, id := range []string{"signed", "service", "nosuch"} {
		if r := w.ask(goodForm, signedWith(thief.sign(t, w.claims("iss", id, "sub", id)))); r.status != 401 {
			t.Errorf("whoever holds a decoy's private key is let in as %s: %d", id, r.status)
		}
	}
}

func TestAssertionRequest(t *testing.T) {
	w := newWorld(t)
	key := w.signedClient("signed")
	disabled := w.declared.Clients["signed"]
	good := func() string { return key.sign(t, w.claims()) }
	for _, row := range []struct {
		name   string
		change func(*http.Request)
		want   oauth.Code
	}{
		{"the good request", signedWith(good()), ""},
		{"34: the same client_id in the body", addForm("client_id", "signed", "client_assertion_type", oauth.AssertionTypeJWTBearer, "client_assertion", good()), ""},
		{"34: another client_id in the body", addForm("client_id", "service", "client_assertion_type", oauth.AssertionTypeJWTBearer, "client_assertion", good()), oauth.InvalidRequest},
		{"34: a secret too", addForm("client_id", "signed", "client_secret", "x", "client_assertion_type", oauth.AssertionTypeJWTBearer, "client_assertion", good()), oauth.InvalidRequest},
		{"no type", addForm("client_assertion", good()), oauth.InvalidRequest},
		{"another type", addForm("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer", "client_assertion", good()), oauth.InvalidRequest},
		{"a type and no assertion", addForm("client_assertion_type", oauth.AssertionTypeJWTBearer), oauth.InvalidClient},
		{"13: two assertions", addForm("client_assertion_type", oauth.AssertionTypeJWTBearer, "client_assertion", good(), "client_assertion", good()), oauth.InvalidRequest},
		{"34: by a client of basic", signedWith(key.sign(t, w.claims("iss", "service", "sub", "service"))), oauth.InvalidClient},
		{"34: by a public client", signedWith(key.sign(t, w.claims("iss", "spa", "sub", "spa"))), oauth.InvalidClient},
		{"39: by an unknown client", signedWith(key.sign(t, w.claims("iss", "nosuch", "sub", "nosuch"))), oauth.InvalidClient},
		{"34: Basic beside it", func(r *http.Request) { signedWith(good())(r); r.SetBasicAuth("signed", "x") }, oauth.InvalidRequest},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := w.ask(goodForm, row.change)
			if got := oauth.Code(r.text("error")); got != row.want {
				t.Fatalf("got %d %v, want error %q", r.status, r.body, row.want)
			}
		})
	}
	disabled.Disabled = true
	w.declared.Clients["signed"] = disabled
	w.declare()
	if r := w.ask(goodForm, signedWith(good())); r.text("error") != "invalid_client" {
		t.Fatalf("42: a disabled client: %d %v", r.status, r.body)
	}
}

func TestAssertionIsSpent(t *testing.T) { // 37
	w := newWorld(t)
	key, other := w.signedClient("signed"), w.signedClient("other")
	once := key.sign(t, w.claims("jti", "same", "exp", w.clock().Add(4*time.Minute).Unix()))
	if r := w.ask(goodForm, signedWith(once)); r.status != 200 {
		t.Fatalf("%d %v", r.status, r.body)
	}
	if r := w.ask(goodForm, signedWith(once)); r.status != 401 {
		t.Fatalf("a replay: %d %v", r.status, r.body)
	}
	if r := w.ask(goodForm, signedWith(key.sign(t, w.claims("jti", "same")))); r.status != 401 {
		t.Fatalf("another assertion with the same jti: %d %v", r.status, r.body)
	}
	if r := w.ask(goodForm, signedWith(other.sign(t, w.claims("jti", "same", "iss", "other", "sub", "other")))); r.status != 200 {
		t.Fatalf("the same jti of another client: %d %v", r.status, r.body)
	}
	// To the last moment at which it could be accepted, also by a service that was started again.
	for range 4*60 + 29 {
		w.wait(time.Second)
		if _, err := w.db.Sweep(t.Context(), w.clock(), 1000); err != nil {
			t.Fatal(err)
		}
	}
	w.Authenticator = &Authenticator{Issuer: testIssuer, Directory: w.directory, Tickets: w.db, Limit: NewLimiter(w.clock), Now: w.clock}
	if r := w.ask(goodForm, signedWith(once)); r.status != 401 {
		t.Fatalf("a replay in its last second: %d %v", r.status, r.body)
	}
}

func TestAssertionThatIsRefusedIsNotSpent(t *testing.T) {
	w := newWorld(t)
	key := w.signedClient("signed")
	good := key.sign(t, w.claims("jti", "mine"))
	forged := newAssertionKey(t, key.kid).sign(t, w.claims("jti", "mine"))
	if r := w.ask(goodForm, signedWith(forged)); r.status != 401 {
		t.Fatalf("%d %v", r.status, r.body)
	}
	if r := w.ask(goodForm, signedWith(good)); r.status != 200 {
		t.Fatalf("a stranger spent the jti: %d %v", r.status, r.body)
	}
}

func TestAssertionInParallelWorksOnce(t *testing.T) { // 37: fosite CVE-2020-15222
	w := newWorld(t)
	key := w.signedClient("signed")
	token := key.sign(t, w.claims())
	var worked atomic.Int64
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if r := w.ask(goodForm, signedWith(token)); r.status == 200 {
				worked.Add(1)
			} else if r.status != 401 {
				t.Errorf("%d %v", r.status, r.body)
			}
		})
	}
	group.Wait()
	if worked.Load() != 1 {
		t.Fatalf("one assertion worked %d times", worked.Load())
	}
}

func unsigned(header string, claims map[string]any) string {
	body, _ := json.Marshal(claims)
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString(body) + "."
}

func hmacSigned(key []byte, claims map[string]any) string {
	signed := strings.TrimSuffix(unsigned(`{"alg":"HS256","kid":"rs","typ":"JWT"}`, claims), ".")
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// embedded signs with a key in the header, under somebody's kid.
func (k assertionKey) embedded(t *testing.T, kid string, claims map[string]any) string {
	t.Helper()
	public, err := jose.NewPublicKey(kid, k.alg, k.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := json.Marshal(public)
	if err != nil {
		t.Fatal(err)
	}
	return k.withHeader(t, `{"alg":"ES256","kid":"`+kid+`","jwk":`+string(jwk)+`}`, claims)
}

func mustEd25519(t testing.TB) crypto.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func mustRSA(t *testing.T) crypto.Signer {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func TestStorageFailureIsNoFailedAttempt(t *testing.T) {
	w := newWorld(t)
	key := w.signedClient("signed")
	w.breakTickets(errDown)
	for range failureBurst + 1 {
		if r := w.ask(goodForm, signedWith(key.sign(t, w.claims()))); r.status != 503 {
			t.Fatalf("%d %v", r.status, r.body)
		}
	}
	w.breakTickets(nil)
	if r := w.ask(goodForm, signedWith(key.sign(t, w.claims()))); r.status != 200 {
		t.Fatalf("%d %v", r.status, r.body)
	}
}

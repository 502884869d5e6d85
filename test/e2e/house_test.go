package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The house is one `signalbox serve` with every kind of client, user and resource,
// shared by all tests that leave no trace.
const houseConfig = serveHead + onSQLite + houseBody

const houseBody = `resources:
  - {id: "https://api.example.com", scopes: [orders:read, orders:write], introspection_clients: [api]}
  - {id: "https://other.example.com", scopes: [other:read], introspection_clients: [other-api]}
  - {id: "https://opaque.example.com", scopes: [opaque:read], token_format: opaque, introspection_clients: [api]}
clients:
  - client_id: machine
    client_secret_file: machine.secret
    grant_types: [client_credentials]
    scope: orders:read orders:write opaque:read
    resources: ["https://api.example.com", "https://opaque.example.com"]
  - client_id: machine-post
    client_secret_file: machine.secret
    token_endpoint_auth_method: client_secret_post
    grant_types: [client_credentials]
    scope: orders:read
    resources: ["https://api.example.com"]
  - client_id: signer
    token_endpoint_auth_method: private_key_jwt
    jwks_file: signer.jwks.json
    grant_types: [client_credentials]
    scope: orders:read
    resources: ["https://api.example.com"]
  - client_id: signer-two
    token_endpoint_auth_method: private_key_jwt
    jwks_file: signer-two.jwks.json
    grant_types: [client_credentials]
    scope: orders:read
    resources: ["https://api.example.com"]
  - client_id: web
    client_name: Web app
    client_secret_file: web.secret
    redirect_uris: ["https://app.example.com/callback"]
    grant_types: [authorization_code, refresh_token]
    scope: openid profile email offline_access orders:read orders:write
    resources: ["https://api.example.com"]
  - client_id: web-two
    client_name: Another web app
    client_secret_file: web-two.secret
    redirect_uris: ["https://two.example.com/callback", "https://two.example.com/other"]
    grant_types: [authorization_code, refresh_token]
    scope: openid offline_access orders:read
    resources: ["https://api.example.com"]
  - client_id: web-old
    client_name: An app that knows nothing of PKCE
    client_secret_file: web-two.secret
    redirect_uris: ["https://old.example.com/callback"]
    grant_types: [authorization_code, refresh_token]
    scope: openid offline_access orders:read
    resources: ["https://api.example.com"]
    require_pkce: false
  - client_id: native
    client_name: Native app
    token_endpoint_auth_method: none
    redirect_uris: ["http://127.0.0.1/callback", "http://[::1]/callback", "http://localhost:7777/callback", "com.example.native:/callback"]
    grant_types: [authorization_code, refresh_token]
    scope: openid profile email offline_access orders:read
    resources: ["https://api.example.com"]
  - client_id: api
    client_secret_file: api.secret
    grant_types: [client_credentials]
    scope: orders:read
    resources: ["https://api.example.com"]
  - client_id: other-api
    client_secret_file: other-api.secret
    grant_types: [client_credentials]
    scope: other:read
    resources: ["https://other.example.com"]
  - client_id: admin
    client_secret_file: admin.secret
    grant_types: [client_credentials]
    scope: clients:read clients:write users:read users:write keys:read keys:write grants:read grants:write resources:read resources:write clusters:read clusters:write journal:read journal:write
    resources: ["urn:signalbox:admin"]
users:
  - {username: ada, password_file: ada.password, name: Ada Lovelace, email: ada@example.com, email_verified: true}
  - {username: bob, password_file: bob.password}
  - {username: eve, password_file: bob.password, disabled: true}
`

const api = "https://api.example.com"

var (
	ada = user{"ada", "correct horse battery staple"}
	bob = user{"bob", "another long pass phrase"}
	eve = user{"eve", "another long pass phrase"} // disabled

	machine     = client{ID: "machine", Secret: "machine-secret-0123456789abcdef0123456789"}
	machinePost = client{ID: "machine-post", Secret: machine.Secret}
	webApp      = client{ID: "web", Secret: "web-secret-0123456789abcdef0123456789abcd", RedirectURIs: []string{"https://app.example.com/callback"}}
	webTwo      = client{ID: "web-two", Secret: "web-two-secret-0123456789abcdef012345678", RedirectURIs: []string{"https://two.example.com/callback"}}
	webOld      = client{ID: "web-old", Secret: webTwo.Secret, RedirectURIs: []string{"https://old.example.com/callback"}}
	nativeApp   = client{ID: "native", RedirectURIs: []string{"http://127.0.0.1/callback"}}
	apiServer   = client{ID: "api", Secret: "api-secret-0123456789abcdef0123456789abcd"}
	admin       = client{ID: "admin", Secret: "admin-secret-0123456789abcdef0123456789ab"}
	otherServer = client{ID: "other-api", Secret: "other-api-secret-0123456789abcdef0123456"}

	signerKey, signerTwoKey = newECKey(), newECKey()
)

var (
	house     *server
	openHouse sync.Once
)

// atHome returns the shared house.
func atHome(t *testing.T) *server {
	t.Helper()
	openHouse.Do(func() { house = runServe(t, sharedDir(t), "", houseConfig, houseFiles()) })
	if house == nil {
		t.Fatal("the shared signalbox serve did not start: see the first test that failed")
	}
	return house
}

// newHouse is a house of the test's own, for a test that leaves traces.
func newHouse(t *testing.T) *server {
	t.Helper()
	return startServe(t, houseConfig, houseFiles())
}

func houseFiles() map[string]string {
	return map[string]string{
		"machine.secret":       machine.Secret,
		"web.secret":           webApp.Secret,
		"web-two.secret":       webTwo.Secret,
		"api.secret":           apiServer.Secret,
		"other-api.secret":     otherServer.Secret,
		"admin.secret":         admin.Secret,
		"ada.password":         ada.Password,
		"bob.password":         bob.Password,
		"signer.jwks.json":     jwksOf("signer-1", signerKey),
		"signer-two.jwks.json": jwksOf("signer-two-1", signerTwoKey),
	}
}

func newECKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwkOf is the JSON Web Key of a P-256 key, public part only (RFC 7518 §6.2.1).
func jwkOf(kid string, key *ecdsa.PrivateKey) map[string]any {
	point, err := key.PublicKey.Bytes() // 0x04, x, y
	if err != nil {
		panic(err)
	}
	return map[string]any{"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig",
		"x": b64(point[1:33]), "y": b64(point[33:])}
}

func jwksOf(kid string, key *ecdsa.PrivateKey) string {
	out, err := json.Marshal(map[string]any{"keys": []any{jwkOf(kid, key)}})
	if err != nil {
		panic(err)
	}
	return string(out)
}

// jws signs by hand, so that a test can write a header that no library would.
// A nil key leaves the signature empty.
func jws(header, claims map[string]any, key *ecdsa.PrivateKey) string {
	part := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return b64(raw)
	}
	return jwsRaw(part(header), part(claims), key)
}

func jwsRaw(header, claims string, key *ecdsa.PrivateKey) string {
	input := header + "." + claims
	if key == nil {
		return input + "."
	}
	h := crypto.SHA256.New()
	h.Write([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, h.Sum(nil))
	if err != nil {
		panic(err)
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return input + "." + b64(sig)
}

// claimsOf reads a JWT without checking it.
func claimsOf(t *testing.T, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("not a compact JWS: %d parts", len(parts))
	}
	for i, into := range []*map[string]any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

// post sends a form as a client does: no cookies, no redirects followed.
func (s *server) post(t *testing.T, path string, values url.Values, change ...func(*http.Request)) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Issuer+path, strings.NewReader(values.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return send(t, req, change...)
}

func (s *server) get(t *testing.T, path string, change ...func(*http.Request)) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Issuer+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return send(t, req, change...)
}

var plainClient = &http.Client{
	Timeout:       30 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func send(t *testing.T, req *http.Request, change ...func(*http.Request)) reply {
	t.Helper()
	for _, c := range change {
		c(req)
	}
	client := plainClient
	if address := req.Header.Get(fromHeader); address != "" {
		req.Header.Del(fromHeader)
		client = clientFrom(address)
	}
	resp, err := client.Do(req)
	return readReply(t, resp, err)
}

// fromHeader passes the address of a test row to send, which removes it.
const fromHeader = "E2e-From"

// from sends a request from another loopback address: failures of client
// authentication are counted by client and address.
func from(address string) func(*http.Request) { return header(fromHeader, address) }

// nextAddress is a loopback address that no test has used yet.
func nextAddress() string {
	n := addresses.Add(1)
	return fmt.Sprintf("127.0.%d.%d", 1+n/250, 1+n%250)
}

var (
	addresses   atomic.Int64
	fromClients sync.Map // address -> *http.Client
)

func clientFrom(address string) *http.Client {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	c, _ := fromClients.LoadOrStore(address, &http.Client{
		Timeout: plainClient.Timeout, CheckRedirect: plainClient.CheckRedirect,
		Transport: &http.Transport{DialContext: dialer.DialContext},
	})
	return c.(*http.Client)
}

// basic authenticates a client by client_secret_basic (RFC 6749 §2.3.1).
func basic(c client) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.Secret)) }
}

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// params builds parameters from name, value, name, value …
func params(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

// machineToken gets an access token with client credentials.
func (s *server) machineToken(t *testing.T, more ...string) string {
	t.Helper()
	r := s.post(t, "/token", params(append([]string{"grant_type", "client_credentials", "scope", "orders:read", "resource", api}, more...)...), basic(machine))
	if r.Status != http.StatusOK || r.str("access_token") == "" {
		t.Fatalf("client credentials: %s", r)
	}
	return r.str("access_token")
}

// codeRequest is one good authorization request that a test row then changes.
type codeRequest struct {
	client client
	pkce   pkce
	query  url.Values
}

func newCodeRequest(c client) codeRequest {
	p := newPKCE()
	return codeRequest{c, p, params(
		"response_type", "code",
		"client_id", c.ID,
		"redirect_uri", c.RedirectURIs[0],
		"scope", "openid offline_access orders:read",
		"resource", api,
		"state", "state-"+rand.Text(),
		"nonce", "nonce-"+rand.Text(),
		"code_challenge", p.challenge,
		"code_challenge_method", "S256",
	)}
}

func (s *server) authorizeURL(query url.Values) string {
	return s.Issuer + "/authorize?" + query.Encode()
}

// code runs the request in a fresh browser to an authorization code.
func (s *server) code(t *testing.T, r codeRequest, who user) string {
	t.Helper()
	got := newBrowser(t).authorize(s.authorizeURL(r.query), who, "allow")
	if got.Get("code") == "" || got.Get("state") != r.query.Get("state") || got.Get("iss") != s.Issuer {
		t.Fatalf("the redirect holds %v; want a code, state %q and iss %q", got, r.query.Get("state"), s.Issuer)
	}
	return got.Get("code")
}

// redeem is one good token request that a test row then changes.
func (r codeRequest) redeem(code string) url.Values {
	return params("grant_type", "authorization_code", "code", code,
		"redirect_uri", r.query.Get("redirect_uri"), "code_verifier", r.pkce.verifier)
}

// as authenticates: a confidential client by its secret, a public one by its id alone.
func as(c client, v url.Values) (url.Values, func(*http.Request)) {
	if c.Secret == "" {
		v.Set("client_id", c.ID)
		return v, func(*http.Request) {}
	}
	return v, basic(c)
}

// signedIn runs the whole flow and returns the token response.
func (s *server) signedIn(t *testing.T, c client, who user) reply {
	t.Helper()
	r := newCodeRequest(c)
	v, auth := as(c, r.redeem(s.code(t, r, who)))
	got := s.post(t, "/token", v, auth)
	if got.Status != http.StatusOK {
		t.Fatalf("redeeming a code: %s", got)
	}
	return got
}

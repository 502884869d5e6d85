package kube

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// forge signs claims under any header, as no honest signer does.
func forge(t *testing.T, header, claims map[string]any, sign func(input string) []byte) string {
	t.Helper()
	encode := func(m map[string]any) string {
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	input := encode(header) + "." + encode(claims)
	return input + "." + base64.RawURLEncoding.EncodeToString(sign(input))
}

func rs256(key *rsa.PrivateKey) func(string) []byte {
	return func(input string) []byte {
		sum := sha256.Sum256([]byte(input))
		signature, _ := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
		return signature
	}
}

func hs256(secret []byte) func(string) []byte {
	return func(input string) []byte {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(input))
		return mac.Sum(nil)
	}
}

// unverified are header and claims of a token.
func unverified(t *testing.T, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWT: %d parts", len(parts))
	}
	for i, to := range []*map[string]any{&header, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, to); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

// with is m with some members changed.
func with(m map[string]any, pairs ...any) map[string]any {
	m = maps.Clone(m)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	return m
}

// asked is a server that the service can reach, and what it was asked for.
type asked struct {
	*httptest.Server
	mu    sync.Mutex
	paths []string
}

func listen(t *testing.T) *asked {
	t.Helper()
	a := &asked{}
	a.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.paths = append(a.paths, r.URL.Path)
		http.NotFound(w, r)
	}))
	t.Cleanup(a.Close)
	return a
}

// below are the paths below a prefix that it was asked for.
func (a *asked) below(prefix string) (paths []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, path := range a.paths {
		if strings.HasPrefix(path, prefix) {
			paths = append(paths, path)
		}
	}
	return paths
}

func TestScenario21_ForgedProofsAreRefusedAndNobodyIsCalled(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	attacker := listen(t)
	ca := filepath.Join(t.TempDir(), "attacker.crt")
	if err := os.WriteFile(ca, []byte(caPEM(attacker.Server)), 0o600); err != nil {
		t.Fatal(err)
	}
	// The listener can be called: the service fetches discovery of an issuer that is registered there.
	s := startService(t, "outbound: {allow_loopback: true, ca_file: "+ca+"}\nclusters:\n"+clusterEntry(r.Hub, "")+spokes+
		deploys("hub", "scenario-21", "spoke-a")+"trusted_issuers: [{name: control, issuer: "+attacker.URL+"/registered}]\n")
	until(t, 20*time.Second, "the registered issuer is asked", func() bool { return len(attacker.below("/registered/")) > 0 })

	good := r.Hub.Token(t, startPod(t, r.Hub, "scenario-21"), s.Issuer, 0)
	header, claims := unverified(t, good)
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(r.Hub.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	published, err := json.Marshal(keySet(t, r.Hub))
	if err != nil {
		t.Fatal(err)
	}
	own, err := jose.NewPublicKey("attacker-1", jose.RS256, foreign.Public())
	if err != nil {
		t.Fatal(err)
	}
	by, attack := rs256(foreign), attacker.URL+"/attack"
	if a := s.exchange(t, forge(t, header, claims, rs256(r.Hub.Key)), "spoke-a"); a.Status != http.StatusOK {
		t.Fatalf("what the hub itself signs this way is refused: %+v", a)
	}
	for _, c := range []struct {
		name  string
		token string
	}{
		{"alg none", forge(t, with(header, "alg", "none"), claims, func(string) []byte { return nil })},
		{"alg nOnE", forge(t, with(header, "alg", "nOnE"), claims, func(string) []byte { return nil })},
		{"alg none, with the signature of another token", forge(t, with(header, "alg", "none"), claims, rs256(r.Hub.Key))},
		{"HS256 with the public key in PEM as the secret", forge(t, with(header, "alg", "HS256"), claims, hs256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))},
		{"HS256 with the public key in DER as the secret", forge(t, with(header, "alg", "HS256"), claims, hs256(der))},
		{"HS256 with the modulus as the secret", forge(t, with(header, "alg", "HS256"), claims, hs256(r.Hub.Key.N.Bytes()))},
		{"HS256 with the published key set as the secret", forge(t, with(header, "alg", "HS256"), claims, hs256(published))},
		{"HS256 with nothing as the secret", forge(t, with(header, "alg", "HS256"), claims, hs256(nil))},
		{"a key of its own under the hub's kid", forge(t, header, claims, by)},
		{"a key of its own under its own kid", forge(t, with(header, "kid", "attacker-1"), claims, by)},
		{"its key in the header", forge(t, with(header, "kid", "attacker-1", "jwk", own), claims, by)},
		{"its key behind jku", forge(t, with(header, "kid", "attacker-1", "jku", attack+"/jku"), claims, by)},
		{"its key behind jku, under the hub's kid", forge(t, with(header, "jku", attack+"/jku"), claims, by)},
		{"its certificate behind x5u", forge(t, with(header, "kid", "attacker-1", "x5u", attack+"/x5u"), claims, by)},
		{"its certificate in x5c", forge(t, with(header, "kid", "attacker-1", "x5c", []string{base64.StdEncoding.EncodeToString(attacker.Certificate().Raw)}), claims, by)},
		{"a kid that is an address", forge(t, with(header, "kid", attack+"/kid"), claims, by)},
		{"an issuer that it runs itself", forge(t, header, with(claims, "iss", attack), by)},
		{"an issuer that looks like the registered one", forge(t, header, with(claims, "iss", attacker.URL+"/attack/../registered"), by)},
		{"an issuer at a link-local address", forge(t, header, with(claims, "iss", "http://169.254.169.254/latest/meta-data"), by)},
		{"an issuer at a link-local address, over TLS", forge(t, header, with(claims, "iss", "https://169.254.169.254"), by)},
	} {
		if a := s.exchange(t, c.token, "spoke-a"); a.Status != http.StatusBadRequest || a.Error != "invalid_request" {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
	if called := attacker.below("/attack"); len(called) > 0 {
		t.Errorf("a token made the service call %q", called)
	}
	if a := s.exchange(t, good, "spoke-a"); a.Status != http.StatusOK {
		t.Errorf("the right token after all the wrong ones: %+v", a)
	}
}

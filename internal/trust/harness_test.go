package trust

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/outbound"
)

const (
	ours          = "https://sts.example.com"
	clusterIssuer = "https://kubernetes.default.svc"
	githubIssuer  = "https://token.actions.githubusercontent.com"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clock is time that only a test moves.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time        { return start.Add(time.Duration(c.at.Load())) }
func (c *clock) pass(by time.Duration) { c.at.Add(int64(by)) }

// key is a key of an issuer, private half and all.
type key struct{ *jose.Signer }

func ecKey(t testing.TB, kid string) key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(kid, jose.ES256, "", private)
	if err != nil {
		t.Fatal(err)
	}
	return key{signer}
}

var rsaPrivate = sync.OnceValue(func() *rsa.PrivateKey {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return private
})

// rsaKey is always the same one: making them is slow.
func rsaKey(t testing.TB, kid string, alg jose.Algorithm, typ string) key {
	t.Helper()
	signer, err := jose.NewSigner(kid, alg, typ, rsaPrivate())
	if err != nil {
		t.Fatal(err)
	}
	return key{signer}
}

func jwks(t testing.TB, keys ...key) []byte {
	t.Helper()
	set := jose.KeySet{}
	for _, k := range keys {
		set = append(set, k.PublicKey())
	}
	text, err := set.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func bundle(t testing.TB, keys ...key) []byte {
	return []byte(strings.ReplaceAll(string(jwks(t, keys...)), `"use":"sig"`, `"use":"jwt-svid"`))
}

type claims map[string]any

func (c claims) with(name string, value any) claims {
	c = maps.Clone(c)
	c[name] = value
	return c
}

func (c claims) without(name string) claims {
	c = maps.Clone(c)
	delete(c, name)
	return c
}

// in changes the claim kubernetes.io.
func (c claims) in(name string, value any) claims {
	inner := maps.Clone(c["kubernetes.io"].(claims))
	inner[name] = value
	if value == nil {
		delete(inner, name)
	}
	return c.with("kubernetes.io", inner)
}

// podClaims are what kube-apiserver 1.36 writes for a pod.
func podClaims() claims {
	return claims{
		"iss": clusterIssuer, "aud": []string{ours}, "sub": "system:serviceaccount:argocd:controller", "jti": "6c1f0f3e-0c5c-4b5e-9c59-7a8d7c5c2a11",
		"iat": start.Unix(), "nbf": start.Unix(), "exp": start.Add(time.Hour).Unix(),
		"kubernetes.io": claims{
			"namespace":      "argocd",
			"serviceaccount": claims{"name": "controller", "uid": "0d5e9c1a-1111-4f6e-8a55-d3c4a1b2c3d4"},
			"pod":            claims{"name": "controller-0", "uid": "7d3b1c5e-2222-4f6e-8a55-d3c4a1b2c3d4"},
			"node":           claims{"name": "node-1", "uid": "9a3b1c5e-3333-4f6e-8a55-d3c4a1b2c3d4"},
		},
	}
}

func jobClaims() claims {
	return claims{
		"iss": githubIssuer, "aud": ours, "sub": "repo:acme/app:ref:refs/heads/main", "jti": "job-1", "repository": "acme/app",
		"iat": start.Unix(), "nbf": start.Unix(), "exp": start.Add(10 * time.Minute).Unix(),
	}
}

func svidClaims() claims {
	return claims{"aud": []string{ours}, "sub": "spiffe://prod.example.com/ns/shop/sa/web", "exp": start.Add(5 * time.Minute).Unix()}
}

func (k key) sign(t testing.TB, c claims) string {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	token, err := k.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// forge is a token with any header and any signature.
func forge(header, payload string, signature []byte) string {
	enc := base64.RawURLEncoding
	return enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString([]byte(payload)) + "." + enc.EncodeToString(signature)
}

func (c claims) text() string {
	text, _ := json.Marshal(c)
	return string(text)
}

func cluster(name string, keys []byte) authority.Cluster {
	return authority.Cluster{Name: name, Issuer: clusterIssuer, Keys: keys, Pods: authority.PodsOffline}
}

func reachable(name string) authority.Cluster {
	return authority.Cluster{Name: name, Issuer: clusterIssuer, APIServer: "https://10.0.0.1:6443", Credential: authority.CredentialSelf, Pods: authority.PodsWatched}
}

func github(keys []byte) authority.TrustedIssuer {
	return authority.TrustedIssuer{Name: "github", Issuer: githubIssuer, Keys: keys}
}

func trustDomain(keys []byte) authority.TrustedIssuer {
	return authority.TrustedIssuer{Name: "prod", TrustDomain: "prod.example.com", Keys: keys}
}

// rig is a verifier with its clock. Whoever fetches is counted.
type rig struct {
	*Verifier
	clock
	asked   atomic.Int32
	apiKeys func(ctx context.Context, c authority.Cluster) ([]byte, error)
}

func newRig(t testing.TB) *rig {
	r := &rig{}
	r.apiKeys = func(context.Context, authority.Cluster) ([]byte, error) {
		t.Error("an API server was asked")
		return nil, io.EOF
	}
	r.Verifier = New(Options{
		Issuer: ours, Outbound: outbound.New(outbound.Options{AllowLoopback: true}), Now: r.now, Log: slog.New(slog.DiscardHandler),
		APIKeys: func(ctx context.Context, c authority.Cluster) ([]byte, error) {
			r.asked.Add(1)
			return r.apiKeys(ctx, c)
		},
	})
	return r
}

func (r *rig) use(t testing.TB, clusters []authority.Cluster, issuers ...authority.TrustedIssuer) {
	t.Helper()
	if err := r.Use(clusters, issuers); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) accepts(t testing.TB, token string) authority.Proof {
	t.Helper()
	proof, err := r.Verify(context.Background(), token)
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	return proof
}

// refuses wants a refusal of this public text, for a reason that contains why.
func (r *rig) refuses(t testing.TB, name, token string, want Refusal, why string) *Refusal {
	t.Helper()
	proof, err := r.Verify(context.Background(), token)
	refused, typed := err.(*Refusal)
	switch {
	case err == nil:
		t.Errorf("%s: accepted as %+v", name, proof)
		return &Refusal{}
	case !typed:
		t.Errorf("%s: not a refusal: %v", name, err)
		return &Refusal{}
	case refused.Public != want.Public || refused.Unavailable != want.Unavailable || !strings.Contains(refused.reason.Error(), why):
		t.Errorf("%s: want %q because of %q, got %v", name, want.Public, why, refused)
	}
	return refused
}

// settled waits until nothing is being fetched.
func (r *rig) settled(t testing.TB) {
	t.Helper()
	for {
		r.mu.Lock()
		busy := false
		for _, o := range r.origins {
			busy = busy || o.ring.fetching
		}
		changed := r.changed
		r.mu.Unlock()
		if !busy {
			return
		}
		<-changed
	}
}

// fakeIssuer answers as a test says, one path at a time.
type fakeIssuer struct {
	*httptest.Server
	asked atomic.Int32
	mu    sync.Mutex
	paths map[string]http.HandlerFunc
}

func newIssuer(t testing.TB) *fakeIssuer {
	f := &fakeIssuer{paths: map[string]http.HandlerFunc{}}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked.Add(1)
		f.mu.Lock()
		handler := f.paths[r.URL.Path]
		f.mu.Unlock()
		if handler == nil {
			http.NotFound(w, r)
			return
		}
		handler(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeIssuer) answers(path, body string, header ...string) {
	f.handles(path, func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		io.WriteString(w, body)
	})
}

func (f *fakeIssuer) handles(path string, h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paths[path] = h
}

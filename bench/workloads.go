//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-sts/signalbox/bench/load"
)

const (
	hubIssuer  = "https://kubernetes.default.svc"
	proofFor   = "https://sts.bench.example" // the audience of all proofs, so that every server takes the same ones
	hubKeyID   = "bench-hub-key"
	hubKeyFile = "hub.pem"
	podCount   = 1000 // that proofs come from; each has a grant, made by its first exchange
	seenProofs = 500
	exchanges  = 12_000 // a second, at most, for which proofs are made: a signature costs far more than its verification
)

// hub is the key of a cluster that exists only as a key set: it signs the
// tokens of pods as an API server does.
type hub struct {
	key    *rsa.PrivateKey
	header string // of every token, with its dot
	serial atomic.Int64
}

func newHub() (*hub, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	header := fmt.Sprintf(`{"alg":"RS256","kid":%q}`, hubKeyID)
	return &hub{key: key, header: base64.RawURLEncoding.EncodeToString([]byte(header)) + "."}, nil
}

// keySet is what a configuration has as clusters[].jwks_file.
func (h *hub) keySet() []byte {
	b64 := base64.RawURLEncoding
	return fmt.Appendf(nil, `{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":%q,"n":%q,"e":%q}]}`, hubKeyID,
		b64.EncodeToString(h.key.N.Bytes()), b64.EncodeToString(big.NewInt(int64(h.key.E)).Bytes()))
}

// publicKey is the same for the ideal handler, which reads no key sets.
func (h *hub) publicKey() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(&h.key.PublicKey)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), err
}

type podRef struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

type podToken struct {
	Aud        []string     `json:"aud"`
	Exp        int64        `json:"exp"`
	Iat        int64        `json:"iat"`
	Iss        string       `json:"iss"`
	Jti        string       `json:"jti"`
	Kubernetes podReference `json:"kubernetes.io"`
	Nbf        int64        `json:"nbf"`
	Sub        string       `json:"sub"`
}

type podReference struct {
	Namespace      string `json:"namespace"`
	Node           podRef `json:"node"`
	Pod            podRef `json:"pod"`
	ServiceAccount podRef `json:"serviceaccount"`
}

// proof is a token with the claims that Kubernetes 1.36 writes. No two have
// the same jti.
func (h *hub) proof(n int64, now time.Time) (string, error) {
	return h.proofOf(n, int(n%podCount), "shop", "orders", now)
}

// proofOf is one of this pod.
func (h *hub) proofOf(n int64, pod int, namespace, account string, now time.Time) (string, error) {
	uid := func(kind byte, n int64) string { return fmt.Sprintf("%02x3fb4a6-7c7e-4b2c-9d1e-%012x", kind, n) }
	body, err := json.Marshal(podToken{
		Aud: []string{proofFor}, Iss: hubIssuer, Jti: uid(1, n), Sub: "system:serviceaccount:" + namespace + ":" + account,
		Iat: now.Unix(), Nbf: now.Unix(), Exp: now.Add(time.Hour).Unix(),
		Kubernetes: podReference{
			Namespace: namespace, Node: podRef{fmt.Sprintf("node-%d", pod%20), uid(2, int64(pod%20))},
			Pod: podRef{fmt.Sprintf("%s-7c9d8f6b5-%05x", account, pod), uid(3, int64(pod))}, ServiceAccount: podRef{account, uid(4, 0)},
		},
	})
	if err != nil {
		return "", err
	}
	signed := h.header + base64.RawURLEncoding.EncodeToString(body)
	digest := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(nil, h.key, crypto.SHA256, digest[:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig), err
}

// proofs makes count that nobody has seen, on all cores.
func (h *hub) proofs(count int) ([]string, error) {
	now := time.Now().Add(-time.Second)
	last := h.serial.Add(int64(count))
	list := make([]string, count)
	errs := make([]error, runtime.NumCPU())
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for i := w; i < count && errs[w] == nil; i += len(errs) {
				list[i], errs[w] = h.proof(last-int64(count)+int64(i), now)
			}
		})
	}
	wg.Wait()
	return list, errors.Join(errs...)
}

// startWorkloads starts Signalbox with the cluster hub, known by its key set
// alone, and a policy that leads from its pods to another cluster.
func (b *bench) startWorkloads(ctx context.Context) (*env, error) {
	if b.signalbox == "" {
		return nil, errNoService
	}
	e, err := b.newEnv("workloads")
	if err != nil {
		return nil, err
	}
	if err := b.writeWorkloads(e); err != nil {
		return nil, err
	}
	return e, b.serve(ctx, e)
}

func (b *bench) writeWorkloads(e *env) error {
	e.storage, e.extra = "sqlite:"+filepath.Join(e.dir, "signalbox.db"), workloadText
	return errors.Join(e.writeConfig(), os.WriteFile(filepath.Join(e.dir, "hub.jwks.json"), b.hub.keySet(), 0o644))
}

const workloadText = `clusters:
  - {name: hub, issuer: "` + hubIssuer + `", jwks_file: hub.jwks.json, pods: offline, audiences: ["` + proofFor + `"]}
  - {name: spoke-a, webhook: {caller: {rs}}}
` + workloadPolicy

const workloadPolicy = `policies:
  - name: orders-use-spoke-a
    from: {cluster: hub, namespace: shop, service_account: orders}
    to: {cluster: spoke-a}
    groups: [deployers]
    ttl: 5m
`

func (e *env) exchangeRequest(path, proof string) []byte {
	return post(e, path, "", exchangeForm+proof) // a JWT has nothing to escape
}

var exchangeForm = url.Values{
	"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "audience": {"spoke-a"},
	"subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"},
}.Encode() + "&subject_token="

// exchangeFresh shows each proof once, as pods do that take a new token from
// their kubelet each time.
func exchangeFresh(_ context.Context, b *bench, e *env) (source, error) {
	proofs, err := b.hub.proofs(int(exchanges * (b.duration + b.warmUp).Seconds()))
	return once(proofs, func(proof string) []byte { return e.exchangeRequest("/token", proof) }, hasToken("eyJ")), err
}

// exchangeSeen shows the same proofs in turn, as pods do that come again
// before their kubelet has a new token. The warm-up shows them all.
func exchangeSeen(path string) func(context.Context, *bench, *env) (source, error) {
	return func(_ context.Context, b *bench, e *env) (source, error) {
		proofs, err := b.hub.proofs(seenProofs)
		return inTurn(proofs, func(proof string) []byte { return e.exchangeRequest(path, proof) }, hasToken("eyJ")), err
	}
}

// reviewFresh is an API server that asks about each token once: its own cache
// answers the rest. There are enough for twice the target's speed.
func reviewFresh(_ context.Context, b *bench, e *env) (source, error) {
	tokens, err := b.exchanged(e, int(20_000*(b.duration+b.warmUp).Seconds()))
	return once(tokens, e.reviewRequest, isAuthenticated), err
}

// reviewSeen repeats a thousand tokens; the warm-up shows them all.
func reviewSeen(_ context.Context, b *bench, e *env) (source, error) {
	tokens, err := b.exchanged(e, 1000)
	return inTurn(tokens, e.reviewRequest, isAuthenticated), err
}

// exchanged gets count different tokens for the cluster spoke-a.
func (b *bench) exchanged(e *env, count int) ([]string, error) {
	proofs, err := b.hub.proofs(seenProofs)
	if err != nil {
		return nil, err
	}
	n := 0
	return harvest(e, func() []byte { n++; return e.exchangeRequest("/token", proofs[n%len(proofs)]) }, count)
}

func (e *env) reviewRequest(token string) []byte {
	return postAs(e, "/kubernetes/tokenreview", introspecID, "application/json",
		`{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","metadata":{"creationTimestamp":null},"spec":{"token":"`+token+`","audiences":["https://kubernetes.default.svc"]},"status":{"user":{}}}`)
}

func isAuthenticated(_ int, r load.Response) error {
	if !bytes.Contains(r.Body, []byte(`"authenticated":true`)) {
		return fmt.Errorf("not authenticated: %.200q", withoutTokens(r.Body))
	}
	return nil
}

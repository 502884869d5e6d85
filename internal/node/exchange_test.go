package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/test/postgres"
)

// exchangeNodes are two nodes on one database, by default SQLite, and what signs the tokens of the cluster hub.
func exchangeNodes(t *testing.T, database *url.URL) (nodes [2]*Node, sign func(uid string) string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner("hub-1", jose.ES256, "", private)
	if err != nil {
		t.Fatal(err)
	}
	jwks, err := json.Marshal(jose.KeySet{signer.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	file := testFile(t)
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "hub.json"), jwks, 0o600); err != nil {
		t.Fatal(err)
	}
	edit(t, file, "log: {level: warn}\n", `log: {level: warn}
clusters:
  - {name: hub, issuer: https://kubernetes.default.svc, jwks_file: hub.json}
  - {name: spoke}
policies:
  - name: deploys
    from: {cluster: hub, namespace: argocd, service_account: controller}
    to: {cluster: spoke}
`)
	if database != nil {
		edit(t, file, `storage: {url: "sqlite:signalbox.db"}`, fmt.Sprintf("storage: {url: %q}", database))
	}
	beside := secondFile(t, file)
	if database != nil { // where nothing else says where the journal is
		edit(t, file, "log: {level: warn}\n", "log: {level: warn}\njournal: {dir: first}\n")
	}
	nodes = [2]*Node{mustOpen(t, file), mustOpen(t, beside)}
	return nodes, func(uid string) string {
		now := time.Now()
		claims, err := json.Marshal(map[string]any{
			"iss": "https://kubernetes.default.svc", "aud": []string{"http://127.0.0.1:1"}, "sub": "system:serviceaccount:argocd:controller",
			"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "jti": rand.Text(),
			"kubernetes.io": map[string]any{
				"namespace": "argocd", "serviceaccount": map[string]any{"name": "controller", "uid": "5a"}, "pod": map[string]any{"name": "controller-0", "uid": uid},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		token, err := signer.Sign(claims)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
}

// exchange answers with a token, or with an error code.
func exchange(n *Node, proof string) (token, code string) {
	form := url.Values{
		"grant_type": {string(oauth.TokenExchange)}, "audience": {"spoke"}, "subject_token": {proof}, "subject_token_type": {string(oauth.TokenTypeJWT)},
	}
	r := httptest.NewRequest("POST", "http://127.0.0.1:1/token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.RemoteAddr = "127.0.0.1:1234"
	answer := httptest.NewRecorder()
	n.public.ServeHTTP(answer, r)
	var body struct {
		AccessToken string `json:"access_token"`
		Error       string `json:"error"`
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil {
		return "", fmt.Sprintf("%d %s", answer.Code, answer.Body)
	}
	return body.AccessToken, body.Error
}

// Pods end on one node while they exchange on two. Once an end has been acknowledged that node gives nothing for the pod, and
// accepts none of its tokens, whoever gave them; and so does the other one once it has heard of the end.
func TestAnAcknowledgedEndOfAPodIsTheEndOnBothNodes(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { testAcknowledgedEnds(t, nil) })
	t.Run("PostgreSQL", func(t *testing.T) { testAcknowledgedEnds(t, postgres.New(t)) })
}

func testAcknowledgedEnds(t *testing.T, database *url.URL) {
	nodes, sign := exchangeNodes(t, database)
	for round := range 8 {
		uid := fmt.Sprintf("uid-%d", round)
		var mu sync.Mutex
		var tokens []string
		var acknowledged atomic.Bool
		var running sync.WaitGroup
		begun := make(chan struct{}, 4)
		stop := make(chan struct{})
		for i := range 4 {
			n, proof := nodes[i%2], sign(uid)
			running.Go(func() {
				for first := true; ; first = false {
					before := acknowledged.Load()
					token, code := exchange(n, proof)
					switch {
					case token != "" && before && n == nodes[0]:
						t.Errorf("round %d: a token after the end was acknowledged", round)
					case token != "":
						mu.Lock()
						tokens = append(tokens, token)
						mu.Unlock()
					case code != "invalid_request" && code != "temporarily_unavailable":
						t.Errorf("round %d: %s", round, code)
					}
					if first {
						begun <- struct{}{}
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		for range 4 {
			<-begun
		}
		if _, err := nodes[0].endings.EndEvidence(t.Context(), authority.PodEvidence("hub", uid), time.Now().Add(time.Hour), authority.Event{Type: authority.EventEvidenceEnded}); err != nil {
			t.Error(err)
		}
		acknowledged.Store(true)
		accepts := func(n *Node) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			for _, token := range tokens {
				if _, _, err := n.reader.Accept(t.Context(), token, issue.AnyAudience); err == nil {
					t.Errorf("round %d: a token of the pod is accepted", round)
				}
			}
		}
		accepts(nodes[0])
		close(stop)
		running.Wait()
		for _, n := range nodes {
			if err := n.CatchUp(t.Context()); err != nil {
				t.Fatal(err)
			}
			accepts(n)
			if token, code := exchange(n, sign(uid)); token != "" || code != "invalid_request" {
				t.Errorf("round %d: after the end: %q", round, code)
			}
		}
		if len(tokens) == 0 {
			t.Errorf("round %d: nobody got a token while the pod lived", round)
		}
		if token, code := exchange(nodes[0], sign(uid+"-again")); token == "" {
			t.Errorf("round %d: a pod of the same name: %s", round, code)
		}
	}
}

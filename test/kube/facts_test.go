// Package kube drives the built binary against real Kubernetes API servers; see its folder rig.
//
// What the service relies on in Kubernetes is tested here too, without the service: when a
// newer Kubernetes behaves differently, these tests say so before any user does.
package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }

// audience is what a projected token for us says in aud.
const audience = "https://sts.example.com"

// startPod makes a pod in a namespace of the test's own.
func startPod(t *testing.T, c *rig.Cluster, namespace string) rig.Pod {
	t.Helper()
	c.Namespace(t, namespace)
	c.ServiceAccount(t, namespace, "orders")
	return c.Pod(t, namespace, "orders", "orders-1")
}

// keySet is what the API server publishes.
func keySet(t *testing.T, c *rig.Cluster) jose.KeySet {
	t.Helper()
	var text string
	if err := c.Call(http.MethodGet, "/openid/v1/jwks", nil, &text); err != nil {
		t.Fatal(err)
	}
	keys, err := jose.ParseKeySet([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func verify(token string, keys jose.KeySet) (jose.Verified, error) {
	return jose.Verify(token, jose.Expect{Algorithms: []jose.Algorithm{jose.RS256}, Types: []string{""}}, keys.Find)
}

func TestAPodsTokenIsAuthenticByTheKeySetAndNamesItsPod(t *testing.T) {
	t.Parallel()
	clusters := rig.Start(t)
	pod := startPod(t, clusters.Hub, "facts-claims")
	token := clusters.Hub.Token(t, pod, audience, 0)

	good, err := verify(token, keySet(t, clusters.Hub))
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Issuer     string   `json:"iss"`
		Subject    string   `json:"sub"`
		Audience   []string `json:"aud"`
		ID         string   `json:"jti"`
		IssuedAt   int64    `json:"iat"`
		Expires    int64    `json:"exp"`
		Kubernetes struct {
			Namespace      string
			Pod            struct{ Name, UID string }
			ServiceAccount struct{ Name, UID string }
			Node           struct{ Name string }
		} `json:"kubernetes.io"`
	}
	if err := json.Unmarshal(good.Claims.JSON(), &claims); err != nil {
		t.Fatal(err)
	}
	k := claims.Kubernetes
	for _, c := range []struct{ claim, got, want string }{
		{"iss", claims.Issuer, rig.DefaultIssuer},
		{"sub", claims.Subject, "system:serviceaccount:facts-claims:orders"},
		{"aud", strings.Join(claims.Audience, " "), audience},
		{"kubernetes.io.namespace", k.Namespace, "facts-claims"},
		{"kubernetes.io.pod.name", k.Pod.Name, "orders-1"},
		{"kubernetes.io.pod.uid", k.Pod.UID, pod.UID},
		{"kubernetes.io.serviceaccount.name", k.ServiceAccount.Name, "orders"},
		{"kubernetes.io.node.name", k.Node.Name, "node-1"},
	} {
		if c.got != c.want {
			t.Errorf("%s is %q, not %q", c.claim, c.got, c.want)
		}
	}
	if claims.ID == "" || k.ServiceAccount.UID == "" {
		t.Errorf("no jti or no uid of the service account in %s", good.Claims.JSON())
	}
	if life := claims.Expires - claims.IssuedAt; life != 600 {
		t.Errorf("it lives for %d s, not for the 600 that were asked for", life)
	}
	// The issuer's name is the same, so that only the key tells the two clusters apart.
	if clusters.SpokeA.Issuer != clusters.Hub.Issuer {
		t.Error("hub and spoke-a have different issuers")
	}
	if _, err := verify(token, keySet(t, clusters.SpokeA)); err == nil {
		t.Error("the hub's token is authentic by the keys of spoke-a")
	}
}

func TestTokenReviewAcceptsATokenForUsOnlyIfItIsAskedWithOurAudience(t *testing.T) {
	t.Parallel()
	clusters := rig.Start(t)
	hub := clusters.Hub
	pod := startPod(t, hub, "facts-review")
	ours, its := hub.Token(t, pod, audience, 0), hub.Token(t, pod, "", 0)

	for _, c := range []struct {
		name      string
		cluster   *rig.Cluster
		token     string
		audiences []string
		want      bool
	}{
		{"ours, asked with our audience", hub, ours, []string{audience}, true},
		{"ours, asked without an audience", hub, ours, nil, false},
		{"ours, asked with another audience", hub, ours, []string{"https://other.example.com"}, false},
		{"the API server's, asked without an audience", hub, its, nil, true},
		{"the API server's, asked with our audience", hub, its, []string{audience}, false},
		{"ours, asked of another cluster with the same issuer", clusters.SpokeA, ours, []string{audience}, false},
	} {
		review := c.cluster.TokenReview(t, c.token, c.audiences...)
		if review.Authenticated != c.want {
			t.Errorf("%s: authenticated is %t: %s", c.name, review.Authenticated, review.Error)
		}
		if c.want && review.User.Username != "system:serviceaccount:facts-review:orders" {
			t.Errorf("%s: it is %q", c.name, review.User.Username)
		}
	}
	review := hub.TokenReview(t, ours, audience)
	if got := review.User.Extra["authentication.kubernetes.io/pod-uid"]; !slices.Equal(got, []string{pod.UID}) {
		t.Errorf("the pod's uid is %q, not %q", got, pod.UID)
	}
}

// unseenTokens are tokens that no API server has reviewed: after a review it may repeat a good
// verdict for 10 s.
func unseenTokens(t *testing.T, c *rig.Cluster, pod rig.Pod) []string {
	t.Helper()
	tokens := make([]string, 20)
	for i := range tokens {
		tokens[i] = c.Token(t, pod, audience, 0)
	}
	return tokens
}

// wantRefusedSoon wants one of the tokens refused within two seconds. The very first may be
// good, since the API server hears of its own deletions by a watch.
func wantRefusedSoon(t *testing.T, c *rig.Cluster, tokens []string) {
	t.Helper()
	for _, token := range tokens {
		if !c.TokenReview(t, token, audience).Authenticated {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("none of %d tokens that were never reviewed before is refused", len(tokens))
}

func TestTokenOfADeletedPodIsRefused(t *testing.T) {
	t.Parallel()
	hub := rig.Start(t).Hub
	pod := startPod(t, hub, "facts-deleted")
	reviewed, unseen := hub.Token(t, pod, audience, 0), unseenTokens(t, hub, pod)
	if review := hub.TokenReview(t, reviewed, audience); !review.Authenticated {
		t.Fatalf("the living pod's token is refused: %s", review.Error)
	}
	hub.DeletePod(t, pod, 0)
	deleted := time.Now()

	wantRefusedSoon(t, hub, unseen)
	// The API server may repeat a good verdict for 10 s.
	for hub.TokenReview(t, reviewed, audience).Authenticated {
		if time.Since(deleted) > 15*time.Second {
			t.Fatal("a token that was reviewed before is still good after 15 s")
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("the token that was reviewed before was refused after %v", time.Since(deleted).Round(100*time.Millisecond))
	if _, err := verify(reviewed, keySet(t, hub)); err != nil {
		t.Errorf("it is no longer authentic, so that the key set would do: %v", err)
	}
}

func TestPodMadeAgainUnderTheSameNameDoesNotReviveTheOldToken(t *testing.T) {
	t.Parallel()
	hub := rig.Start(t).Hub
	pod := startPod(t, hub, "facts-again")
	old := unseenTokens(t, hub, pod)
	hub.DeletePod(t, pod, 0)
	again := hub.Pod(t, pod.Namespace, pod.ServiceAccount, pod.Name)
	if again.UID == pod.UID {
		t.Fatal("the new pod has the old one's uid")
	}
	wantRefusedSoon(t, hub, old)
	if review := hub.TokenReview(t, hub.Token(t, again, audience, 0), audience); !review.Authenticated {
		t.Errorf("the new pod's token is refused: %s", review.Error)
	}
	if _, err := hub.RequestToken(pod, audience, 0); err == nil {
		t.Error("a token for the old pod's uid can be had")
	}
}

func TestTerminatingPodKeepsItsTokenForTheGracePeriod(t *testing.T) {
	t.Parallel()
	hub := rig.Start(t).Hub
	pod := startPod(t, hub, "facts-terminating")
	token := hub.Token(t, pod, audience, 0)
	asked := time.Now()
	end := hub.DeletePod(t, pod, time.Hour)
	if grace := end.Sub(asked).Round(time.Minute); grace != time.Hour {
		t.Errorf("its deletionTimestamp is %v from now, not the hour of the grace period", grace)
	}
	if review := hub.TokenReview(t, token, audience); !review.Authenticated {
		t.Errorf("its token is refused: %s", review.Error)
	}
}

// startIssuer serves what an API server asks of a JWT issuer: discovery and keys, over TLS.
func startIssuer(t *testing.T, key jose.PublicKey) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	s := httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": s.URL, "jwks_uri": s.URL + "/jwks", "response_types_supported": []string{"none"},
			"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.KeySet{key})
	})
	return s
}

func caPEM(s *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

func whoami(t *testing.T, c *rig.Cluster, token string) (string, error) {
	t.Helper()
	return c.KubectlAs(t, c.KubeconfigWith(t, "{token: "+token+"}"), "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
}

func TestAuthenticationConfigurationIsReloadedAndItsTokensAreAuditedById(t *testing.T) {
	t.Parallel()
	spoke := rig.Start(t).SpokeB
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner("one", jose.ES256, "at+jwt", key)
	if err != nil {
		t.Fatal(err)
	}
	issuer := startIssuer(t, signer.PublicKey())
	id := rand.Text()
	claims, err := json.Marshal(map[string]any{
		"iss": issuer.URL, "aud": "spoke-b", "sub": "cluster:hub:ns:shop:sa:orders", "jti": id,
		"iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix(),
	})
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	if who, err := whoami(t, spoke, token); err == nil {
		t.Fatalf("a cluster that trusts nobody took it for %q", who)
	}

	ca, _ := json.Marshal(caPEM(issuer)) // JSON is YAML, on one line
	spoke.SetAuthenticationConfig(t, fmt.Sprintf(`apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: %q, audiences: [spoke-b], certificateAuthority: %s}
  claimMappings: {username: {claim: sub, prefix: "signalbox:"}}
`, issuer.URL, ca))
	who, err := whoami(t, spoke, token)
	if want := "signalbox:cluster:hub:ns:shop:sa:orders"; err != nil || who != want {
		t.Fatalf("whoami says %q (%v), not %q", who, err, want)
	}
	if !slices.ContainsFunc(spoke.AuditLog(t), func(e rig.AuditEvent) bool {
		return e.User.Username == who && e.ObjectRef.Resource == "selfsubjectreviews" && e.ResponseStatus.Code == http.StatusCreated &&
			slices.Equal(e.User.Extra["authentication.kubernetes.io/credential-id"], []string{"JTI=" + id})
	}) {
		t.Errorf("the audit log has no selfsubjectreview of %s with the token's jti as its credential id", who)
	}
}

func TestTokenWebhookIsAskedAboutTokensThatNobodyElseKnows(t *testing.T) {
	t.Parallel()
	webhook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Spec       struct {
				Token     string   `json:"token"`
				Audiences []string `json:"audiences"`
			} `json:"spec"`
			Status struct {
				Authenticated bool `json:"authenticated"`
				User          any  `json:"user,omitempty"`
			} `json:"status"`
		}
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &review); err != nil {
			t.Errorf("not a TokenReview: %s", body)
		}
		if !slices.Equal(review.Spec.Audiences, []string{rig.DefaultIssuer}) {
			t.Errorf("spec.audiences is %q, not the API server's own issuer", review.Spec.Audiences)
		}
		if name, password, _ := r.BasicAuth(); name != "guest-apiserver" || password != "secret" {
			t.Errorf("the API server calls itself %q", name)
		}
		if review.Spec.Token == "good" {
			review.Status.Authenticated = true
			review.Status.User = map[string]any{"username": "signalbox:somebody"}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(webhook.Close)
	ca := t.TempDir() + "/webhook.crt"
	if err := os.WriteFile(ca, []byte(caPEM(webhook)), 0o600); err != nil {
		t.Fatal(err)
	}
	guest := rig.Start(t).Add(t, "guest", rig.Options{Webhook: fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: webhook, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: guest, user: {username: guest-apiserver, password: secret}}]
contexts: [{name: webhook, context: {cluster: webhook, user: guest}}]
current-context: webhook
`, webhook.URL, ca)})
	if who, err := whoami(t, guest, "good"); err != nil || who != "signalbox:somebody" {
		t.Errorf("whoami says %q (%v)", who, err)
	}
	if who, err := whoami(t, guest, "bad"); err == nil {
		t.Errorf("a token that the webhook refuses is taken for %q", who)
	}
}

func TestRestartedAPIServerHasKeptEverything(t *testing.T) {
	t.Parallel()
	clusters := rig.Start(t)
	own := clusters.Add(t, "own", rig.Options{})
	pod := startPod(t, own, "facts-restart")
	token := own.Token(t, pod, audience, 0)

	own.Stop(t)
	if err := own.Call(http.MethodGet, "/readyz", nil, nil); err == nil {
		t.Fatal("a stopped API server answers")
	}
	own.Restart(t)
	if review := own.TokenReview(t, token, audience); !review.Authenticated {
		t.Errorf("after a restart the pod's token is refused: %s", review.Error)
	}
	if got := strings.TrimSpace(own.Kubectl(t, "get", "pods", "-n", "facts-restart", "-o", "jsonpath={.items[*].metadata.uid}")); got != pod.UID {
		t.Errorf("after a restart the pod is %q, not %q", got, pod.UID)
	}
	// A user of whom RBAC says nothing may read nothing, and one that it names may.
	reader := own.KubeconfigFor(t, "reader")
	if out, err := own.KubectlAs(t, reader, "get", "pods", "-n", "facts-restart"); err == nil || !strings.Contains(err.Error(), "Forbidden") {
		t.Errorf("a stranger reads pods: %s (%v)", out, err)
	}
	own.Kubectl(t, "create", "role", "readers", "-n", "facts-restart", "--verb=get,list,watch", "--resource=pods")
	own.Kubectl(t, "create", "rolebinding", "readers", "-n", "facts-restart", "--role=readers", "--user=reader")
	// The authorizer follows the bindings by a watch of its own.
	for bound := time.Now(); ; {
		_, err := own.KubectlAs(t, reader, "get", "pods", "-n", "facts-restart")
		if err == nil {
			break
		}
		if time.Since(bound) > 15*time.Second {
			t.Fatal(err)
		}
	}
}

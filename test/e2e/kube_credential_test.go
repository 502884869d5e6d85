package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/journal/query"
)

const kubeConfig = serveHead + onSQLite + podsOfHub

const podsOfHub = `clusters:
  - {name: hub, issuer: "https://kubernetes.default.svc", jwks_file: "{{.Dir}}/hub.jwks.json", pods: offline}
  - {name: spoke-a}
policies:
  - name: orders-to-spoke-a
    from: {cluster: hub, namespace: shop, service_account: orders}
    to: {cluster: spoke-a}
`

// pods is a cluster whose pods prove themselves to s.
type pods struct {
	*server
	signer *jose.Signer
}

func startPods(t *testing.T) pods { return startPodsWith(t, kubeConfig) }

func startPodsWith(t *testing.T, config string) pods {
	t.Helper()
	signer, files := hubKeys(t)
	return pods{startServe(t, config, files), signer}
}

// hubKeys are what the API server of hub signs with, and the file that says so.
func hubKeys(t *testing.T) (*jose.Signer, map[string]string) {
	t.Helper()
	key := newECKey()
	signer, err := jose.NewSigner("hub-1", jose.ES256, "", key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := jose.NewPublicKey("hub-1", jose.ES256, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(jose.KeySet{public})
	if err != nil {
		t.Fatal(err)
	}
	return signer, map[string]string{"hub.jwks.json": string(keys)}
}

// proof writes the token of a pod, as a kubelet does, and again when it renews it.
func (p pods) proof(t *testing.T, file, uid, id string) {
	t.Helper()
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"iss": "https://kubernetes.default.svc", "aud": []string{p.Issuer}, "sub": "system:serviceaccount:shop:orders", "jti": id,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{
			"namespace": "shop", "serviceaccount": map[string]any{"name": "orders", "uid": "5a"}, "pod": map[string]any{"name": "orders-0", "uid": uid},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	token, err := p.signer.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
}

// exchanges is how many tokens the journal says were given.
func (p pods) exchanges(t *testing.T) int {
	t.Helper()
	return len(journalOf(t, p.server, query.Query{Types: []string{string(authority.EventTokenIssued)}}))
}

// plugin is kube-credential as kubectl runs it.
func plugin(issuer, file, cache string) *exec.Cmd {
	cmd := exec.Command(binary, "kube-credential", "--issuer", issuer, "--cluster", "spoke-a", "--subject-token-file", file)
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+cache, `KUBERNETES_EXEC_INFO={"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":false}}`)
	return cmd
}

// credential runs the plugin to its end. It fails the test without ending it, so that
// many can run in parallel.
func credential(t *testing.T, issuer, file, cache string) (token, stderr string) {
	t.Helper()
	cmd := plugin(issuer, file, cache)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Errorf("kube-credential: %v: %s", err, errOut.String())
		return "", errOut.String()
	}
	var got struct {
		APIVersion, Kind string
		Status           struct {
			Token               string
			ExpirationTimestamp time.Time
		}
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got.Kind != "ExecCredential" || got.APIVersion != "client.authentication.k8s.io/v1" ||
		!got.Status.ExpirationTimestamp.After(time.Now()) {
		t.Errorf("%v: %s", err, out.String())
	}
	return got.Status.Token, errOut.String()
}

// older makes every token in the cache so much older, in the place of waiting.
func older(t *testing.T, cache string, by time.Duration) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(cache, "signalbox", "exchanged", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("nothing is kept: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var kept map[string]any
		if err := json.Unmarshal(data, &kept); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"obtained_at", "expires_at"} {
			at, err := time.Parse(time.RFC3339, fmt.Sprint(kept[name]))
			if err != nil {
				t.Fatal(err)
			}
			kept[name] = at.Add(-by)
		}
		if data, err = json.Marshal(kept); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestParallelKubectlsMakeOneExchangeInALifetime(t *testing.T) {
	p := startPods(t)
	cache, file := t.TempDir(), filepath.Join(t.TempDir(), "token")
	var before string
	for n, row := range []struct {
		name  string
		older time.Duration
	}{{"nothing kept", 0}, {"two thirds are over", 201 * time.Second}, {"expired", 301 * time.Second}} {
		if row.older > 0 {
			older(t, cache, row.older)
		}
		p.proof(t, file, "pod-1", fmt.Sprint("jti-", n)) // renewed by the kubelet
		tokens := make([]string, 20)
		var all sync.WaitGroup
		for i := range tokens {
			all.Go(func() { tokens[i], _ = credential(t, p.Issuer, file, cache) })
		}
		all.Wait()
		if got := p.exchanges(t); got != n+1 {
			t.Errorf("%s: %d exchanges, not %d", row.name, got, n+1)
		}
		last, _ := credential(t, p.Issuer, file, cache)
		if last == before {
			t.Errorf("%s: the token is the one before", row.name)
		}
		for _, token := range tokens {
			// While one process renews a token, the others use the one that is still good.
			if token != last && (row.name != "two thirds are over" || token != before) {
				t.Errorf("%s: two have different tokens", row.name)
				break
			}
		}
		before = last
	}
	p.proof(t, file, "pod-2", "jti-of-another-pod")
	if token, _ := credential(t, p.Issuer, file, cache); token == before || p.exchanges(t) != 4 {
		t.Error("a pod got the token of another with the same cache")
	}
}

func TestAKubectlThatWasKilledIsWaitedForByNobody(t *testing.T) {
	asked, hang := make(chan struct{}, 1), make(chan struct{})
	var before atomic.Bool
	var issuer *httptest.Server
	issuer = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/token" {
			fmt.Fprintf(w, `{"issuer":%q,"token_endpoint":%q}`, issuer.URL, issuer.URL+"/token")
			return
		}
		if !before.Swap(true) { // the first one gets no answer
			asked <- struct{}{}
			<-hang
		}
		fmt.Fprint(w, `{"access_token":"second","token_type":"Bearer","expires_in":300}`)
	}))
	defer issuer.Close()
	defer close(hang)
	cache, file := t.TempDir(), filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("proof"), 0o600); err != nil {
		t.Fatal(err)
	}
	first := startProgram(t, plugin(issuer.URL, file, cache))
	<-asked // it holds the lock now
	second := startProgram(t, plugin(issuer.URL, file, cache))
	first.stop(syscall.SIGKILL)
	<-second.done
	if second.err != nil || !strings.Contains(second.out.String(), `"token":"second"`) || strings.Contains(second.out.String(), "warning") {
		t.Errorf("%v: %s", second.err, second.out.String())
	}
	// What a process leaves that was killed while it wrote is not read.
	files, err := filepath.Glob(filepath.Join(cache, "signalbox", "exchanged", "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if err := os.Truncate(files[0], 30); err != nil {
		t.Fatal(err)
	}
	if token, stderr := credential(t, issuer.URL, file, cache); token != "second" || stderr != "" {
		t.Errorf("%q: %s", token, stderr)
	}
}

func TestKubectlUsesNoCacheThatOthersCanChange(t *testing.T) {
	p := startPods(t)
	cache, file := t.TempDir(), filepath.Join(t.TempDir(), "token")
	p.proof(t, file, "pod-1", "1")
	good, _ := credential(t, p.Issuer, file, cache)
	dir := filepath.Join(cache, "signalbox", "exchanged")
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	token, stderr := credential(t, p.Issuer, file, cache)
	if token == good || !strings.Contains(stderr, "chmod 700 "+dir) {
		t.Errorf("the token of a folder that others can change is used: %s", stderr)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if token, stderr := credential(t, p.Issuer, file, cache); token != good || stderr != "" {
		t.Errorf("a private one is not used: %s", stderr)
	}
}

package node

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/kube"
)

// What a cluster's entry says is told even where nobody answers, and why.
func TestTheStatusOfAClusterSaysWhatIsWrong(t *testing.T) {
	api := httptest.NewTLSServer(http.NotFoundHandler())
	defer api.Close()
	file := testFile(t)
	edit(t, file, "log: {level: warn}\n", `log: {level: warn}
clusters:
  - {name: place}
  - {name: hub, issuer: "https://kubernetes.default.svc", api_server: "`+api.URL+`", credential: self}
`)
	n, err := open(t, file)
	if err != nil {
		t.Fatal(err)
	}
	if s := n.clusterStatus(t.Context(), "place"); s.Reachable || s.ReachFailure != "" || s.Watch != "" || s.Node == "" {
		t.Errorf("a place without an API server: %+v", s)
	}
	n.trusting.Lock()
	n.watching = true
	n.trusting.Unlock()
	defer n.clusters.Close()
	if err := n.retrust(t.Context()); err != nil {
		t.Fatal(err)
	}
	if proof, err := n.verifier.Verify(t.Context(), serviceAccountToken); err == nil {
		t.Fatalf("nobody has signed it: %+v", proof)
	}
	s := n.clusterStatus(t.Context(), "hub")
	if s.Reachable || s.ReachFailure == "" || s.Watch != "down" || len(s.Keys) != 0 {
		t.Errorf("an API server that nobody vouches for: %+v", s)
	}
	if !strings.Contains(s.KeysFailure, "certificate") || s.KeysFetchedAt != nil {
		t.Errorf("it has no keys for us: %q, fetched at %v", s.KeysFailure, s.KeysFetchedAt)
	}
	if s.Refusal == "" || s.RefusedAt == nil {
		t.Errorf("a token of it was refused: %+v", s)
	}
	if got := metric(t, n, `signalbox_cluster_watched{cluster="hub"}`); got != 0 {
		t.Errorf("nobody watches it, and the alert sees %v", got)
	}
}

// serviceAccountToken says that it is one of the cluster hub, and nobody has signed it.
var serviceAccountToken = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"k1"}`)) + "." +
	base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"https://kubernetes.default.svc","sub":"system:serviceaccount:shop:orders"}`)) + ".c2lnbmF0dXJl"

func TestHowAWatchIsDoing(t *testing.T) {
	heard := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	watch := kube.WatchStatus{Pods: 3, Lag: 2 * time.Second, Heard: heard}
	for _, row := range []struct {
		name string
		s    kube.Status
		want admin.ClusterStatus
	}{
		{"pods are only reviewed", kube.Status{Pods: authority.PodsReviewed, Notes: []string{"weak"}}, admin.ClusterStatus{Notes: []string{"weak"}}},
		{"it is ours and up", kube.Status{Pods: authority.PodsWatched, Holder: "n1 X", Mine: true, Ready: true, Watch: watch},
			admin.ClusterStatus{Watch: "up", Watcher: "n1", Pods: 3, LagSeconds: 2, HeardAt: &heard}},
		{"it is ours and down", kube.Status{Pods: authority.PodsWatched, Holder: "n1 X", Mine: true, Watch: kube.WatchStatus{Failure: "refused"}},
			admin.ClusterStatus{Watch: "down", Watcher: "n1", WatchFailure: "refused"}},
		{"it is another node's", kube.Status{Pods: authority.PodsWatched, Holder: "n2 Y", Ready: true}, admin.ClusterStatus{Watch: "elsewhere", Watcher: "n2"}},
		{"it is another node's and down", kube.Status{Pods: authority.PodsWatched, Holder: "n2 Y"}, admin.ClusterStatus{Watch: "down", Watcher: "n2"}},
		{"it is nobody's", kube.Status{Pods: authority.PodsWatched}, admin.ClusterStatus{Watch: "down"}},
	} {
		var got admin.ClusterStatus
		if tellWatch(&got, row.s); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: %+v", row.name, got)
		}
	}
}

// The mirror of a cluster whose keys nobody has got yet is not there for a moment, and not unknown.
func TestAMirrorWithoutKeysIsUnavailable(t *testing.T) {
	file := testFile(t)
	edit(t, file, "log: {level: warn}\n", `log: {level: warn}
clusters: [{name: hub, issuer: "https://kubernetes.default.svc", jwks_uri: "https://127.0.0.1:1/jwks"}, {name: place}]
`)
	n, err := open(t, file)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/clusters/hub/jwks": 503, "/clusters/place/jwks": 404, "/clusters/nobody/jwks": 404} {
		answer := httptest.NewRecorder()
		request := httptest.NewRequest("GET", n.settings().URL+path, nil)
		request.RemoteAddr = "127.0.0.1:1"
		n.public.ServeHTTP(answer, request)
		if answer.Code != want {
			t.Errorf("%s: %d, want %d", path, answer.Code, want)
		}
	}
}

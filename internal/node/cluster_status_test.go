package node

import (
	"net/http"
	"net/http/httptest"
	"testing"
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
	s := n.clusterStatus(t.Context(), "hub")
	if s.Reachable || s.ReachFailure == "" || s.Watch == "up" || len(s.Keys) != 0 {
		t.Errorf("an API server that nobody vouches for: %+v", s)
	}
}

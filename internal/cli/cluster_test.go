package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
)

func TestClusterCommands(t *testing.T) {
	s := newShell(t)
	keys := filepath.Join(s.dir, "hub.jwks.json")
	if err := os.WriteFile(keys, []byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var hub admin.Cluster
	s.run("cluster", "add", "hub", "--issuer", "https://kubernetes.default.svc", "--jwks-file", keys, "--audience", "https://sts.example.com", "-o", "json").wants(0).into(&hub)
	if hub.Name != "hub" || len(hub.JWKS) == 0 || !slices.Equal(hub.Audiences, []string{"https://sts.example.com"}) || hub.Pods != "offline" || !strings.HasSuffix(hub.Audience, "/clusters/hub") {
		t.Errorf("%+v", hub)
	}
	s.run("cluster", "add", "spoke-a", "--webhook-caller", "demo-service").wants(0, "spoke-a", "webhook_caller")
	s.run("cluster", "list").wants(0, "CLUSTER", "hub", "https://kubernetes.default.svc", "spoke-a", "database")
	s.run("cluster", "show", "hub").wants(0, "https://kubernetes.default.svc", "offline")
	s.run("cluster", "update", "hub", "--introspection-client", "demo-api", "--audience", "https://sts.example.com", "--audience", "sts", "-o", "json").wants(0).into(&hub)
	if !slices.Equal(hub.IntrospectionClients, []string{"demo-api"}) || len(hub.Audiences) != 2 || len(hub.JWKS) == 0 {
		t.Errorf("%+v", hub)
	}
	hub = admin.Cluster{}
	s.run("cluster", "update", "hub", "--introspection-client", "", "--jwks-file", "", "--jwks-uri", "https://keys.example.com/hub", "-o", "json").wants(0).into(&hub)
	if len(hub.IntrospectionClients) != 0 || len(hub.JWKS) != 0 || hub.JWKSURI != "https://keys.example.com/hub" || hub.Issuer == "" {
		t.Errorf("%+v", hub)
	}
	s.run("cluster", "update", "hub", "--jwks-uri", "", "--jwks-file", keys).wants(0, "hub")
	s.run("cluster", "update", "spoke-a", "--webhook-caller", "").wants(0, "spoke-a")
	if r := s.run("cluster", "show", "spoke-a").wants(0); strings.Contains(r.out, "demo-service") {
		t.Error(r.out)
	}
	s.run("cluster", "update", "hub").wants(2, "nothing to change")
	s.run("cluster", "update", "nosuch", "--pods", "offline").wants(1, "no cluster")
	s.run("cluster", "update", "hub", "--pods", "sometimes").wants(2, "--pods")
	s.run("cluster", "update", "hub", "--jwks-file", filepath.Join(s.dir, "nothing")).wants(1, "no such file")
	s.run("cluster", "add", "hub").wants(1, "already")
	s.run("cluster", "add", "Hub").wants(1, "not a name")
	s.run("cluster", "add", "evil", "--issuer", "https://x.example.com", "--jwks-file", keys).wants(1, "has too")
	s.run("cluster", "add", "x", "--jwks-file", filepath.Join(s.dir, "nothing")).wants(1, "no such file")
	s.run("cluster", "add", "x", "--pods", "sometimes").wants(2, "--pods")
	s.run("cluster", "add", "x", "--credential", "token").wants(2, "--credential")
	s.run("cluster", "remove", "hub").wants(2, "--yes")
	s.run("cluster", "remove", "hub", "--dry-run").wants(0, "Blast radius of cluster hub", "0 standing grants")
	s.run("cluster", "remove", "hub", "--yes").wants(0, "cluster hub is removed")
	s.run("cluster", "show", "hub").wants(1, "no cluster")
	s.run("trusted-issuer", "list").wants(0, "no trusted issuers")
	s.run("trusted-issuer", "show", "github").wants(1, "no trusted issuer")
	s.run("policy", "list").wants(0, "no policies")

	s.run("panic", "--cluster", "hub", "--dry-run").wants(0, "Blast radius of cluster hub") // it may be gone
	s.run("panic", "--issuer", "github", "--yes").wants(0, "Blast radius of issuer github", "it is on record")
	s.run("panic", "--workload", "cluster:hub:ns:shop", "--dry-run", "-o", "json").wants(0, `"kind": "workload"`, `"key": "cluster:hub:ns:shop"`)
	s.run("panic", "--workload", "shop", "--dry-run").wants(1, "cluster:NAME:ns:NAMESPACE")
	s.run("panic", "--workload", "cluster:hub:ns:shop", "--cluster", "hub").wants(2, "exactly one")
	s.run("grant", "list", "--cluster", "hub", "--namespace", "shop").wants(0, "no grants")
	s.run("grant", "list", "--namespace", "shop").wants(2, "--namespace needs --cluster")
	s.run("grant", "list", "--issuer", "github").wants(0, "no grants")

	s.run("user", "create", "bob", "--group", "sre", "--password-file", s.file("pw", "correct horse")).wants(0, "groups", "sre")
	s.run("user", "set-groups", "bob", "sre", "on-call").wants(0, "sre, on-call")
	if r := s.run("user", "set-groups", "bob").wants(0); strings.Contains(r.out, "sre") {
		t.Error(r.out)
	}
}

func (s *shell) file(name, content string) string {
	s.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.Fatal(err)
	}
	return path
}

func TestAClusterInWords(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	heard, fetched := now.Add(-2*time.Second), now.Add(-time.Minute)
	hub := admin.Cluster{Name: "hub", Issuer: "https://kubernetes.default.svc", APIServer: "https://10.0.0.1:6443", Pods: "watch"}
	for _, row := range []struct {
		name    string
		cluster admin.Cluster
		status  admin.ClusterStatus
		want    []string
	}{
		{"all is well", hub, admin.ClusterStatus{Node: "n1", Reachable: true, Watch: "up", Watcher: "n1", Pods: 12, HeardAt: &heard, LagSeconds: 1, Keys: []string{"a", "b"}, KeysFetchedAt: &fetched},
			[]string{"reachable  yes", "up on node n1, 12 pods, last heard 2s ago, lag 1s", "a, b, fetched 60s ago"}},
		{"the watch is down", hub, admin.ClusterStatus{Node: "n1", ReachFailure: "403", Watch: "down", WatchFailure: "connection refused", KeysFailure: "timeout", Refusal: "wrong aud", RefusedAt: &heard},
			[]string{"no: 403", "DOWN, exchanges ask TokenReview: connection refused", "none: every token is refused; timeout", "wrong aud (2s ago)"}},
		{"another node watches", hub, admin.ClusterStatus{Node: "n1", Reachable: true, Watch: "elsewhere", Watcher: "n2"}, []string{"on node n2"}},
		{"the key set alone", admin.Cluster{Name: "hub", Issuer: "x", Pods: "offline"}, admin.ClusterStatus{Keys: []string{"a\x1b"}, Notes: []string{"weak"}}, []string{"no API server is registered", "none: pods is offline", "weak"}},
	} {
		var out lockedBuffer
		a := &adminCLI{env: &Environment{Out: &out, Err: &out, Getenv: func(string) string { return "" }, Now: func() time.Time { return now }}, output: "text"}
		row.cluster.Status = &row.status
		if err := a.showCluster(row.cluster); err != nil {
			t.Fatal(err)
		}
		for _, want := range row.want {
			if text := strings.Join(strings.Fields(out.String()), " "); !strings.Contains(text, strings.Join(strings.Fields(want), " ")) {
				t.Errorf("%s: no %q in\n%s", row.name, want, out.String())
			}
		}
		if strings.Contains(out.String(), "\x1b") {
			t.Errorf("%s: a terminal obeys it", row.name)
		}
	}
}

func TestTheTreeOfAGrant(t *testing.T) {
	g := func(id string, alive bool, lineage ...string) admin.Grant {
		return admin.Grant{GrantID: id, ClientID: "c-" + id, Alive: alive, Lineage: lineage}
	}
	family := admin.GrantWithFamily{
		Grant:       g("this", true, "root", "mid"),
		Ancestors:   []admin.Ancestor{{GrantID: "root", ClientID: "c-root", Rowless: true, Alive: true}, {GrantID: "mid", ClientID: "c-mid"}},
		Descendants: []admin.Grant{g("a", true, "root", "mid", "this"), g("b", false, "root", "mid", "this"), g("aa", false, "root", "mid", "this", "a"), g("x", true, "root", "mid", "this", "lost"), g("loop", true, "loop")},
		Partial:     true,
	}
	const want = `root  alive  of client c-root, without a row
└─ mid  dead  of client c-mid
   └─ this  alive  of client c-this  <- this one
      └─ a  alive  of client c-a
         └─ aa  dead  of client c-aa
      └─ b  dead  of client c-b
      └─ lost  without a row
         └─ x  alive  of client c-x
      └─ loop  without a row
         └─ loop  alive  of client c-loop
there may be more
`
	if got := lineage(family); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestATrustedIssuerInWords(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	fetched := now.Add(-time.Minute)
	github := admin.TrustedIssuer{Name: "github", Issuer: "https://token.actions.githubusercontent.com"}
	pasted := admin.TrustedIssuer{Name: "ci", Issuer: "https://ci.example.com", JWKS: []byte(`{"keys":[]}`)}
	for _, row := range []struct {
		name   string
		issuer admin.TrustedIssuer
		status admin.IssuerStatus
		want   []string
	}{
		{"all is well", github, admin.IssuerStatus{Node: "n1", Keys: []string{"a", "b"}, KeysFetchedAt: &fetched}, []string{"as node n1 sees it", "reachable yes", "a, b, fetched 60s ago"}},
		{"it has never been asked", github, admin.IssuerStatus{}, []string{"reachable not asked yet", "keys none: every token is refused"}},
		{"it is away", github, admin.IssuerStatus{Keys: []string{"a"}, KeysFetchedAt: &fetched, KeysFailure: "timeout\x1b", Refusal: "wrong aud", RefusedAt: &fetched}, []string{"reachable no: timeout", "a, fetched 60s ago; timeout", "wrong aud (60s ago)"}},
		{"its keys are pasted", pasted, admin.IssuerStatus{Keys: []string{"a"}}, []string{"reachable not needed", "keys a"}},
	} {
		var out lockedBuffer
		a := &adminCLI{env: &Environment{Out: &out, Err: &out, Getenv: func(string) string { return "" }, Now: func() time.Time { return now }}, output: "text"}
		row.issuer.Status = &row.status
		if err := a.showIssuer(row.issuer); err != nil {
			t.Fatal(err)
		}
		text := strings.Join(strings.Fields(out.String()), " ")
		for _, want := range row.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", row.name, want, out.String())
			}
		}
		if strings.Contains(out.String(), "\x1b") {
			t.Errorf("%s: a terminal obeys it", row.name)
		}
	}
}

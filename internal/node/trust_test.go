package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

const (
	hubKeys  = `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
	moreKeys = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"new","x":"fU0OfldpLpnzXu0s2zaqEiFjJnVY2RvXsu5tAxNYXaQ"}, {"kty":"OKP", "crv":"Ed25519", "kid":"old", "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
	newKeys  = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"new","x":"fU0OfldpLpnzXu0s2zaqEiFjJnVY2RvXsu5tAxNYXaQ"}]}`

	trustConfig = `clusters:
  - {name: hub, issuer: https://kubernetes.default.svc, jwks_file: hub.json, audiences: [one]}
  - {name: spoke}
trusted_issuers:
  - {name: ci, issuer: https://ci.example.com, audiences: [one]}
policies:
  - name: deploys
    from: {cluster: hub, namespace: argocd, service_account: controller}
    to: {cluster: spoke}
  - name: builds
    from: {trusted_issuer: ci, subject: main}
    to: {resource: https://api.example.com, scopes: [orders:read]}
`
)

// What came from a proof ends with all that made the proof good, and with nothing
// that was only added.
func TestWhatProofsDependOnEndsWithTheFile(t *testing.T) {
	const pod, job = "cluster:hub:ns:argocd:sa:controller", "issuer:ci:main"
	type change struct{ old, new string }
	for _, row := range []struct {
		name   string
		change change
		keys   string
		ended  string // by which of the four it is: deploys, builds, or neither
	}{
		{"nothing", change{}, "", ""},
		{"another cluster", change{"  - {name: spoke}", "  - {name: spoke}\n  - {name: spoke-b}"}, "", ""},
		{"another policy", change{"  - name: builds", "  - name: more\n    from: {user_group: sre}\n    to: {cluster: spoke}\n  - name: builds"}, "", ""},
		{"one more audience", change{"audiences: [one]", "audiences: [two, one]"}, "", ""},
		{"one more key", change{}, moreKeys, ""},
		{"who may introspect", change{"{name: spoke}", "{name: spoke, webhook: {caller: batch}}"}, "", ""},
		{"the cluster is gone", change{"  - {name: hub, issuer: https://kubernetes.default.svc, jwks_file: hub.json, audiences: [one]}\n", ""}, "", "hub"},
		{"the cluster's key is another", change{}, newKeys, "hub"},
		{"the cluster's issuer is another", change{"https://kubernetes.default.svc", "https://hub.example.com"}, "", "hub"},
		{"the cluster's keys come from elsewhere", change{"jwks_file: hub.json", "jwks_uri: https://keys.example.com/"}, "", "hub"},
		{"the issuer is gone", change{"name: ci,", "name: cd,"}, "", "ci"},
		{"the issuer's audience is another", change{"issuer: https://ci.example.com, audiences: [one]", "issuer: https://ci.example.com, audiences: [two]"}, "", "ci"},
		{"the policy is gone", change{"name: deploys", "name: deploys2"}, "", "policy:deploys"},
		{"the policy is a trial", change{"    to: {cluster: spoke}\n", "    to: {cluster: spoke}\n    mode: audit\n"}, "", "policy:deploys"},
		{"the policy asks for more", change{"    to: {cluster: spoke}\n", "    to: {cluster: spoke}\n    when: pod.name == 'x'\n"}, "", "policy:deploys"},
		{"the policy gives less", change{"com, scopes: [orders:read]", "com, scopes: []"}, "", "policy:builds"},
	} {
		t.Run(row.name, func(t *testing.T) {
			file := testFile(t)
			keys := filepath.Join(filepath.Dir(file), "hub.json")
			if err := os.WriteFile(keys, []byte(hubKeys), 0o600); err != nil {
				t.Fatal(err)
			}
			edit(t, file, "log: {level: warn}\n", "log: {level: warn}\n"+trustConfig)
			now := time.Now()
			n := mustOpen(t, file, Options{Now: func() time.Time { return now }})
			born := now
			if row.change.old != "" {
				edit(t, file, row.change.old, row.change.new)
			}
			if strings.Contains(row.change.new, "name: cd,") {
				edit(t, file, "trusted_issuer: ci", "trusted_issuer: cd")
			}
			if row.keys != "" {
				if err := os.WriteFile(keys, []byte(row.keys), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			now = now.Add(time.Second)
			mustReload(t, n, file)
			for _, one := range []struct{ client, subject, from string }{
				{"policy:deploys", pod, "hub"}, {"policy:builds", job, "ci"},
			} {
				subject := authority.Subject{ID: one.subject, Kind: authority.SubjectWorkload}
				links := append(subject.Epochs(born), authority.Link{Kind: authority.EpochClient, Key: one.client, Born: born})
				wanted := row.ended == one.client || row.ended == one.from ||
					row.ended == "ci" && one.client == "policy:builds" // its policy names another issuer now
				if got := n.follower.View.Revoked(links); got != wanted {
					t.Errorf("%s is ended: %t", one.client, got)
				}
				_, err := n.directory.Alive(t.Context(), one.client, subject)
				gone := row.name == "the cluster is gone" || row.name == "the issuer is gone" || row.name == "the policy is gone" || row.name == "the policy is a trial"
				if errors.Is(err, authority.ErrEnded) != (wanted && gone) || err != nil && !errors.Is(err, authority.ErrEnded) {
					t.Errorf("%s is alive: %v", one.client, err)
				}
			}
		})
	}
}

func TestAReloadOfTrustIsOnRecord(t *testing.T) {
	file := testFile(t)
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "hub.json"), []byte(hubKeys), 0o600); err != nil {
		t.Fatal(err)
	}
	edit(t, file, "log: {level: warn}\n", "log: {level: warn}\n"+trustConfig)
	n := mustOpen(t, file)
	edit(t, file, "audiences: [one]", "audiences: [two]")
	edit(t, file, "to: {cluster: spoke}", "to: {cluster: spoke}\n    mode: audit")
	mustReload(t, n, file)
	text := strings.Join(changesOf(t, n), "\n")
	for _, want := range []string{
		`cluster.changed hub changed audiences:"one">"" audiences:"">"two"`, `trusted_issuer.changed ci changed audiences:"one">"" audiences:"">"two"`,
		`policy.changed deploys changed mode:"enforce">"audit"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// Two nodes, one newer file: whoever is gone there gives nothing here either.
func TestANewerFileOfAnotherNodeWithholdsTrust(t *testing.T) {
	file := testFile(t)
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "hub.json"), []byte(hubKeys), 0o600); err != nil {
		t.Fatal(err)
	}
	edit(t, file, "log: {level: warn}\n", "log: {level: warn}\n"+trustConfig)
	old := secondFile(t, file)
	first, second := mustOpen(t, file), mustOpen(t, old)
	edit(t, file, "name: deploys", "name: rolls-out")
	edit(t, file, "https://kubernetes.default.svc", "https://hub.example.com")
	mustReload(t, first, file)
	if err := second.heed(t.Context()); err != nil {
		t.Fatal(err)
	}
	clusters, _, policies, err := second.directory.Trust(t.Context())
	if err != nil || len(clusters) != 1 || clusters[0].Name != "spoke" || len(policies) != 1 || policies[0].Name != "builds" {
		t.Errorf("%v %v %v", clusters, policies, err)
	}
}

// A policy may name a cluster that the admin API will keep: the node starts, and says so.
func TestAPolicyOfAClusterThatIsNotThereYet(t *testing.T) {
	file := testFile(t)
	edit(t, file, "log: {level: warn}\n", "log: {level: warn}\npolicies:\n  - {name: p, from: {user_group: sre}, to: {cluster: later}}\n")
	var log strings.Builder
	n := mustOpen(t, file, Options{Log: &log})
	if err := n.lines.Flush(); err != nil || !strings.Contains(log.String(), "policies[0].to.cluster: there is no cluster") {
		t.Errorf("%v %s", err, log.String())
	}
}

package kube

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/test/drill"
	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// Drill 1, docs/explanation/drills.md: a thief has copied every token of a pod, and the pod is
// deleted. From then on the thief tries all of them without a pause.
func TestDrill1_TheStolenPodToken(t *testing.T) {
	t.Parallel()
	report := drill.Begin(t)
	life := drillLife()
	const namespace = "drill-1"
	r := rig.Start(t)
	hub := r.Hub
	s := startService(t, "clusters:\n"+clusterEntry(hub, "")+"  - {name: asks, webhook: {caller: "+apiClient+"}}\n  - {name: verifies}\n"+
		strings.ReplaceAll(deploys("hub", namespace, "asks", "verifies"), "ttl: 5m", "ttl: "+life.String()))
	asks := r.Add(t, "asks", rig.Options{Webhook: asksUs(s)})
	// It also trusts the hub's own tokens, as clusters without Signalbox do. One issuer cannot be two, so it has one of its own.
	verifies := r.Add(t, "verifies", rig.Options{Issuer: "https://oidc.verifies.example.com"})
	const federated = "https://verifies.example.com"
	ca, _ := json.Marshal(string(s.CA)) // JSON is YAML, on one line
	trustUs(t, s, verifies, fmt.Sprintf(`- issuer: {url: %q, discoveryURL: "%s/clusters/hub/.well-known/openid-configuration", audiences: [%q], certificateAuthority: %s}
  claimMappings: {username: {claim: sub, prefix: "hub:"}}
`, hub.Issuer, s.Issuer, federated, ca))

	pod := startPod(t, hub, namespace)
	secret := legacyToken(t, hub, namespace, "orders")
	plain, abroad := hub.Token(t, pod, "", time.Hour), hub.Token(t, pod, federated, time.Hour)
	proof := hub.Token(t, pod, s.Issuer, 0)
	forAsks, forVerifies := s.token(t, proof, "asks"), s.token(t, proof, "verifies")
	var mu sync.Mutex
	newest := forAsks // the thief exchanges without a pause, so that a token is as new as can be
	ways := []*way{
		{name: "exchange the pod's token for a new one", with: "Signalbox", try: func() bool {
			a := s.exchange(t, proof, "asks")
			if a.Status == http.StatusOK {
				mu.Lock()
				defer mu.Unlock()
				newest = a.AccessToken
			}
			return a.Status == http.StatusOK
		}},
		{name: "the newest token at an API that introspects", with: "Signalbox", try: func() bool {
			mu.Lock()
			token := newest
			mu.Unlock()
			return s.isActive(t, token)
		}},
		{name: "a token at a cluster that asks (webhook)", with: "Signalbox", try: takes(t, asks, forAsks)},
		{name: "a token at a cluster that verifies (JWT)", with: "Signalbox", try: takes(t, verifies, forVerifies)},
		{name: "the pod's token at its own cluster", with: "plain Kubernetes", try: takes(t, hub, plain)},
		{name: "the pod's token at a cluster that trusts its issuer", with: "plain Kubernetes", try: takes(t, verifies, abroad)},
		{name: "the token of a Secret of the service account", with: "plain Kubernetes", try: takes(t, hub, secret)},
	}
	for _, w := range ways {
		until(t, 20*time.Second, "before the theft it is good: "+w.name, w.try)
	}
	if !drill.Full() {
		report.Say("Tokens of Signalbox live for %v here, so that nobody waits; by default for 5 minutes.", life)
	}

	// The token for the cluster that verifies is as young as it can be.
	forVerifies = s.token(t, proof, "verifies")
	ways[3].try = takes(t, verifies, forVerifies)
	hub.DeletePod(t, pod, 0)
	deleted := time.Now()
	over := life + repeats
	var thief sync.WaitGroup
	for _, w := range ways {
		thief.Go(func() { w.until(deleted, deleted.Add(over+2*time.Second)) })
	}
	thief.Wait()

	moments := []time.Duration{time.Second, 15 * time.Second, over}
	head := []string{"the thief tries", "", "after 1 s", "after 15 s", fmt.Sprintf("after %v", over), "last success after"}
	var rows [][]string
	for _, w := range ways {
		row := []string{w.name, w.with}
		for _, m := range moments {
			row = append(row, map[bool]string{true: "works", false: "refused"}[w.last >= m])
		}
		last := drill.Show(w.last)
		switch {
		case w.last == 0:
			last = "none"
		case w.last > over:
			last = "works still"
		}
		rows = append(rows, append(row, last))
	}
	report.Table(head, rows...)
	report.Within(time.Second, ways[0].name+": refused", ways[0].last)
	report.Within(time.Second, ways[1].name+": refused", ways[1].last)
	// Without patience for a busy machine: four times as long is longer than the token lives.
	report.Promise(ways[2].name+": refused within 15s", drill.Show(ways[2].last), ways[2].last <= 15*time.Second)
	// An API server may repeat a good verdict, also about a token that has expired meanwhile.
	report.Promise(fmt.Sprintf("%s: refused when its life of %v is over, and %v later at the latest", ways[3].name, life, repeats), drill.Show(ways[3].last), ways[3].last <= over)
	for _, w := range ways[:4] {
		if w.last > over || w.again {
			report.Promise("what is refused stays refused", w.name, false)
		}
	}
}

// repeats is how long an API server may repeat a good verdict about a token.
const repeats = 10 * time.Second

// drillLife is how long tokens of Signalbox live in a drill, which waits until they are dead.
func drillLife() time.Duration {
	if drill.Full() {
		return 5 * time.Minute // as by default
	}
	return 30 * time.Second
}

// takes asks whether a cluster takes a token.
func takes(t *testing.T, c *rig.Cluster, token string) func() bool {
	return func() bool {
		taken, err := c.Takes(token)
		if err != nil {
			t.Error(err)
		}
		return taken
	}
}

// way is something that is tried with a token.
type way struct {
	name, with string
	try        func() bool

	last  time.Duration // of the last success
	again bool          // it has worked after it was refused
}

// until tries again and again. What it notes is counted from a moment on.
func (w *way) until(from, end time.Time) {
	refused := false
	for time.Now().Before(end) {
		at := time.Since(from)
		if w.try() {
			w.last, w.again = at, w.again || refused
		} else {
			refused = true
		}
		pause := 100 * time.Millisecond
		if at > 3*time.Second {
			pause = 500 * time.Millisecond
		}
		time.Sleep(pause)
	}
}

// legacyToken makes a Secret with a token of a service account, as its controller would: it
// is good for as long as there are the Secret and the account.
func legacyToken(t *testing.T, c *rig.Cluster, namespace, account string) string {
	t.Helper()
	var made struct{ Metadata struct{ UID string } }
	if err := c.Call(http.MethodGet, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+account, nil, &made); err != nil {
		t.Fatal(err)
	}
	name, of := account+"-token", "kubernetes.io/serviceaccount/"
	token := forge(t, map[string]any{"alg": "RS256"}, map[string]any{
		"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:" + namespace + ":" + account,
		of + "namespace": namespace, of + "secret.name": name, of + "service-account.name": account, of + "service-account.uid": made.Metadata.UID,
	}, rs256(c.Key))
	err := c.Call(http.MethodPost, "/api/v1/namespaces/"+namespace+"/secrets", map[string]any{
		"type":       "kubernetes.io/service-account-token",
		"metadata":   map[string]any{"name": name, "annotations": map[string]string{"kubernetes.io/service-account.name": account}},
		"stringData": map[string]string{"token": token},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

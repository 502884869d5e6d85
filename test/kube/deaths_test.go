package kube

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
	"github.com/signalbox-sts/signalbox/test/postgres"
	"github.com/signalbox-sts/signalbox/test/proxy"
)

// Pods that end at the worst moments, on two nodes with one PostgreSQL. The tests do not
// run beside others, since they are about seconds. A promise of one second gets four here
// and one of five gets ten: the machine may be busy.
const (
	soon     = 4 * time.Second
	takeover = 10 * time.Second
)

// duo is two nodes that both can watch the hub; one of them does. Each reaches the database
// by a proxy of its own.
type duo struct {
	watcher, other     *service
	ofWatcher, ofOther *proxy.Proxy // to the database
	hub                *rig.Cluster
	namespace          string
}

func startDuo(t *testing.T, namespace string) *duo {
	t.Helper()
	d := &duo{hub: rig.Start(t).Hub, namespace: namespace}
	database := postgres.New(t)
	node := func(first *service) (*service, *proxy.Proxy) {
		between := proxy.Start(t, database.Host)
		behind := *database
		behind.Host = between.Addr().String()
		s := newNode(t, first, behind.String(), "clusters:\n"+clusterEntry(d.hub, "")+spokes+deploys("hub", namespace, "spoke-a"))
		s.start(t)
		t.Cleanup(func() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }) // or it could not be stopped
		return s, between
	}
	d.watcher, d.ofWatcher = node(nil)
	d.hub.Namespace(t, namespace)
	d.hub.ServiceAccount(t, namespace, "orders")
	until(t, 20*time.Second, "the first node watches", func() bool {
		return d.watcher.figure(t, "signalbox_cluster_watched_here") == 1 && d.watcher.figure(t, "signalbox_cluster_watched") == 1
	})
	d.other, d.ofOther = node(d.watcher)
	until(t, soon, "the second node knows that the first one watches", func() bool {
		return d.other.figure(t, "signalbox_cluster_watched_here") == 0 && d.other.figure(t, "signalbox_cluster_watched") == 1
	})
	return d
}

func (d *duo) nodes() []*service { return []*service{d.watcher, d.other} }

// figure is a metric of the cluster hub, -1 where there is none.
func (s *service) figure(t *testing.T, name string) float64 {
	t.Helper()
	answer, err := http.Get(s.Admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + name + `\{cluster="hub"\} (\S+)$`).FindSubmatch(text)
	if found == nil { // in the first moment after a start
		return -1
	}
	value, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// holder is a pod with its proof and a token from each node.
type holder struct {
	pod    rig.Pod
	proof  string
	tokens []string
}

// holders makes pods that have exchanged their proof at both nodes.
func (d *duo) holders(t *testing.T, count int) []holder {
	t.Helper()
	list := make([]holder, count)
	for i := range list {
		pod, err := d.hub.CreatePod(d.namespace, "orders", "orders-"+strings.ToLower(rand.Text()))
		if err != nil {
			t.Fatal(err)
		}
		list[i] = holder{pod: pod, proof: d.hub.Token(t, pod, d.watcher.Issuer, 0)}
		for _, node := range d.nodes() {
			list[i].tokens = append(list[i].tokens, node.token(t, list[i].proof, "spoke-a"))
		}
	}
	for _, h := range list {
		for _, node := range d.nodes() {
			for _, token := range h.tokens {
				if !node.isActive(t, token) {
					t.Fatal("a token of a living pod is not active")
				}
			}
		}
	}
	return list
}

// verdict is what a node says about a pod.
type verdict string

const (
	accepted verdict = "accepted"
	refused  verdict = "refused"
	unknown  verdict = "unknown" // it does not know, and says so
)

// ask is for any goroutine, and for a node that may be away.
func (s *service) ask(ctx context.Context, path string, form url.Values) (verdict, answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "POST", s.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		return "", answer{}, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if path == "/introspect" {
		request.SetBasicAuth(apiClient, apiSecret)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return "", answer{}, err
	}
	defer response.Body.Close()
	a := answer{Status: response.StatusCode}
	if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
		return "", a, err
	}
	switch {
	case a.Status == http.StatusOK && (a.AccessToken != "" || a.Active):
		return accepted, a, nil
	case a.Status == http.StatusOK && path == "/introspect", a.Status == http.StatusBadRequest && a.Error == "invalid_request":
		return refused, a, nil
	case a.Status == http.StatusTooManyRequests: // only what is refused is ever too much
		return refused, a, nil
	case a.Status == http.StatusServiceUnavailable:
		return unknown, a, nil
	}
	return "", a, fmt.Errorf("%s: %+v", path, a)
}

func exchangeOf(proof string) url.Values {
	return url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "audience": {"spoke-a"},
		"subject_token": {proof}, "subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"},
	}
}

// event is one question about one pod and what came back.
type event struct {
	node, path   string
	began, ended time.Time
	verdict      verdict
}

// history is what was asked about one pod.
type history struct {
	mu     sync.Mutex
	events []event
	tokens []string
}

// exchange and introspect ask, and write it down.
func (h *history) exchange(ctx context.Context, s *service, proof string) (verdict, error) {
	began := time.Now()
	v, a, err := s.ask(ctx, "/token", exchangeOf(proof))
	h.note(s, "/token", began, v, a.AccessToken)
	return v, err
}

func (h *history) introspect(ctx context.Context, s *service, token string) (verdict, error) {
	began := time.Now()
	v, _, err := s.ask(ctx, "/introspect", url.Values{"token": {token}})
	h.note(s, "/introspect", began, v, "")
	return v, err
}

func (h *history) note(s *service, path string, began time.Time, v verdict, token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, event{s.URL, path, began, time.Now(), v})
	if token != "" {
		h.tokens = append(h.tokens, token)
	}
}

func (h *history) newest() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.tokens) == 0 {
		return ""
	}
	return h.tokens[len(h.tokens)-1]
}

// count says how often a node has given a verdict.
func (h *history) count(s *service, path string, v verdict) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if e.node == s.URL && e.path == path && e.verdict == v {
			n++
		}
	}
	return n
}

// check holds a history to the promise: who has refused a pod once never accepts it again,
// and neither does anybody else, a moment later.
func (h *history) check(t *testing.T, what string) {
	t.Helper()
	first, anywhere := map[string]time.Time{}, time.Time{}
	for _, e := range h.events {
		if e.verdict != refused {
			continue
		}
		if at, there := first[e.node+e.path]; !there || e.ended.Before(at) {
			first[e.node+e.path] = e.ended
		}
		if anywhere.IsZero() || e.ended.Before(anywhere) {
			anywhere = e.ended
		}
	}
	if anywhere.IsZero() {
		t.Errorf("%s was never refused", what)
		return
	}
	for _, e := range h.events {
		if e.verdict != accepted {
			continue
		}
		if at, there := first[e.node+e.path]; there && e.began.After(at) {
			t.Errorf("%s: %s%s has refused it, and accepts it %s later", what, e.node, e.path, e.began.Sub(at))
		}
		if e.began.After(anywhere.Add(soon)) {
			t.Errorf("%s: %s%s accepts it %s after the first refusal", what, e.node, e.path, e.began.Sub(anywhere))
		}
	}
}

// dead says whether a node accepts nothing of these pods.
func dead(t *testing.T, s *service, list []holder) bool {
	t.Helper()
	for _, h := range list {
		for _, token := range h.tokens {
			if s.isActive(t, token) {
				return false
			}
		}
		if v, _, err := s.ask(t.Context(), "/token", exchangeOf(h.proof)); err != nil || v != refused {
			return false
		}
	}
	return true
}

// alive fails the test unless a node accepts all of these pods.
func alive(t *testing.T, s *service, list []holder) {
	t.Helper()
	for _, h := range list {
		h.tokens = append(h.tokens, s.token(t, h.proof, "spoke-a"))
		for _, token := range h.tokens {
			if !s.isActive(t, token) {
				t.Errorf("a token of %s is dead, which lives", h.pod.Name)
			}
		}
	}
}

// recordedOnce waits until each end is on record, and fails if it is twice as if for the
// first time: what a node finds ended it may record again, and says so.
func recordedOnce(t *testing.T, nodes []*service, list []holder) {
	t.Helper()
	var first, again map[string]int
	until(t, soon, "every end is on record", func() bool {
		first, again = map[string]int{}, map[string]int{}
		for _, s := range nodes {
			for _, r := range s.journal(t) {
				switch target := fmt.Sprint(r["target"]); {
				case r["type"] != "evidence.ended":
				case strings.Contains(fmt.Sprint(r["reason"]), "(again"):
					again[target]++
				default:
					first[target]++
				}
			}
		}
		for _, h := range list {
			if target := "pod hub/" + h.pod.UID; first[target]+again[target] == 0 {
				return false
			}
		}
		return true
	})
	for _, h := range list {
		if target := "pod hub/" + h.pod.UID; first[target] > 1 || again[target] > 1 {
			t.Errorf("the end of %s is on record %d times, and %d times as a repeat", h.pod.Name, first[target], again[target])
		}
	}
}

// deleteAll deletes pods, some at a time, and calls then after so many.
func (d *duo) deleteAll(t *testing.T, list []holder, after int, then func()) {
	t.Helper()
	next, done := make(chan holder), atomic.Int64{}
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for h := range next {
				d.hub.DeletePod(t, h.pod, 0)
				if int(done.Add(1)) == after {
					then()
				}
			}
		})
	}
	for _, h := range list {
		next <- h
	}
	close(next)
	workers.Wait()
}

// The node that watches has heard of the ends and cannot write them down; then it is killed.
func TestANodeIsKilledBetweenAPodsEndAndItsRecord(t *testing.T) {
	d := startDuo(t, "killed")
	dying, living := d.holders(t, 5), d.holders(t, 2)
	d.ofWatcher.Hang()
	began := time.Now()
	d.deleteAll(t, dying, 0, nil)
	until(t, soon, "the watcher has heard of all ends", func() bool {
		return d.watcher.figure(t, "signalbox_cluster_ends_waiting") == float64(len(dying))
	})
	waited := d.watcher.figure(t, "signalbox_cluster_ends_waiting_seconds")
	if most := time.Since(began).Seconds(); waited <= 0 || waited > most {
		t.Errorf("the first end has waited for %v s, of %v s", waited, most)
	}
	histories := make([]history, len(dying))
	for i, h := range dying { // it refuses what it has seen, though it cannot tell anybody
		if v, err := histories[i].exchange(t.Context(), d.watcher, h.proof); err != nil || v == accepted {
			t.Errorf("the node that has seen the end: %s, %v", v, err)
		}
		if !d.other.isActive(t, h.tokens[0]) {
			t.Log("the other node has taken over before the kill: this machine is too busy for this test")
		}
	}
	d.watcher.kill()
	took := until(t, takeover, "the other node has ended them all", func() bool {
		all := true
		for i, h := range dying {
			v, err := histories[i].exchange(t.Context(), d.other, h.proof)
			all = all && err == nil && v == refused
			for _, token := range h.tokens {
				v, err := histories[i].introspect(t.Context(), d.other, token)
				all = all && err == nil && v == refused
			}
		}
		return all
	})
	t.Logf("ended %s after the kill, promised 5 s", took)
	for i := range histories {
		for _, token := range histories[i].tokens { // given by the other node, which did not know yet
			if d.other.isActive(t, token) {
				t.Error("a token from between lives")
			}
		}
	}
	alive(t, d.other, living)
	recordedOnce(t, []*service{d.other}, dying)

	d.ofWatcher.Restore()
	d.watcher.start(t)
	if !dead(t, d.watcher, dying) {
		t.Error("the node that was killed accepts a dead pod after its restart")
	}
	alive(t, d.watcher, living)
	for i := range histories {
		until(t, soon, "it is refused once more", func() bool {
			v, err := histories[i].exchange(t.Context(), d.watcher, dying[i].proof)
			return err == nil && v == refused
		})
		histories[i].events = histories[i].events[1:] // those of the node's first life are another's
		histories[i].check(t, dying[i].pod.Name)
	}
}

// The database is away while pods end: until it is back nobody guesses, and then they end within a second.
func TestPodsEndWhileTheDatabaseIsAway(t *testing.T) {
	for _, how := range []struct {
		name string
		away func(*proxy.Proxy)
	}{
		{"it is gone", (*proxy.Proxy).Cut},
		{"it hangs", (*proxy.Proxy).Hang},
	} {
		t.Run(how.name, func(t *testing.T) {
			d := startDuo(t, "away")
			dying, living := d.holders(t, 10), d.holders(t, 2)
			how.away(d.ofWatcher)
			how.away(d.ofOther)
			d.deleteAll(t, dying[:5], 0, nil)
			cannotKnow := func(s *service, h holder) bool {
				inspected, _, err1 := s.ask(t.Context(), "/introspect", url.Values{"token": {h.tokens[0]}})
				exchanged, _, err2 := s.ask(t.Context(), "/token", exchangeOf(h.proof))
				if err := errors.Join(err1, err2); err != nil {
					t.Error(err)
				}
				return inspected == unknown && exchanged == unknown
			}
			for _, node := range d.nodes() {
				took := until(t, soon, "a node that cannot know what is dead says so", func() bool {
					return cannotKnow(node, dying[0]) && cannotKnow(node, living[0])
				})
				t.Logf("it says so after %s, promised 1 s", took)
			}
			d.deleteAll(t, dying[5:], 0, nil)
			// Longer than a lease lives: nobody has it when the database is back.
			for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				for _, node := range d.nodes() {
					for _, h := range []holder{dying[0], dying[9], living[0]} {
						if !cannotKnow(node, h) {
							t.Fatalf("%s is answered for without a database", h.pod.Name)
						}
					}
				}
			}
			d.ofWatcher.Restore()
			d.ofOther.Restore()
			back := time.Now()
			for _, node := range d.nodes() {
				until(t, soon, "what ended meanwhile is dead", func() bool { return dead(t, node, dying) })
				t.Logf("all is dead %s after the database was back, promised 1 s", time.Since(back))
			}
			for _, node := range d.nodes() {
				alive(t, node, living)
			}
			recordedOnce(t, d.nodes(), dying)
		})
	}
}

// The watcher is stopped, or freezes, while a hundred pods are deleted.
func TestPodsEndDuringTheHandoverOfAWatch(t *testing.T) {
	for _, how := range []struct {
		name   string
		signal syscall.Signal
	}{
		{"the watcher is asked to stop", syscall.SIGTERM},
		{"the watcher freezes", syscall.SIGSTOP},
	} {
		t.Run(how.name, func(t *testing.T) {
			d := startDuo(t, "handover")
			dying, living := d.holders(t, 100), d.holders(t, 2)
			var left time.Time
			d.deleteAll(t, dying, 40, func() {
				left = time.Now()
				_ = d.watcher.cmd.Process.Signal(how.signal)
			})
			until(t, takeover, "the other node accepts none of them", func() bool { return dead(t, d.other, dying) })
			t.Logf("all are dead %s after the watcher left", time.Since(left))
			alive(t, d.other, living)
			if how.signal == syscall.SIGTERM {
				<-d.watcher.done
			} else { // it comes back with ends that it has not told, and finds that they are not its any more
				_ = d.watcher.cmd.Process.Signal(syscall.SIGCONT)
				until(t, soon, "so does the watcher that is back", func() bool { return dead(t, d.watcher, dying) })
				alive(t, d.watcher, living)
			}
			recordedOnce(t, d.nodes(), dying)
		})
	}
}

// Pods exchange and are asked about at both nodes without a pause while they are deleted.
func TestNothingOfAPodIsAcceptedAfterItsEnd(t *testing.T) {
	d := startDuo(t, "histories")
	for round := range 6 {
		one := d.holders(t, 1)[0]
		h := &history{tokens: one.tokens}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		var failed atomic.Bool
		busy := func(s *service, ask func(*service) (verdict, error)) {
			running.Go(func() {
				for ctx.Err() == nil {
					if v, err := ask(s); err != nil && ctx.Err() == nil || v == unknown {
						t.Errorf("round %d: %s %v", round, v, err)
						failed.Store(true)
						return
					}
				}
			})
		}
		for _, node := range d.nodes() {
			for range 2 {
				busy(node, func(s *service) (verdict, error) { return h.exchange(ctx, s, one.proof) })
			}
			busy(node, func(s *service) (verdict, error) { return h.introspect(ctx, s, h.newest()) })
		}
		each := func(what string, v verdict, more int) time.Duration {
			return until(t, soon, what, func() bool {
				for _, node := range d.nodes() {
					if h.count(node, "/token", v) < more || h.count(node, "/introspect", v) < more {
						return failed.Load()
					}
				}
				return true
			})
		}
		each("both nodes are busy with the pod", accepted, 5)
		d.hub.DeletePod(t, one.pod, 0)
		took := each("both nodes refuse the pod", refused, 5)
		stop()
		running.Wait()
		t.Logf("round %d: refused %s after the deletion; %d questions, %d tokens", round, took, len(h.events), len(h.tokens))
		h.check(t, fmt.Sprint("round ", round))
		one.tokens = h.tokens
		for _, node := range d.nodes() {
			if !dead(t, node, []holder{one}) {
				t.Errorf("round %d: something of the pod is alive", round)
			}
		}
	}
}

package kube

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// leases is the table of leases of a database that may be away.
type leases struct {
	mu     sync.Mutex
	lease  map[string]authority.Lease
	until  map[string]time.Time
	away   error
	cutOff map[string]bool // nodes that do not reach it
}

func newLeases() *leases {
	return &leases{lease: map[string]authority.Lease{}, until: map[string]time.Time{}, cutOff: map[string]bool{}}
}

var errAway = errors.New("the database is away")

func (l *leases) now(name string) authority.Lease {
	lease := l.lease[name]
	lease.Left = max(0, time.Until(l.until[name]))
	lease.Ready = lease.Ready && lease.Left > 0
	return lease
}

func (l *leases) TakeLease(_ context.Context, name, holder string, life time.Duration, ready bool) (authority.Lease, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if node, _, _ := strings.Cut(holder, "/"); l.away != nil || l.cutOff[node] {
		return authority.Lease{}, errAway
	}
	lease := l.now(name)
	if lease.Holder != holder && lease.Left > 0 {
		return lease, authority.ErrConflict
	}
	if lease.Holder != holder {
		lease.Fence++
	}
	lease.Name, lease.Holder, lease.Ready = name, holder, ready
	l.lease[name], l.until[name] = lease, time.Now().Add(life)
	return l.now(name), nil
}

func (l *leases) ReleaseLease(_ context.Context, name, holder string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if node, _, _ := strings.Cut(holder, "/"); l.away != nil || l.cutOff[node] {
		return errAway
	}
	if l.lease[name].Holder == holder {
		l.until[name] = time.Time{}
	}
	return nil
}

func (l *leases) Lease(_ context.Context, name string) (authority.Lease, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away != nil {
		return authority.Lease{}, errAway
	}
	if _, there := l.lease[name]; !there {
		return authority.Lease{}, authority.ErrNotFound
	}
	return l.now(name), nil
}

func (l *leases) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// town is a cluster and some nodes that share a database.
type town struct {
	*testing.T
	*apiServer
	leases   *leases
	evidence *evidence
	nodes    map[string]*Manager
	told     map[string]*told // by node
	cluster  authority.Cluster
}

func inTown(t *testing.T, name string, test func(tn *town), change ...func(*authority.Cluster)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tn := &town{T: t, apiServer: newAPIServer(t), leases: newLeases(), evidence: &evidence{}, nodes: map[string]*Manager{}, told: map[string]*told{}, cluster: testCluster}
			for _, c := range change {
				c(&tn.cluster)
			}
			tn.review = good()
			tn.change("ADDED", fakePod{namespace: "shop", name: "web-0", uid: "uid-0", created: time.Now()})
			defer func() {
				for _, m := range tn.nodes {
					m.Close()
				}
			}()
			test(tn)
		})
	})
}

func (tn *town) node(name string) *Manager {
	tn.Helper()
	d := &told{}
	m := &Manager{
		Leases: tn.leases, Evidence: tn.evidence.read, Node: name, Issuer: ours, Self: selfToken, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		End: func(ctx context.Context, cluster, uid string, until time.Time) error {
			tn.leases.mu.Lock()
			away := tn.leases.away != nil || tn.leases.cutOff[name]
			tn.leases.mu.Unlock()
			if away {
				return errAway
			}
			return d.end(ctx, uid, until)
		},
	}
	m.made = func(c *Client) { c.http.Transport.(*http.Transport).DialContext = tn.dial }
	if err := m.Use([]authority.Cluster{tn.cluster}); err != nil {
		tn.Fatal(err)
	}
	tn.nodes[name], tn.told[name] = m, d
	synctest.Wait()
	return m
}

func (tn *town) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// holder is the node whose watch is up by its own word, empty for none.
func (tn *town) holder() string {
	found := ""
	for name, m := range tn.nodes {
		if s := m.Status()[0]; s.Mine && s.Ready {
			if found != "" {
				tn.Fatalf("%s and %s both hold the lease", found, name)
			}
			found = name
		}
	}
	return found
}

var webProof = authority.Proof{Cluster: "hub", Namespace: "shop", ServiceAccount: "web", Pod: authority.ObjectRef{Name: "web-0", UID: "uid-0"}}

func (tn *town) check(m *Manager, want error, reviews int) {
	tn.Helper()
	before := tn.count("POST")
	if err := m.Check(tn.Context(), tn.cluster, webProof, "raw"); !errors.Is(err, want) {
		tn.Fatalf("got %v, want %v", err, want)
	}
	if n := tn.count("POST") - before; n != reviews {
		tn.Fatalf("%d reviews, want %d", n, reviews)
	}
}

func TestOneNodeWatches(t *testing.T) {
	inTown(t, "one of three nodes watches, and all know which", func(tn *town) {
		for _, name := range []string{"a", "b", "c"} {
			tn.node(name)
		}
		tn.pass(3 * time.Second)
		if tn.holder() != "a" || tn.count("list") != 1 {
			tn.Errorf("holder %q, %d lists", tn.holder(), tn.count("list"))
		}
		for name, m := range tn.nodes {
			if s := m.Status()[0]; s.Holder != "a" || !s.Ready || s.Mine != (name == "a") || s.Failure != "" || s.Cluster != "hub" {
				tn.Errorf("%s: %+v", name, s)
			}
		}
	})
	inTown(t, "a node that leaves gives the watch back, and the next one ends who died in between", func(tn *town) {
		tn.run("p")
		a := tn.node("a")
		tn.node("b")
		tn.evidence.add("p", "uid-0")
		a.Close()
		delete(tn.nodes, "a")
		tn.remove("p")
		tn.pass(time.Second)
		if tn.holder() != "b" || !slices.Equal(tn.told["b"].all(), []string{"p"}) {
			tn.Errorf("holder %q, ended %q", tn.holder(), tn.told["b"].all())
		}
	})
	inTown(t, "a node that is cut off from the database is followed within 5 s, and tells nothing from before that on", func(tn *town) {
		tn.run("p", "q")
		tn.evidence.add("p", "q", "uid-0")
		tn.node("a")
		tn.node("b")
		tn.pass(2 * time.Second)
		tn.leases.set(func() { tn.leases.cutOff["a"] = true })
		tn.pass(leaseLife)
		tn.remove("p")
		tn.pass(2 * time.Second)
		if tn.holder() != "b" || !slices.Equal(tn.told["b"].all(), []string{"p"}) {
			tn.Fatalf("holder %q, ended %q", tn.holder(), tn.told["b"].all())
		}
		tn.leases.set(func() { tn.leases.cutOff["a"] = false })
		tn.remove("q")
		tn.pass(5 * time.Second)
		if tn.holder() != "b" || len(tn.told["a"].all()) != 0 || !slices.Equal(tn.told["b"].all(), []string{"p", "q"}) {
			tn.Errorf("holder %q, a ended %q, b ended %q", tn.holder(), tn.told["a"].all(), tn.told["b"].all())
		}
	})
	inTown(t, "the database is away for an hour: the watch goes on, and who died is ended within a second of its return", func(tn *town) {
		uids := names("p", 50)
		tn.run(uids...)
		tn.node("a")
		tn.node("b")
		tn.pass(2 * time.Second)
		tn.leases.set(func() { tn.leases.away = errAway })
		tn.pass(time.Minute)
		tn.remove(uids...)
		tn.pass(time.Hour)
		if s := tn.nodes["a"].Status()[0]; s.Mine || s.Ready || s.Holder != "" || s.Watch.Waiting != 50 || s.Failure == "" {
			tn.Fatalf("status %+v", s)
		}
		tn.leases.set(func() { tn.leases.away = nil })
		tn.pass(time.Second)
		if tn.holder() != "a" || len(tn.told["a"].all()) != 50 || tn.count("list") != 1 {
			tn.Fatalf("holder %q, a ended %d, %d lists", tn.holder(), len(tn.told["a"].all()), tn.count("list"))
		}
	})
	inTown(t, "a node that cannot see the cluster lets another one try", func(tn *town) {
		a := tn.node("a")
		tn.pass(2 * time.Second)
		mine := a.members["hub"].client.http.Transport.(*http.Transport)
		mine.DialContext = newAPIServer(tn.T, func(s *apiServer) { s.frozen = true }).dial
		tn.mu.Lock()
		for _, c := range tn.conns {
			c.dead.Store(true)
		}
		tn.mu.Unlock()
		tn.node("b")
		tn.pass(blindFor + 10*time.Second)
		if tn.holder() != "b" {
			tn.Errorf("holder %q: %+v", tn.holder(), a.Status())
		}
	})
}

func TestUse(t *testing.T) {
	inTown(t, "a cluster that has not changed keeps its watch; one that has gets another; one that is gone is let go", func(tn *town) {
		m := tn.node("a")
		same := tn.cluster
		same.Revision, same.WebhookCaller = 7, "spoke"
		place := authority.Cluster{Name: "place", Pods: authority.PodsOffline}
		if err := m.Use([]authority.Cluster{same, place}); err != nil || len(m.Status()) != 1 {
			tn.Fatal(err, m.Status())
		}
		tn.pass(time.Second)
		if tn.count("list") != 1 {
			tn.Fatalf("%d lists", tn.count("list"))
		}
		changed := tn.cluster
		changed.Terminating = authority.TerminatingRefuse
		if err := m.Use([]authority.Cluster{changed}); err != nil {
			tn.Fatal(err)
		}
		tn.pass(time.Second)
		if tn.count("list") != 2 || tn.holder() != "a" {
			tn.Fatalf("%d lists, holder %q", tn.count("list"), tn.holder())
		}
		broken := tn.cluster
		broken.CA = []byte("none")
		if err := m.Use([]authority.Cluster{broken}); err == nil {
			tn.Fatal("a broken cluster was taken")
		}
		tn.pass(time.Second)
		if tn.holder() != "a" {
			tn.Fatal("a refused configuration changed something")
		}
		if err := m.Use(nil); err != nil {
			tn.Fatal(err)
		}
		if l, err := tn.leases.Lease(tn.Context(), "watch hub"); err != nil || l.Left != 0 {
			tn.Errorf("the lease of a cluster that is gone: %+v, %v", l, err)
		}
		tn.check(m, ErrUnknowable, 0)
		delete(tn.nodes, "a")
		m.Close()
		if err := m.Use([]authority.Cluster{tn.cluster}); err == nil {
			tn.Error("a closed manager was used")
		}
	})
}

func TestCheck(t *testing.T) {
	inTown(t, "the node that watches answers by itself", func(tn *town) {
		m := tn.node("a")
		tn.check(m, nil, 0)
		tn.terminate("uid-0", 30)
		tn.pass(29 * time.Second)
		tn.check(m, nil, 0)
		tn.pass(time.Second)
		tn.check(m, ErrDead, 0) // though the API server still takes the token
		tn.remove("uid-0")
		tn.pass(time.Second)
		tn.check(m, ErrDead, 0)
	})
	inTown(t, "a pod that the watch does not know yet is asked about", func(tn *town) {
		m := tn.node("a")
		tn.remove("uid-0")
		tn.pass(3 * time.Minute) // forgotten
		tn.on(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/") {
				_, _ = w.Write([]byte(`{"metadata":{"uid":"uid-0"}}`))
				return true
			}
			return false
		})
		tn.check(m, nil, 1)
		tn.on(nil)
		tn.check(m, ErrDead, 1) // TokenReview says good, from its cache; the pod is not there
	})
	inTown(t, "another node asks once, and then believes the node that watches", func(tn *town) {
		tn.node("a")
		b := tn.node("b")
		tn.pass(2 * time.Second)
		tn.check(b, nil, 1)
		tn.check(b, nil, 0)
		tn.pass(time.Hour)
		tn.check(b, nil, 0)
	})
	inTown(t, "and no longer than that node says so", func(tn *town) {
		a := tn.node("a")
		b := tn.node("b")
		tn.pass(2 * time.Second)
		tn.check(b, nil, 1)
		tn.leases.set(func() { tn.leases.cutOff["a"], tn.leases.cutOff["b"] = true, true })
		tn.pass(leaseLife)
		tn.check(b, nil, 1)
		for _, back := range []string{"a", "b"} {
			tn.leases.set(func() { delete(tn.leases.cutOff, back) })
			tn.pass(2 * time.Second)
		}
		tn.check(b, nil, 1) // who died in the gap was not heard of
		tn.check(b, nil, 0)
		a.Close()
		delete(tn.nodes, "a")
		tn.pass(2 * time.Second)
		if tn.holder() != "b" {
			tn.Fatalf("holder %q", tn.holder())
		}
		tn.check(b, nil, 0) // by itself
		tn.remove("uid-0")
		tn.pass(time.Second)
		tn.check(b, ErrDead, 0)
	})
	inTown(t, "while the watch is down the API server is asked each time, and while that is away too all are refused", func(tn *town) {
		m := tn.node("a")
		tn.on(func(w http.ResponseWriter, r *http.Request) bool {
			down := r.URL.Path == "/api/v1/pods"
			if down {
				refuse(w, 403, "no right to see pods any more")
			}
			return down
		})
		tn.pass(MaxSilence + time.Second)
		tn.check(m, nil, 1)
		tn.check(m, nil, 1)
		tn.freeze()
		before := time.Now()
		tn.check(m, ErrUnknowable, 0)
		if d := time.Since(before); d > 2*callTimeout {
			tn.Errorf("refused after %s", d)
		}
	})
	review := func(c *authority.Cluster) { c.Pods = authority.PodsReviewed }
	inTown(t, "review: each time, without a watch", func(tn *town) {
		m := tn.node("a")
		tn.check(m, nil, 1)
		tn.check(m, nil, 1)
		if s := m.Status()[0]; tn.count("list")+tn.count("watch") != 0 || s.Pods != authority.PodsReviewed || s.Holder != "" {
			tn.Errorf("requests %q", tn.requests)
		}
		tn.terminate("uid-0", 30)
		tn.check(m, nil, 1)
		tn.pass(30 * time.Second)
		tn.check(m, ErrDead, 1)
	}, review)
	inTown(t, "review: a pod that is being deleted is refused", func(tn *town) {
		m := tn.node("a")
		tn.terminate("uid-0", 3600)
		tn.check(m, ErrDead, 1)
	}, review, refuseTerminating)
	for name, change := range map[string]func(status, user, extra map[string]any){
		"the token is not good":        func(s, _, _ map[string]any) { s["authenticated"] = false },
		"it is good for another":       func(s, _, _ map[string]any) { s["audiences"] = []string{"https://kubernetes.default.svc"} },
		"it is another's":              func(_, u, _ map[string]any) { u["username"] = "system:serviceaccount:shop:web-evil" },
		"it is another pod's":          func(_, _, e map[string]any) { e["authentication.kubernetes.io/pod-uid"] = []string{"uid-1"} },
		"it is of no pod":              func(_, _, e map[string]any) { delete(e, "authentication.kubernetes.io/pod-uid") },
		"it is a person's":             func(_, u, _ map[string]any) { u["username"] = "web" },
		"it is of another namespace's": func(_, u, _ map[string]any) { u["username"] = "system:serviceaccount:shop2:web" },
	} {
		inTown(t, "review refuses: "+name, func(tn *town) {
			m := tn.node("a")
			tn.mu.Lock()
			tn.review = good(change)
			tn.mu.Unlock()
			tn.check(m, ErrDead, 1)
		}, review)
	}
	inTown(t, "review refuses: another pod has the name", func(tn *town) {
		m := tn.node("a")
		tn.change("ADDED", fakePod{namespace: "shop", name: "web-0", uid: "uid-1"})
		tn.check(m, ErrDead, 1)
	}, review)
	inTown(t, "offline: nobody is asked", func(tn *town) {
		m := tn.node("a")
		tn.cluster.Pods = authority.PodsOffline
		tn.check(m, nil, 0)
	}, func(c *authority.Cluster) { c.Pods = authority.PodsOffline })
	inTown(t, "a proof that names no pod, or is another cluster's, is refused", func(tn *town) {
		m := tn.node("a")
		for _, proof := range []authority.Proof{{Cluster: "hub"}, {Cluster: "spoke", Pod: webProof.Pod}, {Cluster: "hub", Pod: authority.ObjectRef{UID: "a/b"}}} {
			if err := m.Check(tn.Context(), tn.cluster, proof, "raw"); !errors.Is(err, ErrDead) {
				tn.Errorf("%+v: %v", proof, err)
			}
		}
	})
}

func TestManagerAsksForKeys(t *testing.T) {
	inTown(t, "of a cluster that it knows", func(tn *town) {
		m := tn.node("a")
		if keys, err := m.Keys(tn.Context(), tn.cluster); err != nil || string(keys) != `{"keys":[]}` {
			tn.Errorf("got %s, %v", keys, err)
		}
		if _, err := m.Keys(tn.Context(), authority.Cluster{Name: "spoke"}); !errors.Is(err, ErrUnknowable) {
			tn.Errorf("got %v", err)
		}
		if err := m.Reach(tn.Context(), "hub"); err != nil {
			tn.Error(err)
		}
		if err := m.Reach(tn.Context(), "spoke"); !errors.Is(err, ErrUnknowable) {
			tn.Errorf("got %v", err)
		}
	})
}

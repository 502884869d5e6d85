package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

const (
	// leaseLife and leaseEvery: when a node is gone, another one has its watches
	// after at most their sum.
	leaseLife  = 3 * time.Second
	leaseEvery = time.Second
	// leaseAgain is how soon a node asks again while the database does not answer.
	leaseAgain   = 250 * time.Millisecond
	leaseTimeout = time.Second
	// A node whose watch hears nothing for blindFor gives the lease back and lets
	// others try for standBack: perhaps only this node cannot reach the API server.
	blindFor  = 20 * time.Second
	standBack = 5 * time.Second
	// maxReviewed bounds what is remembered of the pods of one cluster.
	maxReviewed = 1 << 17
)

// What Check answers. Everything else that it returns wraps one of the two.
var (
	// ErrDead says that the proof's pod does not live, or that the proof is not its.
	ErrDead = errors.New("the pod does not live")
	// ErrUnknowable says that nobody could be asked.
	ErrUnknowable = errors.New("nobody can say whether the pod lives")
)

// Manager watches over the pods of all registered clusters, together with the other
// nodes: of each cluster one node holds the lease and watches.
type Manager struct {
	Leases authority.LeaseStore
	// Evidence is GrantStore.EvidenceKeys.
	Evidence func(ctx context.Context, kind authority.EvidenceKind, prefix string, p authority.Page) ([]string, error)
	// End ends a pod as evidence. It is asked until it succeeds, and may be asked
	// again about a pod that has ended.
	End    func(ctx context.Context, cluster, uid string, proofUntil time.Time) error
	Node   string // one life of this node: no other may have the same
	Issuer string // what tokens of clusters without audiences are for
	Self   SelfToken
	Now    func() time.Time
	Log    *slog.Logger

	made    func(*Client) // for tests
	using   sync.Mutex    // held by whoever starts and stops members
	lives   int
	closed  bool
	mu      sync.Mutex
	members map[string]*member
}

// Use puts these clusters in the place of those before. A cluster that has not
// changed stays as it was. After an error nothing has changed.
func (m *Manager) Use(clusters []authority.Cluster) error {
	m.using.Lock()
	defer m.using.Unlock()
	if m.closed {
		return errors.New("the manager is closed")
	}
	next := map[string]*member{}
	var fresh []*member
	for _, c := range clusters {
		if !c.Reachable() {
			continue
		}
		if old, there := m.members[c.Name]; there && reflect.DeepEqual(old.cluster, relevant(c)) {
			next[c.Name] = old
			continue
		}
		client, err := NewClient(c, m.Self)
		if err != nil {
			return err
		}
		if m.made != nil {
			m.made(client)
		}
		m.lives++
		next[c.Name] = &member{m: m, cluster: relevant(c), client: client, holder: m.Node + "/" + strconv.Itoa(m.lives)}
		fresh = append(fresh, next[c.Name])
	}
	before := m.swap(next)
	var stopping sync.WaitGroup
	for name, old := range before {
		if next[name] != old {
			stopping.Go(old.stop)
		}
	}
	stopping.Wait() // what comes in its place needs its lease
	for _, c := range fresh {
		c.start()
	}
	return nil
}

func (m *Manager) swap(next map[string]*member) (before map[string]*member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, m.members = m.members, next
	return before
}

// relevant is what a member is made of: other changes do not disturb its watch.
func relevant(c authority.Cluster) authority.Cluster {
	return authority.Cluster{
		Name: c.Name, Issuer: c.Issuer, APIServer: c.APIServer, CA: c.CA, Credential: c.Credential, Kubeconfig: c.Kubeconfig,
		Pods: c.Pods, Terminating: c.Terminating, Audiences: c.Audiences,
	}
}

// Close stops all watches and gives the leases back.
func (m *Manager) Close() {
	_ = m.Use(nil)
	m.using.Lock()
	defer m.using.Unlock()
	m.closed = true
}

func (m *Manager) member(name string) (*member, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, there := m.members[name]
	if !there {
		return nil, fmt.Errorf("%w: cluster %q has no API server that this node knows", ErrUnknowable, name)
	}
	return c, nil
}

// Keys fetches the key set of a cluster from its API server.
func (m *Manager) Keys(ctx context.Context, cluster authority.Cluster) ([]byte, error) {
	c, err := m.member(cluster.Name)
	if err != nil {
		return nil, err
	}
	return c.client.Keys(ctx)
}

// Check finds out whether the pod of a proof lives, in the way that the cluster's
// entry says. raw is the token that the proof was read from.
func (m *Manager) Check(ctx context.Context, cluster authority.Cluster, proof authority.Proof, raw string) error {
	if cluster.Pods == authority.PodsOffline {
		return nil
	}
	if proof.Cluster != cluster.Name || !authority.IsUID(proof.Pod.UID) {
		return fmt.Errorf("%w: the proof names none of cluster %s", ErrDead, cluster.Name)
	}
	c, err := m.member(cluster.Name)
	if err != nil {
		return err
	}
	before := c.word()
	if cluster.Pods == authority.PodsWatched {
		if known, err := c.knows(proof.Pod.UID); known {
			return err
		}
	}
	if err := c.review(ctx, proof, raw); err != nil {
		return err
	}
	c.remember(proof.Pod.UID, before)
	return nil
}

// Status says how a cluster is watched, as far as this node knows.
type Status struct {
	Cluster string
	Pods    authority.PodMode
	Holder  string      // the node that has the lease, empty for none
	Mine    bool        // it is this one
	Ready   bool        // its watch is up, and has told of all that it knows
	Watch   WatchStatus // of this node, where it is Mine
	Notes   []string
	Failure string // of the lease
}

// Status gives the state of all clusters that have an API server, by name.
func (m *Manager) Status() []Status {
	m.mu.Lock()
	members := m.members
	m.mu.Unlock()
	list := make([]Status, 0, len(members))
	for _, c := range members {
		list = append(list, c.status())
	}
	slices.SortFunc(list, func(a, b Status) int { return strings.Compare(a.Cluster, b.Cluster) })
	return list
}

// Reach finds out whether a cluster's API server answers and allows what we need.
func (m *Manager) Reach(ctx context.Context, cluster string) error {
	c, err := m.member(cluster)
	if err != nil {
		return err
	}
	return c.client.Reach(ctx)
}

// member is one cluster.
type member struct {
	m       *Manager
	cluster authority.Cluster
	client  *Client
	holder  string // what it takes the lease as: no other member, here or anywhere, is called so
	stop    func()

	mu      sync.Mutex
	lease   authority.Lease // as it was last seen
	until   time.Time       // until when that is so for sure
	watch   *Watch          // this node's; nil while another node has the lease
	failure error
	// reviewed are pods that live by the word of their API server. They are believed for
	// as long as somebody's watch is up without a gap, since it would have ended them.
	reviewed map[string]struct{}
	gaps     int
}

// start begins to watch, if the cluster is to be watched.
func (c *member) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	c.stop = func() {
		cancel()
		<-done
		c.client.Close()
	}
	go func() {
		defer close(done)
		if c.cluster.Pods == authority.PodsWatched {
			c.tend(ctx)
		}
	}()
}

// tend takes the lease, watches while it is ours, and gives it back.
func (c *member) tend(ctx context.Context) {
	var stopWatch func()
	stopped := func() {
		if stopWatch != nil {
			stopWatch()
			stopWatch = nil
		}
	}
	defer func() {
		stopped()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTimeout)
		defer cancel()
		if err := c.m.Leases.ReleaseLease(ctx, c.leaseName(), c.holder); err != nil {
			c.m.Log.Warn("the lease of a cluster's watch was not given back: another node waits until it runs out", "cluster", c.cluster.Name, "error", err)
		}
	}()
	var blindSince, backAt time.Time
	for {
		wait := leaseEvery
		now := c.m.Now()
		lease, err := c.ask(ctx, now.Before(backAt))
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && lease.Holder == c.holder:
			if stopWatch == nil {
				stopWatch, blindSince = c.begin(ctx), now
			}
			if !c.isBlind() {
				blindSince = now
			}
			if now.Sub(blindSince) >= blindFor {
				stopped()
				backAt = now.Add(standBack)
				_ = c.m.Leases.ReleaseLease(ctx, c.leaseName(), c.holder) // or it runs out
				c.see(authority.Lease{}, now)
			}
		case err == nil || errors.Is(err, authority.ErrConflict) || errors.Is(err, authority.ErrNotFound):
			stopped() // somebody else watches, or may
		case stopWatch != nil:
			// The watch continues: what it learns now can be told as soon as the
			// database is back. Until the lease is ours again it tells nothing.
			wait, blindSince = leaseAgain, now
		default:
			// When the database is back, whoever has gone on watching goes first.
			wait, backAt = leaseAgain, now.Add(leaseEvery)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (c *member) leaseName() string { return "watch " + c.cluster.Name }

// ask takes or renews the lease, or only looks while this node stands back.
func (c *member) ask(ctx context.Context, standingBack bool) (lease authority.Lease, err error) {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	asked := c.m.Now()
	if standingBack {
		lease, err = c.m.Leases.Lease(ctx, c.leaseName())
	} else {
		lease, err = c.m.Leases.TakeLease(ctx, c.leaseName(), c.holder, leaseLife, c.isReady())
	}
	if standingBack && err == nil && lease.Holder == c.holder {
		err = authority.ErrConflict // the release did not get through
	}
	if err == nil || errors.Is(err, authority.ErrConflict) {
		c.see(lease, asked)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure = err; errors.Is(err, authority.ErrConflict) || errors.Is(err, authority.ErrNotFound) {
		c.failure = nil
	}
	return lease, err
}

// begin starts this node's watch and returns how it is stopped.
func (c *member) begin(ctx context.Context) (stop func()) {
	w := &Watch{
		Client: c.client, Cluster: c.cluster, Evidence: c.m.Evidence, Now: c.m.Now, Log: c.m.Log,
		End: func(ctx context.Context, uid string, proofUntil time.Time) error {
			if !c.holds() {
				return errors.New("the lease of the watch may be another node's by now")
			}
			return c.m.End(ctx, c.cluster.Name, uid, proofUntil)
		},
	}
	c.mu.Lock()
	c.watch = w
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	return func() {
		c.mu.Lock()
		c.watch = nil
		c.mu.Unlock()
		cancel()
		<-done
	}
}

// see takes in a lease as it was at a moment after asked.
func (c *member) see(lease authority.Lease, asked time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.m.Now()
	// What was remembered on one holder's word is worth nothing after a time without it.
	if !lease.Ready || lease.Fence != c.lease.Fence || !c.lease.Ready || !now.Before(c.until) {
		c.reviewed = nil
		c.gaps++
	}
	c.lease, c.until = lease, asked.Add(lease.Left)
}

// holds says whether the lease is this node's for sure.
func (c *member) holds() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lease.Holder == c.holder && c.m.Now().Before(c.until)
}

func (c *member) isReady() bool {
	c.mu.Lock()
	w := c.watch
	c.mu.Unlock()
	return w != nil && w.Ready()
}

// isBlind says that this node's watch hears nothing of its cluster.
func (c *member) isBlind() bool {
	c.mu.Lock()
	w := c.watch
	c.mu.Unlock()
	return w == nil || w.Silent() > MaxSilence
}

// word is the present count of gaps in the holders' word, negative in a gap.
func (c *member) word() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wordLocked()
}

func (c *member) wordLocked() int {
	if !c.lease.Ready || !c.m.Now().Before(c.until) {
		return -1
	}
	return c.gaps
}

// knows answers from what this node knows, if that can be believed.
func (c *member) knows(uid string) (known bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watch != nil {
		state := c.watch.Pod(uid)
		switch {
		case state == Ended: // which stays true, however old it is
			return true, fmt.Errorf("%w: its end was seen", ErrDead)
		case state == Unknown || c.watch.Silent() > MaxSilence:
		default:
			return true, nil
		}
	}
	if c.wordLocked() < 0 {
		return false, nil
	}
	_, there := c.reviewed[uid]
	return there, nil
}

// remember keeps a pod that was alive at some time after before was the word.
func (c *member) remember(uid string, before int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if before < 0 || before != c.wordLocked() || c.lease.Holder == c.holder {
		return // our own watch knows it soon
	}
	if c.reviewed == nil || len(c.reviewed) >= maxReviewed {
		c.reviewed = map[string]struct{}{}
	}
	c.reviewed[uid] = struct{}{}
}

// review asks the API server about the token and about the pod. TokenReview alone
// is not enough: its good verdicts are up to 10 s old, and it takes the token of a
// pod until a minute after its deadline.
func (c *member) review(ctx context.Context, proof authority.Proof, raw string) error {
	audiences := c.cluster.Audiences
	if len(audiences) == 0 {
		audiences = []string{c.m.Issuer}
	}
	r, err := c.client.Review(ctx, raw, audiences)
	if err != nil {
		return fmt.Errorf("%w: TokenReview: %w", ErrUnknowable, err)
	}
	switch {
	case !r.Authenticated:
		return fmt.Errorf("%w: TokenReview refuses the token: %s", ErrDead, r.Why)
	case r.Username != "system:serviceaccount:"+proof.Namespace+":"+proof.ServiceAccount:
		return fmt.Errorf("%w: TokenReview takes the token for another's", ErrDead)
	case r.Pod.UID != proof.Pod.UID:
		return fmt.Errorf("%w: TokenReview takes the token for another pod's", ErrDead)
	}
	pod, found, err := c.client.pod(ctx, proof.Namespace, proof.Pod.Name)
	if err != nil {
		return fmt.Errorf("%w: get the pod: %w", ErrUnknowable, err)
	}
	switch {
	case !found || pod.UID != proof.Pod.UID:
		return fmt.Errorf("%w: it is gone", ErrDead)
	case pod.Deletion.IsZero():
		return nil
	case c.cluster.Terminating == authority.TerminatingRefuse:
		return fmt.Errorf("%w: it is being deleted", ErrDead)
	case !c.m.Now().Before(pod.Deletion):
		return fmt.Errorf("%w: its grace period is over", ErrDead)
	}
	return nil
}

func (c *member) status() Status {
	c.mu.Lock()
	s := Status{Cluster: c.cluster.Name, Pods: c.cluster.Pods, Notes: c.client.Notes()}
	if c.m.Now().Before(c.until) {
		s.Holder, s.Ready = c.lease.Holder, c.lease.Ready
		s.Mine = s.Holder == c.holder
		if i := strings.LastIndexByte(s.Holder, '/'); i >= 0 {
			s.Holder = s.Holder[:i]
		}
	}
	if c.failure != nil {
		s.Failure = c.failure.Error()
	}
	w := c.watch
	c.mu.Unlock()
	if w != nil {
		s.Watch = w.Status()
		if s.Mine {
			s.Ready = w.Ready() // newer than the word of the lease
		}
	}
	return s
}

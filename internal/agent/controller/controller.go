// Package controller keeps the Secrets of SignalboxTokens fresh: Kubernetes objects
// in which teams declare which token they need.
//
// Each token has the identity of a service account in the namespace of its object,
// proved by a token that is bound to a pod which runs there. So nobody gets a token
// of another namespace, and what a Secret holds ends with the pods of that account.
package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/signalbox-sts/signalbox/internal/agent"
	"github.com/signalbox-sts/signalbox/internal/agent/secret"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/kube"
)

// AllNamespaces in Controller.Namespaces means all of them.
const AllNamespaces = "*"

// Exchange gets a token for the proof of a workload. An error that matches
// agent.ErrRefused is a decision of the service. No error repeats the proof.
type Exchange func(ctx context.Context, proof string, to Target) (value string, life time.Duration, err error)

// Controller serves the SignalboxTokens of some namespaces, or of all.
type Controller struct {
	Client     *kube.Client
	Issuer     string // the audience of the proofs
	CAFile     string // as in secret.Target
	Exchange   Exchange
	Namespaces []string
	Clock      agent.Clock
	Random     func() float64
	Log        *slog.Logger

	mu         sync.Mutex
	tokens     *agent.Agent
	objects    map[string]*kept
	identities map[string]*identity
	byPod      map[string][]*identity // by the uid of the pod that proves them
	follows    []*kube.Follow
	round      uint64
	listed     bool          // what is declared is known
	work       chan struct{} // there may be something to do
	news       chan struct{} // a status may have to be written
}

// kept is a SignalboxToken and what became of it.
type kept struct {
	*resource
	round    uint64
	identity *identity
	invalid  error
	put      error
	secret   string // the Secret that holds a token
	until    time.Time
	life     time.Duration
	dirty    bool      // its status may be another one
	again    time.Time // when that must be looked at
	failures int
}

// identity is what one exchange is for: an account and a target.
type identity struct {
	namespace, account string
	to                 Target

	epoch  int    // raised when the pod has ended, so that another one is found at once
	pod    string // uid
	round  uint64
	policy string
	ask    error
}

var errNoPod = errors.New("no pod runs")

func (i *identity) key() string { return i.namespace + "/" + i.account + " " + i.to.String() }

// Run serves until ctx ends.
func (c *Controller) Run(ctx context.Context) {
	c.mu.Lock()
	c.objects, c.identities, c.byPod, c.follows, c.listed = map[string]*kept{}, map[string]*identity{}, map[string][]*identity{}, nil, false
	c.work, c.news = make(chan struct{}, 1), make(chan struct{}, 1)
	tokens := &agent.Agent{Clock: c.Clock, Random: c.Random, Log: c.Log}
	c.tokens = tokens
	c.mu.Unlock()
	defer func() {
		tokens.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.tokens, c.follows = nil, nil
	}()
	var all sync.WaitGroup
	for _, namespace := range c.Namespaces {
		if namespace == AllNamespaces {
			namespace = ""
		}
		// What is not seen between the beginning and the end of a list is not there.
		var objectsBegan, podsBegan uint64
		objects := &kube.Follow{Client: c.Client, Resource: kube.SignalboxTokens, Namespace: namespace, Log: c.Log,
			Begin: func() { objectsBegan = c.nextRound() }, Seen: c.seen, Gone: c.gone, End: func() { c.end(namespace, objectsBegan) }}
		pods := &kube.Follow{Client: c.Client, Resource: kube.Pods, Namespace: namespace, Metadata: true, Log: c.Log,
			Begin: func() { podsBegan = c.nextRound() }, Seen: c.podSeen, Gone: c.podGone, End: func() { c.podsEnd(namespace, podsBegan) }}
		c.mu.Lock()
		c.follows = append(c.follows, objects, pods)
		c.mu.Unlock()
		all.Go(func() { objects.Run(ctx) })
		all.Go(func() { pods.Run(ctx) })
	}
	all.Go(func() { c.report(ctx) })
	for ctx.Err() == nil {
		wait := c.reconcile(ctx, tokens)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-c.work:
			// Changes come in bunches: ours lead to one each.
			timer.Reset(bunch)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
		case <-timer.C:
		}
		timer.Stop()
	}
	all.Wait()
}

// Tokens are the outputs that are kept now; nil while another controller does it.
func (c *Controller) Tokens() *agent.Agent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tokens
}

// Up is nil while changes are heard of.
func (c *Controller) Up() error {
	c.mu.Lock()
	follows := c.follows
	c.mu.Unlock()
	for _, f := range follows {
		if up, err := f.Up(); !up {
			if err == nil {
				err = errors.New("it is being looked for")
			}
			return fmt.Errorf("changes of %s are not heard of: %w", f.Resource.Plural, err)
		}
	}
	return nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (c *Controller) nextRound() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.round++
	return c.round
}

// seen takes in a SignalboxToken as it is.
func (c *Controller) seen(raw json.RawMessage) {
	r, err := parseResource(raw)
	if err != nil {
		c.Log.Warn("an object is not served", "error", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.objects[r.key()]
	if k == nil || k.Metadata.UID != r.Metadata.UID {
		k = &kept{dirty: true}
		c.objects[r.key()] = k
	}
	if k.resource == nil || k.Metadata.Generation != r.Metadata.Generation || k.deleted() != r.deleted() || k.held() != r.held() {
		k.dirty = true
		k.put, k.until = nil, time.Time{} // what came of it before is about something else
		signal(c.work)
		signal(c.news)
	}
	k.resource, k.round = r, c.round
}

func (c *Controller) gone(raw json.RawMessage) {
	r, err := parseResource(raw)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.objects[r.key()]; k != nil && k.Metadata.UID == r.Metadata.UID {
		delete(c.objects, r.key())
		signal(c.work)
	}
}

// end drops what the list did not have.
func (c *Controller) end(namespace string, began uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, k := range c.objects {
		if (namespace == "" || k.Metadata.Namespace == namespace) && k.round < began {
			delete(c.objects, key)
		}
	}
	c.listed = true
	signal(c.work)
}

// podSeen takes in that a pod is there, or is being deleted.
func (c *Controller) podSeen(raw json.RawMessage) { c.pod(raw, false) }

func (c *Controller) podGone(raw json.RawMessage) { c.pod(raw, true) }

func (c *Controller) pod(raw json.RawMessage, gone bool) {
	var of struct {
		Metadata struct {
			UID      string    `json:"uid"`
			Deletion time.Time `json:"deletionTimestamp"`
		} `json:"metadata"`
	}
	if json.Unmarshal(raw, &of) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range c.byPod[of.Metadata.UID] {
		i.round = c.round
		if gone || !of.Metadata.Deletion.IsZero() {
			c.lost(i)
		}
	}
}

// podsEnd finds the pods that ended while nobody heard of it.
func (c *Controller) podsEnd(namespace string, began uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range c.identities {
		if i.pod != "" && (namespace == "" || i.namespace == namespace) && i.round < began {
			c.lost(i)
		}
	}
}

// lost lets an identity look for another pod now: with this one its tokens end. The
// caller holds the lock.
func (c *Controller) lost(i *identity) {
	c.setPod(i, "")
	i.epoch++
	signal(c.work)
}

// setPod notes which pod proves an identity. The caller holds the lock.
func (c *Controller) setPod(i *identity, uid string) {
	if i.pod != "" {
		if c.byPod[i.pod] = slices.DeleteFunc(c.byPod[i.pod], func(o *identity) bool { return o == i }); len(c.byPod[i.pod]) == 0 {
			delete(c.byPod, i.pod)
		}
	}
	if i.pod = uid; uid != "" {
		i.round = c.round
		c.byPod[uid] = append(c.byPod[uid], i)
	}
}

// ask proves the identity and exchanges the proof.
func (c *Controller) ask(ctx context.Context, i *identity) (value string, life time.Duration, err error) {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		i.ask = err
		if err == nil {
			i.policy = policyOf(value)
		}
		for _, k := range c.objects {
			if k.identity == i {
				k.dirty = true
			}
		}
		signal(c.news)
	}()
	pod, found, err := c.Client.PodOf(ctx, i.namespace, i.account)
	if err != nil {
		return "", 0, err
	}
	if !found {
		return "", 0, fmt.Errorf("%w: %w as the service account %s of the namespace %s: without one nothing proves its identity", agent.ErrRefused, errNoPod, i.account, i.namespace)
	}
	proof, err := c.Client.TokenFor(ctx, i.namespace, i.account, pod, c.Issuer)
	if err != nil {
		return "", 0, fmt.Errorf("ask for a token of the pod %s: %w", pod.Name, err)
	}
	c.mu.Lock()
	c.setPod(i, pod.UID)
	c.mu.Unlock()
	return c.Exchange(ctx, proof, i.to)
}

// policyOf reads which policy gave a token, for people: nobody has verified it here.
func policyOf(token string) string {
	_, claims, err := jose.InspectUnverified(token)
	if err != nil { // an opaque one
		return ""
	}
	policy, _, err := claims.String("policy")
	if err != nil || len(policy) > 253 {
		return ""
	}
	return policy
}

// reconcile makes what is kept what is declared, and says when to look again.
func (c *Controller) reconcile(ctx context.Context, tokens *agent.Agent) time.Duration {
	c.mu.Lock()
	if !c.listed {
		c.mu.Unlock()
		return time.Hour
	}
	var entries []agent.Entry
	var hold, release []*resource
	var renamed []*agent.Secret
	used := map[*identity]bool{}
	for _, key := range slices.Sorted(maps.Keys(c.objects)) {
		k := c.objects[key]
		k.invalid = k.resource.check(c.Issuer)
		switch {
		case k.deleted():
			if k.held() {
				release = append(release, k.resource)
			}
		case k.invalid != nil:
			if k.held() { // what it had is removed with the entry; there is nothing else to hold
				release = append(release, k.resource)
			}
		case !k.held():
			hold = append(hold, k.resource)
		default:
			entries = append(entries, c.entry(k))
			used[k.identity] = true
		}
		if old := k.Status.SecretName; old != "" && old != k.Spec.Secret.Name { // perhaps while nobody ran
			s := c.outlet(k.resource)
			s.Name = old
			renamed = append(renamed, s)
		}
	}
	for key, i := range c.identities {
		if !used[i] {
			c.setPod(i, "")
			delete(c.identities, key)
		}
	}
	c.mu.Unlock()

	tokens.Set(ctx, entries)
	failed := 0
	try := func(r *resource, err error) {
		if err != nil && !kube.IsConflict(err) && !kube.IsNotFound(err) && ctx.Err() == nil {
			c.Log.Warn("a SignalboxToken has to wait", "object", r.key(), "error", err)
			failed++
		}
	}
	for _, s := range renamed {
		if err := s.Remove(ctx); err != nil && ctx.Err() == nil {
			c.Log.Warn("a Secret of an earlier name could not be removed", "secret", s.Namespace+"/"+s.Name, "error", err)
			failed++
		}
	}
	for _, r := range release {
		err := c.outlet(r).Remove(ctx)
		if err == nil {
			err = c.setFinalizers(ctx, r, slices.DeleteFunc(slices.Clone(r.Metadata.Finalizers), func(f string) bool { return f == finalizer }))
		}
		try(r, err)
		if kube.IsConflict(err) {
			failed++ // the Secret may have changed: nobody will tell us
		}
	}
	for _, r := range hold {
		try(r, c.setFinalizers(ctx, r, append(slices.Clone(r.Metadata.Finalizers), finalizer)))
	}
	if failed > 0 {
		return again
	}
	return time.Hour
}

// bunch is how long changes are collected.
const bunch = 50 * time.Millisecond

// again is after how long something that failed at the API server is tried again.
const again = 2 * time.Second

// setFinalizers changes the finalizers of the object as we know it: whoever has
// changed it since is told to us by the watch.
func (c *Controller) setFinalizers(ctx context.Context, r *resource, to []string) error {
	return c.Client.Patch(ctx, r.object(), map[string]any{"metadata": map[string]any{"finalizers": to, "resourceVersion": r.Metadata.Version, "uid": r.Metadata.UID}})
}

// outlet is the Secret of a SignalboxToken.
func (c *Controller) outlet(r *resource) *agent.Secret {
	return &agent.Secret{
		Client: c.Client, Namespace: r.Metadata.Namespace, Name: r.Spec.Secret.Name, Spec: r.spec(),
		To:  secret.Target{Issuer: c.Issuer, Cluster: r.Spec.To.Cluster, CAFile: c.CAFile},
		For: "SignalboxToken " + r.Metadata.Name,
		Owner: map[string]any{
			"apiVersion": kube.SignalboxTokens.APIVersion(), "kind": "SignalboxToken", "name": r.Metadata.Name, "uid": r.Metadata.UID,
		},
	}
}

// entry is what the agent keeps for an object. The caller holds the lock.
func (c *Controller) entry(k *kept) agent.Entry {
	wanted := &identity{namespace: k.Metadata.Namespace, account: k.Spec.ServiceAccount, to: k.Spec.To}
	i := c.identities[wanted.key()]
	if i == nil {
		i = wanted
		c.identities[i.key()] = i
	}
	k.identity = i
	spec, _ := json.Marshal(k.Spec) // texts, lists and maps
	definition := fmt.Sprintf("%s %d %s %d", k.Metadata.UID, k.Metadata.Generation, spec, i.epoch)
	return agent.Entry{
		Name: k.key(), Identity: fmt.Sprint(i.key(), " ", i.epoch), Definition: definition,
		Ask:     func(ctx context.Context) (string, time.Duration, error) { return c.ask(ctx, i) },
		Outlets: []agent.Outlet{&reported{c.outlet(k.resource), c, k.key(), k.Metadata.UID}},
	}
}

// reported is an outlet whose outcome is in the status.
type reported struct {
	*agent.Secret
	controller *Controller
	key, uid   string
}

func (r *reported) note(change func(*kept)) {
	c := r.controller
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.objects[r.key]; k != nil && k.Metadata.UID == r.uid {
		change(k)
		k.dirty = true
		signal(c.news)
	}
}

func (r *reported) Put(ctx context.Context, token agent.Token) (bool, error) {
	changed, err := r.Secret.Put(ctx, token)
	if ctx.Err() == nil {
		r.note(func(k *kept) {
			if k.put = err; err == nil {
				k.until, k.life, k.secret = token.Expires(), token.Life, r.Name
			}
		})
	}
	return changed, err
}

func (r *reported) Remove(ctx context.Context) error {
	err := r.Secret.Remove(ctx)
	if err == nil {
		r.note(func(k *kept) {
			if k.secret == r.Name {
				k.until, k.secret = time.Time{}, ""
			}
		})
	}
	return err
}

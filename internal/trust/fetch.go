package trust

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/outbound"
)

const (
	minAge     = time.Minute      // a key set is not asked for more often, whatever its max-age,
	maxAge     = time.Hour        // nor less often,
	defaultAge = 5 * time.Minute  // and so often where it says nothing
	maxStale   = 24 * time.Hour   // while it cannot be fetched, it is good for this long
	interval   = 10 * time.Second // between two attempts, however many unknown kids are shown
	maxWaiting = 64               // callers that wait for one key set; the others are told to come again

	maxProblem   = 200
	maxKeySet    = 256 << 10
	maxDiscovery = 64 << 10
)

// keys is what verifies the tokens of one origin. It never changes.
type keys struct {
	set   jose.KeySet
	until time.Time // zero: forever, for pasted keys
}

// usable says whether these keys are known at all, and not too old to be believed.
func (k *keys) usable(now time.Time) bool {
	return k != nil && (k.until.IsZero() || now.Before(k.until))
}

// find looks for the key of a token. known says that there is one of this kid, for whatever
// algorithm: then nobody needs to be asked for it.
func (k *keys) find(kid string, alg jose.Algorithm, now time.Time) (key jose.PublicKey, ok, known bool) {
	if !k.usable(now) {
		return jose.PublicKey{}, false, false
	}
	key, ok = k.set.Find(kid, alg)
	for _, one := range k.set {
		known = known || one.KeyID() == kid
	}
	return key, ok, known || ok
}

func (k *keys) has(key jose.PublicKey) bool {
	found, ok := k.set.Find(key.KeyID(), key.Algorithm())
	return ok && found.SameKey(key)
}

// ring is where the keys of an origin come from, and what came. Verifier.mu guards what changes.
type ring struct {
	place place
	class string // rings of one class may hold the same key
	parse func([]byte) (jose.KeySet, error)
	get   func(context.Context) (outbound.Answer, error)

	known       []knownKey
	keys        *keys // those of known that are this ring's own: see Verifier.settle
	shared      []string
	fetchedAt   time.Time
	freshUntil  time.Time
	attemptedAt time.Time
	fetching    bool
	waiting     int
	problem     string

	refusal          string
	refusedAt        time.Time
	refusedAuthentic bool
}

type knownKey struct {
	jose.PublicKey
	thumbprint string
	since      uint64 // which key set was the first that had it; 0: it is pasted
}

// place says where keys come from. Two registrations with one place share what came.
type place struct {
	pasted, uri, issuer, domain string
	apiServer, ca, kubeconfig   string
	credential                  authority.ClusterCredential
}

func (o *origin) place() place {
	if o.kind != kubernetes {
		return place{pasted: string(o.issuer.Keys), uri: o.issuer.KeysURI, issuer: o.issuer.Issuer, domain: o.issuer.TrustDomain}
	}
	c := o.cluster
	return place{string(c.Keys), c.KeysURI, "", "", c.APIServer, string(c.CA), string(c.Kubeconfig), c.Credential}
}

func (r *ring) pasted() bool { return r.place.pasted != "" }

// until is when the keys are too old to be believed.
func (r *ring) until() time.Time {
	switch {
	case r.pasted():
		return time.Time{}
	case r.fetchedAt.IsZero():
		return time.Unix(0, 0) // nothing has come yet
	}
	return r.fetchedAt.Add(maxStale)
}

var (
	errNoOutbound = errors.New("nothing is fetched here: paste the key set")
	errNoKeys     = errors.New("it has no key that can be used")
	errDiscovery  = errors.New("its discovery document cannot be read, or is another issuer's")
)

func (v *Verifier) newRing(o *origin, from place) *ring {
	r := &ring{place: from, class: o.String(), parse: jose.ParseKeySet}
	fetch := func(ctx context.Context, uri string, limit int) (outbound.Answer, error) {
		if v.Outbound == nil {
			return outbound.Answer{}, errNoOutbound
		}
		return v.Outbound.Get(ctx, uri, limit)
	}
	switch o.kind {
	case openID:
		r.class = "OpenID Connect"
	case spiffe:
		r.parse = jose.ParseBundle
	}
	switch {
	case from.uri != "":
		r.get = func(ctx context.Context) (outbound.Answer, error) { return fetch(ctx, from.uri, maxKeySet) }
	case o.kind == kubernetes:
		r.get = func(ctx context.Context) (outbound.Answer, error) {
			if v.APIKeys == nil {
				return outbound.Answer{}, errNoOutbound
			}
			body, err := v.APIKeys(ctx, o.cluster)
			return outbound.Answer{Body: body, MaxAge: -1}, err
		}
	default:
		r.get = func(ctx context.Context) (outbound.Answer, error) { return discover(ctx, from.issuer, fetch) }
	}
	return r
}

// discover fetches the key set that an issuer's discovery document names (OpenID Connect
// Discovery §4). The document must be about this very issuer (§4.3).
func discover(ctx context.Context, issuer string, fetch func(context.Context, string, int) (outbound.Answer, error)) (outbound.Answer, error) {
	answer, err := fetch(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", maxDiscovery)
	if err != nil {
		return outbound.Answer{}, err
	}
	document, err := jose.ParseClaims(answer.Body)
	if err != nil {
		return outbound.Answer{}, errDiscovery
	}
	says, _, err := document.String("issuer")
	uri, _, uriErr := document.String("jwks_uri")
	if err != nil || uriErr != nil || says != issuer {
		return outbound.Answer{}, errDiscovery
	}
	return fetch(ctx, uri, maxKeySet)
}

// paste reads a key set that is part of the registration.
func (v *Verifier) paste(r *ring) error {
	if !r.pasted() || r.known != nil {
		return nil
	}
	set, err := r.parse([]byte(r.place.pasted))
	if err == nil && len(set) == 0 {
		err = errNoKeys
	}
	if err != nil {
		return err
	}
	r.learn(set, 0)
	return nil
}

// learn replaces the keys. A key that was there before keeps its age.
func (r *ring) learn(set jose.KeySet, since uint64) {
	known := make([]knownKey, len(set))
	for i, key := range set {
		known[i] = knownKey{key, key.Thumbprint(), since}
		for _, old := range r.known {
			if old.thumbprint == known[i].thumbprint {
				known[i].since = old.since
			}
		}
	}
	r.known = known
}

// Run keeps key sets fresh until ctx ends, each in its own time: a slow issuer delays no other.
// Without it a set is fetched only when a token shows an unknown kid.
func (v *Verifier) Run(ctx context.Context) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		v.refresh()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-v.wake:
		}
	}
}

// refresh has every key set fetched that is older than its max-age.
func (v *Verifier) refresh() {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.Now()
	for _, o := range v.origins {
		if !now.Before(o.ring.freshUntil) {
			v.start(o, now)
		}
	}
}

// start has a key set fetched, unless that is under way or was tried a moment ago, and says
// whether it is under way.
func (v *Verifier) start(o *origin, now time.Time) bool {
	r := o.ring
	since := now.Sub(r.attemptedAt)
	switch {
	case r.pasted():
		return false
	case r.fetching:
		return true
	case !r.attemptedAt.IsZero() && since >= 0 && since < interval: // a clock that was set back blocks nothing
		return false
	}
	r.fetching, r.attemptedAt = true, now
	go v.fetch(o)
	return true
}

// fetch asks once, for all who wait and whoever is still there then.
func (v *Verifier) fetch(o *origin) {
	ctx, cancel := context.WithTimeout(context.Background(), outbound.Timeout)
	defer cancel()
	answer, err := o.ring.get(ctx)
	var set jose.KeySet
	if err == nil {
		set, err = o.ring.parse(answer.Body)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	r, before := o.ring, o.ring.problem
	r.fetching, r.problem = false, ""
	switch {
	case err != nil:
		r.problem = err.Error()[:min(len(err.Error()), maxProblem)]
	default: // also an empty set: its issuer has taken every key back
		now := v.Now()
		age := answer.MaxAge
		if age < 0 {
			age = defaultAge
		}
		v.sets++
		r.learn(set, v.sets)
		r.fetchedAt, r.freshUntil = now, now.Add(min(max(age, minAge), maxAge))
		if len(set) == 0 {
			r.problem = errNoKeys.Error()
		}
	}
	if r.problem != before {
		if r.problem != "" {
			v.Log.Warn("a key set cannot be used", "of", o.String(), "error", r.problem, "fetched_at", r.fetchedAt)
		} else {
			v.Log.Info("a key set can be used again", "of", o.String())
		}
	}
	v.settle()
}

// wait is a place among those who wait for key sets.
type wait struct {
	changed <-chan struct{}
	end     func()
}

// fetch has the key sets of these origins fetched that may be, and says what to wait for: nothing,
// if no answer is to be expected.
func (s *search) fetch(seen *view, missing []*origin) (*wait, *Refusal) {
	v := s.verifier
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.view.Load() != seen { // something came while we looked
		now := make(chan struct{})
		close(now)
		return &wait{now, func() {}}, nil
	}
	var on []*ring
	busy := false
	for _, o := range missing {
		switch under := o.ring.fetching || !s.asked && v.start(o, s.now); {
		case !under:
		case o.ring.waiting >= maxWaiting:
			busy = true
		default:
			o.ring.waiting++
			on = append(on, o.ring)
		}
	}
	s.asked = true
	switch {
	case len(on) > 0:
		return &wait{v.changed, func() {
			v.mu.Lock()
			defer v.mu.Unlock()
			for _, r := range on {
				r.waiting--
			}
		}}, nil
	case busy:
		return nil, unavailable.because(errBusy)
	}
	return nil, nil
}

package trust

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

// Use replaces what is registered. What stays keeps its keys, and its proofs stay remembered. An
// error changes nothing: a key set that cannot be read, two that could both claim a token.
func (v *Verifier) Use(clusters []authority.Cluster, issuers []authority.TrustedIssuer) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var origins []*origin
	var failed []error
	for _, c := range clusters {
		if c.Issuer == "" || len(c.Problems) > 0 {
			continue // only a place that tokens can be for, or off
		}
		origins = append(origins, v.origin(&origin{kind: kubernetes, iss: c.Issuer, cluster: c, accepts: c.Accepts}))
	}
	for _, t := range issuers {
		o := &origin{kind: openID, iss: t.Issuer, issuer: t, accepts: t.Accepts}
		if t.TrustDomain != "" {
			o.kind, o.iss = spiffe, spiffeScheme+t.TrustDomain
		}
		origins = append(origins, v.origin(o))
	}
	seen := map[string]*origin{}   // a name, or what a token is found by
	pasted := map[string]*origin{} // a key's thumbprint
	for _, o := range origins {
		names := []string{o.String()}
		if o.kind != kubernetes {
			names = append(names, o.iss)
		}
		for _, name := range names {
			if other, ok := seen[name]; ok {
				failed = append(failed, fmt.Errorf("%s and %s have the same name or issuer: a token could be of both", other, o))
			}
			seen[name] = o
		}
		if err := v.paste(o.ring); err != nil {
			failed = append(failed, fmt.Errorf("%s: its key set: %w", o, err))
		}
		if !o.ring.pasted() {
			continue
		}
		for _, key := range o.ring.known {
			if other, ok := pasted[key.thumbprint]; ok && other.ring.class != o.ring.class {
				failed = append(failed, fmt.Errorf("%s and %s have the same key %s: a token could be of both", other, o, shown(key.KeyID())))
			}
			pasted[key.thumbprint] = o
		}
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	v.origins = origins
	v.settle()
	select {
	case v.wake <- struct{}{}:
	default:
	}
	return nil
}

// origin is the one that is there already, if nothing of it has changed, or the new one with its
// ring, which is the one that is there already if the keys come from the same place.
func (v *Verifier) origin(o *origin) *origin {
	place := o.place()
	for _, old := range v.origins {
		if old.kind != o.kind || old.String() != o.String() || !reflect.DeepEqual(old.ring.place, place) {
			continue
		}
		if reflect.DeepEqual(old.cluster, o.cluster) && reflect.DeepEqual(old.issuer, o.issuer) {
			return old
		}
		o.ring = old.ring
		return o
	}
	o.ring = v.newRing(o, place)
	return o
}

// settle decides whose each key is, and shows the result. Where two clusters, or a cluster and an
// issuer, have one public key, a token could be of both. So it verifies for one of them only: for
// the one where it was pasted, since that was reviewed, or else for the one that had it first. A
// cluster that publishes another's keys gains nothing and takes nothing away. OpenID Connect
// issuers may share keys: the tenants of one provider do, and their iss tells them apart.
func (v *Verifier) settle() {
	type claim struct {
		class string
		since uint64
	}
	owners := map[string]claim{}
	for _, o := range v.origins {
		for _, key := range o.ring.known {
			if owner, ok := owners[key.thumbprint]; !ok || key.since < owner.since {
				owners[key.thumbprint] = claim{o.ring.class, key.since}
			}
		}
	}
	next := &view{
		byIssuer: map[string][]*origin{}, byDomain: map[string]*origin{}, clusters: map[string]*origin{}, issuers: map[string]*origin{}, keys: map[*origin]*keys{},
	}
	for _, o := range v.origins {
		var set jose.KeySet
		var shared []string
		for _, key := range o.ring.known {
			if owners[key.thumbprint].class == o.ring.class {
				set = append(set, key.PublicKey)
			} else {
				shared = append(shared, key.KeyID())
			}
		}
		if len(shared) > 0 && !slices.Equal(shared, o.ring.shared) {
			v.Log.Warn("keys that belong to another cluster or issuer are not used", "of", o.String(), "keys", shared)
		}
		o.ring.shared = shared
		// The same keys as before keep the same value: proofs that are remembered know it.
		if until := o.ring.until(); o.ring.keys == nil || !o.ring.keys.until.Equal(until) || !slices.EqualFunc(o.ring.keys.set, set, jose.PublicKey.Equal) {
			o.ring.keys = &keys{set, until}
		}
		next.keys[o] = o.ring.keys
		switch o.kind {
		case kubernetes:
			next.clusters[o.cluster.Name] = o
			next.byIssuer[o.iss] = append(next.byIssuer[o.iss], o)
		case openID:
			next.issuers[o.issuer.Name] = o
			next.byIssuer[o.iss] = append(next.byIssuer[o.iss], o)
		case spiffe:
			next.issuers[o.issuer.Name] = o
			next.byDomain[o.issuer.TrustDomain] = o
		}
	}
	v.view.Store(next)
	close(v.changed)
	v.changed = make(chan struct{})
}

// Status is what is known of a cluster or a trusted issuer.
type Status struct {
	KeyIDs        []string  // of the keys that verify
	FetchedAt     time.Time // zero for pasted keys, and before the first answer
	LastError     string    // why the last fetch brought nothing, or why a key is not used; empty when all is well
	LastRefusal   string    // why a token of it was refused
	LastRefusalAt time.Time
}

// Status is what is known of a cluster; IssuerStatus of a trusted issuer. Of one that is not registered it
// is the zero value.
func (v *Verifier) Status(cluster string) Status { return v.status(v.view.Load().clusters[cluster]) }

// IssuerStatus is what is known of a trusted issuer.
func (v *Verifier) IssuerStatus(name string) Status { return v.status(v.view.Load().issuers[name]) }

func (v *Verifier) status(o *origin) Status {
	if o == nil {
		return Status{}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	r := o.ring
	status := Status{FetchedAt: r.fetchedAt, LastError: r.problem, LastRefusal: r.refusal, LastRefusalAt: r.refusedAt}
	if status.LastError == "" && len(r.shared) > 0 {
		status.LastError = fmt.Sprintf("its keys %q are also another's, and verify nothing here", r.shared)
	}
	if r.keys.usable(v.Now()) {
		for _, key := range r.keys.set {
			status.KeyIDs = append(status.KeyIDs, key.KeyID())
		}
	}
	return status
}

// note keeps why a token was refused, for whoever looks at its origin. What anybody can bring
// about never replaces what only a bearer of an authentic token can.
func (v *Verifier) note(origins []*origin, refused *Refusal, authentic bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, o := range origins {
		if r := o.ring; authentic || !r.refusedAuthentic {
			r.refusal, r.refusedAt, r.refusedAuthentic = refused.Error(), v.Now(), authentic
		}
	}
}

// Keys is the key set of a cluster, for its mirror: what we have read, written by us, so that
// nothing else passes through. It is authority.ErrNotFound for a cluster that has no issuer here,
// and a *Refusal while no keys are known.
func (v *Verifier) Keys(cluster string) ([]byte, error) {
	view := v.view.Load()
	o, ok := view.clusters[cluster]
	if !ok {
		return nil, authority.ErrNotFound
	}
	keys := view.keys[o]
	if !keys.usable(v.Now()) {
		return nil, unavailable.because(reasonf("no keys of %s are known", o))
	}
	return keys.set.MarshalJSON()
}

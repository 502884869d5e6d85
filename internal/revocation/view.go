// Package revocation knows what is dead. Every node keeps the whole list in
// memory, since it is short: an entry lives no longer than what it ends. The
// database is the truth, and the Follower keeps the view at most moments
// behind it.
package revocation

import (
	"sync"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// View answers whether something has been ended. It is safe for concurrent use.
type View struct {
	mu     sync.RWMutex
	ended  map[name]time.Time // until when it must be remembered
	epochs map[name]epoch
}

type name struct {
	kind authority.RevocationKind
	key  string
}

type epoch struct{ notBefore, expires time.Time }

// NewView makes an empty view.
func NewView() *View {
	return &View{ended: map[name]time.Time{}, epochs: map[name]epoch{}}
}

// Apply takes revocations in. Applying one twice, or in any order, is the
// same as once: an epoch never moves back.
func (v *View) Apply(revocations ...authority.Revocation) {
	if len(revocations) == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range revocations {
		n := name{r.Kind, r.Key}
		if !r.Kind.IsEpoch() {
			if until, ended := v.ended[n]; !ended || r.ExpiresAt.After(until) {
				v.ended[n] = r.ExpiresAt
			}
			continue
		}
		if r.NotBefore.After(v.epochs[n].notBefore) {
			v.epochs[n] = epoch{r.NotBefore, r.ExpiresAt}
		}
	}
}

// Revoked says whether anything that a token or a grant depends on has ended.
func (v *View) Revoked(links []authority.Link) bool {
	_, ended := v.EndedBy(links)
	return ended
}

// EndedBy finds what has ended of that which a token or a grant depends on: the
// first in the order of links. NotBefore is known of an epoch only.
func (v *View) EndedBy(links []authority.Link) (authority.Revocation, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if len(v.ended) == 0 && len(v.epochs) == 0 {
		return authority.Revocation{}, false
	}
	for _, l := range links {
		if l.Kind.IsEpoch() {
			// What was made in the very millisecond of the epoch is dead too: which of
			// the two came first cannot be told.
			if e, set := v.epochs[name{l.Kind, l.Key}]; set && !l.Born.After(e.notBefore) {
				return authority.Revocation{Kind: l.Kind, Key: l.Key, NotBefore: e.notBefore, ExpiresAt: e.expires}, true
			}
		} else if until, ended := v.ended[name{l.Kind, l.Key}]; ended {
			return authority.Revocation{Kind: l.Kind, Key: l.Key, ExpiresAt: until}, true
		}
	}
	return authority.Revocation{}, false
}

// NewestEpoch is the newest "not before" of this client, this person and
// everything; zero for none. What was made at or before it is dead.
func (v *View) NewestEpoch(clientID, subjectID string) time.Time {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var newest time.Time
	for _, n := range []name{{authority.EpochEverything, ""}, {authority.EpochUser, subjectID}, {authority.EpochClient, clientID}} {
		if e := v.epochs[n]; e.notBefore.After(newest) {
			newest = e.notBefore
		}
	}
	return newest
}

// Forget drops what can no longer matter, so that the view does not grow.
func (v *View) Forget(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for n, until := range v.ended {
		if now.After(until) {
			delete(v.ended, n)
		}
	}
	for n, e := range v.epochs {
		if now.After(e.expires) {
			delete(v.epochs, n)
		}
	}
}

// Len is the number of entries held, for metrics.
func (v *View) Len() int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.ended) + len(v.epochs)
}

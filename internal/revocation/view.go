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
		if !r.IsEpoch() {
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

// Revoked says whether anything that the lineage hangs on has been ended.
func (v *View) Revoked(l authority.Lineage) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if len(v.ended) > 0 {
		if v.isEnded(authority.RevokeGrant, l.GrantID.String()) ||
			v.isEnded(authority.RevokeToken, l.TokenID.String()) ||
			v.isEnded(authority.RevokeSession, l.SessionID.String()) ||
			v.isEnded(authority.RevokeKey, l.KeyID) {
			return true
		}
	}
	if len(v.epochs) == 0 {
		return false
	}
	oldest := l.Granted
	if !l.SignedIn.IsZero() && (oldest.IsZero() || l.SignedIn.Before(oldest)) {
		oldest = l.SignedIn
	}
	return v.isOlder(authority.EpochEverything, "", oldest) ||
		v.isOlder(authority.EpochUser, l.Subject.ID, oldest) ||
		// A person who is still signed in may grant anew to a client whose older grants were ended.
		v.isOlder(authority.EpochClient, l.ClientID, l.Granted)
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

func (v *View) isEnded(kind authority.RevocationKind, key string) bool {
	if key == "" {
		return false
	}
	_, ended := v.ended[name{kind, key}]
	return ended
}

func (v *View) isOlder(kind authority.RevocationKind, key string, born time.Time) bool {
	e, ok := v.epochs[name{kind, key}]
	// What was made in the very millisecond of the epoch is dead too: which of
	// the two came first cannot be told.
	return ok && !born.After(e.notBefore)
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

package revocation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// EndingStore is what a store must be able to end.
type EndingStore interface {
	authority.GrantStore
	authority.SessionStore
	authority.RevocationStore
	authority.DeclarationStore
}

// Endings is the one way to end things. Every method makes the transition in
// the store, puts it into this node's view, and writes the journal, in this
// order: what takes access away must not wait for a disk that is full. Once
// begun, a caller who hangs up does not stop it half-way. How long an end is
// remembered is computed here and nowhere else.
//
// After an error the caller asks again, and the end is on record then: what is
// found ended is recorded once more, as a repeat, since the first record may
// have failed, or the store's answer got lost. It is omitted only where this
// node has put that end on record itself, and remembers it.
type Endings struct {
	Store    EndingStore
	Follower *Follower
	Record   func(ctx context.Context, e authority.Event) error
	Now      func() time.Time
	// Ended is told what this node has ended, once and at once, also where the journal
	// cannot be: for whoever tells others of it. It must not take long. Nil for nobody.
	Ended func([]authority.Revocation)

	recorded recorded
}

// remember is how long the last token may live after the last moment at which
// it can have been issued.
const remember = authority.MaxTokenTTL + authority.Leeway

// rememberExchanged is the same for what comes from evidence: the token of an
// exchange lives no longer than a trust policy may say.
const rememberExchanged = authority.MaxAccessTTL + authority.Leeway

// EndGrant ends a grant and all that came from it. It says whether this call
// did: of several callers one does.
func (e *Endings) EndGrant(ctx context.Context, id authority.ID, event authority.Event) (bool, error) {
	return e.end(ctx, name{authority.RevokeGrant, id.String()}, event, func(ctx context.Context, how authority.Ending) ([]authority.Revocation, error) {
		return e.Store.EndGrant(ctx, id, how)
	})
}

// EndSession ends a browser session and what depends on it.
func (e *Endings) EndSession(ctx context.Context, id authority.ID, event authority.Event) (bool, error) {
	return e.end(ctx, name{authority.RevokeSession, id.String()}, event, func(ctx context.Context, how authority.Ending) ([]authority.Revocation, error) {
		return e.Store.EndSession(ctx, id, how)
	})
}

// EndEvidence ends evidence for good and every grant that depends on it. It says
// whether this call ended a grant. proofUntil is until when proof from the evidence
// could still come; zero for now. Evidence that no grant depends on ends without a
// record: pods come and go, and nobody has lost anything.
func (e *Endings) EndEvidence(ctx context.Context, evidence authority.Evidence, proofUntil time.Time, event authority.Event) (bool, error) {
	ctx, cancel := authority.Settle(ctx)
	defer cancel()
	how := authority.Ending{Reason: event.Reason, At: e.Now(), Remember: rememberExchanged}
	if evidence.Kind == authority.EvidenceSession {
		how.Remember = remember
	}
	ended, err := e.Store.EndEvidence(ctx, evidence, proofUntil, how)
	if err != nil {
		return false, err
	}
	e.apply(ended...)
	what := name{evidence.Link().Kind, evidence.Key}
	if len(ended) == 1 && ended[0].Kind == what.kind {
		e.recorded.add(what) // nor does anybody who asks again put it on record
		return false, nil
	}
	return len(ended) > 0, e.recordEnd(ctx, what, event, len(ended) == 0)
}

// EndToken ends one access token, which would have expired at expires.
func (e *Endings) EndToken(ctx context.Context, id authority.ID, expires time.Time, event authority.Event) error {
	return e.revoke(ctx, event, func(at time.Time) authority.Revocation {
		return authority.Revocation{Kind: authority.RevokeToken, Key: id.String(), NotBefore: at, ExpiresAt: expires.Add(authority.Leeway)}
	})
}

// EndKey ends every token that a signing key has signed.
func (e *Endings) EndKey(ctx context.Context, kid string, event authority.Event) error {
	return e.revoke(ctx, event, func(at time.Time) authority.Revocation {
		return authority.Revocation{Kind: authority.RevokeKey, Key: kid, NotBefore: at, ExpiresAt: at.Add(remember)}
	})
}

// SetEpoch ends everything of a user, a client, a workload, or at all, that is
// older than the moment of this call. It is remembered for the longest life of
// a grant, whatever the configuration says today.
func (e *Endings) SetEpoch(ctx context.Context, kind authority.RevocationKind, key string, event authority.Event) error {
	event.Type = authority.EventEpochSet
	return e.revoke(ctx, event, func(at time.Time) authority.Revocation {
		return authority.Revocation{Kind: kind, Key: key, NotBefore: at, ExpiresAt: at.Add(authority.RememberEpoch)}
	})
}

// Declare puts d in force, and ends whoever is gone from what was in force or
// has changed there: see authority.DeclarationStore. It returns d as it is in
// force, also with ErrUnrecorded.
func (e *Endings) Declare(ctx context.Context, d authority.Declaration, ran int64) (authority.Declaration, error) {
	ctx, cancel := authority.Settle(ctx)
	defer cancel()
	d.At = e.Now()
	d, ended, err := e.Store.Declare(ctx, d, ran)
	if err != nil {
		return d, err
	}
	e.apply(ended...)
	var failed error
	for _, r := range ended {
		why := "removed from the configuration"
		if _, there := d.Digests[r.Kind][r.Key]; there {
			why = "changed in the configuration"
			if r.Kind == authority.EpochUser || r.Kind == authority.EpochClient && !strings.HasPrefix(r.Key, authority.PolicyClientPrefix) {
				why = "disabled or enabled in the configuration, or a new password or a group less there"
			}
		}
		failed = errors.Join(failed, e.record(ctx, authority.Event{
			Type: authority.EventEpochSet, At: r.NotBefore, Target: string(r.Kind) + " " + r.Key, Reason: why,
		}))
	}
	return d, failed
}

func (e *Endings) end(ctx context.Context, what name, event authority.Event, transition func(context.Context, authority.Ending) ([]authority.Revocation, error)) (bool, error) {
	ctx, cancel := authority.Settle(ctx)
	defer cancel()
	ended, err := transition(ctx, authority.Ending{Reason: event.Reason, At: e.Now(), Remember: remember})
	if err != nil {
		return false, err
	}
	e.apply(ended...)
	return len(ended) > 0, e.recordEnd(ctx, what, event, len(ended) == 0)
}

func (e *Endings) revoke(ctx context.Context, event authority.Event, entry func(at time.Time) authority.Revocation) error {
	ctx, cancel := authority.Settle(ctx)
	defer cancel()
	asked := entry(e.Now())
	written, err := e.Store.Revoke(ctx, asked)
	if err != nil {
		return err
	}
	e.apply(written)
	if asked.Kind.IsEpoch() { // each is another one
		return e.record(ctx, event)
	}
	what := name{asked.Kind, asked.Key}
	older := written.NotBefore.Before(asked.NotBefore.Truncate(time.Millisecond))
	return e.recordEnd(ctx, what, event, older || e.recorded.has(what))
}

// apply puts what this node has ended into its view, and tells of it.
func (e *Endings) apply(ended ...authority.Revocation) {
	e.Follower.apply(ended...)
	if e.Ended != nil && len(ended) > 0 {
		e.Ended(ended)
	}
}

// ErrUnrecorded says that something has ended, and that the journal could not
// be told.
var ErrUnrecorded = errors.New("it has ended, but that could not be recorded")

func (e *Endings) recordEnd(ctx context.Context, what name, event authority.Event, repeat bool) error {
	if repeat {
		if e.recorded.has(what) {
			return nil
		}
		event.Reason += repeated
	}
	if err := e.record(ctx, event); err != nil {
		return err
	}
	e.recorded.add(what)
	return nil
}

// repeated marks the record of what had ended before.
const repeated = " (again: it had ended before)"

func (e *Endings) record(ctx context.Context, event authority.Event) error {
	if err := e.Record(ctx, event); err != nil {
		return fmt.Errorf("%w: %w", ErrUnrecorded, err)
	}
	return nil
}

// recorded are ends that this node has put on record, so that nobody fills the
// journal by ending the same thing in a loop.
type recorded struct {
	mu   sync.Mutex
	ends map[name]struct{}
}

const maxRecorded = 1 << 13

func (r *recorded) has(what name) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.ends[what]
	return ok
}

// add forgets all others when there are too many: a repeat too many does no harm.
func (r *recorded) add(what name) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ends == nil || len(r.ends) >= maxRecorded {
		r.ends = map[name]struct{}{}
	}
	r.ends[what] = struct{}{}
}

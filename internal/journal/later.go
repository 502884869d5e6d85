package journal

import (
	"strings"
	"sync"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

const (
	maxLater    = 256 // different refusals that are told apart at one time
	laterWindow = time.Minute
)

// later bounds what callers whom nobody vouches for can make us write: the first of
// equal refusals is written at once, the rest of the minute as one record with
// their count, and what exceeds maxLater as one record without details.
//
// Its lock is Journal.mu's neighbour, never taken inside it.
type later struct {
	mu      sync.Mutex
	seen    map[laterKey]*repeated
	omitted uint64
	since   time.Time // when the first of omitted came
}

type laterKey struct {
	typ                            authority.EventType
	client, error_, reason, remote string
}

type repeated struct {
	from, last time.Time
	count      uint64 // those not yet written
}

// AppendLater records the refusal of an anonymous caller with the next flush. It
// does not wait and cannot fail: nobody got anything. Equal ones (type, client,
// error, reason, remote) within a minute become one record with a count.
func (j *Journal) AppendLater(e authority.Event) {
	now := j.now()
	if e.At.IsZero() {
		e.At = now
	}
	key := laterKey{e.Type, bound(e.ClientID, maxName), bound(e.Error, maxShort), bound(e.Reason, maxReason), bound(e.Remote, maxShort)}
	l := &j.later
	l.mu.Lock()
	if r := l.seen[key]; r != nil {
		r.count++
		r.last = e.At
		l.mu.Unlock()
		return
	}
	if len(l.seen) >= maxLater {
		if l.omitted == 0 {
			l.since = now
		}
		l.omitted++
		l.mu.Unlock()
		return
	}
	// The strings may be parts of a large request, which must not live as long as the key.
	key.client, key.error_ = strings.Clone(key.client), strings.Clone(key.error_)
	key.reason, key.remote = strings.Clone(key.reason), strings.Clone(key.remote)
	l.seen[key] = &repeated{from: now, last: e.At}
	l.mu.Unlock()
	_, _ = j.enqueue(&e, 1)
}

// flushLater writes the counts whose minute has passed; all of them at the end.
func (j *Journal) flushLater(all bool) {
	now := j.now()
	l := &j.later
	l.mu.Lock()
	var due []authority.Event
	var counts []uint64
	for k, r := range l.seen {
		if !all && now.Sub(r.from) < laterWindow {
			continue
		}
		if r.count > 0 {
			due = append(due, authority.Event{Type: k.typ, At: r.last, ClientID: k.client, Error: k.error_, Reason: k.reason, Remote: k.remote})
			counts = append(counts, r.count)
		}
		delete(l.seen, k)
	}
	if l.omitted > 0 && (all || now.Sub(l.since) >= laterWindow) {
		due = append(due, authority.Event{Type: TypeOmitted, At: now, Reason: "refusals of anonymous callers, too many different ones to list"})
		counts = append(counts, l.omitted)
		l.omitted = 0
	}
	l.mu.Unlock()
	for i := range due {
		_, _ = j.enqueue(&due[i], counts[i])
	}
}

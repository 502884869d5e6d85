package journal

import (
	"strings"
	"sync"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal/format"
)

const (
	maxTallies  = 256 // different refusals of one type that are told apart at one time
	tallyWindow = time.Minute
)

// tally bounds what anonymous callers can make us write: the first of
// equal refusals is written at once, the rest of the minute as one record with
// their count, and what exceeds maxTallies as one record without details. Each type
// has room of its own, so that a flood of one does not hide the other.
//
// Its lock is Journal.mu's neighbour, never taken inside it.
type tally struct {
	mu    sync.Mutex
	types map[authority.EventType]*refusals // the types are ours, and few
}

type refusals struct {
	seen    map[tallyKey]*repeated
	omitted uint64
	since   time.Time // when the first of omitted came
}

// tallyKey is what equal refusals share. Not the reason: it may repeat what the
// caller sent, who could then make every refusal a different one.
type tallyKey struct {
	client, subject, error_, remote string
}

type repeated struct {
	first      authority.Event
	from, last time.Time
	count      uint64 // those not yet written
}

// Tally records the refusal of an anonymous caller with the next flush. It
// does not wait and cannot fail: nobody got anything. Equal ones (type, client,
// subject, error, remote) within a minute become one record with a count.
func (j *Journal) Tally(e authority.Event) {
	now := j.now()
	if e.At.IsZero() {
		e.At = now
	}
	key := tallyKey{format.Bound(e.ClientID, format.MaxName), format.Bound(e.Subject.ID, format.MaxName), format.Bound(e.Error, format.MaxShort), format.Bound(e.Remote, format.MaxShort)}
	j.tally.mu.Lock()
	l := j.tally.types[e.Type]
	if l == nil {
		l = &refusals{seen: map[tallyKey]*repeated{}}
		j.tally.types[e.Type] = l
	}
	if r := l.seen[key]; r != nil {
		r.count++
		r.last = e.At
		if format.Bound(e.Reason, format.MaxReason) != r.first.Reason {
			r.first.Reason = "" // the record counts several reasons, and names none of them
		}
		j.tally.mu.Unlock()
		return
	}
	if len(l.seen) >= maxTallies {
		if l.omitted == 0 {
			l.since = now
		}
		l.omitted++
		j.tally.mu.Unlock()
		return
	}
	// The strings may be parts of a large request, which must not live as long as the key.
	key = tallyKey{strings.Clone(key.client), strings.Clone(key.subject), strings.Clone(key.error_), strings.Clone(key.remote)}
	l.seen[key] = &repeated{from: now, last: e.At, first: authority.Event{
		Type: e.Type, ClientID: key.client, Error: key.error_, Remote: key.remote,
		Subject: authority.Subject{Issuer: e.Subject.Issuer, ID: key.subject, Kind: e.Subject.Kind},
		Reason:  strings.Clone(format.Bound(e.Reason, format.MaxReason)),
	}}
	j.tally.mu.Unlock()
	_, _ = j.enqueue(&e, 1)
}

// flushTallies writes the counts whose minute has passed; all of them at the end.
func (j *Journal) flushTallies(all bool) {
	now := j.now()
	j.tally.mu.Lock()
	var due []authority.Event
	var counts []uint64
	for typ, l := range j.tally.types {
		for k, r := range l.seen {
			if !all && now.Sub(r.from) < tallyWindow {
				continue
			}
			if r.count > 0 {
				r.first.At = r.last
				due = append(due, r.first)
				counts = append(counts, r.count)
			}
			delete(l.seen, k)
		}
		if l.omitted > 0 && (all || now.Sub(l.since) >= tallyWindow) {
			due = append(due, authority.Event{Type: authority.EventOmitted, At: now, Reason: string(typ) + " of anonymous callers, too many different ones to list"})
			counts = append(counts, l.omitted)
			l.omitted = 0
		}
	}
	j.tally.mu.Unlock()
	for i := range due {
		_, _ = j.enqueue(&due[i], counts[i])
	}
}

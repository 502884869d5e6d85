package password

import (
	"context"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Caller says for whom a password is checked.
type Caller struct {
	// Known callers go first: they have proved before who they are. All others are
	// strangers, and have no more than a small part of the machine.
	Known bool
	// Key is who pays: an account, or a network. Where many wait, each key gets
	// its turn, so whoever asks a lot waits for themselves.
	Key string
}

const (
	parallel       = 2           // hashes at once: each holds 19 MiB and a core
	strangersAtMax = 1           // of them for strangers: so a known caller never waits for one
	maxWaiting     = 32          // callers that wait, of each kind
	settle         = time.Second // quiet time after which memory goes back to the system

	// Hashes a second for each core, once burst have run at full speed. One takes
	// about 30 ms of a core: a flood of strangers has a sixteenth of the machine, and
	// all sign-ins together not more than about half.
	strangersPerCore = 2
	knownPerCore     = 16
	burst            = 16
)

// queue decides who is next. What it admits is bounded, and what it refuses
// costs nearly nothing.
type queue struct {
	mu      sync.Mutex
	running int
	lanes   [2]lane // in order of precedence
	timing  bool
	tidy    func()
	now     func() time.Time
	after   func(time.Duration, func())
}

// lane are the callers of one kind.
type lane struct {
	atMost  int
	perSec  float64
	credit  float64 // hashes that may begin now
	since   time.Time
	running int

	waiting map[string][]*waiter
	turns   []string // the keys of waiting, whose turn is next first
	count   int
}

type waiter struct {
	key    string
	weight float64
	answer chan error // nil: go ahead
}

var running = newQueue(time.Now, func(d time.Duration, f func()) { time.AfterFunc(d, f) })

func newQueue(now func() time.Time, after func(time.Duration, func())) *queue {
	cores := float64(runtime.GOMAXPROCS(0))
	q := &queue{now: now, after: after, lanes: [2]lane{
		{atMost: parallel, perSec: knownPerCore * cores},
		{atMost: strangersAtMax, perSec: strangersPerCore * cores},
	}}
	for i := range q.lanes {
		q.lanes[i].credit, q.lanes[i].since, q.lanes[i].waiting = burst, now(), map[string][]*waiter{}
	}
	// After every burst of hashes: each leaves 19 MiB of garbage, which the
	// collector alone would keep for minutes.
	timer := time.AfterFunc(settle, debug.FreeOSMemory)
	timer.Stop()
	q.tidy = func() { timer.Reset(settle) }
	return q
}

// acquire waits for its turn. ErrBusy if too many wait already.
func (q *queue) acquire(ctx context.Context, c Caller, weight float64) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l := &q.lanes[1]
	if c.Known {
		l = &q.lanes[0]
	}
	w := &waiter{c.Key, weight, make(chan error, 1)}
	q.mu.Lock()
	joined := l.join(w)
	q.dispatch()
	q.mu.Unlock()
	if !joined {
		return nil, ErrBusy
	}
	select {
	case err := <-w.answer:
		if err != nil {
			return nil, err
		}
		return func() { q.release(l) }, nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	left := l.leave(w)
	q.mu.Unlock()
	if !left && <-w.answer == nil { // admitted in this very moment
		q.release(l)
	}
	return nil, ctx.Err()
}

func (q *queue) release(l *lane) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	l.running--
	q.dispatch()
	q.tidy()
}

// dispatch lets in whoever is next, and comes back when there is credit again.
func (q *queue) dispatch() {
	now := q.now()
	for i := range q.lanes {
		l := &q.lanes[i]
		l.earn(now)
		for l.count > 0 && l.credit > 0 && l.running < l.atMost && q.running < parallel {
			w := l.next()
			l.credit -= w.weight
			l.running++
			q.running++
			w.answer <- nil
		}
		if l.count > 0 && l.credit <= 0 && !q.timing {
			q.timing = true
			q.after(time.Duration((-l.credit/l.perSec)*float64(time.Second))+time.Millisecond, func() {
				q.mu.Lock()
				defer q.mu.Unlock()
				q.timing = false
				q.dispatch()
			})
		}
	}
}

func (l *lane) earn(now time.Time) {
	l.credit = min(burst, l.credit+now.Sub(l.since).Seconds()*l.perSec)
	l.since = now
}

// join puts a caller into the line. If the line is full, the newest caller of
// the key with the most of them loses its place, unless that is this key.
func (l *lane) join(w *waiter) bool {
	if l.count >= maxWaiting {
		most := ""
		for key, waiting := range l.waiting {
			if len(waiting) > len(l.waiting[most]) {
				most = key
			}
		}
		if len(l.waiting[most]) < len(l.waiting[w.key])+2 {
			return false
		}
		newest := l.waiting[most][len(l.waiting[most])-1]
		l.leave(newest)
		newest.answer <- ErrBusy
	}
	if len(l.waiting[w.key]) == 0 {
		l.turns = append(l.turns, w.key)
	}
	l.waiting[w.key] = append(l.waiting[w.key], w)
	l.count++
	return true
}

// next takes the oldest caller of the key whose turn it is.
func (l *lane) next() *waiter {
	key := l.turns[0]
	w := l.waiting[key][0]
	l.leave(w)
	if len(l.waiting[key]) > 0 { // to the end of the row
		l.turns = append(l.turns[1:], key)
	}
	return w
}

// leave takes a caller out of the line, and says whether it was in it.
func (l *lane) leave(w *waiter) bool {
	at := slices.Index(l.waiting[w.key], w)
	if at < 0 {
		return false
	}
	l.waiting[w.key] = slices.Delete(l.waiting[w.key], at, at+1)
	if len(l.waiting[w.key]) == 0 {
		delete(l.waiting, w.key)
		l.turns = slices.DeleteFunc(l.turns, func(key string) bool { return key == w.key })
	}
	l.count--
	return true
}

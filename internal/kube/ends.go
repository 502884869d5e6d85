package kube

import (
	"context"
	"sync"
	"time"
)

const (
	// endsAtOnce is how many ends are under way together: each waits for a disk.
	endsAtOnce = 8
	// retrySoonest and retryLatest bound how long a failed end waits: when the
	// database comes back, the pods that died meanwhile are ended within a second.
	retrySoonest = 25 * time.Millisecond
	retryLatest  = 250 * time.Millisecond
)

// ends are the ends that wait to be told. They begin in the order in which they
// were noticed, and none is dropped while its watch runs.
type ends struct {
	mu      sync.Mutex
	waiting []end
	running map[string]time.Time // uid -> when it was noticed
	done    int64
	failure error
	more    chan struct{}
	works   chan struct{} // closed when one end succeeds, for those that have failed
}

func newEnds() *ends {
	return &ends{running: map[string]time.Time{}, more: make(chan struct{}, endsAtOnce), works: make(chan struct{})}
}

func (q *ends) add(list ...end) {
	if len(list) == 0 {
		return
	}
	q.mu.Lock()
	q.waiting = append(q.waiting, list...)
	q.mu.Unlock()
	for range min(len(list), endsAtOnce) {
		select {
		case q.more <- struct{}{}:
		default:
		}
	}
}

func (q *ends) take() (e end, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return e, false
	}
	e = q.waiting[0]
	if q.waiting = q.waiting[1:]; len(q.waiting) == 0 {
		q.waiting = nil // lets go of the memory
	}
	q.running[e.uid] = e.noticed
	return e, true
}

// work tells of ends until ctx ends.
func (q *ends) work(ctx context.Context, tell func(context.Context, end) error) {
	var workers sync.WaitGroup
	defer workers.Wait()
	for range endsAtOnce {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-q.more:
				}
				for e, ok := q.take(); ok; e, ok = q.take() {
					if !q.insist(ctx, e, tell) {
						return
					}
				}
			}
		})
	}
}

// insist tells of one end until it succeeds. It says false if ctx ended before.
func (q *ends) insist(ctx context.Context, e end, tell func(context.Context, end) error) bool {
	for wait := retrySoonest; ; wait = min(2*wait, retryLatest) {
		q.mu.Lock()
		works := q.works
		q.mu.Unlock()
		err := tell(ctx, e)
		q.mu.Lock()
		if err == nil {
			q.done++
			delete(q.running, e.uid)
			if q.failure != nil {
				close(q.works)
				q.works = make(chan struct{})
			}
		}
		q.failure = err
		q.mu.Unlock()
		if err == nil {
			return true
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-works: // what fails may be over; one that always fails must not hold up the others
			timer.Stop()
		case <-timer.C:
		}
	}
}

// look gives how many were told, how many wait, since when the oldest does, and why.
func (q *ends) look() (done int64, waiting int, oldest time.Time, failure error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) > 0 {
		oldest = q.waiting[0].noticed
	}
	for _, at := range q.running {
		if oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	return q.done, len(q.waiting) + len(q.running), oldest, q.failure
}

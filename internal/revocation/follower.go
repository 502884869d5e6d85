package revocation

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

const (
	pollEvery = 250 * time.Millisecond
	pageSize  = 1000
	// overlap is for how long sequence numbers are read again: a transaction
	// that took its number early may commit late, but not later than the
	// database's own time limits allow.
	overlap = 30 * time.Second
	// recent is what is read again at each wake-up: two transactions of one moment
	// commit in any order. Reading all of the overlap each time would cost more than
	// anything else where pods end by the hundred. That is for every lookBackEvery-th
	// poll, so what commits later than recent is heard within half a second.
	recent        = time.Second
	lookBackEvery = 2
	// staleAfter is how long a view may go without hearing from the database
	// before the node must say that it does not know what is dead.
	staleAfter = time.Second
)

// ErrStale says that the view may be missing revocations of other nodes.
var ErrStale = errors.New("the revocation list has not been refreshed for too long")

// Follower keeps a View up to date with the database. What this node ends
// itself is in the view at once: see Endings.
type Follower struct {
	View  *View
	Store authority.RevocationStore
	Now   func() time.Time
	Log   *slog.Logger

	// Applied is called with every new entry, for what else must react at
	// once: a removed key, for one. Nil for nobody.
	Applied func([]authority.Revocation)

	heard  atomic.Pointer[time.Time] // the last successful read; keeps the monotonic clock
	mu     sync.Mutex                // one reading at a time; guards what follows
	full   time.Time                 // the last successful read of the whole overlap
	marks  []mark                    // where the list stood, oldest first
	seen   map[int64]struct{}        // what the overlap held the last time
	sweeps int
}

// mark is where the list stood at a moment.
type mark struct {
	at  time.Time
	seq int64
}

// apply takes entries into the view.
func (f *Follower) apply(revocations ...authority.Revocation) {
	f.View.Apply(revocations...)
	if f.Applied != nil && len(revocations) > 0 {
		f.Applied(revocations)
	}
}

// Fresh fails when this node cannot know what other nodes have revoked.
func (f *Follower) Fresh() error {
	if f.heard.Load() == nil || f.Lag() > staleAfter {
		return ErrStale
	}
	return nil
}

// Lag is for how long this node has not heard from the database. Load must have
// succeeded.
func (f *Follower) Lag() time.Duration { return f.Now().Sub(*f.heard.Load()) }

// Run follows the list until ctx ends. wake says that there may be news; a
// missed one costs at most pollEvery.
func (f *Follower) Run(ctx context.Context, wake <-chan struct{}) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	failing := false
	for polls := 0; ; {
		back := recent
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-ticker.C:
			if polls++; polls%lookBackEvery == 0 {
				back = overlap
			}
		}
		err := f.load(ctx, back)
		if err != nil && !failing && ctx.Err() == nil {
			f.Log.Error("revocations cannot be read", "error", err)
		}
		if err == nil && failing {
			f.Log.Info("revocations are read again")
		}
		failing = err != nil
		if f.sweeps++; f.sweeps%120 == 0 {
			f.View.Forget(f.Now())
		}
	}
}

// Load reads what is new, and the whole list at first. A node must not serve
// before this succeeded.
func (f *Follower) Load(ctx context.Context) error { return f.load(ctx, overlap) }

// load reads what is new, and again what took its number at most back ago.
func (f *Follower) load(ctx context.Context, back time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.Now()
	if last := f.heard.Load(); last != nil && asked.Round(0).Before(last.Round(0)) {
		f.full, f.marks, f.seen = time.Time{}, nil, nil // the clock was set back: what was over by it may not be over
	}
	if f.full.IsZero() {
		back = overlap
	}
	after := f.start(back)
	seen := make(map[int64]struct{})
	for {
		page, err := f.Store.Revocations(ctx, after, pageSize)
		if err != nil {
			return err
		}
		var news []authority.Revocation
		for _, r := range page {
			after = r.Seq
			seen[r.Seq] = struct{}{}
			if _, known := f.seen[r.Seq]; !known && !asked.After(r.ExpiresAt) {
				news = append(news, r)
			}
		}
		f.apply(news...)
		if len(page) < pageSize {
			break
		}
	}
	if back < overlap {
		maps.Copy(f.seen, seen)
	} else {
		f.full, f.seen = asked, seen // only the overlap is ever asked for again
	}
	if n := len(f.marks); n == 0 || f.marks[n-1].seq < after {
		f.marks = append(f.marks, mark{asked, after})
	}
	f.heard.Store(&asked)
	return nil
}

// start is where the list stood that long before the last reading of its kind: what has
// become visible since then had taken its number later than that, or is for a look
// further back.
func (f *Follower) start(back time.Duration) int64 {
	if len(f.marks) == 0 {
		return 0
	}
	last := *f.heard.Load()
	if back == overlap {
		last = f.full
		for len(f.marks) > 1 && last.Sub(f.marks[1].at) >= overlap {
			f.marks = f.marks[1:]
		}
	}
	for i := len(f.marks) - 1; i >= 0; i-- {
		if last.Sub(f.marks[i].at) >= back {
			return f.marks[i].seq
		}
	}
	return 0
}

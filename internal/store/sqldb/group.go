package sqldb

import (
	"context"
	"sync"
	"sync/atomic"
)

// maxGroup bounds what one commit carries, and so how long a caller waits for
// the others in it.
const maxGroup = 256

// op is one transition that waits for its commit.
type op struct {
	ctx  context.Context
	key  string // the row that it locks first: groups are sorted by it, so that two nodes never wait for each other
	sql  string
	args []any
	scan func(row) error // for a statement that returns a row
	fn   func(tx) error  // instead of sql: several statements (SQLite only)

	rows   int64 // touched, or returned
	answer error // what fn refused with: an answer of the store, nothing was written
	err    error // the storage failed
	done   chan struct{}

	// taken is won once: by the committer that will run it, or by the caller
	// who leaves before, and then nobody runs it.
	taken atomic.Bool
}

func newOp(ctx context.Context, key, sql string, args []any) *op {
	return &op{ctx: ctx, key: key, sql: sql, args: args, done: make(chan struct{})}
}

// groups hands what its callers submit to its committers, as many at once as
// are waiting. It never waits for more to come: while one commit is under way
// the next group gathers by itself.
type groups struct {
	queue   chan *op
	closing chan struct{}
	once    sync.Once
	workers sync.WaitGroup
	stopped chan struct{}
}

func newGroups(committers int, commit func([]*op)) *groups {
	g := &groups{queue: make(chan *op, 4*maxGroup), closing: make(chan struct{}), stopped: make(chan struct{})}
	for range committers {
		g.workers.Go(func() { g.work(commit) })
	}
	return g
}

// submit returns once o has been answered. A caller whose ctx ends may leave
// while o still waits for its turn, and then it is never run. Once a committer
// has it, its answer is waited for: who is told of a failure could not record
// what was committed, and o writes to what the caller reads.
func (g *groups) submit(ctx context.Context, o *op) error {
	select {
	case <-g.closing:
		return errClosed
	default:
	}
	select {
	case g.queue <- o:
	case <-ctx.Done():
		return ctx.Err()
	case <-g.closing:
		return errClosed
	}
	select {
	case <-o.done:
	case <-ctx.Done():
		if o.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		<-o.done
	case <-g.stopped:
		select {
		case <-o.done:
		default:
			return errClosed
		}
	}
	if o.err != nil {
		return o.err
	}
	return o.answer
}

func (g *groups) work(commit func([]*op)) {
	group := make([]*op, 0, maxGroup)
	for {
		group = group[:0]
		select {
		case o := <-g.queue:
			group = append(group, o)
		case <-g.closing:
			// What had been queued before the close is still answered.
			select {
			case o := <-g.queue:
				group = append(group, o)
			default:
				return
			}
		}
		for more := true; more && len(group) < maxGroup; {
			select {
			case o := <-g.queue:
				group = append(group, o)
			default:
				more = false
			}
		}
		live := group[:0]
		for _, o := range group {
			if o.ctx.Err() == nil && o.taken.CompareAndSwap(false, true) { // else its caller leaves, or has left
				live = append(live, o)
			}
		}
		if len(live) == 0 {
			continue
		}
		commit(live)
		for i, o := range live {
			close(o.done)
			live[i] = nil
		}
	}
}

// close answers what is queued and stops.
func (g *groups) close() {
	g.once.Do(func() {
		close(g.closing)
		g.workers.Wait()
		close(g.stopped)
	})
}

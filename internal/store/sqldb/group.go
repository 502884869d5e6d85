package sqldb

import (
	"context"
	"sync"
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

// submit returns once o has been answered. After an early return because ctx
// ended, o may still be committed: nobody may look at it any more.
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
		return ctx.Err()
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
			if err := o.ctx.Err(); err != nil { // its caller has left
				o.err = err
				close(o.done)
				continue
			}
			live = append(live, o)
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

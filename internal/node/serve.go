package node

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/server"
)

const (
	drainTimeout = 20 * time.Second
	// Connections at a time. One that waits costs about 20 KiB, with TLS 50.
	maxPublic = 4096
	maxAdmin  = 256
)

// Serve runs the node until ctx ends, then drains: it stops listening, takes its
// leave of connections that are open, and lets requests finish. It calls started, if not nil, once requests are answered,
// and ends if that fails.
func (n *Node) Serve(ctx context.Context, ln Listeners, started func() error) error {
	n.served = true
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	background := n.background(work)
	public := server.NewHTTPServer(n.public, maxPublic, n.metrics.Connections("public"))
	private := server.NewHTTPServer(n.admin, maxAdmin, n.metrics.Connections("admin"))
	private.WriteTimeout = 0 // the journal can be followed
	private.BaseContext = func(net.Listener) context.Context { return ctx }
	failed := make(chan error, 2)
	go func() { failed <- public.Serve(ln.Public) }()
	go func() { failed <- private.Serve(ln.Admin) }()
	// work and not ctx: a service that is stopped in its first moment stops well.
	err := n.record(work, authority.Event{Type: authority.EventServiceStarted, Reason: "version " + n.version.Version})
	cfg := n.config()
	n.log.Info("serving", "issuer", cfg.Issuer, "public", ln.Public.Addr().String(), "admin", ln.Admin.Addr().String(),
		"storage", cfg.Storage.URL, "version", n.version.Version)
	if err == nil && started != nil {
		err = started()
	}
	if err == nil {
		select {
		case err = <-failed:
		case <-ctx.Done():
			n.log.Info("stopping: requests that are under way are finished first")
		}
	}
	drain, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	n.leave(drain, public, private)
	err = errors.Join(err, public.Shutdown(drain), private.Shutdown(drain))
	stop()
	background.Wait() // whatever it changes last is still recorded
	return errors.Join(err, n.record(drain, authority.Event{Type: authority.EventServiceStopped}))
}

// leave stops listening, and waits for callers whose connections are open for as
// long as Options say.
func (n *Node) leave(ctx context.Context, servers ...*server.HTTPServer) {
	ctx, cancel := context.WithTimeout(ctx, n.patience)
	defer cancel()
	var group sync.WaitGroup
	for _, s := range servers {
		group.Go(func() { s.Leave(ctx) })
	}
	group.Wait()
}

// background runs what a node does by itself until ctx ends. The returned
// group is done when all of it has ended.
func (n *Node) background(ctx context.Context) *sync.WaitGroup {
	var group sync.WaitGroup
	group.Go(func() { n.follower.Run(ctx, n.db.Changes(ctx)) })
	group.Go(func() { n.ring.Run(ctx) })
	group.Go(func() { n.followDeclaration(ctx) })
	group.Go(func() { n.watchClusters(ctx) })
	group.Go(func() { n.logouts.Run(ctx) })
	group.Go(func() { n.sweep(ctx) })
	return &group
}

// CatchUp does now what the node does by itself in the background: it reads
// revocations and keeps the keys. A test calls it after it has moved the clock.
func (n *Node) CatchUp(ctx context.Context) error {
	return errors.Join(n.follower.Load(ctx), n.ring.Tick(ctx), n.retrust(ctx))
}

const (
	sweepEvery = 10 * time.Second
	sweepBatch = 500
)

// sweep removes expired rows in small batches, so that nobody needs a janitor.
func (n *Node) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		removed, err := n.db.Sweep(ctx, n.now(), sweepBatch)
		if err != nil && ctx.Err() == nil {
			n.log.Warn("expired rows could not be removed", "error", err)
		}
		if removed == sweepBatch && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// readyMemo remembers the last answer for a moment, so that anonymous callers
// of /readyz cannot keep the database busy.
type readyMemo struct{ last atomic.Pointer[readiness] }

type readiness struct {
	at  time.Time
	err error
}

// ready says whether this node can do its work.
func (n *Node) ready(ctx context.Context) error {
	now := n.now()
	if last := n.readyMemo.last.Load(); last != nil && now.Sub(last.at) < readyFor {
		return last.err
	}
	// Not the caller's context: one who hangs up must not make the node look ill
	// to the next.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := errors.Join(n.journal.Ready(), n.db.Ping(ctx), n.follower.Fresh())
	n.readyMemo.last.Store(&readiness{now, err})
	return err
}

const readyFor = time.Second

package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// background runs what a node does by itself until ctx ends. The returned
// group is done when all of it has ended.
func (s *service) background(ctx context.Context) *sync.WaitGroup {
	var group sync.WaitGroup
	group.Go(func() { s.follower.Run(ctx, s.db.Changes(ctx)) })
	group.Go(func() { s.ring.Run(ctx) })
	group.Go(func() { s.sweep(ctx) })
	return &group
}

const (
	sweepEvery = 10 * time.Second
	sweepBatch = 500
)

// sweep removes expired rows in small batches, so that nobody needs a janitor.
func (s *service) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		removed, err := s.db.Sweep(ctx, time.Now(), sweepBatch)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("expired rows could not be removed", "error", err)
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

// listeners are the two addresses of a node.
type listeners struct{ public, admin net.Listener }

const (
	maxHeader    = 32 << 10
	drainTimeout = 20 * time.Second
)

func httpServer(handler http.Handler) *http.Server {
	silent := &silentConns{open: map[net.Conn]struct{}{}}
	srv := &http.Server{
		Handler: handler, MaxHeaderBytes: maxHeader - 4096, // net/http adds 4096
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 60 * time.Second, IdleTimeout: 75 * time.Second,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), ConnState: silent.track,
	}
	srv.RegisterOnShutdown(silent.close)
	return srv
}

// silentConns are connections on which nothing has been sent yet. Browsers
// keep such ones in hand, and Shutdown would wait five seconds for each.
type silentConns struct {
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

func (s *silentConns) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew {
		s.open[c] = struct{}{}
	} else {
		delete(s.open, c)
	}
}

func (s *silentConns) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		_ = c.Close() // nothing was asked on it
	}
}

// serve runs the node until ctx ends, then drains: it stops listening, lets
// requests finish, and closes the journal last.
func (s *service) serve(ctx context.Context, ln listeners, started func() error) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	background := s.background(work)
	public, private := httpServer(s.publicHandler()), httpServer(s.adminHandler())
	private.WriteTimeout = 0 // the journal can be followed
	private.BaseContext = func(net.Listener) context.Context { return ctx }
	failed := make(chan error, 2)
	go func() { failed <- public.Serve(ln.public) }()
	go func() { failed <- private.Serve(ln.admin) }()
	// work and not ctx: a service that is stopped in its first moment stops well.
	err := s.record(work, authority.Event{Type: authority.EventServiceStarted, Reason: "version " + version})
	if err == nil && started != nil {
		err = started()
	}
	if err == nil {
		select {
		case err = <-failed:
		case <-ctx.Done():
			s.log.Info("stopping: requests that are under way are finished first")
		}
	}
	drain, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	err = errors.Join(err, public.Shutdown(drain), private.Shutdown(drain))
	stop()
	background.Wait() // whatever it changes last is still recorded
	return errors.Join(err, s.record(drain, authority.Event{Type: authority.EventServiceStopped}))
}

// readyMemo remembers the last answer for a moment, so that anonymous callers
// of /readyz cannot keep the database busy.
type readyMemo struct{ last atomic.Pointer[readiness] }

type readiness struct {
	at  time.Time
	err error
}

// ready says whether this node can do its work.
func (s *service) ready(ctx context.Context) error {
	now := time.Now()
	if last := s.readyMemo.last.Load(); last != nil && now.Sub(last.at) < readyFor {
		return last.err
	}
	// Not the caller's context: one who hangs up must not make the node look ill
	// to the next.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := errors.Join(s.journal.Ready(), s.db.Ping(ctx), s.follower.Fresh())
	s.readyMemo.last.Store(&readiness{now, err})
	return err
}

const readyFor = time.Second

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Outlet is one place that a token is kept in.
type Outlet interface {
	// String names it, the same for as long as it is the same place: "file /run/app/token".
	String() string
	// Put makes the token the one that readers find, in one step, and says whether
	// they find something else now. After an error they find what they found before.
	Put(ctx context.Context, token Token) (changed bool, err error)
	// Found is until when a token lives that an earlier run has put there. Zero: there
	// is none. It is asked only if there is no token to put there.
	Found(ctx context.Context) (until time.Time, err error)
	// Remove takes away what Put has put there, also in an earlier run. It leaves what
	// is not that.
	Remove(ctx context.Context) error
}

// Entry is a token and the places that it is kept in.
type Entry struct {
	Name     string // nobody else's
	Identity string // entries with the same identity share what one Ask gives
	Ask      Ask
	Outlets  []Outlet
	// OnChange is run after an outlet has changed. nil: nothing is.
	OnChange func(context.Context) error
	// Definition is all of the above in a form that can be compared: an entry with
	// the same one is left alone when others change.
	Definition string
}

// slot is an outlet, and what is known of it.
type slot struct {
	Outlet
	held     Token // what it holds, as far as we know; Value is missing if it must be put there in any case
	looked   bool  // for what an earlier run has left
	retry    Instant
	failures int // in a row
	problem  error

	puts, failed uint64
	changed      time.Time
}

// running is an entry at work.
type running struct {
	Entry
	keeper *keeper
	clock  Clock
	random func() float64
	log    *slog.Logger
	end    context.CancelFunc
	ended  chan struct{}
	woken  chan struct{}

	mu    sync.Mutex
	slots []*slot
	hook  slot // its puts and failures are those of OnChange
}

// run keeps the outlets in line with the keeper's token until ctx ends.
func (r *running) run(ctx context.Context) {
	defer close(r.ended)
	var finished chan error // by the program of OnChange, while it runs
	pending := false        // it must run (again)
	for {
		token, refused, changed := r.keeper.current()
		if r.settle(ctx, token, refused) {
			pending = true
		}
		if now := r.clock(); pending && finished == nil && now.Steady >= r.hook.retry.Steady {
			pending, finished = false, make(chan error, 1)
			go func(done chan<- error) { done <- r.OnChange(ctx) }(finished)
		}
		timer := time.NewTimer(r.next(token, refused, pending && finished == nil))
		select {
		case <-ctx.Done():
			timer.Stop()
			if finished != nil {
				<-finished
			}
			return
		case err := <-finished:
			finished = nil
			if r.noteHook(err) {
				pending = true
			}
		case <-changed:
		case <-r.woken:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// settle puts the token where it is not, and removes what the service gives no
// longer and has ended. It says whether a program must be told of a change.
func (r *running) settle(ctx context.Context, token Token, refused bool) (tell bool) {
	for _, s := range r.slots {
		now := r.clock()
		switch {
		case now.Steady < s.retry.Steady || ctx.Err() != nil:
		case !token.Ended(now):
			if s.held.Value == token.Value {
				continue
			}
			changed, err := s.Put(ctx, token)
			if r.note(ctx, s, token, changed, err) && changed && r.OnChange != nil {
				tell = true
			}
		case !refused: // the service is away: who reads a token that has ended is told so by whom he shows it to
		case s.held.Life == 0:
			if !s.looked {
				r.look(ctx, s)
			}
		case s.held.Ended(now):
			if err := s.Remove(ctx); r.note(ctx, s, Token{}, true, err) {
				r.log.Info("removed: the service gives this token no longer", "output", s.String())
			}
		}
	}
	return tell
}

// look finds out what an earlier run has left.
func (r *running) look(ctx context.Context, s *slot) {
	now := r.clock()
	until, err := s.Found(ctx)
	held := Token{}
	if !until.IsZero() {
		held = Token{Obtained: now.After(-1), Life: max(1, until.Sub(now.Wall))}
	}
	s.looked = r.note(ctx, s, held, false, err)
}

// note remembers what came of an attempt.
func (r *running) note(ctx context.Context, s *slot, held Token, changed bool, err error) (done bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock()
	if err != nil {
		if ctx.Err() != nil {
			return false
		}
		s.failed++
		s.failures++
		s.problem = err
		s.retry = now.After(backoff(s.failures, r.random(), s.held.Life))
		r.log.Error("an output keeps what it had", "output", s.String(), "error", err)
		return false
	}
	s.held, s.retry, s.failures, s.problem = held, Instant{}, 0, nil
	if held.Value != "" {
		s.puts++
	}
	if changed {
		s.changed = now.Wall
	}
	return true
}

// noteHook remembers how the program of OnChange ended. It says whether it must run again.
func (r *running) noteHook(err error) (again bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.hook.puts++
		r.hook.failures, r.hook.retry, r.hook.problem = 0, Instant{}, nil
		return false
	}
	r.hook.failed++
	r.hook.failures++
	r.hook.problem = fmt.Errorf("on_change: %w", err)
	r.hook.retry = r.clock().After(backoff(r.hook.failures, r.random(), 0))
	r.log.Error("on_change failed", "error", err)
	return true
}

// once puts the token of the keeper into all outlets, and tells the program.
func (r *running) once(ctx context.Context) error {
	token, refused, _ := r.keeper.current()
	tell := r.settle(ctx, token, refused)
	if refused {
		r.settle(ctx, token, refused) // what was found may have ended
	}
	var failed []error
	for _, s := range r.slots {
		if s.problem != nil {
			failed = append(failed, fmt.Errorf("%s: %w", s.String(), s.problem))
		}
	}
	if tell {
		r.noteHook(r.OnChange(ctx))
		failed = append(failed, r.hook.problem)
	}
	return errors.Join(failed...)
}

// forever is longer than anything lives.
const forever = 24 * time.Hour

// next is how long there is nothing to do, unless the keeper has news.
func (r *running) next(token Token, refused, hook bool) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, wait := r.clock(), forever
	soon := func(d time.Duration) { wait = max(0, min(wait, d)) }
	for _, s := range r.slots {
		retry := s.retry.Steady - now.Steady
		switch {
		case !token.Ended(now):
			if s.held.Value != token.Value {
				soon(retry)
			} else if refused {
				soon(token.Life - token.age(now))
			}
		case !refused:
		case s.held.Life > 0:
			soon(max(retry, s.held.Life-s.held.age(now)))
		case !s.looked:
			soon(retry)
		}
	}
	if hook {
		soon(r.hook.retry.Steady - now.Steady)
	}
	return wait
}

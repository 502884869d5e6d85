// Package agent keeps tokens fresh for programs that cannot ask for themselves: in
// files, on a socket, and wherever else an Outlet leads.
//
// A keeper has the token of one identity and asks for it in time. An entry puts it
// into its outlets. Neither waits for another one's disk or network.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// watchEvery is how often the two clocks are compared.
const watchEvery = 2 * time.Second

// maxAsking is how many may ask the service at the same time.
const maxAsking = 8

// Agent runs entries. Set says which.
type Agent struct {
	Clock  Clock
	Random func() float64 // from 0 to 1
	Log    *slog.Logger

	turns chan struct{}

	// one Set at a time; it waits for entries that stop, and nobody else waits for it
	setting sync.Mutex

	mu      sync.Mutex // for both maps, where others than Set read them
	entries map[string]*running
	keepers map[string]*tended
}

// tended is a keeper at work, and for how many entries.
type tended struct {
	*keeper
	users int
	end   context.CancelFunc
}

// Set makes these the entries that run. What is no longer there is stopped, and
// what its outlets have put anywhere is removed, unless another entry has the same
// outlet now. The context is that of all that it starts. It returns the outlets of
// the entries that were left alone, by their names.
func (a *Agent) Set(ctx context.Context, entries []Entry) (kept map[string][]Outlet) {
	kept = map[string][]Outlet{}
	a.setting.Lock()
	defer a.setting.Unlock()
	if a.entries == nil {
		a.mu.Lock()
		a.entries, a.keepers, a.turns = map[string]*running{}, map[string]*tended{}, make(chan struct{}, maxAsking)
		a.mu.Unlock()
		go a.watchClock(ctx)
	}
	wanted := map[string]string{}
	for _, e := range entries {
		wanted[e.Name] = e.Definition
	}
	left := map[string]*slot{} // what the stopped ones had, by the outlet's name
	var unused []*running
	for name, r := range a.entries {
		if definition, is := wanted[name]; is && definition == r.Definition {
			kept[name] = r.Outlets
			continue
		}
		r.end()
		<-r.ended // before another one puts anything into the same place
		for _, s := range r.slots {
			left[s.String()] = s
		}
		a.mu.Lock()
		delete(a.entries, name)
		a.mu.Unlock()
		unused = append(unused, r)
	}
	for _, e := range entries {
		if a.entries[e.Name] != nil {
			continue
		}
		r := a.start(ctx, e, left)
		a.mu.Lock()
		a.entries[e.Name] = r
		a.mu.Unlock()
	}
	for _, r := range unused { // at last, so that a token that another entry has too is not asked for again
		a.leave(r.Identity)
	}
	for name, s := range left {
		if err := s.Remove(ctx); err != nil {
			a.Log.Error("an output that is no longer configured could not be removed", "output", name, "error", err)
			continue
		}
		a.Log.Info("removed: it is no longer configured", "output", name)
	}
	return kept
}

// Wait returns when all that Set has started has ended, which its context does.
func (a *Agent) Wait() {
	a.setting.Lock()
	defer a.setting.Unlock()
	for _, r := range a.entries {
		<-r.ended
	}
}

func (a *Agent) start(ctx context.Context, e Entry, left map[string]*slot) *running {
	k := a.keepers[e.Identity]
	if k == nil {
		k = &tended{keeper: newKeeper(e.Ask, a.Clock, a.Random, a.turns, a.Log.With("token", e.Name))}
		var own context.Context
		own, k.end = context.WithCancel(ctx)
		a.mu.Lock()
		a.keepers[e.Identity] = k
		a.mu.Unlock()
		go k.run(own)
	}
	k.users++
	r := a.prepare(e, k.keeper, left)
	ctx, r.end = context.WithCancel(ctx)
	go r.run(ctx)
	return r
}

// prepare takes over what is known of the outlets that another entry had.
func (a *Agent) prepare(e Entry, k *keeper, left map[string]*slot) *running {
	r := &running{
		Entry: e, keeper: k, clock: a.Clock, random: a.Random, log: a.Log.With("token", e.Name),
		ended: make(chan struct{}), woken: make(chan struct{}, 1),
	}
	for _, o := range e.Outlets {
		s := &slot{Outlet: o}
		if before := left[o.String()]; before != nil {
			s.held = before.held
			s.held.Value = "" // it may have another form now
			delete(left, o.String())
		}
		r.slots = append(r.slots, s)
	}
	return r
}

// watchClock wakes everybody when the wall clock has left the steady one: somebody
// set it, or the machine has slept and no timer has counted that.
func (a *Agent) watchClock(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	last := a.Clock()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := a.Clock()
		drift := now.Wall.Sub(last.Wall) - (now.Steady - last.Steady)
		if last = now; drift.Abs() < time.Second {
			continue
		}
		a.Log.Info("the clock was set, or the machine has slept", "by", drift)
		a.mu.Lock()
		for _, k := range a.keepers {
			k.wake()
		}
		for _, r := range a.entries {
			poke(r.woken)
		}
		a.mu.Unlock()
	}
}

// poke wakes whoever waits for c, which holds one. If it is full they will look anyway.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (a *Agent) leave(identity string) {
	k := a.keepers[identity]
	if k.users--; k.users == 0 {
		k.end()
		a.mu.Lock()
		delete(a.keepers, identity)
		a.mu.Unlock()
	}
}

// Once asks once for each identity and puts the token into all outlets. Its error
// names every entry that failed.
func (a *Agent) Once(ctx context.Context, entries []Entry) error {
	turns, keepers := make(chan struct{}, maxAsking), map[string]*keeper{}
	failed := make([]error, len(entries))
	var all sync.WaitGroup
	asked := map[string]func() error{}
	for i, e := range entries {
		if keepers[e.Identity] == nil {
			k := newKeeper(e.Ask, a.Clock, a.Random, turns, a.Log.With("token", e.Name))
			keepers[e.Identity] = k
			asked[e.Identity] = sync.OnceValue(func() error {
				turns <- struct{}{}
				defer func() { <-turns }()
				return k.once(ctx)
			})
		}
		r, ask := a.prepare(e, keepers[e.Identity], nil), asked[e.Identity]
		all.Go(func() {
			if err := errors.Join(ask(), r.once(ctx)); err != nil {
				failed[i] = fmt.Errorf("%s: %w", e.Name, err)
			}
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

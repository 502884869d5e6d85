package storetest

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// recorder stands in for a test that may fail.
type recorder struct {
	testing.TB
	mu     sync.Mutex
	failed []string
}

func (r *recorder) note(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, s)
}

func (r *recorder) Errorf(format string, args ...any) { r.note(fmt.Sprintf(format, args...)) }
func (r *recorder) Error(args ...any)                 { r.note(fmt.Sprint(args...)) }
func (r *recorder) Fatal(args ...any)                 { r.note(fmt.Sprint(args...)); runtime.Goexit() }
func (r *recorder) Fatalf(format string, args ...any) {
	r.note(fmt.Sprintf(format, args...))
	runtime.Goexit()
}
func (r *recorder) Fail()    { r.note("fail") }
func (r *recorder) FailNow() { r.note("fail"); runtime.Goexit() }
func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failed) > 0
}
func (r *recorder) Helper()             {}
func (r *recorder) Log(...any)          {}
func (r *recorder) Logf(string, ...any) {}

// judge runs one check of the suite on a store and gives what it complains of.
func judge(t *testing.T, name string, open func() Store) []string {
	t.Helper()
	for _, c := range checks() {
		if c.name != name {
			continue
		}
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() {
				if p := recover(); p != nil {
					r.note(fmt.Sprint("panic: ", p))
				}
			}()
			c.run(r, Engine{
				Open:  func(testing.TB) Store { return open() },
				Again: func(_ testing.TB, s Store) Store { return s },
			})
		}()
		<-done
		return r.failed
	}
	t.Fatalf("there is no check %q", name)
	return nil
}

// The stores that break one promise each.

type branching struct{ *model }

// RotateRefresh reads, thinks, and writes: two callers can both win.
func (b branching) RotateRefresh(ctx context.Context, id authority.ID, from, to authority.Refresh) error {
	g, err := b.Grant(ctx, id)
	if err != nil || g.State != authority.GrantActive || g.Refresh.Generation != from.Generation || g.Refresh.Hash != from.Hash {
		return authority.ErrConflict
	}
	runtime.Gosched()
	b.mu.Lock()
	defer b.mu.Unlock()
	g.Refresh = to
	b.grants[id] = g
	return nil
}

type hashless struct{ *model }

// RotateRefresh compares the generation only.
func (b hashless) RotateRefresh(ctx context.Context, id authority.ID, from, to authority.Refresh) error {
	g, err := b.Grant(ctx, id)
	if err == nil && g.Refresh.Generation == from.Generation {
		from.Hash = g.Refresh.Hash
	}
	return b.model.RotateRefresh(ctx, id, from, to)
}

type undead struct{ *model }

// RotateRefresh does not ask whether the grant has ended.
func (b undead) RotateRefresh(ctx context.Context, id authority.ID, from, to authority.Refresh) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	g, ok := b.grants[id]
	if !ok || g.Refresh.Generation != from.Generation || g.Refresh.Hash != from.Hash || from.Hash == [32]byte{} {
		return authority.ErrConflict
	}
	g.Refresh = to
	b.grants[id] = g
	return nil
}

type generous struct{ *model }

// RedeemCode reads first, and writes what it likes later.
func (b generous) RedeemCode(ctx context.Context, id authority.ID, hash [32]byte, refresh authority.Refresh, expiresAt, now time.Time) error {
	g, err := b.Grant(ctx, id)
	if err != nil || g.State != authority.GrantPending || g.Code.Hash != hash {
		return authority.ErrSpent
	}
	runtime.Gosched()
	b.mu.Lock()
	defer b.mu.Unlock()
	g.State, g.Refresh, g.ExpiresAt = authority.GrantActive, refresh, expiresAt
	b.grants[id] = g
	return nil
}

type forgetful struct{ *model }

func (forgetful) TakeTicket(context.Context, authority.Ticket) error { return nil }

type racyTickets struct{ *model }

// TakeTicket looks, and then writes.
func (b racyTickets) TakeTicket(_ context.Context, t authority.Ticket) error {
	t.ExpiresAt = time.Time{}
	b.mu.Lock()
	taken := b.tickets[t]
	b.mu.Unlock()
	if taken {
		return authority.ErrSpent
	}
	runtime.Gosched()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tickets[t] = true
	return nil
}

type childless struct{ *model }

// EndGrant forgets the descendants.
func (b childless) EndGrant(_ context.Context, id authority.ID, reason string, at, deadUntil time.Time) ([]authority.Revocation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g, ok := b.grants[id]
	if !ok {
		return nil, authority.ErrNotFound
	}
	if g.State == authority.GrantEnded {
		return nil, nil
	}
	g.State, g.EndedAt, g.EndReason = authority.GrantEnded, at, reason
	b.grants[id] = g
	return []authority.Revocation{b.revoke(authority.Revocation{Kind: authority.RevokeGrant, Key: id.String(), NotBefore: at, ExpiresAt: deadUntil})}, nil
}

type earlyBirth struct{ *model }

// CreateGrant looks at the parent first, and stores the child later.
func (b earlyBirth) CreateGrant(ctx context.Context, g authority.Grant) error {
	if !g.Parent.IsZero() {
		if parent, err := b.Grant(ctx, g.Parent); err != nil || parent.State != authority.GrantActive {
			return authority.ErrEnded
		}
		runtime.Gosched()
		g2 := g
		g2.Parent = authority.ID{}
		if err := b.model.CreateGrant(ctx, g2); err != nil {
			return err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.grants[g.ID] = g
		return nil
	}
	return b.model.CreateGrant(ctx, g)
}

type backwards struct{ *model }

// Revoke lets the last writer of an epoch win.
func (b backwards) Revoke(_ context.Context, r authority.Revocation) (authority.Revocation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.revocations, [2]string{string(r.Kind), r.Key})
	return b.revoke(r), nil
}

type twoCurrents struct{ *model }

// PromoteKey does not look at the key that is current.
func (b twoCurrents) PromoteKey(_ context.Context, nextID, _ string, at time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := b.keys[nextID]
	if next.State != authority.KeyNext {
		return authority.ErrConflict
	}
	next.State, next.PromotedAt = authority.KeyCurrent, at
	b.keys[nextID] = next
	return nil
}

type everlasting struct{ *model }

// EndSession tells of the end but keeps the session.
func (b everlasting) EndSession(_ context.Context, id authority.ID, at, deadUntil time.Time) (authority.Revocation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.sessions[id]; !ok {
		return authority.Revocation{}, authority.ErrNotFound
	}
	return b.revoke(authority.Revocation{Kind: authority.RevokeSession, Key: id.String(), NotBefore: at, ExpiresAt: deadUntil}), nil
}

const (
	oneRotates   = "64 rotate one token on two nodes: one succeeds"
	rotationIs   = "rotation replaces the state that it names, and no other"
	histories    = "random histories end like those of a simple model"
	births       = "no child is born below a grant that ends, however the two race"
	endsFamilies = "ending a grant ends its descendants, each with a revocation"
)

func TestTheSuiteFindsBrokenStores(t *testing.T) {
	// That a history fails is enough here; nobody reads the smallest one.
	for name, value := range map[string]string{"rapid.shrinktime": "10ms", "rapid.nofailfile": "true"} {
		before := flag.Lookup(name).Value.String()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = flag.Set(name, before) })
	}
	rows := []struct {
		name   string
		open   func() Store
		checks []string
	}{
		{"rotation reads and then writes", func() Store { return branching{newModel()} }, []string{oneRotates}},
		{"rotation ignores the hash", func() Store { return hashless{newModel()} }, []string{rotationIs, histories}},
		{"rotation ignores the state", func() Store { return undead{newModel()} }, []string{"only an active grant rotates", histories}},
		{"redemption reads and then writes", func() Store { return generous{newModel()} },
			[]string{"64 redeem one code on two nodes: one succeeds", "a wrong, expired, ended or unknown code is spent and changes nothing"}},
		{"tickets are forgotten", func() Store { return forgetful{newModel()} }, []string{"a ticket is spent once", histories}},
		{"tickets are looked up and then written", func() Store { return racyTickets{newModel()} }, []string{"64 take one ticket on two nodes: one succeeds"}},
		{"descendants live on", func() Store { return childless{newModel()} }, []string{endsFamilies, births, histories}},
		{"birth looks at the parent too early", func() Store { return earlyBirth{newModel()} }, []string{births}},
		{"an epoch moves back", func() Store { return backwards{newModel()} },
			[]string{"an epoch moves forward and never back", "64 move one epoch on two nodes: the latest stands", histories}},
		{"an algorithm has two current keys", func() Store { return twoCurrents{newModel()} },
			[]string{"a promotion that finds anything else changed is a conflict and changes nothing", "64 promote one key on two nodes: one succeeds"}},
		{"a session outlives its end", func() Store { return everlasting{newModel()} },
			[]string{"64 end one session on two nodes: one succeeds, with its revocation"}},
	}
	for _, r := range rows {
		for _, name := range r.checks {
			t.Run(r.name+"/"+name, func(t *testing.T) {
				// A race need not show on the first try.
				for range 200 {
					if found := judge(t, name, r.open); len(found) > 0 {
						t.Logf("found: %s", strings.SplitN(found[0], "\n", 2)[0])
						return
					}
				}
				t.Errorf("the suite lets it pass")
			})
		}
	}
}

// The suite must complain about the bugs, not about the model.
func TestTheSuitePassesTheModel(t *testing.T) {
	notInTheModel := []string{"restart", "closed", "wakes", "username", "sweep", "fails", "failing", "failure", "left before", "are created"}
	for _, c := range checks() {
		known := true
		for _, word := range notInTheModel {
			known = known && !strings.Contains(c.name, word)
		}
		if !known {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			if found := judge(t, c.name, func() Store { return newModel() }); len(found) > 0 {
				t.Errorf("%s", strings.Join(found, "\n"))
			}
		})
	}
}

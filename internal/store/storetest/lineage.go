package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// ending is how most things end here.
var ending = authority.Ending{Reason: "test", At: start, Remember: 2 * time.Hour}

// ended is g as the ending leaves it, and the revocation that tells of it.
func ended(g authority.Grant, e authority.Ending) (authority.Grant, authority.Revocation) {
	until := g.ExpiresAt
	if g.State == authority.GrantPending {
		until = g.Code.ExpiresAt
	}
	g.State, g.EndedAt, g.EndReason = authority.GrantEnded, e.At, e.Reason
	return g, goneFor(authority.Link{Kind: authority.RevokeGrant, Key: g.ID.String()}, until, e)
}

// goneFor is the revocation of a thing that could have given tokens until then.
func goneFor(l authority.Link, until time.Time, e authority.Ending) authority.Revocation {
	if until.Before(e.At) {
		until = e.At
	}
	return authority.Revocation{Kind: l.Kind, Key: l.Key, NotBefore: e.At.Truncate(time.Millisecond), ExpiresAt: until.Add(e.Remember)}
}

// wantWritten says that a call has returned exactly these revocations, as they
// are in the feed.
func wantWritten(t testing.TB, s Store, returned []authority.Revocation, want ...authority.Revocation) {
	t.Helper()
	equal(t, withoutSeq(returned), withoutSeq(want))
	entries := feed(t, s)
	for _, r := range returned {
		if !slices.Contains(entries, r) {
			t.Fatalf("%+v was returned and is not in the feed", r)
		}
	}
}

// wantEnded says that exactly these grants were ended by a call, which has
// returned their revocations and these others, and that the rest is as it was.
func wantEnded(t testing.TB, s Store, returned []authority.Revocation, dead, alive []authority.Grant, others ...authority.Revocation) {
	t.Helper()
	want := others
	for _, g := range dead {
		g, r := ended(g, ending)
		equal(t, grantOf(t, s, g.ID), g)
		want = append(want, r)
	}
	wantWritten(t, s, returned, want...)
	for _, g := range alive {
		equal(t, grantOf(t, s, g.ID), g)
		equal(t, feedHas(t, s, authority.RevokeGrant, g.ID.String()), 0)
	}
}

// family is root -> (left -> leaf, right), and a stranger.
type family struct{ root, left, right, leaf, stranger authority.Grant }

func newFamily(t testing.TB, s Store) family {
	var f family
	f.root = activeGrant()
	f.left, f.right = activeGrant(childOf(f.root)), activeGrant(childOf(f.root))
	f.leaf = activeGrant(childOf(f.left))
	f.stranger = activeGrant()
	create(t, s, f.root, f.left, f.right, f.leaf, f.stranger)
	return f
}

// line is a root and its descendants, down to the longest lineage.
func line(change ...func(*authority.Grant)) []authority.Grant {
	all := []authority.Grant{activeGrant(change...)}
	for range authority.MaxLineage {
		all = append(all, activeGrant(append(change, childOf(all[len(all)-1]))...))
	}
	return all
}

var lineageChecks = []check{
	{"ending a grant writes one row and one revocation, whatever hangs below", func(t testing.TB, e Engine) {
		s := e.Open(t)
		below := line()
		root := below[0]
		for range 1000 {
			below = append(below, activeGrant(childOf(root)))
		}
		createAtOnce(t, s, below...)
		before, err := grantsOf(t.Context(), s, root.ClientID)
		noError(t, err)
		returned, err := s.EndGrant(t.Context(), root.ID, ending)
		noError(t, err)
		wantEnded(t, s, returned, []authority.Grant{root}, nil)
		equal(t, len(feed(t, s)), 1)
		after, err := grantsOf(t.Context(), s, root.ClientID)
		noError(t, err)
		equal(t, len(before), len(below))
		for i, g := range before {
			if g.ID == root.ID {
				g, _ = ended(g, ending)
			}
			equal(t, after[i], g)
		}
	}},
	{"ending a grant leaves its parent and its siblings", func(t testing.TB, e Engine) {
		s := e.Open(t)
		f := newFamily(t, s)
		returned, err := s.EndGrant(t.Context(), f.left.ID, ending)
		noError(t, err)
		wantEnded(t, s, returned, []authority.Grant{f.left}, []authority.Grant{f.root, f.right, f.leaf, f.stranger})
	}},
	{"a grant without a row is ended by its revocation, and its id never gets one", func(t testing.TB, e Engine) {
		s := e.Open(t)
		g := activeGrant()
		returned, err := s.EndGrant(t.Context(), g.ID, ending)
		noError(t, err)
		wantWritten(t, s, returned, goneFor(authority.Link{Kind: authority.RevokeGrant, Key: g.ID.String()}, start.Add(authority.MaxGrantTTL), ending))
		equal(t, len(feed(t, s)), 1)
		wantError(t, s.CreateGrant(t.Context(), g), authority.ErrEnded)
		_, err = s.Grant(t.Context(), g.ID)
		wantError(t, err, authority.ErrNotFound)
	}},
	{"ending again writes nothing", func(t testing.TB, e Engine) {
		s := e.Open(t)
		f := newFamily(t, s)
		pending, rowless := pendingGrant(), activeGrant()
		create(t, s, pending)
		for _, id := range []authority.ID{f.left.ID, pending.ID, rowless.ID} {
			_, err := s.EndGrant(t.Context(), id, ending)
			noError(t, err)
		}
		entries := feed(t, s)
		for _, id := range []authority.ID{f.left.ID, pending.ID, rowless.ID} {
			again, err := s.EndGrant(t.Context(), id, authority.Ending{Reason: "again", At: start.Add(time.Hour), Remember: 10000 * time.Hour})
			noError(t, err)
			equal(t, len(again), 0)
		}
		equal(t, feed(t, s), entries)
		for _, g := range []authority.Grant{f.left, pending} {
			want, _ := ended(g, ending)
			equal(t, grantOf(t, s, g.ID), want)
		}
	}},
	{"the end of a grant is remembered after the later of the end and its expiry", func(t testing.TB, e Engine) {
		s := e.Open(t)
		until := func(at time.Time) func(*authority.Grant) { return func(g *authority.Grant) { g.ExpiresAt = at } }
		codeUntil := func(at time.Time) func(*authority.Grant) { return func(g *authority.Grant) { g.Code.ExpiresAt = at } }
		redeemed := pendingGrant()
		create(t, s, redeemed)
		noError(t, s.RedeemCode(t.Context(), redeemed.ID, redeemed.Code.Hash, refresh(1, 1, start), start.Add(50*time.Hour), start))
		for _, r := range []struct {
			name  string
			g     authority.Grant
			until time.Time
		}{
			{"expires later", activeGrant(until(start.Add(100 * time.Hour))), start.Add(100 * time.Hour)},
			{"expires in this moment", activeGrant(until(start)), start},
			{"has expired before", activeGrant(until(start.Add(-time.Hour))), start},
			{"pending, by its code", pendingGrant(codeUntil(start.Add(time.Minute))), start.Add(time.Minute)},
			{"pending, by its code and not by its own expiry", pendingGrant(until(start.Add(100 * time.Hour))), start.Add(time.Minute)},
			{"pending, its code has expired", pendingGrant(codeUntil(start.Add(-time.Minute))), start},
			{"redeemed, by its own expiry", redeemed, start.Add(50 * time.Hour)},
		} {
			if r.g.ID != redeemed.ID {
				create(t, s, r.g)
			}
			returned, err := s.EndGrant(t.Context(), r.g.ID, ending)
			noError(t, err)
			if len(returned) != 1 || !returned[0].ExpiresAt.Equal(r.until.Add(ending.Remember)) {
				t.Errorf("%s: got %+v, want %v after %v", r.name, returned, ending.Remember, r.until)
			}
		}
	}},
	{"a revocation that is there already leaves no row alive, and no gap in its memory", func(t testing.TB, e Engine) {
		s := e.Open(t)
		g := activeGrant()
		create(t, s, g)
		short := revocation(authority.RevokeGrant, g.ID.String(), start)
		revoke(t, s, short)
		returned, err := s.EndGrant(t.Context(), g.ID, ending)
		noError(t, err)
		wantEnded(t, s, returned, []authority.Grant{g}, nil)
		equal(t, len(feed(t, s)), 1)
	}},
	{"ending a pending grant ends its code", func(t testing.TB, e Engine) {
		s := e.Open(t)
		g := pendingGrant()
		create(t, s, g)
		returned, err := s.EndGrant(t.Context(), g.ID, ending)
		noError(t, err)
		wantEnded(t, s, returned, []authority.Grant{g}, nil)
		wantError(t, s.RedeemCode(t.Context(), g.ID, g.Code.Hash, refresh(1, 1, start), start.Add(time.Hour), start), authority.ErrSpent)
	}},
	{"what has no name cannot end", func(t testing.TB, e Engine) {
		s := e.Open(t)
		for name, end := range map[string]func() ([]authority.Revocation, error){
			"a grant":   func() ([]authority.Revocation, error) { return s.EndGrant(t.Context(), authority.ID{}, ending) },
			"a session": func() ([]authority.Revocation, error) { return s.EndSession(t.Context(), authority.ID{}, ending) },
			"no evidence": func() ([]authority.Revocation, error) {
				return s.EndEvidence(t.Context(), authority.Evidence{}, start, ending)
			},
			"evidence, no kind": func() ([]authority.Revocation, error) {
				return s.EndEvidence(t.Context(), authority.Evidence{Key: "k"}, start, ending)
			},
			"evidence, no key": func() ([]authority.Revocation, error) {
				return s.EndEvidence(t.Context(), authority.Evidence{Kind: "pod"}, start, ending)
			},
			"a birth with no key": func() ([]authority.Revocation, error) {
				return nil, s.CreateGrant(t.Context(), activeGrant(withEvidence(authority.Evidence{Kind: "pod"})))
			},
		} {
			if _, err := end(); err == nil || isAnswer(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		equal(t, len(feed(t, s)), 0)
	}},
	{"no child is born below an ended ancestor, at any height, with or without a row", func(t testing.TB, e Engine) {
		s := e.Open(t)
		for _, rows := range []bool{true, false} {
			for i := range authority.MaxLineage {
				all := line()
				last := len(all) - 1
				if rows {
					create(t, s, all[:last]...)
				}
				_, err := s.EndGrant(t.Context(), all[i].ID, ending)
				noError(t, err)
				wantError(t, s.CreateGrant(t.Context(), all[last]), authority.ErrEnded)
				_, err = s.Grant(t.Context(), all[last].ID)
				wantError(t, err, authority.ErrNotFound)
				pending := pendingGrant(func(g *authority.Grant) { g.Lineage, g.SessionID = all[last].Lineage, authority.NewID(start) })
				wantError(t, s.CreateGrant(t.Context(), pending), authority.ErrEnded)
				create(t, s, activeGrant(func(g *authority.Grant) { g.Lineage = all[i].Lineage })) // beside it, not below it
			}
		}
	}},
	{"a child needs no row of its ancestors", func(t testing.TB, e Engine) {
		s := e.Open(t)
		all := line()
		youngest := all[len(all)-1]
		create(t, s, youngest)
		equal(t, grantOf(t, s, youngest.ID), youngest)
	}},
	{"no child is born once the end of its ancestor has been answered, however the two race", func(t testing.TB, e Engine) {
		s := e.Open(t)
		for round := range 12 {
			gone := pod() // of the root: what is below dies with the root
			mine := func(g *authority.Grant) { g.ClientID = fmt.Sprint("round ", round) }
			root := activeGrant(mine, withEvidence(gone))
			create(t, s, root)
			birth := func(_ int, parent authority.Grant) authority.Grant { return activeGrant(mine, childOf(parent)) }
			raceBirths(t, e, s, round, root, birth, func(node Store) ([]authority.Revocation, error) {
				if round%2 == 0 {
					return node.EndGrant(t.Context(), root.ID, ending)
				}
				return node.EndEvidence(t.Context(), gone, start, ending)
			})
		}
	}},
	{"64 end one grant on two nodes: one writes", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		for _, hasRow := range []bool{true, false} {
			g := activeGrant()
			if hasRow {
				create(t, s, g)
			}
			equal(t, len(endAtOnce(t, func(i int) ([]authority.Revocation, error) { return nodes[i%2].EndGrant(t.Context(), g.ID, ending) })), 1)
			equal(t, feedHas(t, s, authority.RevokeGrant, g.ID.String()), 1)
		}
	}},
	{"a grant that has ended never rotates, however the two race", func(t testing.TB, e Engine) {
		s := e.Open(t) // one node: on SQLite a second one would wait for a pause in the rotations
		for i := range 6 {
			signed := session()
			evidence := []authority.Evidence{{}, pod(), authority.SessionEvidence(signed.ID)}[i%3]
			g := activeGrant(withEvidence(evidence))
			noError(t, s.StartSession(t.Context(), signed))
			create(t, s, g)
			begun, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				for generation := uint32(1); generation < 5_000; generation++ {
					if s.RotateRefresh(t.Context(), g.ID, refresh(generation, int(generation), start), refresh(generation+1, int(generation)+1, start)) != nil {
						return
					}
					if generation == 3 {
						close(begun)
					}
				}
			}()
			select {
			case <-begun:
			case <-stopped:
				t.Fatalf("the grant did not rotate")
			}
			var err error
			switch evidence.Kind {
			case authority.EvidencePod:
				_, err = s.EndEvidence(t.Context(), evidence, start, ending)
			case authority.EvidenceSession:
				_, err = s.EndSession(t.Context(), signed.ID, ending)
			default:
				_, err = s.EndGrant(t.Context(), g.ID, ending)
			}
			noError(t, err)
			frozen := grantOf(t, s, g.ID)
			<-stopped
			equal(t, frozen.State, authority.GrantEnded)
			equal(t, grantOf(t, s, g.ID), frozen)
		}
	}},
}

// endAtOnce lets many end things, and gives all that they have returned.
func endAtOnce(t testing.TB, end func(i int) ([]authority.Revocation, error)) (all []authority.Revocation) {
	t.Helper()
	returned := make([][]authority.Revocation, many)
	for i, err := range atOnce(many, func(i int) (err error) {
		returned[i], err = end(i)
		return err
	}) {
		if err != nil {
			t.Fatalf("caller %d: %v", i, err)
		}
	}
	return slices.Concat(returned...)
}

// raceBirths lets grants be born on two nodes, each below the one before or
// below the root, and ends what they come from meanwhile. What is there when the
// end is answered is all that is ever born. It gives that, and what the end returned.
func raceBirths(t testing.TB, e Engine, s Store, round int, root authority.Grant, birth func(caller int, parent authority.Grant) authority.Grant,
	end func(Store) ([]authority.Revocation, error)) (born []authority.Grant, returned []authority.Revocation) {
	t.Helper()
	nodes := []Store{s, e.Again(t, s)}
	var count atomic.Int64
	enough := make(chan struct{}) // the end begins after another number of births in each round
	var once sync.Once
	bear := func(i int) error {
		defer once.Do(func() { close(enough) })
		parent := root
		for range 50 { // a store that never refuses must not hold up the suite
			child := birth(i, parent)
			err := nodes[i%2].CreateGrant(t.Context(), child)
			if errors.Is(err, authority.ErrEnded) {
				return nil
			}
			if err != nil {
				return err
			}
			if count.Add(1) == int64(5*round+1) {
				once.Do(func() { close(enough) })
			}
			if parent = child; i%3 == 0 || len(child.Lineage) == authority.MaxLineage {
				parent = root // a broad family as well as a deep one
			}
		}
		return nil
	}
	for i, err := range atOnce(9, func(i int) (err error) {
		if i > 0 {
			return bear(i)
		}
		<-enough
		if returned, err = end(nodes[1]); err != nil {
			return err
		}
		born, err = grantsOf(context.WithoutCancel(t.Context()), s, root.ClientID)
		return err
	}) {
		if err != nil {
			t.Fatalf("round %d: caller %d: %v", round, i, err)
		}
	}
	after, err := grantsOf(t.Context(), s, root.ClientID)
	noError(t, err)
	if len(after) != len(born) {
		t.Fatalf("round %d: %d grants were there when the end was answered, and %d in the end", round, len(born), len(after))
	}
	return born, returned
}

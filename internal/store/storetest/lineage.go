package storetest

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

var deadUntil = start.Add(2 * time.Hour)

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

// wantEnded says that exactly these are ended and have a revocation, those
// that a call returned among them.
func wantEnded(t testing.TB, s Store, returned []authority.Revocation, ended, alive []authority.Grant) {
	t.Helper()
	inFeed := map[string]authority.Revocation{}
	for _, r := range feed(t, s) {
		inFeed[string(r.Kind)+" "+r.Key] = r
	}
	for _, g := range ended {
		got := grantOf(t, s, g.ID)
		g.State, g.EndedAt, g.EndReason = authority.GrantEnded, start, "test"
		equal(t, got, g)
		i := slices.IndexFunc(returned, func(r authority.Revocation) bool { return r.Key == g.ID.String() })
		if i < 0 {
			t.Fatalf("no revocation was returned for %s", g.ID)
		}
		want := authority.Revocation{Seq: returned[i].Seq, Kind: authority.RevokeGrant, Key: g.ID.String(),
			NotBefore: start.Truncate(time.Millisecond), ExpiresAt: deadUntil}
		equal(t, returned[i], want)
		equal(t, inFeed["grant "+g.ID.String()], want)
	}
	equal(t, len(returned), len(ended))
	for _, g := range alive {
		equal(t, grantOf(t, s, g.ID), g)
		if _, dead := inFeed["grant "+g.ID.String()]; dead {
			t.Fatalf("%s is alive and in the feed", g.ID)
		}
	}
}

var lineageChecks = []check{
	{"ending a grant ends its descendants, each with a revocation", func(t testing.TB, e Engine) {
		s := e.Open(t)
		f := newFamily(t, s)
		ended, err := s.EndGrant(t.Context(), f.root.ID, "test", start, deadUntil)
		noError(t, err)
		wantEnded(t, s, ended, []authority.Grant{f.root, f.left, f.right, f.leaf}, []authority.Grant{f.stranger})
	}},
	{"ending a grant leaves its parent and its siblings", func(t testing.TB, e Engine) {
		s := e.Open(t)
		f := newFamily(t, s)
		ended, err := s.EndGrant(t.Context(), f.left.ID, "test", start, deadUntil)
		noError(t, err)
		wantEnded(t, s, ended, []authority.Grant{f.left, f.leaf}, []authority.Grant{f.root, f.right, f.stranger})
	}},
	{"ending again writes nothing", func(t testing.TB, e Engine) {
		s := e.Open(t)
		f := newFamily(t, s)
		ended, err := s.EndGrant(t.Context(), f.left.ID, "test", start, deadUntil)
		noError(t, err)
		again, err := s.EndGrant(t.Context(), f.left.ID, "again", start.Add(time.Second), deadUntil.Add(time.Second))
		noError(t, err)
		equal(t, len(again), 0)
		wantEnded(t, s, ended, []authority.Grant{f.left, f.leaf}, nil)

		// What ended before is not ended again by its parent.
		rest, err := s.EndGrant(t.Context(), f.root.ID, "test", start, deadUntil)
		noError(t, err)
		wantEnded(t, s, rest, []authority.Grant{f.root, f.right}, []authority.Grant{f.stranger})
	}},
	{"ending a pending grant ends its code", func(t testing.TB, e Engine) {
		s := e.Open(t)
		g := pendingGrant()
		create(t, s, g)
		ended, err := s.EndGrant(t.Context(), g.ID, "test", start, deadUntil)
		noError(t, err)
		wantEnded(t, s, ended, []authority.Grant{g}, nil)
	}},
	{"ending an unknown grant is not found", func(t testing.TB, e Engine) {
		_, err := e.Open(t).EndGrant(t.Context(), authority.NewID(start), "test", start, deadUntil)
		wantError(t, err, authority.ErrNotFound)
	}},
	{"a session takes its grants with it, but for offline access", func(t testing.TB, e Engine) {
		s := e.Open(t)
		session, other := authority.NewID(start), authority.NewID(start)
		on := func(id authority.ID) func(*authority.Grant) { return func(g *authority.Grant) { g.SessionID = id } }
		plain := activeGrant(on(session))
		child := activeGrant(childOf(plain))
		lookalike := activeGrant(on(session), func(g *authority.Grant) { g.Scopes = oauth.MustScopes("openid", "offlineXaccess", "Offline_Access") })
		offline := activeGrant(on(session), func(g *authority.Grant) { g.Scopes = oauth.MustScopes("openid", "offline_access") })
		elsewhere := activeGrant(on(other))
		create(t, s, plain, child, lookalike, offline, elsewhere)
		ended, err := s.EndSessionGrants(t.Context(), session, "test", start, deadUntil)
		noError(t, err)
		wantEnded(t, s, ended, []authority.Grant{plain, child, lookalike}, []authority.Grant{offline, elsewhere})
		again, err := s.EndSessionGrants(t.Context(), session, "test", start, deadUntil)
		noError(t, err)
		equal(t, len(again), 0)
		none, err := s.EndSessionGrants(t.Context(), authority.NewID(start), "test", start, deadUntil)
		noError(t, err)
		equal(t, len(none), 0)
	}},
	{"64 end overlapping families on two nodes: each grant is ended once", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		for range 5 {
			session := authority.NewID(start)
			onSession := func(g *authority.Grant) { g.SessionID = session }
			root := activeGrant(onSession)
			line := []authority.Grant{root}
			for range 5 {
				line = append(line, activeGrant(onSession, childOf(line[len(line)-1])))
			}
			create(t, s, line...)
			var mu sync.Mutex
			var all []authority.Revocation
			for i, err := range atOnce(many, func(i int) error {
				var ended []authority.Revocation
				var err error
				if i%8 == 0 {
					ended, err = nodes[i%2].EndSessionGrants(t.Context(), session, "test", start, deadUntil)
				} else {
					ended, err = nodes[i%2].EndGrant(t.Context(), line[i%len(line)].ID, "test", start, deadUntil)
				}
				mu.Lock()
				defer mu.Unlock()
				all = append(all, ended...)
				return err
			}) {
				if err != nil {
					t.Fatalf("caller %d: %v", i, err)
				}
			}
			wantEnded(t, s, all, line, nil)
		}
	}},
	{"no child is born below a grant that ends, however the two race", checkBirths},
	{"a grant that has ended never rotates, however the two race", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		for range 5 {
			root := activeGrant()
			g := activeGrant(childOf(root))
			create(t, s, root, g)
			stop := make(chan struct{})
			var rotating sync.WaitGroup
			rotating.Go(func() {
				for generation := uint32(1); generation < 50_000; generation++ {
					if nodes[0].RotateRefresh(t.Context(), g.ID, refresh(generation, int(generation), start), refresh(generation+1, int(generation)+1, start)) != nil {
						break
					}
				}
				close(stop)
			})
			_, err := nodes[1].EndGrant(t.Context(), root.ID, "test", start, deadUntil)
			noError(t, err)
			frozen := grantOf(t, s, g.ID)
			<-stop
			rotating.Wait()
			equal(t, frozen.State, authority.GrantEnded)
			equal(t, grantOf(t, s, g.ID), frozen)
		}
	}},
}

// checkBirths lets grants be born at the end of a growing line while its root
// ends. Every one that was born must end with it.
func checkBirths(t testing.TB, e Engine) {
	s := e.Open(t)
	nodes := []Store{s, e.Again(t, s)}
	for round := range 8 {
		root := activeGrant()
		create(t, s, root)
		var mu sync.Mutex
		born := []authority.Grant{root}
		var returned []authority.Revocation
		errs := atOnce(9, func(i int) error {
			if i == 0 {
				time.Sleep(time.Duration(round) * 500 * time.Microsecond) // varies who comes first; proves nothing by itself
				ended, err := nodes[1].EndGrant(t.Context(), root.ID, "test", start, deadUntil)
				returned = ended
				return err
			}
			parent := root
			for range 50 { // a store that never ends the line must not hold up the suite
				child := activeGrant(childOf(parent))
				err := nodes[i%2].CreateGrant(t.Context(), child)
				if errors.Is(err, authority.ErrEnded) {
					return nil
				}
				if err != nil {
					return err
				}
				mu.Lock()
				born = append(born, child)
				mu.Unlock()
				if i%3 == 0 {
					parent = root // a broad family as well as a deep one
				} else {
					parent = child
				}
			}
			return nil
		})
		for i, err := range errs {
			if err != nil {
				t.Fatalf("caller %d: %v", i, err)
			}
		}
		for _, g := range born {
			if got := grantOf(t, s, g.ID); got.State != authority.GrantEnded {
				t.Fatalf("round %d: %s below an ended grant is %s", round, g.ID, got.State)
			}
		}
		keys := map[string]bool{}
		for _, r := range returned {
			keys[r.Key] = true
		}
		if len(keys) != len(born) || len(returned) != len(born) {
			t.Fatalf("round %d: %d were born, %d revocations were returned", round, len(born), len(returned))
		}
	}
}

package storetest

import (
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// redeem spends the code of g.
func redeem(t testing.TB, s Store, g authority.Grant) error {
	return s.RedeemCode(t.Context(), g.ID, g.Code.Hash, refresh(1, 1, start), start.Add(time.Hour), start)
}

func inSession(id authority.ID) func(*authority.Grant) {
	return func(g *authority.Grant) { g.SessionID = id }
}

var pendingChecks = []check{
	{"a pending grant takes the place of the one before of its session and client", func(t testing.TB, e Engine) {
		s := e.Open(t)
		mine, other := authority.NewID(start), authority.NewID(start)
		redeemed, over := pendingGrant(inSession(mine)), pendingGrant(inSession(mine))
		create(t, s, redeemed)
		noError(t, redeem(t, s, redeemed))
		create(t, s, over)
		_, err := s.EndGrant(t.Context(), over.ID, ending)
		noError(t, err)
		unbound, active := pendingGrant(), activeGrant(inSession(mine))
		create(t, s, unbound, active)
		elsewhere := pendingGrant(inSession(other))
		another := pendingGrant(inSession(mine), func(g *authority.Grant) { g.ClientID = "cli" })
		kept := []authority.Grant{grantOf(t, s, redeemed.ID), grantOf(t, s, over.ID), unbound, active, elsewhere, another}
		before := pendingGrant(inSession(mine))
		create(t, s, elsewhere, another, before)
		next := pendingGrant(inSession(mine), withEvidence(authority.SessionEvidence(mine)))
		create(t, s, next)

		_, err = s.Grant(t.Context(), before.ID)
		wantError(t, err, authority.ErrNotFound)
		wantError(t, redeem(t, s, before), authority.ErrSpent)
		for _, g := range append(kept, next) {
			equal(t, grantOf(t, s, g.ID), g)
		}
		create(t, s, pendingGrant(), pendingGrant()) // without a session, any number
		noError(t, redeem(t, s, next))
		equal(t, len(feed(t, s)), 1) // a code that was never spent gave nothing that could end
	}},
	{"the same form sent twice is refused, and changes nothing", func(t testing.TB, e Engine) {
		s := e.Open(t)
		mine := authority.NewID(start)
		first := pendingGrant(inSession(mine))
		create(t, s, first)
		twice := func(g authority.Grant) {
			t.Helper()
			g.Code.Hash, g.State = hash(101), authority.GrantPending
			wantError(t, s.CreateGrant(t.Context(), g), authority.ErrExists)
		}
		twice(first)
		equal(t, grantOf(t, s, first.ID), first)
		noError(t, redeem(t, s, first))
		redeemed, next := grantOf(t, s, first.ID), pendingGrant(inSession(mine))
		create(t, s, next)
		twice(first)
		equal(t, grantOf(t, s, first.ID), redeemed)
		equal(t, grantOf(t, s, next.ID), next)
		_, err := s.EndGrant(t.Context(), first.ID, ending)
		noError(t, err)
		twice(first)
		equal(t, grantOf(t, s, next.ID), next)
	}},
	{"a birth that is refused displaces nothing", func(t testing.TB, e Engine) {
		s := e.Open(t)
		mine, gone := authority.NewID(start), pod()
		waiting := pendingGrant(inSession(mine))
		create(t, s, waiting)
		_, err := s.EndEvidence(t.Context(), gone, start, ending)
		noError(t, err)
		wantError(t, s.CreateGrant(t.Context(), pendingGrant(inSession(mine), withEvidence(gone))), authority.ErrEnded)
		equal(t, grantOf(t, s, waiting.ID), waiting)
		noError(t, redeem(t, s, waiting))
	}},
	{"64 approve in one session on two nodes: all are answered, and one is pending", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		for range 3 {
			mine := authority.NewID(start)
			evidence := withEvidence(authority.SessionEvidence(mine))
			for i, err := range atOnce(many, func(i int) error {
				return nodes[i%2].CreateGrant(t.Context(), pendingGrant(inSession(mine), evidence))
			}) {
				if err != nil {
					t.Fatalf("caller %d: %v", i, err)
				}
			}
			left, err := s.Grants(t.Context(), authority.GrantFilter{SessionID: mine}, authority.Page{Limit: 100})
			noError(t, err)
			equal(t, len(left), 1)
			noError(t, redeem(t, s, left[0]))
		}
	}},
	{"64 send one form on two nodes: one succeeds", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		g := pendingGrant(inSession(authority.NewID(start)))
		winner := contend(t, authority.ErrExists, func(i int) error {
			mine := g
			mine.Code.Hash = hash(i)
			return nodes[i%2].CreateGrant(t.Context(), mine)
		})
		g.Code.Hash = hash(winner)
		equal(t, grantOf(t, s, g.ID), g)
	}},
}

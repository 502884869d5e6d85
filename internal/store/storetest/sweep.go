package storetest

import (
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// sweepAll sweeps in batches of limit until nothing is left, and a few times
// more: a scan that continues where it stopped may need a full turn.
func sweepAll(t testing.TB, s Store, now time.Time, limit int) (removed int) {
	t.Helper()
	for idle := 0; idle < 40; {
		n, err := s.Sweep(t.Context(), now, limit)
		noError(t, err)
		if n > limit {
			t.Fatalf("one sweep removed %d, more than %d", n, limit)
		}
		if removed += n; n == 0 {
			idle++
		}
	}
	return removed
}

var sweepChecks = []check{
	{"a sweep takes what is over, and nothing that may still be needed", func(t testing.TB, e Engine) {
		s := e.Open(t)
		long := start.Add(1000 * time.Hour)
		until := func(at time.Time) func(*authority.Grant) { return func(g *authority.Grant) { g.ExpiresAt = at } }
		idleUntil := func(at time.Time) func(*authority.Grant) {
			return func(g *authority.Grant) { g.ExpiresAt, g.Refresh.IdleExpiresAt = long, at }
		}
		alive := activeGrant(until(long), idleUntil(long))
		plain := activeGrant(until(long), func(g *authority.Grant) { g.Refresh = authority.Refresh{} }) // never refreshes, so never idle
		waiting := pendingGrant(func(g *authority.Grant) { g.Code.ExpiresAt = long })
		evidence := pod()
		idleParent, idleWithEvidence := activeGrant(idleUntil(start)), activeGrant(idleUntil(start), withEvidence(evidence))
		aliveChild, aliveBelow := activeGrant(childOf(idleParent), idleUntil(long)), activeGrant(childOf(idleWithEvidence), idleUntil(long))
		ended := activeGrant(until(start))
		longEnded := activeGrant(until(long))
		kept := []authority.Grant{alive, plain, waiting, aliveChild, aliveBelow, idleWithEvidence}
		gone := []authority.Grant{activeGrant(until(start)), idleParent, pendingGrant(), ended}
		create(t, s, kept...)
		create(t, s, gone...)
		create(t, s, longEnded)
		_, err := s.EndGrant(t.Context(), ended.ID, ending)
		noError(t, err)
		_, err = s.EndGrant(t.Context(), longEnded.ID, ending)
		noError(t, err)
		var tickets []authority.Ticket
		for i := range 20 {
			tickets = append(tickets, authority.Ticket{Kind: authority.TicketAssertion, Hash: hash(i), ExpiresAt: start})
			noError(t, s.TakeTicket(t.Context(), tickets[i]))
		}
		lasting := authority.Ticket{Kind: authority.TicketAssertion, Hash: hash(99), ExpiresAt: long}
		noError(t, s.TakeTicket(t.Context(), lasting))
		oldSession, newSession := session(), session(func(s *authority.Session) { s.Hash, s.ExpiresAt = hash(5), long })
		noError(t, s.StartSession(t.Context(), oldSession))
		noError(t, s.StartSession(t.Context(), newSession))
		revoke(t, s, revocation(authority.RevokeToken, "old", start))
		lastingRevocation := revocation(authority.RevokeToken, "new", start)
		lastingRevocation.ExpiresAt = long
		lastingRevocation = revoke(t, s, lastingRevocation)

		equal(t, sweepAll(t, s, start, 3), 0)
		// 4 grants, 20 tickets, 1 session, 2 revocations: "old", and that of `ended`
		equal(t, sweepAll(t, s, start.Add(100*time.Hour), 3), 4+20+1+2)

		for _, g := range kept {
			equal(t, grantOf(t, s, g.ID), g)
		}
		equal(t, grantOf(t, s, longEnded.ID).State, authority.GrantEnded)
		for _, g := range gone {
			_, err := s.Grant(t.Context(), g.ID)
			wantError(t, err, authority.ErrNotFound)
		}
		noError(t, s.TakeTicket(t.Context(), tickets[0]))
		wantError(t, s.TakeTicket(t.Context(), lasting), authority.ErrSpent)
		_, err = s.SessionByHash(t.Context(), oldSession.Hash)
		wantError(t, err, authority.ErrNotFound)
		_, err = s.SessionByHash(t.Context(), newSession.Hash)
		noError(t, err)
		equal(t, feedHas(t, s, authority.RevokeToken, "old"), 0)
		equal(t, feedHas(t, s, authority.RevokeToken, "new"), 1)
		equal(t, feedHas(t, s, authority.RevokeGrant, longEnded.ID.String()), 1)

		// What was left idle is still known by its evidence, and what is below ends with it.
		_, err = s.EndEvidence(t.Context(), evidence, start, ending)
		noError(t, err)
		equal(t, feedHas(t, s, authority.RevokeGrant, idleWithEvidence.ID.String()), 1)
	}},
	{"a sweep takes a code as soon as it has expired, and the grant that it gave only after its last token", func(t testing.TB, e Engine) {
		s := e.Open(t)
		waiting, redeemed := pendingGrant(), pendingGrant()
		create(t, s, waiting, redeemed)
		until := start.Add(time.Hour)
		noError(t, s.RedeemCode(t.Context(), redeemed.ID, redeemed.Code.Hash, authority.Refresh{}, until, start))
		sweepAll(t, s, waiting.Code.ExpiresAt, 50)
		equal(t, grantOf(t, s, waiting.ID), waiting)
		equal(t, sweepAll(t, s, waiting.Code.ExpiresAt.Add(time.Millisecond), 50), 1)
		_, err := s.Grant(t.Context(), waiting.ID)
		wantError(t, err, authority.ErrNotFound)
		last := until.Add(authority.MaxTokenTTL + authority.Leeway)
		equal(t, sweepAll(t, s, last, 50), 0)
		equal(t, grantOf(t, s, redeemed.ID).State, authority.GrantActive)
		equal(t, sweepAll(t, s, last.Add(time.Millisecond), 50), 1)
	}},
	{"a sweep takes at once what nobody can use any more, an ended grant when its end is forgotten", func(t testing.TB, e Engine) {
		s := e.Open(t)
		ended := activeGrant()
		create(t, s, ended)
		returned, err := s.EndGrant(t.Context(), ended.ID, ending)
		noError(t, err)
		forgotten := returned[0].ExpiresAt
		over := start.Add(time.Minute)
		for i := range 100 { // a client that signs an assertion for every request
			noError(t, s.TakeTicket(t.Context(), authority.Ticket{Kind: authority.TicketAssertion, Hash: hash(i), ExpiresAt: over}))
		}
		old := session(func(s *authority.Session) { s.ExpiresAt = over })
		noError(t, s.StartSession(t.Context(), old))
		r := revocation(authority.RevokeToken, "old", start)
		r.ExpiresAt = over
		revoke(t, s, r)
		revoke(t, s, revocation(authority.EpochUser, "last", start)) // the highest stays

		equal(t, sweepAll(t, s, over, 50), 0)
		equal(t, sweepAll(t, s, over.Add(time.Millisecond), 50), 100+1)
		_, err = s.SessionByHash(t.Context(), old.Hash)
		wantError(t, err, authority.ErrNotFound)
		equal(t, feedHas(t, s, authority.RevokeToken, "old"), 1) // a clock may have run ahead
		equal(t, feedHas(t, s, authority.RevokeGrant, ended.ID.String()), 1)
		equal(t, grantOf(t, s, ended.ID).State, authority.GrantEnded)

		sweepAll(t, s, forgotten, 50)
		equal(t, grantOf(t, s, ended.ID).State, authority.GrantEnded)
		sweepAll(t, s, forgotten.Add(time.Millisecond), 50)
		_, err = s.Grant(t.Context(), ended.ID)
		wantError(t, err, authority.ErrNotFound)
		equal(t, feedHas(t, s, authority.RevokeGrant, ended.ID.String()), 1)
		wantError(t, s.CreateGrant(t.Context(), activeGrant(childOf(ended))), authority.ErrEnded)
		wantError(t, s.CreateGrant(t.Context(), ended), authority.ErrEnded)
		sweepAll(t, s, forgotten.Add(authority.MaxTokenTTL+authority.Leeway+time.Millisecond), 50)
		equal(t, feedHas(t, s, authority.RevokeGrant, ended.ID.String()), 0)
	}},
	{"numbers of the feed are never given twice, even after a sweep and a restart", func(t testing.TB, e Engine) {
		s := e.Open(t)
		revoke(t, s, revocation(authority.RevokeToken, "a", start))
		last := revoke(t, s, revocation(authority.RevokeToken, "b", start)).Seq
		sweepAll(t, s, start.Add(1000*time.Hour), 100)
		noError(t, s.Close())
		s = e.Again(t, s)
		if next := revoke(t, s, revocation(authority.RevokeToken, "c", start)).Seq; next <= last {
			t.Fatalf("number %d was given after %d", next, last)
		}
	}},
	{"a sweep beside rotation and redemption takes nothing alive", func(t testing.TB, e Engine) {
		s := e.Open(t)
		node := e.Again(t, s)
		now := start.Add(100 * time.Hour)
		grants := make([]authority.Grant, 32)
		for i := range grants {
			grants[i] = pendingGrant() // its code has expired by the sweep's clock, not by the caller's
		}
		create(t, s, grants...)
		errs := atOnce(len(grants)+1, func(i int) error {
			if i == len(grants) {
				_, err := node.Sweep(t.Context(), now, 100)
				return err
			}
			return s.RedeemCode(t.Context(), grants[i].ID, grants[i].Code.Hash, refresh(1, 1, now), now.Add(time.Hour), start)
		})
		noError(t, errs[len(grants)])
		for i, g := range grants {
			_, err := s.Grant(t.Context(), g.ID)
			if errs[i] == nil {
				noError(t, err)
			} else {
				wantError(t, errs[i], authority.ErrSpent)
				wantError(t, err, authority.ErrNotFound)
			}
		}
	}},
}

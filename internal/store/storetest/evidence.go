package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

var evidenceChecks = []check{
	{"evidence takes its grants with it, and nothing else", func(t testing.TB, e Engine) {
		s := e.Open(t)
		gone := pod()
		active, pending := activeGrant(withEvidence(gone)), pendingGrant(withEvidence(gone))
		expired := activeGrant(withEvidence(gone), func(g *authority.Grant) { g.ExpiresAt = start.Add(-time.Hour) })
		before := activeGrant(withEvidence(gone))
		child := activeGrant(childOf(active)) // dies by its lineage
		alive := []authority.Grant{child, activeGrant(), activeGrant(withEvidence(pod()))}
		for _, other := range []authority.Evidence{{Kind: authority.EvidenceJob, Key: gone.Key}, {Kind: gone.Kind, Key: gone.Key + "0"}} {
			alive = append(alive, activeGrant(withEvidence(other)))
		}
		create(t, s, active, pending, expired, before)
		create(t, s, alive...)
		_, err := s.EndGrant(t.Context(), before.ID, authority.Ending{Reason: "before", At: start.Add(-time.Hour)})
		noError(t, err)
		before = grantOf(t, s, before.ID)

		returned, err := s.EndEvidence(t.Context(), gone, start.Add(9*time.Hour), ending)
		noError(t, err)
		wantEnded(t, s, returned, []authority.Grant{active, pending, expired}, alive, goneFor(gone.Link(), start.Add(9*time.Hour), ending))
		equal(t, grantOf(t, s, before.ID), before)
		equal(t, len(feed(t, s)), 3+1+1)
		wantError(t, s.RedeemCode(t.Context(), pending.ID, pending.Code.Hash, refresh(1, 1, start), start.Add(time.Hour), start), authority.ErrSpent)
	}},
	{"evidence is remembered after the later of its end and its last proof", func(t testing.TB, e Engine) {
		s := e.Open(t)
		for _, r := range []struct {
			name              string
			proofUntil, until time.Time
		}{
			{"proof could come later", start.Add(time.Hour), start.Add(time.Hour)},
			{"proof could come before", start.Add(-time.Hour), start},
			{"no proof is known", time.Time{}, start},
		} {
			evidence := pod()
			returned, err := s.EndEvidence(t.Context(), evidence, r.proofUntil, ending)
			noError(t, err)
			if want := goneFor(evidence.Link(), r.until, ending); len(returned) != 1 || returned[0].ExpiresAt != want.ExpiresAt {
				t.Errorf("%s: got %+v, want %+v", r.name, returned, want)
			}
		}
	}},
	{"no grant is born with evidence that has ended", func(t testing.TB, e Engine) {
		s := e.Open(t)
		signed := session()
		noError(t, s.StartSession(t.Context(), signed))
		known, unknown, signedIn := pod(), pod(), authority.SessionEvidence(signed.ID)
		create(t, s, activeGrant(withEvidence(known)), activeGrant(withEvidence(signedIn)))
		for _, gone := range []authority.Evidence{known, unknown} {
			_, err := s.EndEvidence(t.Context(), gone, start, ending)
			noError(t, err)
		}
		_, err := s.EndSession(t.Context(), signed.ID, ending)
		noError(t, err)
		for _, gone := range []authority.Evidence{known, unknown, signedIn} {
			parent := activeGrant()
			onSession := func(g *authority.Grant) { g.SessionID = signed.ID }
			for _, g := range []authority.Grant{
				activeGrant(withEvidence(gone)), activeGrant(withEvidence(gone), childOf(parent)),
				pendingGrant(withEvidence(gone)), pendingGrant(withEvidence(gone), onSession),
			} {
				wantError(t, s.CreateGrant(t.Context(), g), authority.ErrEnded)
				_, err := s.Grant(t.Context(), g.ID)
				wantError(t, err, authority.ErrNotFound)
			}
			create(t, s, activeGrant(withEvidence(authority.Evidence{Kind: authority.EvidenceJob, Key: gone.Key})))
			create(t, s, activeGrant(onSession)) // approved in the session, and outlives it
		}
	}},
	{"evidence that ends again is not written again, and leaves no grant alive", func(t testing.TB, e Engine) {
		s := e.Open(t)
		gone, told := pod(), pod()
		first, second := activeGrant(withEvidence(gone)), activeGrant(withEvidence(told))
		create(t, s, first, second)
		_, err := s.EndEvidence(t.Context(), gone, start, ending)
		noError(t, err)
		entries, row := feed(t, s), grantOf(t, s, first.ID)
		again, err := s.EndEvidence(t.Context(), gone, start.Add(1000*time.Hour),
			authority.Ending{Reason: "again", At: start.Add(time.Hour), Remember: 1000 * time.Hour})
		noError(t, err)
		equal(t, len(again), 0)
		equal(t, feed(t, s), entries)
		equal(t, grantOf(t, s, first.ID), row)

		// An entry that came another way does not hide the grants.
		entry := revoke(t, s, revocation(told.Link().Kind, told.Key, start))
		returned, err := s.EndEvidence(t.Context(), told, start.Add(1000*time.Hour), ending)
		noError(t, err)
		wantEnded(t, s, returned, []authority.Grant{second}, nil)
		equal(t, feed(t, s)[len(entries)], entry)
	}},
	{"no grant is born with evidence that ends, however the two race", func(t testing.TB, e Engine) {
		s := e.Open(t)
		for round := range 8 {
			gone := pod()
			raceEvidence(t, e, s, round, gone, start, func(node Store) ([]authority.Revocation, error) {
				return node.EndEvidence(t.Context(), gone, start, ending)
			})
		}
	}},
	{"no grant is born in a session that ends, however the two race", func(t testing.TB, e Engine) {
		s := e.Open(t)
		for round := range 4 {
			signed := session()
			noError(t, s.StartSession(t.Context(), signed))
			raceEvidence(t, e, s, round, authority.SessionEvidence(signed.ID), signed.ExpiresAt, func(node Store) ([]authority.Revocation, error) {
				return node.EndSession(t.Context(), signed.ID, ending)
			})
		}
	}},
	{"64 end grants and their session on two nodes: each is ended once", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		for range 5 {
			signed := session()
			noError(t, s.StartSession(t.Context(), signed))
			evidence := authority.SessionEvidence(signed.ID)
			all := line(withEvidence(evidence))
			create(t, s, all...)
			returned := endAtOnce(t, func(i int) ([]authority.Revocation, error) {
				switch node := nodes[i%2]; i % 8 {
				case 0, 1:
					return node.EndSession(t.Context(), signed.ID, ending)
				case 2, 3:
					return node.EndEvidence(t.Context(), evidence, signed.ExpiresAt, ending)
				default:
					return node.EndGrant(t.Context(), all[i%len(all)].ID, ending)
				}
			})
			// Who comes first may know the session's expiry or not: both say the same here.
			wantEnded(t, s, returned, all, nil, goneFor(evidence.Link(), signed.ExpiresAt, ending))
		}
	}},
}

// raceEvidence is raceBirths for grants that all have the evidence. Every one
// that was born is in what the end returned.
func raceEvidence(t testing.TB, e Engine, s Store, round int, gone authority.Evidence, proofUntil time.Time, end func(Store) ([]authority.Revocation, error)) {
	t.Helper()
	mine := func(g *authority.Grant) {
		g.ClientID = fmt.Sprint("round ", round)
		withEvidence(gone)(g)
	}
	root := activeGrant(mine)
	create(t, s, root)
	born, returned := raceBirths(t, e, s, round, root, func(caller int, parent authority.Grant) authority.Grant {
		if caller%2 == 0 {
			return activeGrant(mine) // comes from nothing but the evidence
		}
		return activeGrant(mine, childOf(parent))
	}, end)
	want := []authority.Revocation{goneFor(gone.Link(), proofUntil, ending)}
	for _, g := range born {
		if g.State != authority.GrantEnded {
			t.Fatalf("round %d: %s with ended evidence is %s", round, g.ID, g.State)
		}
		_, r := ended(g, ending)
		want = append(want, r)
	}
	wantWritten(t, s, returned, want...)
}

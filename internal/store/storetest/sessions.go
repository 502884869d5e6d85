package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

func session(change ...func(*authority.Session)) authority.Session {
	s := authority.Session{ID: authority.NewID(start), Hash: hash(int(time.Now().UnixNano())), Subject: ada,
		AuthTime: start, AMR: []string{"pwd"}, ExpiresAt: start.Add(time.Hour)}
	for _, c := range change {
		c(&s)
	}
	return s
}

var sessionChecks = []check{
	{"a session is found by the hash of its cookie and by its id", func(t testing.TB, e Engine) {
		s := e.Open(t)
		mine := session(func(s *authority.Session) { s.Hash = hash(1) })
		other := session(func(s *authority.Session) { s.Hash, s.Subject, s.AMR = hash(2), bob, nil })
		noError(t, s.StartSession(t.Context(), mine))
		noError(t, s.StartSession(t.Context(), other))
		for _, want := range []authority.Session{mine, other} {
			got, err := s.SessionByHash(t.Context(), want.Hash)
			noError(t, err)
			equal(t, got, want)
			got, err = s.Session(t.Context(), want.ID)
			noError(t, err)
			equal(t, got, want)
		}
		for _, id := range []authority.ID{{}, authority.NewID(start)} {
			_, err := s.Session(t.Context(), id)
			wantError(t, err, authority.ErrNotFound)
		}
		_, err := s.SessionByHash(t.Context(), hash(3))
		wantError(t, err, authority.ErrNotFound)
		_, err = s.SessionByHash(t.Context(), [32]byte{})
		wantError(t, err, authority.ErrNotFound)
	}},
	{"neither the id nor the hash of a session is taken twice", func(t testing.TB, e Engine) {
		s := e.Open(t)
		mine := session(func(s *authority.Session) { s.Hash = hash(1) })
		noError(t, s.StartSession(t.Context(), mine))
		wantError(t, s.StartSession(t.Context(), session(func(s *authority.Session) { s.Hash = hash(1) })), authority.ErrExists)
		wantError(t, s.StartSession(t.Context(), session(func(s *authority.Session) { s.ID, s.Hash = mine.ID, hash(2) })), authority.ErrExists)
	}},
	{"a renewed session has another cookie, and is the same otherwise", func(t testing.TB, e Engine) {
		s := e.Open(t)
		mine, other := session(func(s *authority.Session) { s.Hash = hash(1) }), session(func(s *authority.Session) { s.Hash = hash(2) })
		noError(t, s.StartSession(t.Context(), mine))
		noError(t, s.StartSession(t.Context(), other))
		next := mine
		next.Hash, next.AuthTime, next.AMR, next.ExpiresAt = hash(3), mine.AuthTime.Add(time.Hour), []string{"pwd", "otp"}, mine.ExpiresAt.Add(time.Hour)
		noError(t, s.RenewSession(t.Context(), mine.Hash, next))
		_, err := s.SessionByHash(t.Context(), mine.Hash)
		wantError(t, err, authority.ErrNotFound)
		for _, want := range []authority.Session{next, other} {
			got, err := s.SessionByHash(t.Context(), want.Hash)
			noError(t, err)
			equal(t, got, want)
		}
		stolen := next
		stolen.Hash = hash(4)
		wantError(t, s.RenewSession(t.Context(), mine.Hash, stolen), authority.ErrNotFound)
		wantError(t, s.RenewSession(t.Context(), other.Hash, stolen), authority.ErrNotFound)
		_, err = s.EndSession(t.Context(), mine.ID, ending)
		noError(t, err)
		wantError(t, s.RenewSession(t.Context(), next.Hash, stolen), authority.ErrNotFound)
		_, err = s.SessionByHash(t.Context(), stolen.Hash)
		wantError(t, err, authority.ErrNotFound)
	}},
	{"64 renew one session on two nodes: one succeeds", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		mine := session(func(s *authority.Session) { s.Hash = hash(1000) })
		noError(t, s.StartSession(t.Context(), mine))
		next := make([]authority.Session, many)
		winner := contend(t, authority.ErrNotFound, func(i int) error {
			next[i] = mine
			next[i].Hash = hash(i)
			return nodes[i%2].RenewSession(t.Context(), mine.Hash, next[i])
		})
		got, err := s.SessionByHash(t.Context(), next[winner].Hash)
		noError(t, err)
		equal(t, got, next[winner])
	}},
	{"a session ends with what depends on it, and so does one that is gone", func(t testing.TB, e Engine) {
		s := e.Open(t)
		mine, other := session(), session()
		noError(t, s.StartSession(t.Context(), mine))
		noError(t, s.StartSession(t.Context(), other))
		swept := authority.NewID(start) // its row is gone, its grants are not
		for id, until := range map[authority.ID]time.Time{mine.ID: mine.ExpiresAt, swept: start} {
			evidence := authority.SessionEvidence(id)
			active, pending := activeGrant(inSession(id), withEvidence(evidence)), pendingGrant(inSession(id), withEvidence(evidence))
			// Approved in the session, and granted offline access: it depends on nothing.
			offline := activeGrant(inSession(id))
			elsewhere := activeGrant(inSession(id), withEvidence(authority.SessionEvidence(other.ID)))
			create(t, s, active, pending, offline, elsewhere)
			returned, err := s.EndSession(t.Context(), id, ending)
			noError(t, err)
			wantEnded(t, s, returned, []authority.Grant{active, pending}, []authority.Grant{offline, elsewhere}, goneFor(evidence.Link(), until, ending))
			again, err := s.EndSession(t.Context(), id, authority.Ending{Reason: "again", At: start.Add(time.Hour), Remember: 1000 * time.Hour})
			noError(t, err)
			equal(t, len(again), 0)
		}
		_, err := s.Session(t.Context(), mine.ID)
		wantError(t, err, authority.ErrNotFound)
		_, err = s.SessionByHash(t.Context(), mine.Hash)
		wantError(t, err, authority.ErrNotFound)
		got, err := s.Session(t.Context(), other.ID)
		noError(t, err)
		equal(t, got, other)
	}},
	{"64 end one session on two nodes: one writes", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		mine := session()
		noError(t, s.StartSession(t.Context(), mine))
		returned := endAtOnce(t, func(i int) ([]authority.Revocation, error) {
			return nodes[i%2].EndSession(t.Context(), mine.ID, ending)
		})
		wantWritten(t, s, returned, goneFor(authority.SessionEvidence(mine.ID).Link(), mine.ExpiresAt, ending))
		equal(t, len(feed(t, s)), 1)
		_, err := s.SessionByHash(t.Context(), mine.Hash)
		wantError(t, err, authority.ErrNotFound)
	}},
	{"whoever renews a session that ends brings nothing back", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		for range 5 {
			mine := session()
			noError(t, s.StartSession(t.Context(), mine))
			next := mine
			next.Hash = hash(int(time.Now().UnixNano()))
			for i, err := range atOnce(2, func(i int) error {
				if i == 0 {
					_, err := nodes[0].EndSession(t.Context(), mine.ID, ending)
					return err
				}
				if err := nodes[1].RenewSession(t.Context(), mine.Hash, next); !errors.Is(err, authority.ErrNotFound) {
					return err
				}
				return nil
			}) {
				if err != nil {
					t.Fatalf("caller %d: %v", i, err)
				}
			}
			_, err := s.Session(t.Context(), mine.ID)
			wantError(t, err, authority.ErrNotFound)
		}
	}},
	{"a ticket is spent once", func(t testing.TB, e Engine) {
		s := e.Open(t)
		ticket := authority.Ticket{Kind: authority.TicketAssertion, Hash: hash(1), ExpiresAt: start.Add(time.Minute)}
		noError(t, s.TakeTicket(t.Context(), ticket))
		wantError(t, s.TakeTicket(t.Context(), ticket), authority.ErrSpent)
		later := ticket
		later.ExpiresAt = start.Add(time.Hour)
		wantError(t, s.TakeTicket(t.Context(), later), authority.ErrSpent)
		otherKind, otherHash := ticket, ticket
		otherKind.Kind, otherHash.Hash = "device_code", hash(2)
		noError(t, s.TakeTicket(t.Context(), otherKind))
		noError(t, s.TakeTicket(t.Context(), otherHash))
	}},
	{"64 take one ticket on two nodes: one succeeds", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		for n := range 5 {
			contend(t, authority.ErrSpent, func(i int) error {
				return nodes[i%2].TakeTicket(t.Context(), authority.Ticket{Kind: authority.TicketAssertion, Hash: hash(n), ExpiresAt: start})
			})
		}
	}},
	{"what was written is there after a restart", func(t testing.TB, e Engine) {
		s := e.Open(t)
		f := newFamily(t, s)
		ticket := authority.Ticket{Kind: authority.TicketAssertion, Hash: hash(1), ExpiresAt: start}
		noError(t, s.TakeTicket(t.Context(), ticket))
		noError(t, s.RotateRefresh(t.Context(), f.root.ID, f.root.Refresh, refresh(2, 2, start)))
		gone := pod()
		hanging := activeGrant(withEvidence(gone))
		create(t, s, hanging)
		returned, err := s.EndGrant(t.Context(), f.left.ID, ending)
		noError(t, err)
		more, err := s.EndEvidence(t.Context(), gone, start, ending)
		noError(t, err)
		before, entries := grantOf(t, s, f.root.ID), feed(t, s)
		noError(t, s.Close())

		s = e.Again(t, s)
		equal(t, grantOf(t, s, f.root.ID), before)
		equal(t, feed(t, s), entries)
		wantEnded(t, s, append(returned, more...), []authority.Grant{f.left, hanging}, []authority.Grant{f.right, f.leaf, f.stranger},
			goneFor(gone.Link(), start, ending))
		wantError(t, s.CreateGrant(t.Context(), activeGrant(childOf(f.left))), authority.ErrEnded)
		wantError(t, s.CreateGrant(t.Context(), activeGrant(withEvidence(gone))), authority.ErrEnded)
		wantError(t, s.TakeTicket(t.Context(), ticket), authority.ErrSpent)
		wantError(t, s.RotateRefresh(t.Context(), f.root.ID, f.root.Refresh, refresh(2, 3, start)), authority.ErrConflict)
	}},
	{"a closed store refuses and does not hang", func(t testing.TB, e Engine) {
		s := e.Open(t)
		g := activeGrant()
		create(t, s, g)
		noError(t, s.Close())
		for _, err := range atOnce(many, func(int) error { return s.RotateRefresh(t.Context(), g.ID, g.Refresh, refresh(2, 2, start)) }) {
			if err == nil || isAnswer(err) {
				t.Fatalf("a closed store answered %v", err)
			}
		}
	}},
}

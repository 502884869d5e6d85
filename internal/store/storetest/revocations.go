package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

func revocation(kind authority.RevocationKind, key string, at time.Time) authority.Revocation {
	return authority.Revocation{Kind: kind, Key: key, NotBefore: at.Truncate(time.Millisecond), ExpiresAt: at.Add(time.Hour)}
}

func revoke(t testing.TB, s Store, r authority.Revocation) authority.Revocation {
	t.Helper()
	written, err := s.Revoke(t.Context(), r)
	noError(t, err)
	return written
}

var revocationChecks = []check{
	{"a revocation comes back with its number, and numbers grow", func(t testing.TB, e Engine) {
		s := e.Open(t)
		var want []authority.Revocation
		last := int64(0)
		for i, kind := range []authority.RevocationKind{authority.RevokeToken, authority.RevokeGrant, authority.RevokeSession, authority.RevokeKey,
			authority.EpochUser, authority.EpochClient, authority.EpochEverything} {
			r := revocation(kind, fmt.Sprint("key", i), start)
			if kind == authority.EpochEverything {
				r.Key = ""
			}
			got := revoke(t, s, r)
			if got.Seq <= last {
				t.Fatalf("number %d after %d", got.Seq, last)
			}
			last, r.Seq = got.Seq, got.Seq
			equal(t, got, r)
			want = append(want, r)
		}
		equal(t, feed(t, s), want)
		for limit := range len(want) {
			page, err := s.Revocations(t.Context(), want[0].Seq, limit)
			noError(t, err)
			if limit == 0 {
				equal(t, len(page), 0)
				continue
			}
			equal(t, page, want[1:min(limit+1, len(want))])
		}
		rest, err := s.Revocations(t.Context(), last, 10)
		noError(t, err)
		equal(t, len(rest), 0)
	}},
	{"what is dead stays dead, and only a longer memory is news", func(t testing.TB, e Engine) {
		s := e.Open(t)
		first := revoke(t, s, revocation(authority.RevokeToken, "jti", start))
		shorter := revocation(authority.RevokeToken, "jti", start)
		shorter.ExpiresAt = start.Add(time.Minute)
		equal(t, revoke(t, s, shorter), first)
		longer := revocation(authority.RevokeToken, "jti", start.Add(time.Second))
		got := revoke(t, s, longer)
		if got.Seq <= first.Seq {
			t.Fatalf("a longer memory must be read again by every node: number %d after %d", got.Seq, first.Seq)
		}
		want := first
		want.Seq, want.ExpiresAt = got.Seq, longer.ExpiresAt
		equal(t, got, want)
		equal(t, feed(t, s), []authority.Revocation{want})
	}},
	{"an epoch moves forward and never back", func(t testing.TB, e Engine) {
		s := e.Open(t)
		first := revoke(t, s, revocation(authority.EpochUser, "ada", start))
		equal(t, revoke(t, s, revocation(authority.EpochUser, "ada", start)), first)
		back := revocation(authority.EpochUser, "ada", start.Add(-time.Minute))
		equal(t, revoke(t, s, back), first)
		forward := revocation(authority.EpochUser, "ada", start.Add(time.Minute))
		got := revoke(t, s, forward)
		if got.Seq <= first.Seq {
			t.Fatalf("an epoch that moved must be read again by every node: number %d after %d", got.Seq, first.Seq)
		}
		forward.Seq = got.Seq
		equal(t, got, forward)
		equal(t, feed(t, s), []authority.Revocation{forward})

		// A mark that moves back and a memory that grows: each keeps the later.
		mixed := revocation(authority.EpochUser, "ada", start)
		mixed.ExpiresAt = start.Add(5 * time.Hour)
		got = revoke(t, s, mixed)
		equal(t, got.NotBefore, forward.NotBefore)
		equal(t, got.ExpiresAt, mixed.ExpiresAt)
	}},
	{"64 move one epoch on two nodes: the latest stays", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		for round := range 3 {
			at := func(i int) time.Time { return start.Add(time.Duration(i*37%many) * time.Second) }
			user := fmt.Sprint("user", round)
			for i, err := range atOnce(many, func(i int) error {
				got, err := nodes[i%2].Revoke(t.Context(), revocation(authority.EpochUser, user, at(i)))
				if err == nil && got.NotBefore.Before(at(i).Truncate(time.Millisecond)) {
					return fmt.Errorf("the epoch is at %v after it was moved to %v", got.NotBefore, at(i))
				}
				return err
			}) {
				if err != nil {
					t.Fatalf("caller %d: %v", i, err)
				}
			}
			entries := feed(t, s)
			last := entries[len(entries)-1]
			want := revocation(authority.EpochUser, user, start.Add((many-1)*time.Second))
			want.Seq = last.Seq
			equal(t, last, want)
			equal(t, feedHas(t, s, authority.EpochUser, user), 1)
		}
	}},
	{"every number of the feed is its own, however many write", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		gone := pod()
		create(t, s, line(withEvidence(gone))...)
		for i, err := range atOnce(many, func(i int) error {
			if i == 0 {
				_, err := s.EndEvidence(t.Context(), gone, start, ending)
				return err
			}
			_, err := nodes[i%2].Revoke(t.Context(), revocation(authority.RevokeToken, fmt.Sprint(i), start))
			return err
		}) {
			if err != nil {
				t.Fatalf("caller %d: %v", i, err)
			}
		}
		equal(t, len(feed(t, s)), many-1+authority.MaxLineage+1+1) // feed itself refuses equal numbers
	}},
	{"writing a revocation wakes the followers", func(t testing.TB, e Engine) {
		s := e.Open(t)
		changes := s.Changes(t.Context())
		woken := func(what string) {
			t.Helper()
			select {
			case <-changes:
			case <-time.After(10 * time.Second):
				t.Fatalf("%s woke nobody", what)
			}
		}
		g, signedIn := activeGrant(), session()
		create(t, s, g)
		noError(t, s.StartSession(t.Context(), signedIn))
		settle(changes)
		revoke(t, s, revocation(authority.RevokeToken, "jti", start))
		woken("Revoke")
		settle(changes)
		_, err := s.EndGrant(t.Context(), g.ID, ending)
		noError(t, err)
		woken("EndGrant")
		settle(changes)
		_, err = s.EndSession(t.Context(), signedIn.ID, ending)
		noError(t, err)
		woken("EndSession")
		settle(changes)
		_, err = s.EndEvidence(t.Context(), pod(), start, ending)
		noError(t, err)
		woken("EndEvidence")
		settle(changes)
		_, err = s.EndGrant(t.Context(), authority.NewID(start), ending)
		noError(t, err)
		woken("EndGrant without a row")
	}},
}

// settle drains what came before, such as the first ring after a connection.
func settle(changes <-chan struct{}) {
	for {
		select {
		case <-changes:
		case <-time.After(20 * time.Millisecond):
			return
		}
	}
}

package revocation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// ids are few, so that entries meet lineages.
var ids = []authority.ID{authority.NewID(start), authority.NewID(start), authority.NewID(start)}

var entries = rapid.Custom(func(t *rapid.T) authority.Revocation {
	id := ids[rapid.IntRange(0, len(ids)-1).Draw(t, "id")].String()
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name")
	r := authority.Revocation{NotBefore: at(rapid.IntRange(0, 20).Draw(t, "not before"))}
	r.ExpiresAt = r.NotBefore.Add(time.Second)
	r.Kind = rapid.SampledFrom([]authority.RevocationKind{
		authority.RevokeToken, authority.RevokeGrant, authority.RevokeSession, authority.RevokeKey,
		authority.EpochUser, authority.EpochClient, authority.EpochEverything,
	}).Draw(t, "kind")
	switch r.Kind {
	case authority.RevokeToken, authority.RevokeGrant, authority.RevokeSession:
		r.Key = id
	case authority.RevokeKey, authority.EpochUser, authority.EpochClient:
		r.Key = name
	}
	return r
})

var lineages = rapid.Custom(func(t *rapid.T) authority.Lineage {
	id := rapid.SampledFrom(append([]authority.ID{{}}, ids...))
	name := rapid.SampledFrom([]string{"", "a", "b", "c"})
	l := authority.Lineage{
		TokenID: id.Draw(t, "jti"), GrantID: id.Draw(t, "grant"), SessionID: id.Draw(t, "session"), KeyID: name.Draw(t, "key"),
		Subject: authority.Subject{ID: name.Draw(t, "user")}, ClientID: name.Draw(t, "client"), Granted: at(rapid.IntRange(-1, 22).Draw(t, "granted")),
	}
	if rapid.Bool().Draw(t, "a person") {
		l.SignedIn = at(rapid.IntRange(-1, 22).Draw(t, "signed in"))
	}
	return l
})

// dead is the definition, entry by entry.
func dead(list []authority.Revocation, l authority.Lineage) bool {
	oldest := l.Granted
	if !l.SignedIn.IsZero() && l.SignedIn.Before(oldest) {
		oldest = l.SignedIn
	}
	return slices.ContainsFunc(list, func(r authority.Revocation) bool {
		switch r.Kind {
		case authority.RevokeToken:
			return r.Key == l.TokenID.String()
		case authority.RevokeGrant:
			return r.Key == l.GrantID.String()
		case authority.RevokeSession:
			return r.Key == l.SessionID.String()
		case authority.RevokeKey:
			return r.Key == l.KeyID
		case authority.EpochUser:
			return r.Key == l.Subject.ID && !oldest.After(r.NotBefore)
		case authority.EpochClient:
			return r.Key == l.ClientID && !l.Granted.After(r.NotBefore)
		default:
			return !oldest.After(r.NotBefore)
		}
	})
}

// TestView: what is dead follows from what was applied, in whatever order and
// however often; it is never less after more; and forgetting in time changes
// nothing.
func TestView(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(entries, 0, 10).Draw(t, "entries")
		asked := rapid.SliceOfN(lineages, 1, 10).Draw(t, "lineages")
		shuffled := append(slices.Clone(list), list...)
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })

		inOrder, mixed := NewView(), NewView()
		was := make([]bool, len(asked))
		for i, r := range list {
			inOrder.Apply(r)
			for j, l := range asked {
				now := inOrder.Revoked(l)
				if was[j] && !now {
					t.Fatalf("entry %d brought the dead back to life: %+v", i, l)
				}
				if was[j] = now; now != dead(list[:i+1], l) {
					t.Fatalf("after entry %d dead is %v: %+v", i, now, l)
				}
			}
		}
		mixed.Apply(shuffled...)
		if inOrder.Len() != mixed.Len() {
			t.Fatalf("%d entries in order, %d mixed", inOrder.Len(), mixed.Len())
		}
		mixed.Forget(at(20).Add(time.Second)) // the last moment of the latest entry that there can be
		for _, r := range list {
			if r.NotBefore.Equal(at(20)) && mixed.Len() == 0 {
				t.Fatalf("forgotten too early: %+v", r)
			}
		}
		mixed.Apply(shuffled...)
		inOrder.Forget(at(0))
		for j, l := range asked {
			if inOrder.Revoked(l) != was[j] || mixed.Revoked(l) != was[j] {
				t.Fatalf("dead is %v in order, %v mixed, %v before: %+v", inOrder.Revoked(l), mixed.Revoked(l), was[j], l)
			}
		}
		inOrder.Forget(at(21).Add(time.Second))
		if inOrder.Len() != 0 {
			t.Fatalf("%d entries are never forgotten", inOrder.Len())
		}
	})
}

func TestDead(t *testing.T) {
	user := authority.Subject{Issuer: "https://sts.example.com", ID: "ada", Kind: authority.SubjectUser}
	for _, row := range []struct {
		name string
		r    authority.Revocation
		l    authority.Lineage
		want bool
	}{
		{"a token without a session, when the session without a name ends", authority.Revocation{Kind: authority.RevokeSession}, authority.Lineage{}, false},
		{"a token without a kid, when the key without a name is removed", authority.Revocation{Kind: authority.RevokeKey}, authority.Lineage{}, false},
		{"a grant id is no session id", authority.Revocation{Kind: authority.RevokeGrant, Key: ids[0].String()}, authority.Lineage{SessionID: ids[0], TokenID: ids[0]}, false},
		{"an epoch in the very millisecond", authority.Revocation{Kind: authority.EpochUser, Key: "ada", NotBefore: at(5)}, authority.Lineage{Subject: user, Granted: at(5)}, true},
		{"an epoch a millisecond before", authority.Revocation{Kind: authority.EpochUser, Key: "ada", NotBefore: at(4)}, authority.Lineage{Subject: user, Granted: at(5)}, false},
		{"an epoch between sign-in and grant", authority.Revocation{Kind: authority.EpochUser, Key: "ada", NotBefore: at(4)}, authority.Lineage{Subject: user, Granted: at(5), SignedIn: at(3)}, true},
		{"everything, between sign-in and grant", authority.Revocation{Kind: authority.EpochEverything, NotBefore: at(4)}, authority.Lineage{Granted: at(5), SignedIn: at(3)}, true},
		{"a client's epoch spares what was granted after it", authority.Revocation{Kind: authority.EpochClient, Key: "web", NotBefore: at(4)}, authority.Lineage{ClientID: "web", Granted: at(5), SignedIn: at(3)}, false},
		{"a session of a person, by an epoch", authority.Revocation{Kind: authority.EpochUser, Key: "ada", NotBefore: at(4)}, authority.Lineage{Subject: user, SignedIn: at(3)}, true},
		{"a session that is newer than the epoch", authority.Revocation{Kind: authority.EpochUser, Key: "ada", NotBefore: at(4)}, authority.Lineage{Subject: user, SignedIn: at(5)}, false},
		{"another user's epoch", authority.Revocation{Kind: authority.EpochUser, Key: "eve", NotBefore: at(9)}, authority.Lineage{Subject: user, Granted: at(5)}, false},
		{"the epoch of a client of that name", authority.Revocation{Kind: authority.EpochClient, Key: "ada", NotBefore: at(9)}, authority.Lineage{Subject: user, Granted: at(5)}, false},
	} {
		v := NewView()
		if v.Revoked(row.l) {
			t.Errorf("%s: dead before", row.name)
		}
		v.Apply(row.r)
		if v.Revoked(row.l) != row.want {
			t.Errorf("%s: dead is %v", row.name, !row.want)
		}
	}
}

func TestViewInParallel(t *testing.T) {
	v := NewView()
	l := authority.Lineage{GrantID: ids[0], Granted: at(0), ClientID: "web"}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 200 {
				v.Apply(authority.Revocation{Kind: authority.EpochClient, Key: fmt.Sprint(i), NotBefore: at(j), ExpiresAt: at(j)})
				v.Apply(authority.Revocation{Kind: authority.RevokeGrant, Key: ids[0].String(), ExpiresAt: at(1e6)})
				v.Forget(at(j / 2))
				if !v.Revoked(l) {
					t.Error("alive")
				}
				v.Len()
			}
		})
	}
	group.Wait()
}

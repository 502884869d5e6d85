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

var ids = []authority.ID{authority.NewID(start)}

var kinds = []authority.RevocationKind{
	authority.RevokeToken, authority.RevokeGrant, authority.RevokeSession, authority.RevokeKey, authority.RevocationKind(authority.EvidencePod),
	authority.EpochUser, authority.EpochClient, authority.EpochWorkload, authority.EpochEverything,
}

// keys are few, so that entries meet links.
var keys = rapid.SampledFrom([]string{"a", "b", ""})

var entries = rapid.Custom(func(t *rapid.T) authority.Revocation {
	r := authority.Revocation{
		Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Key: keys.Draw(t, "key"), NotBefore: at(rapid.IntRange(0, 20).Draw(t, "not before")),
	}
	r.ExpiresAt = r.NotBefore.Add(time.Second)
	return r
})

var someLinks = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) authority.Link {
	l := authority.Link{Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Key: keys.Draw(t, "key")}
	if l.Kind.IsEpoch() {
		l.Born = at(rapid.IntRange(-1, 22).Draw(t, "born"))
	}
	return l
}), 0, 5)

// dead is the definition, entry by entry.
func dead(list []authority.Revocation, links []authority.Link) bool {
	return slices.ContainsFunc(links, func(l authority.Link) bool {
		return slices.ContainsFunc(list, func(r authority.Revocation) bool {
			return r.Kind == l.Kind && r.Key == l.Key && (!l.Kind.IsEpoch() || !l.Born.After(r.NotBefore))
		})
	})
}

// TestView: what is dead follows from what was applied, in whatever order and
// however often; it is never less after more; and forgetting in time changes
// nothing.
func TestView(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(entries, 0, 10).Draw(t, "entries")
		asked := rapid.SliceOfN(someLinks, 1, 10).Draw(t, "links")
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

func TestRevoked(t *testing.T) {
	user := func(ms int) []authority.Link {
		return authority.Subject{ID: "ada", Kind: authority.SubjectUser}.Epochs(at(ms))
	}
	grant := func(g authority.Grant) []authority.Link {
		g.ID = authority.NewID(g.CreatedAt)
		return g.Links()
	}
	person := authority.Subject{ID: "ada", Kind: authority.SubjectUser}
	epoch := func(kind authority.RevocationKind, key string, ms int) authority.Revocation {
		return authority.Revocation{Kind: kind, Key: key, NotBefore: at(ms)}
	}
	for _, row := range []struct {
		name  string
		r     authority.Revocation
		links []authority.Link
		want  bool
	}{
		{"a grant id is no session id", authority.Revocation{Kind: authority.RevokeGrant, Key: ids[0].String()}, []authority.Link{authority.SessionEvidence(ids[0]).Link(), {Kind: authority.RevokeToken, Key: ids[0].String()}}, false},
		{"an epoch in the very millisecond", epoch(authority.EpochUser, "ada", 5), user(5), true},
		{"an epoch a millisecond before", epoch(authority.EpochUser, "ada", 4), user(5), false},
		{"an epoch between sign-in and grant", epoch(authority.EpochUser, "ada", 4), grant(authority.Grant{Subject: person, CreatedAt: at(5), AuthTime: at(3)}), true},
		{"everything, between sign-in and grant", epoch(authority.EpochEverything, "", 4), grant(authority.Grant{Subject: person, CreatedAt: at(5), AuthTime: at(3)}), true},
		{"a client's epoch spares what was granted after it", epoch(authority.EpochClient, "web", 4), grant(authority.Grant{Subject: person, ClientID: "web", CreatedAt: at(5), AuthTime: at(3)}), false},
		{"the epoch of an ancestor's client", epoch(authority.EpochClient, "api", 4), grant(authority.Grant{Subject: person, ClientID: "web", CreatedAt: at(5), Lineage: []authority.Ancestor{{GrantID: authority.NewID(at(3)), ClientID: "api"}}}), true},
		{"a session of a person, by an epoch", epoch(authority.EpochUser, "ada", 4), authority.Session{ID: authority.NewID(at(3)), Subject: person}.Links(), true},
		{"a session that is newer than the epoch", epoch(authority.EpochUser, "ada", 4), authority.Session{ID: authority.NewID(at(5)), Subject: person}.Links(), false},
		{"another user's epoch", epoch(authority.EpochUser, "eve", 9), user(5), false},
		{"the epoch of a client of that name", epoch(authority.EpochClient, "ada", 9), user(5), false},
		{"a workload's epoch", epoch(authority.EpochWorkload, "w", 5), authority.Subject{ID: "w", Kind: authority.SubjectWorkload}.Epochs(at(4)), true},
		{"nothing to depend on", epoch(authority.EpochEverything, "", 9), nil, false},
	} {
		v := NewView()
		if v.Revoked(row.links) {
			t.Errorf("%s: dead before", row.name)
		}
		v.Apply(row.r)
		if v.Revoked(row.links) != row.want {
			t.Errorf("%s: dead is %v", row.name, !row.want)
		}
	}
}

// EndedBy names what has ended, and agrees with the definition of dead.
func TestEndedBy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(entries, 0, 10).Draw(t, "entries")
		links := someLinks.Draw(t, "links")
		v := NewView()
		v.Apply(list...)
		by, ended := v.EndedBy(links)
		if ended != dead(list, links) {
			t.Fatalf("ended by %+v: %v", by, ended)
		}
		if ended && !dead([]authority.Revocation{by}, links) {
			t.Fatalf("%+v ends none of %+v", by, links)
		}
	})
}

// Of several that have ended it names the first link: the grant itself before its
// ancestors, and those before the person.
func TestEndedByNamesTheFirstLink(t *testing.T) {
	v := NewView()
	grant, session := authority.Link{Kind: authority.RevokeGrant, Key: ids[0].String()}, authority.SessionEvidence(ids[0]).Link()
	user := authority.Link{Kind: authority.EpochUser, Key: "ada", Born: at(1)}
	for _, row := range []struct {
		r    authority.Revocation
		want authority.RevocationKind
	}{
		{authority.Revocation{Kind: authority.EpochUser, Key: "ada", NotBefore: at(2)}, authority.EpochUser},
		{authority.Revocation{Kind: session.Kind, Key: session.Key}, session.Kind},
		{authority.Revocation{Kind: grant.Kind, Key: grant.Key}, grant.Kind},
	} {
		v.Apply(row.r)
		if by, ended := v.EndedBy([]authority.Link{grant, session, user}); !ended || by.Kind != row.want {
			t.Errorf("ended by %+v, want %s", by, row.want)
		}
	}
}

func TestViewInParallel(t *testing.T) {
	v := NewView()
	l := []authority.Link{{Kind: authority.RevokeGrant, Key: ids[0].String()}}
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

package storetest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// object is a new object of a kind; the name is its second key.
func object(kind authority.Kind, id string) authority.Object {
	return authority.Object{
		Kind: kind, ID: id, Name: "name of " + id, Body: []byte(`{"client_name":"Wéb <app> ' \u0000 \\","list":["a","b"]}`),
		Revision: 1, CreatedAt: start, UpdatedAt: start.Add(time.Second),
	}
}

func nameless(kind authority.Kind, id string) authority.Object {
	o := object(kind, id)
	o.Name = ""
	return o
}

var freshIDs atomic.Int64

// fresh is an id that no other part of the suite has used: some never return.
func fresh(prefix string) string { return fmt.Sprint(prefix, "-", freshIDs.Add(1)) }

func objectOf(t testing.TB, s Store, kind authority.Kind, id string) authority.Object {
	t.Helper()
	o, err := s.Object(t.Context(), kind, id)
	noError(t, err)
	return o
}

func deleteObject(t testing.TB, s Store, o authority.Object) {
	t.Helper()
	noError(t, s.DeleteObject(t.Context(), o.Kind, o.ID, o.Revision, start))
}

var objectChecks = []check{
	{"objects of a kind whose ids never return are kept", func(t testing.TB, e Engine) { checkObjects(t, e, authority.KindUser) }},
	{"objects of a kind whose ids may return are kept", func(t testing.TB, e Engine) { checkObjects(t, e, authority.KindResource) }},
	{"objects of a kind that is yet to come are kept", func(t testing.TB, e Engine) { checkObjects(t, e, "cluster") }},
	{"64 change one object on two nodes: one succeeds", func(t testing.TB, e Engine) {
		s := e.Open(t)
		other := e.Again(t, s)
		noError(t, s.CreateObject(t.Context(), object(authority.KindClient, "a")))
		contend(t, authority.ErrConflict, func(i int) error {
			o := object(authority.KindClient, "a") // the clock does not move
			o.Body = fmt.Appendf(nil, `{"winner":%d}`, i)
			return oneOf(i, s, other).UpdateObject(t.Context(), o)
		})
		equal(t, objectOf(t, s, authority.KindClient, "a").Revision, int64(2))
	}},
	{"64 create one object on two nodes: one succeeds", func(t testing.TB, e Engine) {
		s := e.Open(t)
		other := e.Again(t, s)
		contend(t, authority.ErrExists, func(i int) error {
			return oneOf(i, s, other).CreateObject(t.Context(), object(authority.KindClient, "a"))
		})
	}},
	{"64 delete one object on two nodes: one succeeds", func(t testing.TB, e Engine) {
		s := e.Open(t)
		other := e.Again(t, s)
		for _, kind := range []authority.Kind{authority.KindClient, authority.KindResource} {
			noError(t, s.CreateObject(t.Context(), object(kind, "a")))
			contend(t, authority.ErrNotFound, func(i int) error {
				return oneOf(i, s, other).DeleteObject(t.Context(), kind, "a", 1, start)
			})
		}
	}},
	{"a change and a deletion at one revision: one of them", func(t testing.TB, e Engine) {
		s := e.Open(t)
		for range 10 {
			o := object(authority.KindClient, fresh("c"))
			noError(t, s.CreateObject(t.Context(), o))
			won := 0
			for i, err := range atOnce(2, func(i int) error {
				if i == 0 {
					return s.UpdateObject(t.Context(), o)
				}
				return s.DeleteObject(t.Context(), o.Kind, o.ID, o.Revision, start)
			}) {
				switch {
				case err == nil:
					won++
				case !errors.Is(err, []error{authority.ErrNotFound, authority.ErrConflict}[i]):
					t.Fatalf("%d: %v", i, err)
				}
			}
			equal(t, won, 1)
		}
	}},
	{"a name is one object's of its kind", func(t testing.TB, e Engine) {
		s := e.Open(t)
		a, b := object(authority.KindUser, "a"), object(authority.KindUser, "b")
		noError(t, s.CreateObject(t.Context(), a))
		noError(t, s.CreateObject(t.Context(), b))
		got, err := s.ObjectByName(t.Context(), authority.KindUser, a.Name)
		noError(t, err)
		equal(t, got, a)
		for _, name := range []string{"nobody", "NAME OF A", "", "a", "name\x00", "name\xff"} {
			_, err := s.ObjectByName(t.Context(), authority.KindUser, name)
			wantError(t, err, authority.ErrNotFound)
		}
		_, err = s.ObjectByName(t.Context(), authority.KindClient, a.Name)
		wantError(t, err, authority.ErrNotFound)
		c := object(authority.KindUser, "c")
		c.Name = a.Name
		wantError(t, s.CreateObject(t.Context(), c), authority.ErrExists)
		_, err = s.Object(t.Context(), authority.KindUser, "c")
		wantError(t, err, authority.ErrNotFound)
		taken := b
		taken.Name = a.Name
		wantError(t, s.UpdateObject(t.Context(), taken), authority.ErrExists)
		equal(t, objectOf(t, s, authority.KindUser, "b"), b)
		// Another kind may have the name, and so may the next one after a deletion.
		other := object(authority.KindResource, "a")
		noError(t, s.CreateObject(t.Context(), other))
		deleteObject(t, s, a)
		_, err = s.ObjectByName(t.Context(), authority.KindUser, a.Name)
		wantError(t, err, authority.ErrNotFound)
		noError(t, s.UpdateObject(t.Context(), taken))
	}},
	{"64 take one name on two nodes: one succeeds", func(t testing.TB, e Engine) {
		s := e.Open(t)
		other := e.Again(t, s)
		contend(t, authority.ErrExists, func(i int) error {
			o := object(authority.KindUser, fresh("u"))
			o.Name = "ada"
			return oneOf(i, s, other).CreateObject(t.Context(), o)
		})
	}},
	{"clients and users share their ids, and resources have theirs", func(t testing.TB, e Engine) {
		s := e.Open(t)
		noError(t, s.CreateObject(t.Context(), object(authority.KindUser, "x")))
		wantError(t, s.CreateObject(t.Context(), nameless(authority.KindClient, "x")), authority.ErrExists)
		noError(t, s.CreateObject(t.Context(), nameless(authority.KindResource, "x")))
		_, err := s.Object(t.Context(), authority.KindClient, "x")
		wantError(t, err, authority.ErrNotFound)
		wantError(t, s.UpdateObject(t.Context(), nameless(authority.KindClient, "x")), authority.ErrNotFound)
		wantError(t, s.DeleteObject(t.Context(), authority.KindClient, "x", 1, start), authority.ErrNotFound)
		equal(t, objectOf(t, s, authority.KindUser, "x").Revision, int64(1))
	}},
	{"64 take one id as a client and as a user: one succeeds", func(t testing.TB, e Engine) {
		s := e.Open(t)
		other := e.Again(t, s)
		contend(t, authority.ErrExists, func(i int) error {
			return oneOf(i, s, other).CreateObject(t.Context(), nameless([]authority.Kind{authority.KindClient, authority.KindUser}[i/2%2], "x"))
		})
	}},
	{"the id of a deleted client or user never returns", func(t testing.TB, e Engine) {
		s := e.Open(t)
		other := e.Again(t, s)
		kinds := []authority.Kind{authority.KindClient, authority.KindUser}
		for _, kind := range kinds {
			o := object(kind, fresh("x"))
			noError(t, s.CreateObject(t.Context(), o))
			deleteObject(t, s, o)
			for _, next := range kinds {
				for _, node := range []Store{s, other} {
					wantError(t, node.CreateObject(t.Context(), nameless(next, o.ID)), authority.ErrRetired)
				}
			}
			wantError(t, s.UpdateObject(t.Context(), o), authority.ErrNotFound)
			list, err := s.Objects(t.Context(), kind, authority.Page{Limit: 1000})
			noError(t, err)
			equal(t, len(list), 0)
		}
		r := object(authority.KindResource, "https://api.example.com")
		noError(t, s.CreateObject(t.Context(), r))
		deleteObject(t, s, r)
		noError(t, s.CreateObject(t.Context(), r))
	}},
}

var claimChecks = []check{
	{"an id that a file has declared is never anybody else's", func(t testing.TB, e Engine) {
		s := e.Open(t)
		other := e.Again(t, s)
		gone, live := object(authority.KindUser, "gone"), object(authority.KindClient, "live")
		noError(t, s.CreateObject(t.Context(), gone))
		deleteObject(t, s, gone)
		noError(t, s.CreateObject(t.Context(), live))
		file := map[string]authority.Kind{"web": authority.KindClient, "ada": authority.KindUser}
		for _, node := range []Store{s, other, s} {
			noError(t, node.ClaimIDs(t.Context(), file, start))
		}
		noError(t, s.ClaimIDs(t.Context(), nil, start)) // the file has nobody any more
		for id := range file {
			for _, kind := range []authority.Kind{authority.KindClient, authority.KindUser} {
				wantError(t, other.CreateObject(t.Context(), nameless(kind, id)), authority.ErrRetired)
				_, err := s.Object(t.Context(), kind, id)
				wantError(t, err, authority.ErrNotFound)
			}
		}
		// All of them or none.
		wantError(t, s.ClaimIDs(t.Context(), map[string]authority.Kind{"a": authority.KindUser, "live": authority.KindClient}, start), authority.ErrExists)
		wantError(t, s.ClaimIDs(t.Context(), map[string]authority.Kind{"a": authority.KindUser, "gone": authority.KindUser}, start), authority.ErrRetired)
		wantError(t, s.ClaimIDs(t.Context(), map[string]authority.Kind{"a": authority.KindUser, "gone": authority.KindClient}, start), authority.ErrRetired)
		wantError(t, s.ClaimIDs(t.Context(), map[string]authority.Kind{"a": authority.KindUser, "web": authority.KindUser}, start), authority.ErrRetired)
		noError(t, s.CreateObject(t.Context(), nameless(authority.KindClient, "a")))
		noError(t, s.ClaimIDs(t.Context(), file, start))
		list, err := s.Objects(t.Context(), authority.KindClient, authority.Page{Limit: 1000})
		noError(t, err)
		equal(t, len(list), 2)
	}},
	{"a file and the admin API take one id at once: one of them", func(t testing.TB, e Engine) {
		s := e.Open(t)
		other := e.Again(t, s)
		for range 20 {
			id, won := fresh("x"), 0
			for i, err := range atOnce(2, func(i int) error {
				if i == 0 {
					return s.ClaimIDs(t.Context(), map[string]authority.Kind{id: authority.KindUser}, start)
				}
				return other.CreateObject(t.Context(), nameless(authority.KindClient, id))
			}) {
				switch {
				case err == nil:
					won++
				case !errors.Is(err, []error{authority.ErrExists, authority.ErrRetired}[i]):
					t.Fatalf("%d: %v", i, err)
				}
			}
			equal(t, won, 1)
		}
	}},
}

func oneOf(i int, a, b Store) Store {
	if i%2 == 1 {
		return b
	}
	return a
}

func checkObjects(t testing.TB, e Engine, kind authority.Kind) {
	ctx, s := t.Context(), e.Open(t)
	other := e.Again(t, s)
	_, err := s.Object(ctx, kind, "a")
	wantError(t, err, authority.ErrNotFound)
	wantError(t, s.UpdateObject(ctx, object(kind, "a")), authority.ErrNotFound)
	wantError(t, s.DeleteObject(ctx, kind, "a", 1, start), authority.ErrNotFound)
	for _, id := range []string{"a\x00", "a\xff", "'; DROP TABLE objects; --"} {
		_, err := s.Object(ctx, kind, id)
		wantError(t, err, authority.ErrNotFound)
		wantError(t, s.DeleteObject(ctx, kind, id, 1, start), authority.ErrNotFound)
	}

	var want []authority.Object
	for i, id := range []string{"B", "Z", "a", "a b", "ab", "https://x/?y#z", "é"} { // sorted by bytes
		o := object(kind, id)
		if i%2 == 0 {
			o.Name = "" // of which there may be many
		}
		want = append(want, o)
	}
	for i := range want {
		noError(t, s.CreateObject(ctx, want[(i*3)%len(want)]))
	}
	wantError(t, s.CreateObject(ctx, want[2]), authority.ErrExists)
	for _, o := range want {
		equal(t, objectOf(t, other, kind, o.ID), o)
	}
	var got []authority.Object
	for after := ""; ; {
		page, err := s.Objects(ctx, kind, authority.Page{After: after, Limit: 3})
		noError(t, err)
		if len(page) == 0 {
			break
		}
		if len(page) > 3 {
			t.Fatalf("a page of %d", len(page))
		}
		got = append(got, page...)
		after = page[len(page)-1].ID
	}
	equal(t, got, want)
	one, err := s.Objects(ctx, kind, authority.Page{})
	noError(t, err)
	equal(t, len(one), 1)
	none, err := s.Objects(ctx, "nothing", authority.Page{Limit: 1000})
	noError(t, err)
	equal(t, len(none), 0)

	// A change replaces what its maker has seen, and nothing else.
	next := want[2]
	next.Name, next.Body, next.UpdatedAt, next.CreatedAt = "another name", []byte(`{}`), start.Add(time.Minute), start.Add(time.Hour)
	for _, revision := range []int64{0, 2} {
		stale := next
		stale.Revision = revision
		wantError(t, s.UpdateObject(ctx, stale), authority.ErrConflict)
		wantError(t, s.DeleteObject(ctx, kind, "a", revision, start), authority.ErrConflict)
	}
	noError(t, s.UpdateObject(ctx, next))
	next.Revision, next.CreatedAt = 2, start
	equal(t, objectOf(t, other, kind, "a"), next)
	byName, err := other.ObjectByName(ctx, kind, "another name")
	noError(t, err)
	equal(t, byName, next)

	wantError(t, s.DeleteObject(ctx, kind, "a", 1, start), authority.ErrConflict)
	deleteObject(t, s, next)
	_, err = other.Object(ctx, kind, "a")
	wantError(t, err, authority.ErrNotFound)
	wantError(t, s.DeleteObject(ctx, kind, "a", 2, start), authority.ErrNotFound)
	rest, err := s.Objects(ctx, kind, authority.Page{Limit: 1000})
	noError(t, err)
	equal(t, len(rest), len(want)-1)
}

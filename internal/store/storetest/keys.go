package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

func key(id, algorithm string, state authority.KeyState) authority.Key {
	return authority.Key{ID: id, Algorithm: algorithm, Public: []byte(`{"kty":"EC"}`), Sealed: []byte{0, 1, 0xff}, State: state, CreatedAt: start}
}

func keysOf(t testing.TB, s Store) map[string]authority.Key {
	t.Helper()
	list, err := s.Keys(t.Context())
	noError(t, err)
	m := map[string]authority.Key{}
	for _, k := range list {
		m[k.ID] = k
	}
	equal(t, len(m), len(list))
	return m
}

var keyChecks = []check{
	{"keys come back as they were stored", func(t testing.TB, e Engine) {
		s := e.Open(t)
		equal(t, len(keysOf(t, s)), 0)
		a, b := key("a", "ES256", authority.KeyNext), key("b", "ES256", authority.KeyRetired)
		b.PromotedAt, b.RetiredAt = start.Add(time.Second), start.Add(time.Minute)
		noError(t, s.AddKey(t.Context(), a))
		noError(t, s.AddKey(t.Context(), b))
		equal(t, keysOf(t, s), map[string]authority.Key{"a": a, "b": b})
	}},
	{"an algorithm has one next and one current key", func(t testing.TB, e Engine) {
		s := e.Open(t)
		for _, state := range []authority.KeyState{authority.KeyNext, authority.KeyCurrent} {
			noError(t, s.AddKey(t.Context(), key("first "+string(state), "ES256", state)))
			wantError(t, s.AddKey(t.Context(), key("second "+string(state), "ES256", state)), authority.ErrConflict)
			noError(t, s.AddKey(t.Context(), key("other "+string(state), "RS256", state)))
		}
		noError(t, s.AddKey(t.Context(), key("old", "ES256", authority.KeyRetired)))
		noError(t, s.AddKey(t.Context(), key("older", "ES256", authority.KeyRetired)))
		wantError(t, s.AddKey(t.Context(), key("old", "EdDSA", authority.KeyNext)), authority.ErrConflict)
		equal(t, len(keysOf(t, s)), 6)
	}},
	{"64 nodes add the first key: one succeeds", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		winner := contend(t, authority.ErrConflict, func(i int) error {
			return nodes[i%2].AddKey(t.Context(), key(fmt.Sprint(i), "ES256", authority.KeyCurrent))
		})
		equal(t, keysOf(t, s), map[string]authority.Key{fmt.Sprint(winner): key(fmt.Sprint(winner), "ES256", authority.KeyCurrent)})
	}},
	{"promotion makes next current and current retired", func(t testing.TB, e Engine) {
		s := e.Open(t)
		first, second := key("first", "ES256", authority.KeyNext), key("second", "ES256", authority.KeyNext)
		noError(t, s.AddKey(t.Context(), first))
		noError(t, s.PromoteKey(t.Context(), "first", "", start.Add(time.Hour)))
		noError(t, s.AddKey(t.Context(), second))
		noError(t, s.PromoteKey(t.Context(), "second", "first", start.Add(2*time.Hour)))
		first.State, first.PromotedAt, first.RetiredAt = authority.KeyRetired, start.Add(time.Hour), start.Add(2*time.Hour)
		second.State, second.PromotedAt = authority.KeyCurrent, start.Add(2*time.Hour)
		equal(t, keysOf(t, s), map[string]authority.Key{"first": first, "second": second})
	}},
	{"a promotion that finds anything else changed is a conflict and changes nothing", func(t testing.TB, e Engine) {
		s := e.Open(t)
		for _, k := range []authority.Key{
			key("current", "ES256", authority.KeyCurrent), key("next", "ES256", authority.KeyNext), key("retired", "ES256", authority.KeyRetired),
			key("rsa next", "RS256", authority.KeyNext), key("ed current", "EdDSA", authority.KeyCurrent),
		} {
			noError(t, s.AddKey(t.Context(), k))
		}
		before := keysOf(t, s)
		for _, pair := range [][2]string{
			{"next", ""}, {"next", "retired"}, {"next", "next"}, {"next", "missing"}, {"missing", "current"}, {"retired", "current"},
			{"current", "current"}, {"current", ""}, {"retired", ""}, {"rsa next", "current"}, {"rsa next", "ed current"}, {"missing", ""},
		} {
			wantError(t, s.PromoteKey(t.Context(), pair[0], pair[1], start), authority.ErrConflict)
			equal(t, keysOf(t, s), before)
		}
		noError(t, s.PromoteKey(t.Context(), "rsa next", "", start))
		noError(t, s.PromoteKey(t.Context(), "next", "current", start))
	}},
	{"64 promote one key on two nodes: one succeeds", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		noError(t, s.AddKey(t.Context(), key("current", "ES256", authority.KeyCurrent)))
		noError(t, s.AddKey(t.Context(), key("next", "ES256", authority.KeyNext)))
		contend(t, authority.ErrConflict, func(i int) error { return nodes[i%2].PromoteKey(t.Context(), "next", "current", start) })
		keys := keysOf(t, s)
		equal(t, keys["current"].State, authority.KeyRetired)
		equal(t, keys["next"].State, authority.KeyCurrent)
	}},
	{"a key is removed in any state, once", func(t testing.TB, e Engine) {
		s := e.Open(t)
		for _, state := range []authority.KeyState{authority.KeyNext, authority.KeyCurrent, authority.KeyRetired} {
			noError(t, s.AddKey(t.Context(), key(string(state), "ES256", state)))
			noError(t, s.RemoveKey(t.Context(), string(state)))
			wantError(t, s.RemoveKey(t.Context(), string(state)), authority.ErrNotFound)
		}
		wantError(t, s.RemoveKey(t.Context(), "no\x00key"), authority.ErrNotFound)
		equal(t, len(keysOf(t, s)), 0)
	}},
}

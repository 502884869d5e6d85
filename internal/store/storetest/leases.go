package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// take takes a lease and compares all but its time.
func take(t testing.TB, s Store, name, holder string, life time.Duration, ready bool, want authority.Lease, wantErr error) {
	t.Helper()
	got, err := s.TakeLease(t.Context(), name, holder, life, ready)
	if err != wantErr {
		t.Fatalf("%s takes %s: got %v, want %v", holder, name, err, wantErr)
	}
	timeless(t, got, want)
}

// timeless compares leases. One that is somebody's has an hour, or a little less.
func timeless(t testing.TB, got, want authority.Lease) {
	t.Helper()
	if got.Left > time.Hour || got.Left < 0 || (got.Left > 0) != (want.Left > 0) {
		t.Fatalf("%s of %s has %s left", got.Name, got.Holder, got.Left)
	}
	got.Left, want.Left = 0, 0
	equal(t, got, want)
}

var leaseChecks = []check{
	{"a lease is its holder's until it is given back, and others see whose", func(t testing.TB, e Engine) {
		s := e.Open(t)
		other := e.Again(t, s)
		_, err := s.Lease(t.Context(), "hub")
		wantError(t, err, authority.ErrNotFound)
		_, err = s.Lease(t.Context(), "no\x00name")
		wantError(t, err, authority.ErrNotFound)
		first := authority.Lease{Name: "hub", Holder: "a", Fence: 1, Left: time.Hour}
		take(t, s, "hub", "a", time.Hour, false, first, nil)
		take(t, other, "hub", "b", time.Hour, true, first, authority.ErrConflict)
		take(t, other, "spoke", "b", time.Hour, false, authority.Lease{Name: "spoke", Holder: "b", Fence: 1, Left: time.Hour}, nil)
		first.Ready = true
		take(t, s, "hub", "a", time.Hour, true, first, nil)
		take(t, other, "hub", "b", time.Hour, false, first, authority.ErrConflict)

		noError(t, other.ReleaseLease(t.Context(), "hub", "b")) // which is not b's
		noError(t, other.ReleaseLease(t.Context(), "nobody's", "b"))
		take(t, other, "hub", "b", time.Hour, false, first, authority.ErrConflict)
		noError(t, s.ReleaseLease(t.Context(), "hub", "a"))
		free, err := other.Lease(t.Context(), "hub")
		noError(t, err)
		equal(t, free, authority.Lease{Name: "hub", Holder: "a", Fence: 1})
		take(t, other, "hub", "b", time.Hour, true, authority.Lease{Name: "hub", Holder: "b", Fence: 2, Ready: true, Left: time.Hour}, nil)
		take(t, s, "hub", "a", time.Hour, false, authority.Lease{Name: "hub", Holder: "b", Fence: 2, Ready: true, Left: time.Hour}, authority.ErrConflict)
	}},
	{"a lease that ran out is the next one's, and its old holder hears so", func(t testing.TB, e Engine) {
		s := e.Open(t)
		const life = 50 * time.Millisecond
		take(t, s, "hub", "a", life, true, authority.Lease{Name: "hub", Holder: "a", Fence: 1, Ready: true, Left: life}, nil)
		l, err := s.TakeLease(t.Context(), "hub", "b", time.Hour, false)
		for err == authority.ErrConflict {
			l, err = s.TakeLease(t.Context(), "hub", "b", time.Hour, false)
		}
		noError(t, err)
		timeless(t, l, authority.Lease{Name: "hub", Holder: "b", Fence: 2, Left: time.Hour})
		take(t, s, "hub", "a", time.Hour, true, authority.Lease{Name: "hub", Holder: "b", Fence: 2, Left: time.Hour}, authority.ErrConflict)
	}},
	{"a holder that comes late, with nobody in between, keeps its fence", func(t testing.TB, e Engine) {
		s := e.Open(t)
		l, err := s.TakeLease(t.Context(), "hub", "a", time.Microsecond, true)
		for err == nil && l.Left > 0 {
			l, err = s.Lease(t.Context(), "hub")
		}
		noError(t, err)
		equal(t, l, authority.Lease{Name: "hub", Holder: "a", Fence: 1}) // nobody's word holds longer than the lease
		take(t, s, "hub", "a", time.Hour, false, authority.Lease{Name: "hub", Holder: "a", Fence: 1, Left: time.Hour}, nil)
	}},
	{"64 take one lease on two nodes: one succeeds, and all see whose it is", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		for round := range 4 {
			seen := make([]authority.Lease, many)
			winner := contend(t, authority.ErrConflict, func(i int) (err error) {
				seen[i], err = nodes[i%2].TakeLease(t.Context(), "hub", fmt.Sprint(round, " ", i), time.Hour, false)
				return err
			})
			holder := fmt.Sprint(round, " ", winner)
			for _, l := range seen {
				timeless(t, l, authority.Lease{Name: "hub", Holder: holder, Fence: int64(round + 1), Left: time.Hour})
			}
			noError(t, nodes[0].ReleaseLease(t.Context(), "hub", holder))
		}
	}},
	{"keys of evidence are those of living grants, each once, by kind and prefix, page by page", func(t testing.TB, e Engine) {
		s := e.Open(t)
		on := func(kind authority.EvidenceKind, key string) authority.Grant {
			return activeGrant(withEvidence(authority.Evidence{Kind: kind, Key: key}))
		}
		ends := on(authority.EvidencePod, "hub/gone")
		create(t, s, on(authority.EvidencePod, "hub/b"), on(authority.EvidencePod, "hub/a"), on(authority.EvidencePod, "hub/b"),
			pendingGrant(withEvidence(authority.PodEvidence("hub", "c"))), ends, on(authority.EvidencePod, "hub/ä"),
			on(authority.EvidencePod, "hub-2/a"), on(authority.EvidencePod, "hub0"), on(authority.EvidencePod, "spoke/a"),
			on(authority.EvidenceJob, "hub/a"), on(authority.EvidenceJob, "hub/d"), activeGrant())
		_, err := s.EndEvidence(t.Context(), ends.Evidence, start, ending)
		noError(t, err)
		for _, r := range []struct {
			prefix string
			page   authority.Page
			want   []string
		}{
			{"hub/", authority.Page{Limit: 100}, []string{"hub/a", "hub/b", "hub/c", "hub/ä"}},
			{"hub/", authority.Page{Limit: 2}, []string{"hub/a", "hub/b"}},
			{"hub/", authority.Page{Limit: 2, After: "hub/b"}, []string{"hub/c", "hub/ä"}},
			{"hub/", authority.Page{Limit: 2, After: "hub/ä"}, nil},
			{"hub/", authority.Page{Limit: 2, After: "hub/bb"}, []string{"hub/c", "hub/ä"}},
			{"hub", authority.Page{Limit: 2}, []string{"hub-2/a", "hub/a"}},
			{"", authority.Page{Limit: 100}, []string{"hub-2/a", "hub/a", "hub/b", "hub/c", "hub/ä", "hub0", "spoke/a"}},
			{"none/", authority.Page{Limit: 100}, nil},
			{"hub\x00", authority.Page{Limit: 100}, nil},
		} {
			got, err := s.EvidenceKeys(t.Context(), authority.EvidencePod, r.prefix, r.page)
			noError(t, err)
			if fmt.Sprint(got) != fmt.Sprint(r.want) {
				t.Errorf("%q, %+v: got %q, want %q", r.prefix, r.page, got, r.want)
			}
		}
	}},
}

// The model.

// leased is a lease and when it runs out.
type leased struct {
	authority.Lease
	until time.Time
}

func (l leased) now() authority.Lease {
	l.Left = max(0, time.Until(l.until))
	l.Ready = l.Ready && l.Left > 0
	return l.Lease
}

func (m *model) TakeLease(_ context.Context, name, holder string, life time.Duration, ready bool) (authority.Lease, error) {
	defer m.lock()()
	l := m.leases[name]
	if l.Holder != holder && time.Now().Before(l.until) {
		return l.now(), authority.ErrConflict
	}
	if l.Holder != holder {
		l.Fence++
	}
	l.Name, l.Holder, l.Ready, l.until = name, holder, ready, time.Now().Add(life)
	m.leases[name] = l
	return l.now(), nil
}

func (m *model) ReleaseLease(_ context.Context, name, holder string) error {
	defer m.lock()()
	if l, known := m.leases[name]; known && l.Holder == holder {
		l.until = time.Time{}
		m.leases[name] = l
	}
	return nil
}

func (m *model) Lease(_ context.Context, name string) (authority.Lease, error) {
	defer m.lock()()
	l, known := m.leases[name]
	if !known {
		return authority.Lease{}, authority.ErrNotFound
	}
	return l.now(), nil
}

func (m *model) EvidenceKeys(_ context.Context, kind authority.EvidenceKind, prefix string, p authority.Page) ([]string, error) {
	defer m.lock()()
	found := map[string]bool{}
	for _, g := range m.grants {
		if e := g.Evidence; e.Kind == kind && strings.HasPrefix(e.Key, prefix) && e.Key > p.After && g.State != authority.GrantEnded {
			found[e.Key] = true
		}
	}
	keys := slices.Sorted(maps.Keys(found))
	return keys[:min(len(keys), p.Limit)], nil
}

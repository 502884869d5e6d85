package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

func head(seq uint64, n int) authority.JournalHead {
	return authority.JournalHead{Seq: seq, Hash: hash(n), At: start.Add(time.Duration(seq) * time.Second)}
}

var empty = head(0, 0)

var loss = authority.JournalLoss{First: 4, Last: 9, At: start, By: "n2", Reason: "the folder ends at record 3"}

func startJournal(t testing.TB, s Store, node, place string) {
	t.Helper()
	_, err := s.StartJournal(t.Context(), node, place, empty)
	noError(t, err)
}

func journalOf(t testing.TB, s Store, node string) authority.Journal {
	t.Helper()
	list, err := s.Journals(t.Context())
	noError(t, err)
	for _, j := range list {
		if j.Node == node {
			return j
		}
	}
	t.Fatalf("node %s is not among %+v", node, list)
	return authority.Journal{}
}

var journalChecks = []check{
	{"journals come back as they were stored, sorted by node", func(t testing.TB, e Engine) {
		s := e.Open(t)
		startJournal(t, s, "b", "/b")
		startJournal(t, s, "a", "/a")
		startJournal(t, s, "c", "/c")
		noError(t, s.SaveJournalHead(t.Context(), "b", empty, head(3, 3)))
		noError(t, s.LoseJournal(t.Context(), "b", loss))
		noError(t, s.RetireJournal(t.Context(), "c", start.Add(time.Hour)))
		list, err := e.Again(t, s).Journals(t.Context())
		noError(t, err)
		equal(t, list, []authority.Journal{
			{Node: "a", Place: "/a", Head: empty},
			{Node: "b", Place: "/b", Head: head(3, 3), Loss: loss},
			{Node: "c", Place: "/c", Head: empty, RetiredAt: start.Add(time.Hour)},
		})
	}},
	{"a node that starts again finds its head, and moves its place", func(t testing.TB, e Engine) {
		s := e.Open(t)
		got, err := s.StartJournal(t.Context(), "a", "/a", empty)
		noError(t, err)
		equal(t, got, empty)
		noError(t, s.SaveJournalHead(t.Context(), "a", empty, head(5, 5)))
		got, err = s.StartJournal(t.Context(), "a", "/new", head(0, 1))
		noError(t, err)
		equal(t, got, head(5, 5))
		equal(t, journalOf(t, s, "a"), authority.Journal{Node: "a", Place: "/new", Head: head(5, 5)})
		startJournal(t, s, "b", "/a") // which is free now
	}},
	{"a place has one journal until that was retired or lost records", func(t testing.TB, e Engine) {
		s := e.Open(t)
		for i, free := range []func(node string) error{
			func(node string) error { return s.RetireJournal(t.Context(), node, start) },
			func(node string) error { return s.LoseJournal(t.Context(), node, loss) },
		} {
			place, first, second := fmt.Sprint("/", i), fmt.Sprint("first", i), fmt.Sprint("second", i)
			startJournal(t, s, first, place)
			_, err := s.StartJournal(t.Context(), second, place, empty)
			wantError(t, err, authority.ErrConflict)
			startJournal(t, s, second, place+"b")
			_, err = s.StartJournal(t.Context(), second, place, empty) // it is known by now
			wantError(t, err, authority.ErrConflict)
			equal(t, journalOf(t, s, second).Place, place+"b")
			noError(t, free(first))
			startJournal(t, s, second, place)
		}
	}},
	{"64 claim one place on two nodes: one succeeds", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		contend(t, authority.ErrConflict, func(i int) error {
			_, err := nodes[i%2].StartJournal(t.Context(), fmt.Sprint("n", i), "/place", empty)
			return err
		})
	}},
	{"a head moves forward from where it is, and in no other way", func(t testing.TB, e Engine) {
		s := e.Open(t)
		startJournal(t, s, "a", "/a")
		startJournal(t, s, "b", "/b")
		noError(t, s.SaveJournalHead(t.Context(), "a", empty, head(5, 5)))
		for name, move := range map[string][2]authority.JournalHead{
			"back":                             {head(5, 5), head(4, 4)},
			"to another record of that number": {head(5, 5), head(5, 6)},
			"from an older head":               {empty, head(6, 6)},
			"from another record":              {head(5, 7), head(6, 6)},
			"from a later head":                {head(6, 6), head(7, 7)},
		} {
			if err := s.SaveJournalHead(t.Context(), "a", move[0], move[1]); err != authority.ErrConflict {
				t.Fatalf("%s: got %v, want a conflict", name, err)
			}
		}
		wantError(t, s.SaveJournalHead(t.Context(), "unknown", empty, head(1, 1)), authority.ErrConflict)
		equal(t, journalOf(t, s, "a").Head, head(5, 5))
		equal(t, journalOf(t, s, "b").Head, empty)
		noError(t, s.SaveJournalHead(t.Context(), "a", head(5, 5), head(6, 6)))
	}},
	{"a move whose answer was lost is asked for again", func(t testing.TB, e Engine) {
		s := e.Open(t)
		startJournal(t, s, "a", "/a")
		for range 2 {
			noError(t, s.SaveJournalHead(t.Context(), "a", empty, head(5, 5)))
		}
		noError(t, s.SaveJournalHead(t.Context(), "a", head(5, 5), head(6, 6)))
		wantError(t, s.SaveJournalHead(t.Context(), "a", empty, head(5, 5)), authority.ErrConflict)
	}},
	{"64 move one head on two nodes: one succeeds", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		startJournal(t, s, "a", "/a")
		winner := contend(t, authority.ErrConflict, func(i int) error {
			return nodes[i%2].SaveJournalHead(t.Context(), "a", empty, head(uint64(1+i), i+1))
		})
		equal(t, journalOf(t, s, "a").Head, head(uint64(1+winner), winner+1))
	}},
	{"a journal that was retired or has lost records ends there, forever", func(t testing.TB, e Engine) {
		s := e.Open(t)
		for _, end := range []func(node string) error{
			func(node string) error { return s.RetireJournal(t.Context(), node, start) },
			func(node string) error { return s.LoseJournal(t.Context(), node, loss) },
		} {
			node := fmt.Sprintf("n%p", end)
			startJournal(t, s, node, "/"+node)
			noError(t, s.SaveJournalHead(t.Context(), node, empty, head(5, 5)))
			noError(t, end(node))
			before := journalOf(t, s, node)
			wantError(t, s.SaveJournalHead(t.Context(), node, head(5, 5), head(6, 6)), authority.ErrConflict)
			_, err := s.StartJournal(t.Context(), node, "/elsewhere", empty)
			wantError(t, err, authority.ErrConflict)
			equal(t, journalOf(t, s, node), before)
		}
	}},
	{"the first loss stays, and the first retirement", func(t testing.TB, e Engine) {
		s := e.Open(t)
		startJournal(t, s, "a", "/a")
		noError(t, s.LoseJournal(t.Context(), "a", loss))
		again := loss
		again.Last, again.By = 99, "n3"
		wantError(t, s.LoseJournal(t.Context(), "a", again), authority.ErrConflict)
		noError(t, s.RetireJournal(t.Context(), "a", start))
		noError(t, s.RetireJournal(t.Context(), "a", start.Add(time.Hour)))
		equal(t, journalOf(t, s, "a"), authority.Journal{Node: "a", Place: "/a", Head: empty, RetiredAt: start, Loss: loss})
		for _, err := range []error{s.LoseJournal(t.Context(), "b", loss), s.RetireJournal(t.Context(), "b\x00", start), s.RetireJournal(t.Context(), "b", start)} {
			wantError(t, err, authority.ErrNotFound)
		}
	}},
}

// The model.

func (m *model) Journals(context.Context) ([]authority.Journal, error) {
	defer m.lock()()
	var list []authority.Journal
	for _, node := range slices.Sorted(maps.Keys(m.journals)) {
		list = append(list, m.journals[node])
	}
	return list, nil
}

func isOver(j authority.Journal) bool { return !j.RetiredAt.IsZero() || !j.Loss.At.IsZero() }

func (m *model) StartJournal(_ context.Context, node, place string, first authority.JournalHead) (authority.JournalHead, error) {
	defer m.lock()()
	j, known := m.journals[node]
	if !known {
		j = authority.Journal{Node: node, Head: first}
	}
	for _, other := range m.journals {
		if other.Node != node && other.Place == place && !isOver(other) {
			return j.Head, authority.ErrConflict
		}
	}
	if isOver(j) {
		return j.Head, authority.ErrConflict
	}
	j.Place = place
	m.journals[node] = j
	return j.Head, nil
}

func (m *model) SaveJournalHead(_ context.Context, node string, from, to authority.JournalHead) error {
	defer m.lock()()
	j, known := m.journals[node]
	is := func(h authority.JournalHead) bool { return j.Head.Seq == h.Seq && j.Head.Hash == h.Hash }
	if !known || isOver(j) || !is(to) && (!is(from) || to.Seq <= from.Seq) {
		return authority.ErrConflict
	}
	j.Head = to
	m.journals[node] = j
	return nil
}

func (m *model) LoseJournal(_ context.Context, node string, loss authority.JournalLoss) error {
	defer m.lock()()
	j, known := m.journals[node]
	switch {
	case !known:
		return authority.ErrNotFound
	case !j.Loss.At.IsZero():
		return authority.ErrConflict
	}
	j.Loss = loss
	m.journals[node] = j
	return nil
}

func (m *model) RetireJournal(_ context.Context, node string, at time.Time) error {
	defer m.lock()()
	j, known := m.journals[node]
	if !known {
		return authority.ErrNotFound
	}
	if j.RetiredAt.IsZero() {
		j.RetiredAt = at
	}
	m.journals[node] = j
	return nil
}

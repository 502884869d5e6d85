package query

import (
	"context"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/journal"
	"github.com/signalbox-sts/signalbox/internal/journal/journaltest"
)

var (
	ctx   = context.Background()
	day   = journaltest.Day
	event = journaltest.Event
	files = journaltest.Files
)

func open(t testing.TB, dir string, opts journal.Options) *journal.Journal {
	t.Helper()
	opts.Sign = journaltest.Sign
	j, err := journal.Open(dir, "a-1", opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func appendN(t testing.TB, j *journal.Journal, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		if err := j.Append(ctx, event(i)); err != nil {
			t.Fatal(err)
		}
	}
}

func closed(t testing.TB, j *journal.Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func records(t testing.TB, dir string, q Query) (all []Record) {
	t.Helper()
	if err := Search(ctx, dir, q, func(r Record) error { all = append(all, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

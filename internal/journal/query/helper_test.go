package query

import (
	"context"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/journal"
	"github.com/signalbox-sts/signalbox/internal/journal/journaltest"
)

var (
	ctx     = context.Background()
	day     = journaltest.Day
	event   = journaltest.Event
	files   = journaltest.Files
	appendN = journaltest.AppendN
	closed  = journaltest.Closed
)

func open(t testing.TB, dir string, opts journal.Options) *journal.Journal {
	t.Helper()
	opts.Sign = journaltest.Sign
	j, err := journal.Open(dir, "a-1", opts)
	return journaltest.Opened(t, j, err)
}

func records(t testing.TB, dir string, q Query) (all []Record) {
	t.Helper()
	if err := Search(ctx, dir, q, func(r Record) error { all = append(all, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

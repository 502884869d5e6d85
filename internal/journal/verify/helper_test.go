package verify

import (
	"context"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal"
	"github.com/signalbox-sts/signalbox/internal/journal/journaltest"
)

var (
	ctx     = context.Background()
	event   = journaltest.Event
	files   = journaltest.Files
	appendN = journaltest.AppendN
	closed  = journaltest.Closed

	plant     = journaltest.Plant
	onLines   = journaltest.OnLines
	replace   = journaltest.Replace
	dropLine  = journaltest.DropLine
	swapLines = journaltest.SwapLines
	copyLine  = journaltest.CopyLine
	cutAfter  = journaltest.CutAfter
)

func open(t testing.TB, dir string, opts journal.Options) *journal.Journal {
	t.Helper()
	opts.Sign = journaltest.Sign
	j, err := journal.Open(dir, "a-1", opts)
	return journaltest.Opened(t, j, err)
}

func verified(t testing.TB, dir string, heads ...authority.JournalHead) Report {
	t.Helper()
	r, err := Dir(dir, Options{CheckSignature: journaltest.Check, Witnessed: witnessed(heads)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sound(t testing.TB, dir string, heads ...authority.JournalHead) NodeReport {
	t.Helper()
	r := verified(t, dir, heads...)
	if !r.OK() {
		t.Fatal(r.Problems())
	}
	return r.Nodes[0]
}

func witnessed(heads []authority.JournalHead) map[string][]authority.JournalHead {
	if len(heads) == 0 {
		return nil
	}
	return map[string][]authority.JournalHead{"a-1": heads}
}

// keeping collects the heads of a journal.
func keeping(heads *[]authority.JournalHead) func(context.Context, string, authority.JournalHead, authority.JournalHead) error {
	return func(_ context.Context, _ string, _, to authority.JournalHead) error {
		*heads = append(*heads, to)
		return nil
	}
}

package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/journal"
	"github.com/signalbox-sts/signalbox/internal/journal/verify"
)

// ran is a service that has run once, with n records, and has stopped.
func ran(t *testing.T, n int, options ...string) (file, dir string) {
	t.Helper()
	file = testFile(t)
	for _, o := range options {
		edit(t, file, "log: {level: warn}", "log: {level: warn}\n"+o)
	}
	runs(t, file, n)
	return file, filepath.Join(filepath.Dir(file), "journal")
}

func runs(t *testing.T, file string, n int) (node string) {
	t.Helper()
	o, err := open(t, file)
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := o.record(t.Context(), authority.Event{Type: authority.EventTokenIssued, ClientID: "batch"}); err != nil {
			t.Fatal(err)
		}
	}
	o.Close()
	return o.journal.Node()
}

// proved is what `audit verify --config` finds.
func proved(t *testing.T, file, witnessFile string) []verify.Problem {
	t.Helper()
	cfg, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	options, err := JournalProof(t.Context(), cfg, witnessFile)
	if err != nil {
		t.Fatal(err)
	}
	report, err := verify.Dir(cfg.Journal.Dir, options)
	if err != nil {
		t.Fatal(err)
	}
	return report.Problems()
}

func TestANodeWithoutItsJournalDoesNotStart(t *testing.T) {
	file, dir := ran(t, 5)
	if p := proved(t, file, ""); len(p) != 0 {
		t.Fatal(p)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	var lost *journal.LostError
	if _, err := open(t, file); !errors.As(err, &lost) || !strings.Contains(err.Error(), "--accept-journal-loss") {
		t.Fatalf("%v", err)
	}
	if p := proved(t, file, ""); len(p) != 1 || p[0].Kind != verify.Missing {
		t.Errorf("%v", p)
	}
	n, err := open(t, file, Options{AcceptJournalLoss: true})
	if err != nil {
		t.Fatal(err)
	}
	n.Close()
	if p := proved(t, file, ""); len(p) != 1 || p[0].Kind != verify.Lost || p[0].Node != lost.Node {
		t.Errorf("%v", p)
	}
	runs(t, file, 1)
}

// Whoever can put back folder and database at once is found out by a witness alone.
func TestAWitnessShowsWhatFolderAndDatabaseHide(t *testing.T) {
	heads := filepath.Join(t.TempDir(), "heads")
	file, dir := ran(t, 5, "journal: {witness: "+heads+"}")
	copyOf := t.TempDir()
	if err := os.CopyFS(copyOf, os.DirFS(filepath.Dir(file))); err != nil {
		t.Fatal(err)
	}
	node := runs(t, file, 5)
	if p := proved(t, file, heads); len(p) != 0 {
		t.Fatalf("the whole journal: %v", p)
	}
	if err := os.WriteFile(heads+".old", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// The backup comes back and is written on.
	back := filepath.Join(copyOf, filepath.Base(file))
	if p := proved(t, back, heads); len(p) != 1 || p[0].Kind != verify.Truncated || p[0].Node != node {
		t.Errorf("a backup: %v", p)
	}
	edit(t, back, heads, heads+".old")
	runs(t, back, 20)
	if p := proved(t, back, ""); len(p) != 0 {
		t.Errorf("the database alone knows nothing: %v", p)
	}
	if p := proved(t, back, heads); len(p) != 1 || p[0].Kind != verify.Changed {
		t.Errorf("a backup that was written on: %v", p)
	}
	// All of it is made again.
	for _, path := range []string{dir, filepath.Join(filepath.Dir(file), "signalbox.db")} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, tail := range []string{"-wal", "-shm"} {
		_ = os.Remove(filepath.Join(filepath.Dir(file), "signalbox.db"+tail))
	}
	runs(t, file, 5)
	if p := proved(t, file, heads); len(p) != 1 || p[0].Kind != verify.Missing || p[0].Node != node {
		t.Errorf("a new service: %v", p)
	}
	// The notes of another service prove nothing.
	other, _ := ran(t, 1)
	cfg, err := config.Load(other, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := JournalProof(t.Context(), cfg, heads); err == nil || !strings.Contains(err.Error(), "line 2: not a note that this service has signed") {
		t.Errorf("%v", err)
	}
}

// A witness that is away neither stops nor slows what is issued.
func TestAWitnessThatIsAwayIsOnlyCounted(t *testing.T) {
	file, _ := ran(t, 0, "journal: {witness: /nowhere/at/all/heads}")
	n, err := open(t, file)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.record(t.Context(), authority.Event{Type: authority.EventTokenIssued}); err != nil {
		t.Fatal(err)
	}
	n.Close()
	if seq, failures := n.journal.Witnessed(); seq != 0 || failures == 0 || n.journal.Err() != nil {
		t.Errorf("witnessed up to %d, %d failures, %v", seq, failures, n.journal.Err())
	}
}

package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal/format"
	"github.com/signalbox-sts/signalbox/internal/journal/journaltest"
	"github.com/signalbox-sts/signalbox/internal/journal/query"
	"github.com/signalbox-sts/signalbox/internal/journal/verify"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
)

// machine is a node with its folder and the database that remembers it.
type machine struct {
	t     *testing.T
	dir   string
	place string
	db    *sqldb.DB
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	db, err := sqldb.Open(ctx, "sqlite:"+filepath.Join(t.TempDir(), "signalbox.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	m := &machine{t: t, db: db}
	return m.beside("one")
}

// beside is another machine with the same database.
func (m *machine) beside(name string) *machine {
	return &machine{t: m.t, dir: filepath.Join(m.t.TempDir(), "journal"), place: name + ":/journal", db: m.db}
}

func (m *machine) start(acceptLoss bool) (*Journal, error) {
	return Start(ctx, Home{Dir: m.dir, Place: m.place, Store: m.db, AcceptLoss: acceptLoss},
		Options{Sign: journaltest.Sign, Now: func() time.Time { return day }})
}

// runs starts the node, appends n records, and stops it, which anchors the last head.
func (m *machine) runs(n int) (node string) {
	m.t.Helper()
	j, err := m.start(false)
	if err != nil {
		m.t.Fatal(err)
	}
	appendN(m.t, j, 0, n)
	closed(m.t, j)
	return j.Node()
}

// refused starts the node, which must not start, and gives what is lost.
func (m *machine) refused(want string) *LostError {
	m.t.Helper()
	j, err := m.start(false)
	if err == nil {
		closed(m.t, j)
		m.t.Fatal("it started")
	}
	var lost *LostError
	if !errors.As(err, &lost) || !strings.Contains(err.Error(), want) {
		m.t.Fatalf("got %v, want a loss: %s", err, want)
	}
	if !strings.Contains(err.Error(), "--accept-journal-loss") || !strings.Contains(err.Error(), m.dir) {
		m.t.Errorf("it does not say what to do: %v", err)
	}
	return lost
}

// problems is what `audit verify` finds with the database.
func (m *machine) problems() []verify.Problem {
	m.t.Helper()
	known, err := m.db.Journals(ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	r, err := verify.Dir(m.dir, verify.Options{CheckSignature: journaltest.Check, Known: known, Elsewhere: func(p string) bool { return p != m.place }})
	if err != nil {
		m.t.Fatal(err)
	}
	return r.Problems()
}

// copied is a copy of the folder as it is now.
func (m *machine) copied() string {
	m.t.Helper()
	to := filepath.Join(m.t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(m.dir)); err != nil {
		m.t.Fatal(err)
	}
	return to
}

// has puts another folder in place of the machine's.
func (m *machine) has(folder string) {
	m.t.Helper()
	if err := errors.Join(os.RemoveAll(m.dir), os.CopyFS(m.dir, os.DirFS(folder))); err != nil {
		m.t.Fatal(err)
	}
}

// Issue: a folder that was cut, emptied or replaced, and then written on, looked whole.
func TestAFolderThatLacksWhatIsRememberedDoesNotStart(t *testing.T) {
	t.Run("the end was cut off", func(t *testing.T) {
		m := newMachine(t)
		node := m.runs(8)
		m.runs(8)
		plant(t, files(t, m.dir)[0], journaltest.CutAfter(9)) // behind the checkpoint of the first run
		lost := m.refused("ends at record 9, but record 17 is remembered")
		if lost.Node != node || lost.First != 10 || lost.Last != 17 {
			t.Errorf("%+v", lost)
		}
		if p := m.problems(); len(p) != 1 || p[0].Kind != verify.Truncated {
			t.Errorf("verify: %v", p)
		}
	})
	t.Run("an older copy was put back", func(t *testing.T) {
		m := newMachine(t)
		m.runs(8)
		backup := m.copied()
		m.runs(8)
		m.has(backup)
		m.refused("ends at record 9, but record 17 is remembered")
	})
	t.Run("an older copy was put back and continued by somebody with the keys", func(t *testing.T) {
		m := newMachine(t)
		node := m.runs(8)
		backup := m.copied()
		m.runs(8)
		m.has(backup)
		j := forger(t, m, node)
		appendN(t, j, 100, 20)
		closed(t, j)
		if lost := m.refused("record 17 is not the one that is remembered"); lost.First != 1 || lost.Last != 17 {
			t.Errorf("%+v", lost)
		}
		if p := m.problems(); len(p) != 1 || p[0].Kind != verify.Changed {
			t.Errorf("verify: %v", p)
		}
	})
	t.Run("all files but the name are gone", func(t *testing.T) {
		m := newMachine(t)
		m.runs(8)
		for _, f := range files(t, m.dir) {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
		if lost := m.refused("holds no file of node"); lost.First != 1 || lost.Last != 8 {
			t.Errorf("%+v", lost)
		}
		if p := m.problems(); len(p) != 1 || p[0].Kind != verify.Missing {
			t.Errorf("verify: %v", p)
		}
	})
	t.Run("the folder is gone, its name too", func(t *testing.T) {
		m := newMachine(t)
		node := m.runs(8)
		if err := os.RemoveAll(m.dir); err != nil {
			t.Fatal(err)
		}
		if lost := m.refused("holds no file of node " + node + ", which wrote its journal here until"); lost.First != 1 || lost.Last != 8 {
			t.Errorf("%+v", lost)
		}
		if p := m.problems(); len(p) != 1 || p[0].Kind != verify.Missing || p[0].Node != node {
			t.Errorf("verify: %v", p)
		}
	})
	t.Run("a folder with another name is in its place", func(t *testing.T) {
		m := newMachine(t)
		node := m.runs(8)
		if err := errors.Join(os.RemoveAll(m.dir), os.MkdirAll(m.dir, 0o700), os.WriteFile(filepath.Join(m.dir, "node"), []byte("fresh\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if lost := m.refused("holds no file of node " + node); lost.Node != node {
			t.Errorf("%+v", lost)
		}
	})
	t.Run("it was emptied before its first checkpoint", func(t *testing.T) {
		m := newMachine(t)
		j, err := m.start(false)
		if err != nil {
			t.Fatal(err)
		}
		appendN(t, j, 0, 3)
		// As it is after kill -9: nothing was anchored but the start.
		before := m.dir
		if err := os.Rename(m.dir, m.dir+".gone"); err != nil {
			t.Fatal(err)
		}
		m.refused("holds no file of node " + j.Node())
		if err := errors.Join(os.RemoveAll(m.dir), os.Rename(before+".gone", m.dir)); err != nil {
			t.Fatal(err)
		}
		closed(t, j)
	})
	t.Run("two nodes changed folders", func(t *testing.T) {
		a := newMachine(t)
		b := a.beside("two")
		a.runs(8)
		b.runs(3)
		ofA, ofB := a.copied(), b.copied()
		a.has(ofB)
		b.has(ofA)
		a.refused("holds no file of node")
		b.refused("holds no file of node")
		a.has(ofA)
		b.has(ofB)
		a.runs(1)
		b.runs(1)
	})
	t.Run("two nodes changed files but kept their names", func(t *testing.T) {
		a := newMachine(t)
		b := a.beside("two")
		nodeA, nodeB := a.runs(8), b.runs(3)
		ofA, ofB := a.copied(), b.copied()
		a.has(ofB)
		b.has(ofA)
		for m, node := range map[*machine]string{a: nodeA, b: nodeB} {
			if err := os.WriteFile(filepath.Join(m.dir, "node"), []byte(node+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			m.refused("holds no file of node " + node)
		}
	})
	t.Run("the head is in an earlier file, which was changed", func(t *testing.T) {
		m := newMachine(t)
		node := m.runs(8)
		j, err := Open(m.dir, node, Options{MaxSegment: 1 << 10, Sign: journaltest.Sign}) // while the database does not answer
		if err != nil {
			t.Fatal(err)
		}
		appendN(t, j, 8, 20)
		closed(t, j)
		f := files(t, m.dir)
		if len(f) < 4 {
			t.Fatalf("%d files", len(f))
		}
		m.runs(1)
		m = &machine{t: t, dir: m.copied(), place: "new", db: m.db}
		m.runs(1) // with a head in the last file, an earlier one is the work of verify
	})
}

// forger is somebody with the keys of this process and without the database.
func forger(t *testing.T, m *machine, node string) *Journal {
	t.Helper()
	j, err := Open(m.dir, node, Options{Sign: journaltest.Sign})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// A database that did not hear of the last segments remembers an older head.
func TestAnOlderHeadIsLookedForInItsFile(t *testing.T) {
	build := func(t *testing.T) (*machine, []string) {
		m := newMachine(t)
		node := m.runs(8)
		j, err := Open(m.dir, node, Options{MaxSegment: 2 << 10, Sign: journaltest.Sign})
		if err != nil {
			t.Fatal(err)
		}
		appendN(t, j, 8, 20)
		closed(t, j)
		f := files(t, m.dir)
		if len(f) < 4 {
			t.Fatalf("%d files", len(f))
		}
		return m, f
	}
	t.Run("it is there", func(t *testing.T) {
		m, _ := build(t)
		m.runs(1)
	})
	t.Run("the record of that number is another", func(t *testing.T) {
		m, f := build(t)
		known, _ := m.db.Journals(ctx)
		head := known[0].Head
		head.Seq++
		head.Hash = [32]byte{1}
		if err := m.db.SaveJournalHead(ctx, known[0].Node, known[0].Head, head); err != nil {
			t.Fatal(err)
		}
		m.refused(fmt.Sprintf("%s:%d: changed: record %d is not the one that is remembered", f[0], head.Seq, head.Seq))
	})
	for name, break_ := range map[string]func(t *testing.T, f []string){
		"a file after it is gone":          func(t *testing.T, f []string) { os.Remove(f[1]) },
		"a file after it ends early":       func(t *testing.T, f []string) { plant(t, f[1], func(b []byte) []byte { return b[:len(b)-10] }) },
		"a line after it was changed":      func(t *testing.T, f []string) { plant(t, f[1], replace(1, "client-", "Client-")) },
		"a line before it was changed":     func(t *testing.T, f []string) { plant(t, f[0], replace(2, "client-", "Client-")) },
		"the files up to it were archived": func(t *testing.T, f []string) { os.Remove(f[0]) },
		"all files but the last are missing": func(t *testing.T, f []string) {
			for _, p := range f[:len(f)-1] {
				os.Remove(p)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, f := build(t)
			break_(t, f)
			m.refused("")
		})
	}
}

func TestArchivedSegmentsAreNotMissed(t *testing.T) {
	m := newMachine(t)
	node := m.runs(8)
	j, err := Start(ctx, Home{Dir: m.dir, Place: m.place, Store: m.db}, Options{MaxSegment: 2 << 10, Sign: journaltest.Sign})
	if err != nil {
		t.Fatal(err)
	}
	appendN(t, j, 8, 20)
	closed(t, j)
	f := files(t, m.dir)
	for _, p := range f[:len(f)-2] {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	if m.runs(1) != node {
		t.Error("another node")
	}
	// One file is enough when the head is in it.
	for _, p := range f[:len(f)-1] {
		os.Remove(p)
	}
	m.runs(1)
}

func TestALossThatIsAcceptedIsOnRecordForEver(t *testing.T) {
	m := newMachine(t)
	old := m.runs(8)
	m.runs(8)
	plant(t, files(t, m.dir)[0], journaltest.CutAfter(9))
	j, err := m.start(true)
	if err != nil {
		t.Fatal(err)
	}
	next := j.Node()
	if next == old {
		t.Fatal("the journal with the hole continues under its name")
	}
	appendN(t, j, 0, 3)
	closed(t, j)
	known, err := m.db.Journals(ctx)
	if err != nil || len(known) != 2 {
		t.Fatal(known, err)
	}
	for _, k := range known {
		want := authority.JournalLoss{}
		if k.Node == old {
			want = authority.JournalLoss{First: 10, Last: 17, At: day.Truncate(time.Microsecond), By: next, Reason: k.Loss.Reason}
			if !strings.Contains(k.Loss.Reason, "ends at record 9") {
				t.Errorf("the reason is %q", k.Loss.Reason)
			}
		}
		if k.Loss != want {
			t.Errorf("%+v, want %+v", k.Loss, want)
		}
	}
	got := records(t, m.dir, query.Query{Node: next})
	if got[0].Type != string(authority.EventLost) || got[0].Target != old || !strings.HasPrefix(got[0].Reason, "records 10 to 17 of node "+old+" are lost") {
		t.Errorf("the first record is %+v", got[0])
	}
	// It starts as usual from then on, and verify says what is lost until somebody has
	// retired the old node.
	if m.runs(2) != next {
		t.Error("a third node")
	}
	if got := records(t, m.dir, query.Query{Types: []string{string(authority.EventLost)}}); len(got) != 1 {
		t.Errorf("%d records of one loss", len(got))
	}
	if p := m.problems(); len(p) != 1 || p[0].Kind != verify.Lost || p[0].Node != old || !strings.Contains(p[0].Detail, "records 10 to 17; node "+next) {
		t.Errorf("%v", p)
	}
	if err := m.db.RetireJournal(ctx, old, day); err != nil {
		t.Fatal(err)
	}
	if p := m.problems(); len(p) != 0 {
		t.Errorf("after it was retired: %v", p)
	}
	// What is left of the old journal is still proved.
	plant(t, format.SegmentPath(m.dir, old, 1), replace(4, "client-0", "client-1"))
	if p := m.problems(); len(p) != 1 || p[0].Kind != verify.Changed {
		t.Errorf("%v", p)
	}
}

func TestEveryLossCanBeAccepted(t *testing.T) {
	for name, c := range map[string]struct {
		break_ func(t *testing.T, m *machine)
		first  uint64
	}{
		"the folder is gone": {func(t *testing.T, m *machine) { os.RemoveAll(m.dir) }, 1},
		"the files are gone": {func(t *testing.T, m *machine) { os.Remove(files(t, m.dir)[0]) }, 1},
		"a line was changed": {func(t *testing.T, m *machine) { plant(t, files(t, m.dir)[0], replace(4, "client-0", "client-1")) }, 4},
		"a line is nonsense": {func(t *testing.T, m *machine) { plant(t, files(t, m.dir)[0], replace(4, "{", "")) }, 4},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			old := m.runs(8)
			c.break_(t, m)
			m.refused("")
			j, err := m.start(true)
			if err != nil {
				t.Fatal(err)
			}
			closed(t, j)
			known, err := m.db.Journals(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range known {
				if k.Node == old && (k.Loss.First != c.first || k.Loss.Last != 8 || k.Loss.By != j.Node()) {
					t.Errorf("%+v", k.Loss)
				}
			}
			if p := m.problems(); len(p) != 1 || p[0].Kind != verify.Lost {
				t.Errorf("%v", p)
			}
			m.runs(1)
		})
	}
}

// faulty is a store that dies after some calls.
type faulty struct {
	*sqldb.DB
	left int
}

func (f *faulty) dies() error {
	if f.left--; f.left < 0 {
		return errors.New("the database is gone")
	}
	return nil
}

func (f *faulty) Journals(ctx context.Context) ([]authority.Journal, error) {
	if err := f.dies(); err != nil {
		return nil, err
	}
	return f.DB.Journals(ctx)
}

func (f *faulty) StartJournal(ctx context.Context, node, place string, first authority.JournalHead) (authority.JournalHead, error) {
	if err := f.dies(); err != nil {
		return first, err
	}
	return f.DB.StartJournal(ctx, node, place, first)
}

func (f *faulty) LoseJournal(ctx context.Context, node string, loss authority.JournalLoss) error {
	if err := f.dies(); err != nil {
		return err
	}
	return f.DB.LoseJournal(ctx, node, loss)
}

// A crash in the middle of accepting leaves a folder that is refused again, or a
// journal that says what was lost.
func TestALossIsNotHalfAccepted(t *testing.T) {
	m := newMachine(t)
	m.runs(8)
	if err := os.Remove(files(t, m.dir)[0]); err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		j, err := Start(ctx, Home{Dir: m.dir, Place: m.place, Store: &faulty{m.db, n}, AcceptLoss: true}, Options{Sign: journaltest.Sign})
		if err == nil {
			closed(t, j)
			break
		}
		if n > 50 {
			t.Fatal(err)
		}
		known, err := m.db.Journals(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if known[0].Loss.At.IsZero() {
			m.refused("")
		}
	}
	if got := records(t, m.dir, query.Query{Types: []string{string(authority.EventLost)}}); len(got) != 1 || got[0].Seq != 1 {
		t.Errorf("%+v", got)
	}
}

// unheard is a store whose answer to LoseJournal is lost, as in a crash just after it.
type unheard struct{ *sqldb.DB }

func (u unheard) LoseJournal(ctx context.Context, node string, loss authority.JournalLoss) error {
	return errors.Join(u.DB.LoseJournal(ctx, node, loss), errors.New("no answer"))
}

func TestALossThatWasAcceptedIsInTheJournalAfterACrashToo(t *testing.T) {
	m := newMachine(t)
	old := m.runs(8)
	if err := os.Remove(files(t, m.dir)[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(ctx, Home{Dir: m.dir, Place: m.place, Store: unheard{m.db}, AcceptLoss: true}, Options{Sign: journaltest.Sign}); err == nil {
		t.Fatal("it started")
	}
	m.runs(1)
	if got := records(t, m.dir, query.Query{}); got[0].Type != string(authority.EventLost) || got[0].Target != old {
		t.Errorf("the first record is %+v", got[0])
	}
}

func TestALostNameIsFoundAgain(t *testing.T) {
	m := newMachine(t)
	node := m.runs(8)
	if err := os.Remove(filepath.Join(m.dir, "node")); err != nil {
		t.Fatal(err)
	}
	if m.runs(1) != node {
		t.Error("another name")
	}
	// But not if the end is missing.
	if err := os.Remove(filepath.Join(m.dir, "node")); err != nil {
		t.Fatal(err)
	}
	plant(t, files(t, m.dir)[0], journaltest.CutAfter(9))
	m.refused("ends at record 9")
}

func TestStartRefusesWhatIsNoLoss(t *testing.T) {
	for _, c := range []struct {
		name   string
		break_ func(t *testing.T, m *machine, node string)
		want   string
	}{
		{"a node that was retired", func(t *testing.T, m *machine, node string) {
			if err := m.db.RetireJournal(ctx, node, day); err != nil {
				t.Fatal(err)
			}
		}, "was retired on 2026-03-04"},
		{"a journal that was given up, and found again", func(t *testing.T, m *machine, node string) {
			found := m.copied()
			os.RemoveAll(m.dir)
			j, err := m.start(true)
			if err != nil {
				t.Fatal(err)
			}
			closed(t, j)
			m.has(found)
		}, "to start as a new node"},
		{"another name, though the journal that belongs here is here", func(t *testing.T, m *machine, _ string) {
			if err := os.WriteFile(filepath.Join(m.dir, "node"), []byte("fresh\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "write that name into the file"},
		{"a name that is none", func(t *testing.T, m *machine, _ string) {
			if err := os.WriteFile(filepath.Join(m.dir, "node"), []byte("../x\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "does not hold a node's name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			c.break_(t, m, m.runs(8))
			for _, accept := range []bool{false, true} {
				j, err := m.start(accept)
				if err == nil {
					closed(t, j)
					t.Fatal("it started")
				}
				var lost *LostError
				if errors.As(err, &lost) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v", err)
				}
			}
		})
	}
}

func TestAFolderMayMoveAndADatabaseMayBeOlder(t *testing.T) {
	m := newMachine(t)
	node := m.runs(8)
	moved := &machine{t: t, dir: m.copied(), place: "other:/journal", db: m.db}
	if moved.runs(3) != node {
		t.Error("another node")
	}
	// The old copy does not take the place back, and a new node may have it.
	m.refused("ends at record 9")
	if err := os.RemoveAll(m.dir); err != nil {
		t.Fatal(err)
	}
	if m.runs(1) == node {
		t.Error("the old copy continued")
	}
	moved.runs(1)
}

// Two processes with copies of one folder: the head is a compare-and-swap, so one of
// them ends, and does not issue what the other's journal does not hold.
func TestAJournalWhoseHeadIsRefusedEnds(t *testing.T) {
	m := newMachine(t)
	m.runs(1)
	twin := &machine{t: t, dir: m.copied(), place: m.place, db: m.db}
	tick := make(chan time.Time)
	first, err := Start(ctx, Home{Dir: m.dir, Place: m.place, Store: m.db}, Options{tick: tick})
	if err != nil {
		t.Fatal(err)
	}
	second, err := Start(ctx, Home{Dir: twin.dir, Place: m.place, Store: m.db}, Options{tick: make(chan time.Time)})
	if err != nil {
		t.Fatal(err)
	}
	appendN(t, second, 1, 1)
	closed(t, second) // and anchored
	appendN(t, first, 1, 1)
	tick <- day
	<-first.anchored // it has ended
	if err := first.Ready(); err == nil || !strings.Contains(err.Error(), "another process writes under this name") {
		t.Fatalf("ready: %v", err)
	}
	if err := first.Append(ctx, event(2)); err == nil {
		t.Fatal("it still records")
	}
	if first.Close() == nil {
		t.Error("Close hides it")
	}
	m.refused("is not the one that is remembered")
	m.has(twin.dir)
	m.runs(1)
}

// A head whose answer was lost is asked for again before any other.
func TestALostAnswerOfTheDatabaseIsAskedForAgain(t *testing.T) {
	m := newMachine(t)
	tick := make(chan time.Time)
	asked := make(chan authority.JournalHead, 10)
	lose := true
	opts := Options{tick: tick, Anchor: func(ctx context.Context, node string, from, to authority.JournalHead) error {
		err := m.db.SaveJournalHead(ctx, node, from, to)
		if lose && err == nil {
			lose, err = false, errors.New("the answer was lost")
		}
		asked <- to
		return err
	}}
	dir := t.TempDir()
	head, err := m.db.StartJournal(ctx, "a-1", "/a", authority.JournalHead{})
	if err != nil {
		t.Fatal(err)
	}
	opts.Anchored = head
	j := open(t, dir, opts)
	ask := func() authority.JournalHead {
		t.Helper()
		select {
		case h := <-asked:
			return h
		case <-j.anchored:
			t.Fatal("the journal has ended: ", j.Err())
			return authority.JournalHead{}
		}
	}
	appendN(t, j, 0, 1)
	tick <- day
	first := ask()
	appendN(t, j, 1, 1)
	tick <- day
	if again, next := ask(), ask(); again != first || next.Seq != first.Seq+2 {
		t.Errorf("asked for %+v and %+v after %+v", again, next, first)
	}
	closed(t, j)
	if j.Anchored() != 3 || j.Err() != nil {
		t.Errorf("anchored up to %d, %v", j.Anchored(), j.Err())
	}
}

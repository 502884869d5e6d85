package journal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal/format"
	"github.com/signalbox-sts/signalbox/internal/journal/journaltest"
	"github.com/signalbox-sts/signalbox/internal/journal/query"
	"github.com/signalbox-sts/signalbox/internal/journal/verify"
)

var ctx = context.Background()

var (
	event   = journaltest.Event
	day     = journaltest.Day
	files   = journaltest.Files
	appendN = journaltest.AppendN
	closed  = journaltest.Closed
	plant   = journaltest.Plant
	replace = journaltest.Replace
)

func open(t testing.TB, dir string, opts Options) *Journal {
	t.Helper()
	if opts.Sign == nil {
		opts.Sign = journaltest.Sign
	}
	if opts.tick == nil {
		opts.tick = make(chan time.Time)
	}
	j, err := Open(dir, "a-1", opts)
	return journaltest.Opened(t, j, err)
}

func verified(t testing.TB, dir string, heads ...authority.JournalHead) verify.Report {
	t.Helper()
	r, err := verify.Dir(dir, verify.Options{CheckSignature: journaltest.Check, Witnessed: map[string][]authority.JournalHead{"a-1": heads}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sound(t testing.TB, dir string, heads ...authority.JournalHead) verify.NodeReport {
	t.Helper()
	r := verified(t, dir, heads...)
	if !r.OK() {
		t.Fatal(r.Problems())
	}
	return r.Nodes[0]
}

func records(t testing.TB, dir string, q query.Query) (all []query.Record) {
	t.Helper()
	if err := query.Search(ctx, dir, q, func(r query.Record) error { all = append(all, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAppendedRecordsAreOnDiskAndVerify(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j := open(t, dir, Options{})
	appendN(t, j, 0, 10)
	if got := records(t, dir, query.Query{}); len(got) != 10 || got[9].RequestID != "req-9" || got[9].Seq != 10 {
		t.Fatalf("before Close: %+v", got)
	}
	closed(t, j)
	n := sound(t, dir)
	if n.Records != 11 || n.Checkpoints != 1 || n.SignedSeq != 10 {
		t.Errorf("%+v", n)
	}
	if err := j.Append(ctx, event(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, files(t, dir)[0]: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	// Goes on where it ended.
	j = open(t, dir, Options{})
	appendN(t, j, 10, 5)
	closed(t, j)
	if n := sound(t, dir); n.Records != 17 || n.Segments != 1 {
		t.Errorf("%+v", n)
	}
}

func TestLinesAreAsDocumented(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	e := event(0)
	e.GrantID, e.TokenID = id("0190a5d8-0000-7000-8000-000000000001"), id("0190a5d8-0000-7000-8000-000000000002")
	e.SessionID, e.Actor, e.Error, e.Reason, e.Target = id("0190a5d8-0000-7000-8000-000000000003"), "admin", "invalid_scope", "too \"wide\"\r\n\x1b[31m", "kid"
	if err := j.Append(ctx, e); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(files(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"seq":1,"time":"2026-03-04T05:06:07.891234Z","type":"token.issued","request_id":"req-0","remote":"192.0.2.7","actor":"admin","client_id":"client-0",` +
		`"subject":{"issuer":"https://sts.example.com","id":"user-0","kind":"user"},"grant_type":"client_credentials","grant_id":"0190a5d8-0000-7000-8000-000000000001",` +
		`"sid":"0190a5d8-0000-7000-8000-000000000003","jti":"0190a5d8-0000-7000-8000-000000000002","token_hash":"00112233445566778899aabbccddeeff",` +
		`"aud":["https://api.example.com"],"scope":"orders:read orders:write","exp":1772601067,"error":"invalid_scope","reason":"too \"wide\"\u000d\u000a\u001b[31m","target":"kid",` +
		`"prev":"` + fmt.Sprintf("%x", sha256.Sum256([]byte("signalbox journal v1 a-1\n"))) + "\"}\n"
	if b = bytes.TrimRight(b, "\x00"); string(b) != want {
		t.Errorf("got  %swant %s", b, want)
	}
	closed(t, j)
	b, _ = os.ReadFile(files(t, dir)[0])
	first, second, _ := bytes.Cut(b, []byte("\n"))
	if want := fmt.Sprintf(`"prev":"%x"}`, sha256.Sum256(append(first, '\n'))); !bytes.Contains(second, []byte(want)) {
		t.Errorf("the second line does not link to the first: %s", second)
	}
}

func id(s string) authority.ID {
	i, err := authority.ParseID(s)
	if err != nil {
		panic(err)
	}
	return i
}

func TestSegmentsRollAndChainOn(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{MaxSegment: 4 << 10})
	appendN(t, j, 0, 60)
	closed(t, j)
	j = open(t, dir, Options{MaxSegment: 4 << 10})
	appendN(t, j, 60, 10)
	closed(t, j)
	n := sound(t, dir)
	if n.Segments < 5 || n.Records != 70+n.Checkpoints {
		t.Errorf("%+v", n)
	}
	for _, f := range files(t, dir)[:n.Segments-1] {
		b, _ := os.ReadFile(f)
		if last := b[bytes.LastIndexByte(b[:len(b)-1], '\n')+1:]; !bytes.Contains(last, []byte(`"type":"journal.checkpoint"`)) {
			t.Errorf("%s ends in %s", f, last)
		}
	}
	if got := records(t, dir, query.Query{Types: []string{"token.issued"}}); len(got) != 70 {
		t.Errorf("%d records", len(got))
	}
}

func TestCheckpointsComeByTickAndByCountAndAreAnchored(t *testing.T) {
	dir := t.TempDir()
	tick := make(chan time.Time)
	anchors := make(chan authority.JournalHead, 100)
	j := open(t, dir, Options{tick: tick, Anchor: func(_ context.Context, node string, _, to authority.JournalHead) error {
		if node != "a-1" {
			t.Errorf("the head of %q", node)
		}
		anchors <- to
		return nil
	}})
	appendN(t, j, 0, 3)
	tick <- day
	a := <-anchors
	if a.Seq != 3 {
		t.Fatalf("%+v", a)
	}
	tick <- day // nothing new: no checkpoint
	tick <- day
	var wg sync.WaitGroup
	for range 110 { // more than are needed, since an early checkpoint begins the count again
		wg.Go(func() { appendN(t, j, 0, checkpointEvery/100) })
	}
	wg.Wait()
	appendN(t, j, 0, 1)
	var b authority.JournalHead
	want := uint64(2) // by the first tick, and at the end
	for b.Seq < 4+checkpointEvery-200 {
		select {
		case b = <-anchors:
			want++
		case <-time.After(20 * time.Second):
			t.Fatal("no checkpoint after 10,000 records")
		}
		// The last tick may have been taken and found the first of the records: one early checkpoint more.
		if want > 4 {
			t.Fatalf("too early: %+v", b)
		}
	}
	closed(t, j)
	if n := sound(t, dir, a, b); n.Checkpoints != want || n.WitnessedSeq != b.Seq {
		t.Errorf("%+v", n)
	}
}

func TestCheckpointThatCannotBeSignedIsTriedAgain(t *testing.T) {
	dir := t.TempDir()
	var broken atomic.Bool
	broken.Store(true)
	j := open(t, dir, Options{MaxSegment: 2 << 10, Sign: func(p []byte) (string, error) {
		if broken.Load() {
			return "", errors.New("no key")
		}
		return journaltest.Sign(p)
	}})
	appendN(t, j, 0, 20)
	if len(files(t, dir)) != 1 {
		t.Error("a segment was closed without a checkpoint")
	}
	broken.Store(false)
	appendN(t, j, 20, 20)
	closed(t, j)
	if n := sound(t, dir); n.SignedSeq < 40 || n.Segments < 2 {
		t.Errorf("%+v", n)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, Options{})
	_, err := Open(dir, "a-1", Options{})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("another process (pid %d)", os.Getpid())) {
		t.Fatal(err)
	}
}

func TestNodeNamesThatAreNoNamesAreRefused(t *testing.T) {
	for _, node := range []string{"", "../x", "a/b", "a b", ".a", "-a", strings.Repeat("a", 129), "a\n"} {
		if j, err := Open(t.TempDir(), node, Options{}); err == nil {
			j.Close()
			t.Errorf("%q was accepted", node)
		}
	}
}

func TestEventsThatPretendToBeTheJournalsAreRefused(t *testing.T) {
	j := open(t, t.TempDir(), Options{})
	for _, typ := range []authority.EventType{"", authority.EventCheckpoint, "journal.x"} {
		if err := j.Append(ctx, authority.Event{Type: typ}); err == nil {
			t.Errorf("%q was accepted", typ)
		}
	}
}

func TestTornLastLineIsCutOffAndRecorded(t *testing.T) {
	for name, tail := range map[string]string{
		"half a line":              `{"seq":6,"time":"2026`,
		"half a line and newline":  `{"seq":6,"time":"2026` + "\n",
		"zeros":                    strings.Repeat("\x00", 4096),
		"many zeros":               `{"seq":6` + strings.Repeat("\x00", 3*format.MaxLine),
		"a hole in the last write": `{"seq":6` + strings.Repeat("\x00", 4096) + "}\n{\"seq\":7}\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j := open(t, dir, Options{})
			appendN(t, j, 0, 4)
			closed(t, j)
			plant(t, files(t, dir)[0], func(b []byte) []byte { return append(b, tail...) })
			cut := len(strings.TrimRight(tail, "\x00"))
			if !strings.HasSuffix(tail, "\n") {
				if n := sound(t, dir); n.Writing != int64(cut) {
					t.Errorf("Writing is %d, not %d", n.Writing, cut)
				}
			} else if verified(t, dir).OK() {
				t.Error("audit verify takes it for a line that is being written")
			}
			j = open(t, dir, Options{})
			appendN(t, j, 4, 1)
			closed(t, j)
			sound(t, dir)
			got := records(t, dir, query.Query{Types: []string{string(authority.EventRecovered)}})
			if cut == 0 && len(got) == 0 { // zeros behind the lines are nothing torn
				return
			}
			if len(got) != 1 || !strings.Contains(got[0].Reason, fmt.Sprintf(" %d bytes", cut)) || got[0].Seq != 6 {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestBrokenJournalDoesNotOpen(t *testing.T) {
	for _, c := range []struct {
		name   string
		break_ func([]byte) []byte
		want   string
	}{
		{"a changed byte", replace(3, "client-2", "client-9"), "00001.jsonl:4: changed"},
		{"a missing line", journaltest.DropLine(3), "00001.jsonl:3: record 4 where 3 must come"},
		{"two lines changed places", journaltest.SwapLines(3, 4), "00001.jsonl:3: record 4"},
		{"nonsense in the middle", replace(3, `{"seq"`, `{"sex"`), "00001.jsonl:3: changed"},
		{"a large hole", func(b []byte) []byte {
			return append(append(b, make([]byte, 1<<20)...), "x\n"...)
		}, "00001.jsonl:8: changed: zeros in the middle"},
		{"a line of megabytes", func(b []byte) []byte { return append(bytes.Repeat([]byte("x"), 2<<20), b...) }, "00001.jsonl:1: the line is longer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			j := open(t, dir, Options{})
			appendN(t, j, 0, 6)
			closed(t, j)
			plant(t, files(t, dir)[0], c.break_)
			j, err := Open(dir, "a-1", Options{})
			if err == nil {
				j.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// failing is a disk that fails from the nth call on.
func failing(writes, syncs int64) *disk {
	var w, s atomic.Int64
	return &disk{
		write: func(f *os.File, b []byte, off int64) (int, error) {
			if w.Add(1) > writes {
				n, _ := f.WriteAt(b[:len(b)/2], off)
				return n, syscall.ENOSPC
			}
			return f.WriteAt(b, off)
		},
		sync: func(f *os.File) error {
			if s.Add(1) > syncs {
				return syscall.EIO
			}
			return syncData(f)
		},
	}
}

func TestFailedDiskFailsEveryWaiterAndEverythingAfter(t *testing.T) {
	for name, d := range map[string]*disk{"write": failing(2, 1<<40), "sync": failing(1<<40, 1)} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j := open(t, dir, Options{disk: d})
			appendN(t, j, 0, 1)
			if j.Err() != nil {
				t.Fatal(j.Err())
			}
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					if err := j.Append(ctx, event(i)); !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EIO) {
						t.Errorf("a waiter got %v", err)
					}
				})
			}
			wg.Wait()
			if err := j.Append(ctx, event(0)); err == nil || j.Err() == nil {
				t.Error("a later Append succeeded")
			}
			if j.Close() == nil {
				t.Error("Close hides the failure")
			}
			j = open(t, dir, Options{})
			appendN(t, j, 0, 1)
			closed(t, j)
			sound(t, dir)
		})
	}
}

func TestWaiterWhoseContextEndsGetsItsError(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{}, 10)
	j := open(t, t.TempDir(), Options{disk: &disk{
		write: realDisk.write,
		sync:  func(*os.File) error { note(entered); <-release; return nil },
	}})
	c, cancel := context.WithCancel(ctx)
	got := make(chan error)
	go func() { got <- j.Append(c, event(0)) }()
	<-entered
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(release)
	appendN(t, j, 1, 1)
	if j.Head() != 2 {
		t.Error("the record of the one who left is lost")
	}
	if err := j.Append(c, event(0)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if j.Head() != 2 {
		t.Error("recorded for a context that had ended")
	}
}

func TestWaitersShareOneSync(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{}, 10)
	var syncs atomic.Int64
	j := open(t, t.TempDir(), Options{disk: &disk{
		write: realDisk.write,
		sync:  func(*os.File) error { syncs.Add(1); note(entered); <-release; return nil },
	}})
	var wg sync.WaitGroup
	wg.Go(func() { appendN(t, j, 0, 1) })
	<-entered
	for i := range 100 {
		wg.Go(func() { appendN(t, j, i, 1) })
	}
	for { // until all of them wait
		j.mu.Lock()
		seq := j.seq
		j.mu.Unlock()
		if seq == 101 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	if syncs.Load() != 2 {
		t.Errorf("%d syncs for 1 + 100 records", syncs.Load())
	}
}

func TestHangingDiskDoesNotFillMemory(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{}, 10)
	j := open(t, t.TempDir(), Options{disk: &disk{
		write: realDisk.write,
		sync:  func(*os.File) error { note(entered); <-release; return nil },
	}})
	defer close(release)
	e := event(0)
	e.Reason = strings.Repeat("\x00", 5000)
	if _, err := j.enqueue(&e, 1); err != nil {
		t.Fatal(err)
	}
	<-entered
	for i := 0; ; i++ {
		_, err := j.enqueue(&e, 1)
		if errors.Is(err, ErrBehind) {
			return
		}
		if err != nil || i > maxPending/1000 {
			t.Fatalf("after %d: %v", i, err)
		}
	}
}

func TestConcurrentAppendersGetOneChain(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{MaxSegment: 64 << 10})
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() { appendN(t, j, g*100, 100) })
		wg.Go(func() {
			for i := range 100 {
				j.Tally(authority.Event{Type: authority.EventTokenRefused, Remote: fmt.Sprint(g), Error: fmt.Sprint(i % 5)})
			}
		})
	}
	wg.Wait()
	verified(t, dir) // while it is open
	closed(t, j)
	sound(t, dir)
	if got := records(t, dir, query.Query{Types: []string{"token.issued"}}); len(got) != 1600 {
		t.Errorf("%d records", len(got))
	}
	refused := uint64(0)
	for _, r := range records(t, dir, query.Query{Types: []string{"token.refused"}}) {
		refused += max(r.Count, 1)
	}
	if refused != 1600 {
		t.Errorf("%d refusals", refused)
	}
}

func TestAnonymousRefusalsAreCountedNotListed(t *testing.T) {
	dir := t.TempDir()
	var clock atomic.Int64
	now := func() time.Time { return day.Add(time.Duration(clock.Load())) }
	tick := make(chan time.Time)
	j := open(t, dir, Options{Now: now, tick: tick})
	refused := func(remote string) authority.Event {
		return authority.Event{Type: authority.EventTokenRefused, ClientID: "nobody", Error: "invalid_client", Remote: remote}
	}
	for range 1000 {
		j.Tally(refused("192.0.2.1"))
	}
	j.Tally(refused("192.0.2.2"))
	appendN(t, j, 0, 1)
	if got := records(t, dir, query.Query{ClientID: "nobody"}); len(got) != 2 || got[0].Count != 0 {
		t.Fatalf("the first of each must be there at once: %+v", got)
	}
	clock.Store(int64(59 * time.Second))
	tick <- now()
	tick <- now() // the first one is done
	if got := records(t, dir, query.Query{ClientID: "nobody"}); len(got) != 2 {
		t.Fatalf("within the minute: %+v", got)
	}
	clock.Store(int64(60 * time.Second))
	tick <- now()
	tick <- now()
	got := records(t, dir, query.Query{ClientID: "nobody", Remote: "192.0.2.1"})
	if len(got) != 2 || got[1].Count != 999 || got[1].Error != "invalid_client" {
		t.Fatalf("after the minute: %+v", got)
	}
	// A flood of different ones.
	before := j.Head()
	for i := range 100_000 {
		j.Tally(refused(fmt.Sprintf("198.51.%d.%d", i/256, i%256)))
	}
	closed(t, j)
	n := sound(t, dir)
	// Besides the 256: what was omitted, the last checkpoint, and perhaps one of the
	// last tick, which may still have been at work.
	if n.Records > before+maxTallies+3 {
		t.Errorf("%d records from a flood", n.Records-before)
	}
	if got := records(t, dir, query.Query{Types: []string{string(authority.EventOmitted)}}); len(got) != 1 || got[0].Count != 100_000-maxTallies {
		t.Errorf("%+v", got)
	}
}

func TestAFloodOfOneKindHidesNoOther(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	for i := range 3 * maxTallies {
		e := authority.Event{Type: authority.EventTokenRefused, ClientID: "spa", Error: "invalid_scope", Remote: "192.0.2.1"}
		e.Reason = fmt.Sprintf("scope \"s%d\" was not granted", i) // the caller's own text
		j.Tally(e)
		e.Remote = fmt.Sprintf("198.51.100.%d", i)
		j.Tally(e)
	}
	for _, id := range []string{"bob", "ada", "ada", "ada"} {
		j.Tally(authority.Event{
			Type: authority.EventSignInFailed, Remote: "192.0.2.1", Subject: authority.Subject{Issuer: "https://sts.example.com", ID: id, Kind: authority.SubjectUser},
		})
	}
	closed(t, j)
	got := records(t, dir, query.Query{Types: []string{string(authority.EventSignInFailed)}})
	if len(got) != 3 || got[0].Subject.ID != "bob" || got[1].Subject.ID != "ada" || got[2].Subject == nil || got[2].Subject.ID != "ada" || got[2].Count != 2 {
		t.Errorf("%+v", got)
	}
	if got := records(t, dir, query.Query{Remote: "192.0.2.1", Types: []string{string(authority.EventTokenRefused)}}); len(got) != 2 || got[1].Count != 3*maxTallies-1 || got[1].Reason != "" {
		t.Errorf("one caller's refusals, each with another text: %+v", got)
	}
	if got := records(t, dir, query.Query{Types: []string{string(authority.EventOmitted)}}); len(got) != 1 || !strings.Contains(got[0].Reason, "token.refused") {
		t.Errorf("%+v", got)
	}
}

// note tells the first ten times, and never waits.
func note(entered chan<- struct{}) {
	select {
	case entered <- struct{}{}:
	default:
	}
}

// A disk that neither writes nor fails must be noticed before anything is spent.
func TestHangingDiskIsNotReady(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	j := open(t, t.TempDir(), Options{disk: &disk{write: realDisk.write, sync: func(f *os.File) error {
		select {
		case entered <- struct{}{}:
			<-release
		case <-release:
		}
		return syncData(f)
	}}})
	done := make(chan error, 1)
	go func() { done <- j.Append(t.Context(), authority.Event{Type: authority.EventServiceStarted}) }()
	<-entered
	if err := j.Ready(); err != nil {
		t.Fatal("a write that has just begun:", err)
	}
	longAgo := time.Now().Add(-slow - time.Second)
	j.writing.Store(&longAgo)
	if err := j.Ready(); !errors.Is(err, ErrBehind) {
		t.Fatal(err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := j.Ready(); err != nil {
		t.Fatal("afterwards:", err)
	}
}

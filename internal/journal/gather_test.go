package journal

import (
	"bytes"
	"os"
	"testing"
	"time"
)

// gathering is a journal whose disk and patience the test holds in its hands.
type gathering struct {
	*Journal
	t       *testing.T
	waits   chan time.Duration // what gather waits for, at most
	timeUp  chan time.Time     // ends such a wait
	written chan int           // the lines of a write, whose sync then waits
	sync    chan struct{}
}

func newGathering(t *testing.T) *gathering {
	g := &gathering{t: t, waits: make(chan time.Duration, 1), timeUp: make(chan time.Time), written: make(chan int, 1), sync: make(chan struct{})}
	g.Journal = open(t, t.TempDir(), Options{
		after: func(d time.Duration) <-chan time.Time { g.waits <- d; return g.timeUp },
		disk: &disk{
			write: func(f *os.File, b []byte, off int64) (int, error) {
				if n := bytes.Count(b, []byte("\n")); n > 0 { // otherwise they are the zeros behind the lines
					g.written <- n
				}
				return realDisk.write(f, b, off)
			},
			sync: func(*os.File) error { <-g.sync; return nil },
		},
	})
	t.Cleanup(func() { // before the journal is closed, which writes a checkpoint
		g.Journal.disk.write = realDisk.write
		close(g.sync)
		close(g.timeUp)
	})
	return g
}

func (g *gathering) add() *batch {
	g.t.Helper()
	e := event(0)
	b, err := g.enqueue(&e, 1)
	if err != nil {
		g.t.Fatal(err)
	}
	return b
}

// waiting says that the flusher waits for somebody, and how long at most.
func (g *gathering) waiting() time.Duration {
	g.t.Helper()
	select {
	case d := <-g.waits:
		return d
	case n := <-g.written:
		g.t.Fatalf("%d lines were written, and nobody was waited for", n)
	}
	return 0
}

// writes says that the flusher writes n lines now and waited for nobody (any more).
func (g *gathering) writes(n int) {
	g.t.Helper()
	select {
	case got := <-g.written:
		if got != n {
			g.t.Fatalf("%d lines were written together, not %d", got, n)
		}
	case d := <-g.waits:
		g.t.Fatalf("somebody is waited for, up to %s", d)
	}
}

func (g *gathering) synced(b *batch) {
	g.t.Helper()
	g.sync <- struct{}{}
	<-b.done
}

func TestThoseWhoComeBackShareASync(t *testing.T) {
	g := newGathering(t)
	for range 3 { // a caller who is alone waits for nobody
		b := g.add()
		g.writes(1)
		g.synced(b)
	}

	first := g.add()
	g.writes(1)
	second := g.add() // while the first is synced
	g.synced(first)
	g.waiting()
	third := g.add() // the first is back
	g.writes(2)
	g.synced(second)
	if third != second {
		t.Fatal("not one batch")
	}

	alone := g.add() // and now nobody comes
	g.waiting()
	g.timeUp <- time.Time{}
	g.writes(1)
	g.synced(alone)
	alone = g.add() // which is known from then on
	g.writes(1)
	g.synced(alone)
}

func TestEnoughSharersWaitForNobody(t *testing.T) {
	g := newGathering(t)
	first := g.add()
	g.writes(1)
	many := g.add()
	for range 2*enough - 1 {
		g.add()
	}
	g.synced(first)
	g.writes(2 * enough)
	half := g.add()
	for range enough - 2 {
		g.add()
	}
	g.synced(many)
	g.waiting() // one is missing
	g.add()
	g.writes(enough)
	g.synced(half)
}

func TestNobodyIsWaitedForLongerThanAFewSyncs(t *testing.T) {
	g := newGathering(t)
	first := g.add()
	g.writes(1)
	g.add()
	time.Sleep(maxLinger) // the disk is slow
	g.synced(first)
	if d := g.waiting(); d != maxLinger {
		t.Errorf("waits up to %s", d)
	}
	third := g.add()
	g.writes(2)
	g.synced(third)
}

func TestACheckpointIsNotACaller(t *testing.T) {
	j := open(t, t.TempDir(), Options{
		MaxSegment: 1, // so that a checkpoint follows every line
		after: func(time.Duration) <-chan time.Time {
			t.Error("a lone caller was made to wait")
			return time.After(0)
		},
	})
	appendN(t, j, 0, 5)
	if j.Head() != 10 {
		t.Fatalf("head %d: checkpoints are missing", j.Head())
	}
}

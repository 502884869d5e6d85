package journal

import (
	"os"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/journal/query"
)

func TestTailGivesOnlyWhatIsOnDisk(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{}, 10)
	j := open(t, t.TempDir(), Options{disk: &disk{
		write: realDisk.write,
		sync:  func(*os.File) error { note(entered); <-release; return nil },
	}})
	got := make(chan query.Record, 10)
	go func() { _ = query.Tail(ctx, j, 1, func(r query.Record) error { got <- r; return nil }) }()
	e := event(0)
	enqueue := func() {
		if _, err := j.enqueue(&e, 1); err != nil {
			t.Fatal(err)
		}
	}
	enqueue()
	<-entered // it is written, not synced
	if j.Head() != 0 || len(got) > 0 {
		t.Fatal("what is not synced counts as being on disk")
	}
	enqueue() // gathers while the first is synced
	release <- struct{}{}
	<-entered
	if r := <-got; r.Seq != 1 || j.Head() != 1 || len(got) > 0 {
		t.Fatalf("gave %+v, the head is %d", r, j.Head())
	}
	close(release)
	if r := <-got; r.Seq != 2 {
		t.Errorf("%+v", r)
	}
	closed(t, j)
}

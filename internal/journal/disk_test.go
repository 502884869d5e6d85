package journal

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Where write and sync are one call, nothing counts as recorded before it returns.
func TestARecordIsToldOfAfterTheOneCall(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	j := open(t, t.TempDir(), Options{disk: &disk{write: realDisk.write, sync: syncData, put: func(f *os.File, b []byte, off int64) error {
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		entered <- struct{}{} // it is written, and not on disk
		<-release
		return nil
	}}})
	e := event(0)
	b, err := j.enqueue(&e, 1)
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	select {
	case <-b.done:
		t.Error("told of before it was on disk")
	default:
	}
	if j.Head() != 0 {
		t.Error("counted before it was on disk")
	}
	go func() { // also for the checkpoint at the end
		for range entered {
		}
	}()
	close(release)
	<-b.done
	if j.Head() != 1 || b.err != nil {
		t.Error(j.Head(), b.err)
	}
	closed(t, j)
	close(entered)
}

func TestAKernelWithoutTheOneCallIsServedByTwo(t *testing.T) {
	var puts, syncs atomic.Int64
	dir := t.TempDir()
	j := open(t, dir, Options{disk: &disk{
		write: realDisk.write,
		sync:  func(f *os.File) error { syncs.Add(1); return syncData(f) },
		put:   func(*os.File, []byte, int64) error { puts.Add(1); return errors.ErrUnsupported },
	}})
	appendN(t, j, 0, 5)
	closed(t, j)
	if puts.Load() != 1 || syncs.Load() < 5 {
		t.Errorf("the one call was tried %d times, and there were %d syncs", puts.Load(), syncs.Load())
	}
	if n := sound(t, dir); n.Records != 6 {
		t.Errorf("%+v", n)
	}
}

func TestAFailureOfTheOneCallIsNoLackOfIt(t *testing.T) {
	j := open(t, t.TempDir(), Options{disk: &disk{
		write: func(f *os.File, b []byte, off int64) (int, error) {
			if b[0] != 0 {
				t.Error("a line was written a second time")
			}
			return realDisk.write(f, b, off)
		},
		sync: syncData,
		put:  func(*os.File, []byte, int64) error { return syscall.EIO },
	}})
	if err := j.Append(ctx, event(0)); !errors.Is(err, syscall.EIO) || j.Ready() == nil {
		t.Errorf("%v, ready: %v", err, j.Ready())
	}
}

func TestEachWriteIsTimed(t *testing.T) {
	var times atomic.Int64
	j := open(t, t.TempDir(), Options{Synced: func(d time.Duration) {
		if d <= 0 {
			t.Errorf("took %s", d)
		}
		times.Add(1)
	}})
	appendN(t, j, 0, 5)
	closed(t, j) // and the checkpoint
	if times.Load() != 6 {
		t.Errorf("told of %d writes", times.Load())
	}
}

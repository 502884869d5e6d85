package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Nobody who reads while a file is replaced finds anything but a whole token.
func TestAReaderNeverFindsAHalfWrittenFile(t *testing.T) {
	f := newFile(t, t.TempDir())
	value := func(n int) string { return strings.Repeat(fmt.Sprint(n%10), 20_000*(1+n%3)) }
	f.puts(t, value(0), true)
	ctx, end := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for ctx.Err() == nil {
				got, err := os.ReadFile(f.path)
				text := strings.TrimSuffix(string(got), "\n")
				if err != nil || len(text) == len(got) || len(text)%20_000 != 0 || len(text) == 0 || strings.Trim(text, text[:1]) != "" {
					t.Errorf("a reader found %d bytes: %v", len(got), err)
					return
				}
			}
		})
	}
	for n := range 100 {
		f.puts(t, value(n+1), true)
	}
	end()
	readers.Wait()
}

// A thousand outputs, of twenty identities, on a disk that is full at times, with a
// service that is away at times and a clock that jumps: whoever reads finds a whole
// token that is good.
func TestAThousandOutputsUnderChaos(t *testing.T) {
	dir := t.TempDir()
	small := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m,mode=0700") == nil
	if small {
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	} else {
		t.Log("NOT TESTED: a small disk needs root")
	}
	const outputs, identities, life = 1000, 20, time.Minute
	inWorld(t, func(w *world) {
		w.Random = rand.Float64
		state, err := OpenState("")
		if err != nil {
			t.Fatal(err)
		}
		files := NewFiles(state)
		var entries []Entry
		path := func(i int) string { return filepath.Join(dir, fmt.Sprint("token-", i)) }
		for i := range outputs {
			f := newFile(t, dir)
			f.Files, f.path = files, path(i)
			identity := fmt.Sprint(i % identities)
			e := w.entry(fmt.Sprint("entry-", i), identity, f)
			e.Ask = func(context.Context) (string, time.Duration, error) {
				w.mu.Lock()
				fail := w.fail
				w.asked++
				w.mu.Unlock()
				// The service's clock is the steady one.
				return fmt.Sprintf("begin %d %d end", i%identities, w.Clock().Steady+life), life, fail
			}
			entries = append(entries, e)
		}
		w.Set(w.ctx, entries)
		time.Sleep(time.Second) // all are written
		read := func(i int) {
			got, err := os.ReadFile(path(i))
			var identity, until int64
			if n, scanned := fmt.Sscanf(string(got), "begin %d %d end\n", &identity, &until); err != nil || n != 2 || scanned != nil {
				t.Errorf("after %v output %d holds %q: %v, %v", w.Clock().Steady, i, got, err, scanned)
				return
			}
			if int(identity) != i%identities {
				t.Errorf("output %d holds the token of %d", i, identity)
			}
			if now := w.Clock().Steady; time.Duration(until) <= now {
				t.Errorf("after %v output %d holds a token that ended at %v", now, i, time.Duration(until))
			}
		}
		ctx, end := context.WithCancel(w.ctx)
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() {
				for ctx.Err() == nil {
					for range 20 {
						read(rand.IntN(outputs))
					}
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		pass := func(d time.Duration) { time.Sleep(d) }
		filler := filepath.Join(dir, "filler")
		pass(50 * time.Second)
		w.answers(errAway)
		pass(15 * time.Second)
		w.answers(nil)
		pass(10 * time.Second)
		w.jump(time.Hour)
		pass(30 * time.Second)
		w.jump(-2 * time.Hour)
		pass(45 * time.Second)
		if small {
			f, err := os.Create(filler)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(f, zeros{}); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("filling the disk: %v", err)
			}
			f.Close()
		}
		pass(13 * time.Second)
		if small {
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
		}
		pass(20 * time.Second)
		end()
		readers.Wait()
		for i := range outputs {
			read(i)
		}
		if small && !strings.Contains(w.log.String(), "no space left on device") {
			t.Error("the disk was never full when it mattered")
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

//go:build unix

package journal

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal/format"
	"github.com/signalbox-sts/signalbox/internal/journal/query"
)

// counting counts the writes that last. Without put it is what other systems than Linux
// do: a write and a sync.
func counting(syncs *atomic.Int64, put bool) *disk {
	d := &disk{write: realDisk.write, sync: func(f *os.File) error { syncs.Add(1); return syncData(f) }}
	if put {
		d.put = func(f *os.File, b []byte, off int64) error { syncs.Add(1); return realDisk.put(f, b, off) }
	}
	return d
}

// BenchmarkAppend is the token path: appended and on disk, for several callers, and with
// one call for write and sync or two. Compare it with BenchmarkDisk.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 16, 64, 256} {
		for _, put := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/put=%v", callers, put), func(b *testing.B) {
				var syncs atomic.Int64
				j := open(b, b.TempDir(), Options{disk: counting(&syncs, put)})
				e := event(1)
				var left atomic.Int64
				left.Store(int64(b.N))
				before := cpu()
				b.ReportAllocs()
				b.ResetTimer()
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							if err := j.Append(ctx, e); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
				b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
				b.ReportMetric(float64(b.N)/float64(max(1, syncs.Load())), "records/sync")
			})
		}
	}
}

// BenchmarkBesideWork appends after 50 µs of work, as the token endpoint does. What
// counts is what a record adds to the work, "alone", in CPU and in rate.
func BenchmarkBesideWork(b *testing.B) {
	work := func() {
		var sum [32]byte
		for range 600 {
			sum = sha256.Sum256(sum[:])
		}
	}
	for _, callers := range []int{16, 64} {
		for _, with := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/journal=%v", callers, with), func(b *testing.B) {
				var syncs atomic.Int64
				j := open(b, b.TempDir(), Options{disk: counting(&syncs, true)})
				e := event(1)
				var left atomic.Int64
				left.Store(int64(b.N))
				before := cpu()
				b.ResetTimer()
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							work()
							if with {
								if err := j.Append(ctx, e); err != nil {
									b.Error(err)
								}
							} else {
								runtime.Gosched()
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
				b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
				b.ReportMetric(float64(b.N)/float64(max(1, syncs.Load())), "records/sync")
			})
		}
	}
}

func cpu() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkDisk is the limit: one write and one sync for 64 lines, nothing else.
func BenchmarkDisk(b *testing.B) {
	f, err := os.OpenFile(filepath.Join(b.TempDir(), "f"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	e := event(1)
	var buf []byte
	for range 64 {
		buf = format.AppendLine(buf, 1, format.AppendBody(nil, &e, day, 1), [32]byte{})
	}
	b.ResetTimer()
	for range b.N {
		if _, err := f.Write(buf); err != nil {
			b.Fatal(err)
		}
		if err := syncData(f); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(64*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkEncode(b *testing.B) {
	e := event(1)
	b.ReportAllocs()
	buf := make([]byte, 0, 4096)
	for range b.N {
		buf = format.AppendBody(buf[:0], &e, day, 1)
	}
	b.SetBytes(int64(len(buf)))
}

// BenchmarkLine is encoding, linking and hashing: all the CPU work of the journal
// but handing over.
func BenchmarkLine(b *testing.B) {
	j := &Journal{batch: newBatch(), now: time.Now, wake: make(chan struct{}, 1)}
	e := event(1)
	b.ReportAllocs()
	for range b.N {
		if _, err := j.enqueue(&e, 1); err != nil {
			b.Fatal(err)
		}
		j.buf = j.buf[:0]
	}
}

func benchDir(b *testing.B, n int) (string, int64) {
	dir := b.TempDir()
	j := open(b, dir, Options{disk: &disk{write: realDisk.write, sync: func(*os.File) error { return nil }}})
	for i := range n {
		e := event(i)
		for {
			if _, err := j.enqueue(&e, 1); err == nil {
				break
			}
			runtime.Gosched() // the buffer is full
		}
	}
	closed(b, j)
	info, err := os.Stat(files(b, dir)[0])
	if err != nil {
		b.Fatal(err)
	}
	return dir, info.Size()
}

func BenchmarkVerify(b *testing.B) {
	dir, size := benchDir(b, 100_000)
	b.SetBytes(size)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		sound(b, dir)
	}
}

func BenchmarkOpen(b *testing.B) {
	dir, size := benchDir(b, 100_000)
	b.SetBytes(size)
	b.ResetTimer()
	for range b.N {
		end, err := recoverEnd(dir, "a-1", authority.JournalHead{})
		if err != nil {
			b.Fatal(err)
		}
		end.file.Close()
	}
}

func BenchmarkSearch(b *testing.B) {
	dir, size := benchDir(b, 100_000)
	for name, q := range map[string]query.Query{"one": {RequestID: "req-77777"}, "newest": {ClientID: "client-1", Newest: true}, "text": {Text: "nowhere"}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for range b.N {
				if err := query.Search(ctx, dir, q, func(r query.Record) error { _, err := io.Discard.Write(r.Raw); return err }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkTally(b *testing.B) {
	j := open(b, b.TempDir(), Options{})
	e := authority.Event{Type: authority.EventTokenRefused, ClientID: "x", Error: "invalid_client", Remote: "192.0.2.1"}
	b.ReportAllocs()
	for range b.N {
		j.Tally(e)
	}
}

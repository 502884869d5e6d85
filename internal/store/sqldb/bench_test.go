package sqldb_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
)

// rotators is how many clients rotate at once.
const rotators = 64

// BenchmarkRotate measures durable rotation, each of another grant: what the
// store does for one refresh, a read and a conditional update.
func BenchmarkRotate(b *testing.B) {
	for _, e := range []struct {
		name string
		url  func(testing.TB) string
	}{{"SQLite", sqliteURL}, {"PostgreSQL", postgresURL}} {
		for _, stored := range []int{1_000, 1_000_000} {
			var db *sqldb.DB // filled once, however often the benchmark is tried
			var ids []authority.ID
			outer := b
			b.Run(fmt.Sprintf("%s/%d", e.name, stored), func(b *testing.B) {
				if stored > 1_000 && os.Getenv("SIGNALBOX_BENCH_LARGE") == "" {
					b.Skip("a million grants take minutes to store: set SIGNALBOX_BENCH_LARGE=1")
				}
				if db == nil {
					db = open(outer, e.url(outer))
					ids = fill(b, db, stored)
				}
				b.ResetTimer()
				rotate(b, db, ids)
				b.StopTimer()
				b.ReportMetric(float64(residentKiB())/1024, "MiB-resident")
			})
		}
	}
}

// BenchmarkEndGrant measures the end of a grant below which nothing, or very
// much, hangs: one row and one revocation in both cases.
func BenchmarkEndGrant(b *testing.B) {
	for _, e := range []struct {
		name string
		url  func(testing.TB) string
	}{{"SQLite", sqliteURL}, {"PostgreSQL", postgresURL}} {
		for _, below := range []int{0, 100_000} {
			var db *sqldb.DB // filled once, however often the benchmark is tried
			root := newGrant(0)
			root.Subject.ID = "root"
			outer := b
			b.Run(fmt.Sprintf("%s/%d", e.name, below), func(b *testing.B) {
				if db == nil {
					db = open(outer, e.url(outer))
					fill(b, db, below)
					db.Exec(b, fmt.Sprintf(`UPDATE grants SET lineage = '[["%s","%s"]]'`, root.ID, root.ClientID))
					if err := db.CreateGrant(b.Context(), root); err != nil {
						b.Fatal(err)
					}
				}
				for range b.N {
					b.StopTimer()
					db.Exec(b, `UPDATE grants SET state = 'active' WHERE subject_id = 'root'`)
					db.Exec(b, `DELETE FROM revocations`)
					b.StartTimer()
					ending := authority.Ending{Reason: "benchmark", At: time.Now(), Remember: authority.MaxTokenTTL}
					if written, err := db.EndGrant(b.Context(), root.ID, ending); err != nil || len(written) != 1 {
						b.Fatalf("%v, %v", written, err)
					}
				}
			})
		}
	}
}

func fill(b *testing.B, db *sqldb.DB, n int) []authority.ID {
	ids := make([]authority.ID, n)
	var next atomic.Int64
	var done sync.WaitGroup
	for range rotators {
		done.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				g := newGrant(i)
				g.Refresh.Hash = seed(1, i)
				ids[i] = g.ID
				if err := db.CreateGrant(context.Background(), g); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	done.Wait()
	return ids
}

func seed(generation uint32, grant int) [32]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, generation), uint64(grant)))
}

// rotate lets every goroutine rotate grants of its own, picked at random.
func rotate(b *testing.B, db *sqldb.DB, ids []authority.ID) {
	ctx := context.Background()
	var left atomic.Int64
	left.Store(int64(b.N))
	var mu sync.Mutex
	var times []time.Duration
	var done sync.WaitGroup
	for worker := range rotators {
		done.Go(func() {
			var mine []time.Duration
			random := rand.New(rand.NewPCG(1, uint64(worker)))
			for left.Add(-1) >= 0 {
				i := random.IntN(len(ids)/rotators)*rotators + worker
				began := time.Now()
				g, err := db.Grant(ctx, ids[i])
				if err != nil {
					b.Error(err)
					return
				}
				next := g.Refresh
				next.Generation++
				next.Hash, next.RotatedAt, next.IdleExpiresAt = seed(next.Generation, i), began, began.Add(24*time.Hour)
				if err := db.RotateRefresh(ctx, g.ID, g.Refresh, next); err != nil {
					b.Error(err)
					return
				}
				mine = append(mine, time.Since(began))
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, mine...)
		})
	}
	done.Wait()
	slices.Sort(times)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rotations/s")
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "µs-p99")
}

func residentKiB() int {
	status, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	n, _ := strconv.Atoi(strings.Fields(rest + " 0")[0])
	return n
}

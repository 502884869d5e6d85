//go:build linux

package load

import (
	"math/bits"
	"time"
)

// Histogram counts durations in buckets that are at most 1/32 wide, from one
// microsecond to over an hour, in a fixed 8 KiB.
type Histogram struct {
	counts [1024]uint32
	total  uint64
	max    time.Duration
}

const sub = 5 // bits below the leading one that a bucket tells apart

func bucket(us uint64) int {
	if us < 1<<(sub+1) {
		return int(us)
	}
	shift := bits.Len64(us) - sub - 1
	return shift<<sub + int(us>>shift)
}

func upper(b int) uint64 {
	if b < 1<<(sub+1) {
		return uint64(b)
	}
	shift := b>>sub - 1
	return (uint64(b&(1<<sub-1)|1<<sub)+1)<<shift - 1
}

// Record counts d.
func (h *Histogram) Record(d time.Duration) {
	b := bucket(uint64(max(0, d.Microseconds())))
	h.counts[min(b, len(h.counts)-1)]++
	h.total++
	h.max = max(h.max, d)
}

// Quantile returns a duration that a share q of those recorded do not exceed,
// rounded up to the end of its bucket.
func (h *Histogram) Quantile(q float64) time.Duration {
	want := max(1, uint64(q*float64(h.total)))
	var seen uint64
	for b, n := range h.counts {
		if seen += uint64(n); seen >= want {
			return min(h.max, time.Duration(upper(b))*time.Microsecond)
		}
	}
	return h.max
}

// Max is the longest duration recorded.
func (h *Histogram) Max() time.Duration { return h.max }

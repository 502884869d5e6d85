package revocation

import (
	"runtime"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// One client may have ten thousand ended tokens alive, and there may be many clients:
// so it matters what a node's memory holds of each.
func TestAnEndedTokenIsSmallInMemory(t *testing.T) {
	const many = 50_000
	v := NewView()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range many {
		v.Apply(authority.Revocation{Kind: authority.RevokeToken, Key: authority.NewID(start).String(), ExpiresAt: start.Add(time.Minute)})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / many
	t.Logf("%d bytes each", each)
	if v.Len() != many || each > 400 {
		t.Errorf("%d entries, %d bytes each", v.Len(), each)
	}
}

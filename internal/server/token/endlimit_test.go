package token

import (
	"testing"
	"time"
)

// A client that gets tokens and gives them back in a loop fills neither the database nor
// the memory of all nodes: whatever it does, so many of its ended tokens are remembered.
func TestAClientEndsABoundedNumberOfTokens(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	limit := NewEndLimit(func() time.Time { return now })
	ends := func(client string, life time.Duration) (n int) {
		for limit.spend(client, now.Add(life)) == nil {
			n++
		}
		return n
	}
	const five = 5*time.Minute - 30*time.Second // for how long it is remembered: Leeway more
	if n := ends("service", five); n != 30_000 {
		t.Errorf("at once, of tokens that are remembered for 5 minutes: %d", n)
	}
	if n := ends("web", 24*time.Hour); n != 104 {
		t.Errorf("at once, of tokens that live for a day: %d", n)
	}
	n := 0
	for range 300 {
		now = now.Add(time.Second)
		n += ends("service", five)
	}
	if n < 9_990 || n > 10_000 {
		t.Errorf("in the 5 minutes after that: %d", n)
	}
}

package signin

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// tries says how many attempts in a row get through at one moment.
func (l *limiter) tries(username, address string, now time.Time, most int) int {
	for n := range most {
		if _, wait := l.begin(username, address, now); wait > 0 {
			return n
		}
	}
	return most
}

func TestWaitGrowsAndEnds(t *testing.T) {
	var l limiter
	if n := l.tries("ada", "192.0.2.1", noon, 100); n != freeTries {
		t.Fatalf("%d tries are free", n)
	}
	now := noon
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		_, wait := l.begin("ada", "192.0.2.1", now)
		if wait != want*time.Second {
			t.Fatalf("the wait is %v; want %v", wait, want*time.Second)
		}
		now = now.Add(wait)
		if _, wait := l.begin("ada", "192.0.2.1", now); wait != 0 {
			t.Fatalf("after the wait one try must be free; it waits %v", wait)
		}
	}
	if n := l.tries("ada", "192.0.2.1", now.Add(forgetAfter+1), 100); n != freeTries {
		t.Errorf("after an hour %d tries are free", n)
	}
}

func TestNobodyWaitsForWhatOthersDid(t *testing.T) {
	var l limiter
	for i := range 1000 {
		l.begin("ada", fmt.Sprintf("10.0.%d.%d", i/250, i%250), noon)
	}
	if n := l.tries("ada", "192.0.2.1", noon, 100); n != freeUnderAttack {
		t.Errorf("under attack %d tries are free; want %d", n, freeUnderAttack)
	}
	if n := l.tries("bob", "192.0.2.1", noon, 100); n != freeTries {
		t.Errorf("another account: %d tries are free", n)
	}
}

func TestOneAddressManyAccounts(t *testing.T) {
	var l limiter
	n := 0
	for i := range 200 {
		if _, wait := l.begin(fmt.Sprint("user", i), "192.0.2.1", noon); wait == 0 {
			n++
		} else if wait > maxWaitByNetwork {
			t.Fatalf("who shares an address waits %v", wait)
		}
	}
	if n != freeByNetwork {
		t.Errorf("%d accounts tried from one address", n)
	}
}

func TestSpellingsShareACount(t *testing.T) {
	var l limiter
	for i, s := range []struct{ name, address string }{
		{"ada", "192.0.2.1"}, {"ADA", "192.0.2.1"}, {" ada ", "::ffff:192.0.2.1"}, {"Ada", "192.0.2.1"}, {"aDA", "192.0.2.1"},
	} {
		if _, wait := l.begin(s.name, s.address, noon); wait != 0 {
			t.Fatalf("try %d waits", i)
		}
	}
	if _, wait := l.begin("ada", "192.0.2.1", noon); wait == 0 {
		t.Error("five spellings count apart")
	}
	var six limiter
	for i := range freeTries {
		six.begin("ada", fmt.Sprintf("2001:db8::%d", i), noon)
	}
	if _, wait := six.begin("ada", "2001:db8::ffff", noon); wait == 0 {
		t.Error("addresses of one /64 count apart")
	}
}

func TestARightPasswordForgives(t *testing.T) {
	var l limiter
	for range freeTries - 1 {
		l.begin("ada", "192.0.2.1", noon)
	}
	a, _ := l.begin("ada", "192.0.2.1", noon)
	a.forgive(true)
	if n := l.tries("ada", "192.0.2.1", noon, 100); n != freeTries {
		t.Errorf("after a right password %d tries are free", n)
	}
	if got := l.get(key("network", "192.0.2.1"), noon).failures; got != 2*freeTries-1 {
		t.Errorf("the address counts %d failures: an own account must not clear what it did to others", got)
	}
}

func TestManyAtOnceCountLikeManyInARow(t *testing.T) {
	var l limiter
	var through atomic.Int32
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if _, wait := l.begin("ada", "192.0.2.1", noon); wait == 0 {
				through.Add(1)
			}
		})
	}
	wg.Wait()
	if through.Load() != freeTries {
		t.Errorf("%d of 64 got through at once", through.Load())
	}
}

func TestTalliesAreBounded(t *testing.T) {
	var l limiter
	for i := range maxTallies {
		l.begin(fmt.Sprint("user", i), fmt.Sprintf("10.%d.%d.1", i/250%250, i%250), noon)
		if len(l.tallies) > maxTallies {
			t.Fatalf("%d tallies", len(l.tallies))
		}
	}
}

// A rented /48 is not 65,536 times the free attempts of a /64.
func TestNetworksOfIPv6(t *testing.T) {
	for row, tc := range map[string]struct {
		address func(i int) string
		account func(i int) string
		want    int
	}{
		"one account from one /64": {func(i int) string { return fmt.Sprintf("2001:db8::%x", i) }, one, freeTries},
		"one account from one /56": {func(i int) string { return fmt.Sprintf("2001:db8:0:%x::1", i%256) }, one, 2 * freeTries},
		"one account from one /48": {func(i int) string { return fmt.Sprintf("2001:db8:0:%x::1", i*256%65536) }, one, 4 * freeTries},
		"any account from one /64": {func(i int) string { return fmt.Sprintf("2001:db8::%x", i) }, each, freeByNetwork},
		"any account from one /56": {func(i int) string { return fmt.Sprintf("2001:db8:0:%x::1", i%256) }, each, 2 * freeByNetwork},
		"any account from one /48": {func(i int) string { return fmt.Sprintf("2001:db8:0:%x::1", i*256%65536) }, each, 4 * freeByNetwork},
		"any account from any /48": {func(i int) string { return fmt.Sprintf("2001:db8:%x::1", i) }, each, 1000},
	} {
		var l limiter
		n := 0
		for i := range 1000 {
			if _, wait := l.begin(tc.account(i), tc.address(i), noon); wait == 0 {
				n++
			}
		}
		if n != tc.want {
			t.Errorf("%s: %d attempts at once; want %d", row, n, tc.want)
		}
	}
}

func one(int) string    { return "ada" }
func each(i int) string { return fmt.Sprint("user", i) }

func TestAKnownBrowserHasItsOwnCount(t *testing.T) {
	var l limiter
	for i := range 500 {
		l.begin(fmt.Sprint("user", i), "192.0.2.1", noon)
		l.begin("ada", fmt.Sprintf("10.0.%d.%d", i/250, i%250), noon)
		l.beginKnown([]byte("another lane"), noon)
	}
	lane := []byte("the lane of ada")
	for i := range freeTries {
		if _, wait := l.beginKnown(lane, noon); wait != 0 {
			t.Fatalf("try %d waits %v for what others did", i, wait)
		}
	}
	if _, wait := l.beginKnown(lane, noon); wait == 0 {
		t.Error("a known browser guesses without end")
	}
	before := l.get(key("network", "192.0.2.1"), noon)
	if l.beginKnown(lane, noon.Add(time.Hour)); l.get(key("network", "192.0.2.1"), noon) != before {
		t.Error("what a known browser does counts against its neighbours")
	}
}

func TestALaneIsForPeople(t *testing.T) {
	var l limiter
	now := noon
	uses := func(every time.Duration, n int) (first int) {
		for i := range n {
			if l.tooOften("u-ada", now) {
				return i
			}
			now = now.Add(every)
		}
		return n
	}
	if n := uses(time.Millisecond, 100); n != usesAtOnce {
		t.Errorf("%d sign-ins in a row go before others", n)
	}
	now = now.Add(usesAtOnce * 2 * usePeriod)
	if n := uses(usePeriod, 1000); n != 1000 {
		t.Errorf("one sign-in every %v: the %dth has to go behind", usePeriod, n)
	}
	if l.tooOften("u-bob", now) {
		t.Error("another account's uses count")
	}
}

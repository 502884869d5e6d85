package agent

import "time"

// Instant is a moment on two clocks. Wall may be set, forwards and backwards;
// Steady may not, but does not count the time in which the machine sleeps.
type Instant struct {
	Wall   time.Time
	Steady time.Duration
}

// After is the instant d later.
func (i Instant) After(d time.Duration) Instant { return Instant{i.Wall.Add(d), i.Steady + d} }

// Clock tells the time.
type Clock func() Instant

// SystemClock is this machine's.
func SystemClock() Clock {
	start := time.Now()
	return func() Instant {
		now := time.Now()
		return Instant{now.Round(0), now.Sub(start)}
	}
}

// Token is a token and its life.
type Token struct {
	Value    string
	Obtained Instant // before it was asked for
	Life     time.Duration
}

func (t Token) String() string { return "[redacted]" }

// GoString keeps %#v from printing it.
func (t Token) GoString() string { return t.String() }

// age is how much of the life is over, by the clock that says more: after a sleep
// only the wall clock knows, and after that was set back only the steady one.
func (t Token) age(now Instant) time.Duration {
	return max(now.Steady-t.Obtained.Steady, now.Wall.Sub(t.Obtained.Wall))
}

// Ended says whether nobody should use the token any more. A token that nobody
// has got has ended.
func (t Token) Ended(now Instant) bool { return t.age(now) >= t.Life }

// Expires is the end of its life on the wall clock that it was obtained by.
func (t Token) Expires() time.Time { return t.Obtained.Wall.Add(t.Life) }

// late says whether nine tenths of the life are over.
func (t Token) late(now Instant) bool { return t.age(now) >= t.Life/10*9 }

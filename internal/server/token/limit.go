package token

import (
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// Limiter slows down who guesses: failures are counted for each pair of
// client and address, so that a stranger cannot lock a client out of where it
// really runs.
type Limiter struct {
	failures *otter.Cache[limitKey, *rate.Limiter]
	now      func() time.Time
}

type limitKey struct{ clientID, remote string }

const (
	failureBurst  = 30
	failurePerSec = 1
	limiterKeys   = 4096
)

// NewLimiter makes a limiter of bounded size.
func NewLimiter(now func() time.Time) *Limiter {
	return &Limiter{now: now, failures: otter.Must(&otter.Options[limitKey, *rate.Limiter]{
		MaximumSize:      limiterKeys,
		ExpiryCalculator: otter.ExpiryAccessing[limitKey, *rate.Limiter](time.Minute),
	})}
}

// Allows says whether the pair may try (again).
func (l *Limiter) Allows(clientID, remote string) bool {
	failures, ok := l.failures.GetIfPresent(limitKey{clientID, remote})
	return !ok || failures.TokensAt(l.now()) >= 1
}

// Failed counts a failure.
func (l *Limiter) Failed(clientID, remote string) {
	key := limitKey{clientID, remote}
	failures, ok := l.failures.GetIfPresent(key)
	if !ok {
		failures, _ = l.failures.SetIfAbsent(key, rate.NewLimiter(failurePerSec, failureBurst))
	}
	failures.AllowN(l.now(), 1)
}

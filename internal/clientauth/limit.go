package clientauth

import (
	"strings"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// Limiter counts failures for each pair of client and address. It refuses only
// wrong answers: a right one always passes, since a stranger behind the same
// address must not be able to lock a client out. What keeps guessers out is
// that secrets have at least 128 bits.
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

// Failed counts a failure, and says whether the pair is still told why.
func (l *Limiter) Failed(clientID, remote string) bool {
	// Cloned: the id is a part of the request's body, which must not stay in
	// memory with it.
	key := limitKey{strings.Clone(clientID), strings.Clone(remote)}
	failures, ok := l.failures.GetIfPresent(key)
	if !ok {
		failures, _ = l.failures.SetIfAbsent(key, rate.NewLimiter(failurePerSec, failureBurst))
	}
	return failures.AllowN(l.now(), 1)
}

package token

import (
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// EndLimit bounds how many ended access tokens of one client have to be remembered.
// Each is an entry in the database and in the memory of every node until the token
// would have expired, and a client that gets tokens and gives them back in a loop
// could make any number of them. So an end costs as many seconds as it has to be
// remembered, and a client may spend endedAtOnce seconds in each second.
type EndLimit struct {
	budgets *otter.Cache[string, *rate.Limiter]
	now     func() time.Time
}

const (
	// endedAtOnce is how many ended tokens of a client are remembered at any time, if it
	// gives them back all the time: 30 a second of those that live for 5 minutes.
	endedAtOnce = 10_000
	// endedBurst is what a client may spend at once beside that: nearly 30,000 tokens of
	// 5 minutes, or 100 of a day.
	endedBurst  = endedAtOnce * 15 * 60
	endedBudget = 4096 // clients whose budget is remembered
)

// NewEndLimit makes a limit of bounded size.
func NewEndLimit(now func() time.Time) *EndLimit {
	return &EndLimit{now: now, budgets: otter.Must(&otter.Options[string, *rate.Limiter]{
		MaximumSize:      endedBudget,
		ExpiryCalculator: otter.ExpiryAccessing[string, *rate.Limiter](endedBurst / endedAtOnce * time.Second), // full again
	})}
}

var errEndsTooMany = oauth.Errorf(oauth.TemporarilyUnavailable, "the client has revoked very many tokens: the token is still good, try again later or let it expire")

// spend pays for the end of one token of a registered client.
func (l *EndLimit) spend(clientID string, expires time.Time) error {
	now := l.now()
	budget, ok := l.budgets.GetIfPresent(clientID)
	if !ok {
		budget, _ = l.budgets.SetIfAbsent(clientID, rate.NewLimiter(endedAtOnce, endedBurst))
	}
	if !budget.AllowN(now, int((expires.Sub(now)+authority.Leeway)/time.Second)) {
		return errEndsTooMany
	}
	return nil
}

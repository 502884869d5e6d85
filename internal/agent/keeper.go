package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// ErrRefused is matched by an error of Ask if the service has decided. Any other
// error says that the service could not be asked, or could not answer now.
var ErrRefused = errors.New("the service refused")

// Ask gets a token from the service, and says how long it lives.
type Ask func(context.Context) (value string, life time.Duration, err error)

const (
	// The first attempts after a failure come fast: most are over in a moment.
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
	// askLimit bounds one attempt.
	askLimit = 20 * time.Second
)

// keeper has the one token of an identity: it asks for it, and asks again when two
// thirds of its life are over. While that fails it has the last one.
type keeper struct {
	ask    Ask
	clock  Clock
	random func() float64
	turns  chan struct{} // one for each that may ask at the same time
	log    *slog.Logger

	woken chan struct{} // the clock has jumped

	mu       sync.Mutex
	token    Token
	renew    time.Duration // at this age
	refused  bool          // by the last answer
	failures int           // in a row
	retry    Instant       // not before
	changed  chan struct{} // closed at the next change of token or refused
}

func newKeeper(ask Ask, clock Clock, random func() float64, turns chan struct{}, log *slog.Logger) *keeper {
	return &keeper{ask: ask, clock: clock, random: random, turns: turns, log: log, woken: make(chan struct{}, 1), changed: make(chan struct{})}
}

// current is the last token, which may have ended, whether the service has
// refused another one, and what is closed when that changes.
func (k *keeper) current() (token Token, refused bool, changed <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.token, k.refused, k.changed
}

// run asks until ctx ends.
func (k *keeper) run(ctx context.Context) {
	for {
		if wait := k.due(); wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-k.woken: // the next look at the clock decides
				timer.Stop()
			case <-timer.C:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case k.turns <- struct{}{}:
		}
		_ = k.once(ctx)
		<-k.turns
	}
}

// wake looks at the clock again, and does not wait for the next attempt.
func (k *keeper) wake() {
	k.mu.Lock()
	k.retry = Instant{}
	k.mu.Unlock()
	poke(k.woken)
}

// due is how long until the next attempt.
func (k *keeper) due() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock()
	return max(k.renew-k.token.age(now), k.retry.Steady-now.Steady)
}

// once asks once.
func (k *keeper) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	began := k.clock()
	value, life, err := k.ask(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return err // we end
		}
		k.failures++
		k.retry = k.clock().After(backoff(k.failures, k.random(), k.token.Life))
		refused := errors.Is(err, ErrRefused)
		if news := refused != k.refused; news || k.failures&(k.failures-1) == 0 { // each time that the number has doubled
			k.log.Warn("no new token", "error", err, "failures", k.failures, "last_one_is_good", !k.token.Ended(k.clock()))
			if news {
				k.refused = refused
				k.tell()
			}
		}
		return err
	}
	if k.failures > 0 {
		k.log.Info("tokens again", "failures", k.failures)
	}
	k.token = Token{Value: value, Obtained: began, Life: life}
	// Those who started together do not ask together forever.
	k.renew = life * 2 / 3 * time.Duration(900+100*k.random()) / 1000
	k.refused, k.failures, k.retry = false, 0, Instant{}
	k.tell()
	return nil
}

// tell wakes all who wait for a change.
func (k *keeper) tell() {
	close(k.changed)
	k.changed = make(chan struct{})
}

// backoff is how long to wait after so many failures: twice as long each time,
// and by chance down to half of that. It is short beside the life of the token that
// is used meanwhile: whoever reads should have the next one before that ends.
func backoff(failures int, random float64, life time.Duration) time.Duration {
	wait := min(firstRetry<<min(failures-1, 10), lastRetry)
	if life > 0 {
		wait = min(wait, max(firstRetry, life/20))
	}
	return time.Duration(float64(wait) * (0.5 + random/2))
}

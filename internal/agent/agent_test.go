package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// world is an agent, a service that gives tokens for five minutes, and the time of a
// synctest bubble, in which the wall clock may jump.
type world struct {
	*testing.T
	Agent
	ctx context.Context

	mu    sync.Mutex
	skew  time.Duration // of the wall clock
	asked int
	life  time.Duration
	fail  error
	log   strings.Builder
}

// inWorld runs a test in a bubble. All that the test has started ends with it.
func inWorld(t *testing.T, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, life: 5 * time.Minute}
		start := time.Now()
		w.Agent = Agent{
			Clock: func() Instant {
				w.mu.Lock()
				defer w.mu.Unlock()
				return Instant{time.Now().Round(0).Add(w.skew), time.Since(start)}
			},
			Random: func() float64 { return 1 },
			Log:    slog.New(slog.NewTextHandler(lockedWriter{w}, nil)),
		}
		var end context.CancelFunc
		w.ctx, end = context.WithCancel(t.Context())
		defer func() { end(); synctest.Wait() }()
		test(w)
	})
}

type lockedWriter struct{ w *world }

func (l lockedWriter) Write(p []byte) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.log.Write(p)
}

// ask gives token-1, token-2 and so on.
func (w *world) ask(context.Context) (string, time.Duration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.fail != nil {
		return "", 0, w.fail
	}
	return fmt.Sprintf("token-%d", w.asked), w.life, nil
}

// last is the token of the last attempt.
func (w *world) last() string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprint("token-", w.asked)
}

func (w *world) answers(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail = err
}

func (w *world) jump(by time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.skew += by
}

func (w *world) asks(n int) {
	w.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked != n {
		w.Errorf("asked %d times, not %d", w.asked, n)
	}
}

// shelf is an outlet in memory.
type shelf struct {
	name string
	w    *world

	mu      sync.Mutex
	holds   Token
	fail    error
	puts    int
	removed int
	left    time.Time // by an earlier run, until when
}

func (w *world) shelf(name string) *shelf { return &shelf{name: name, w: w} }

func (s *shelf) String() string { return s.name }

func (s *shelf) Put(_ context.Context, token Token) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if token.Ended(s.w.Clock()) {
		s.w.Errorf("%s got a token that has ended", s.name)
	}
	if s.fail != nil {
		return false, s.fail
	}
	s.puts++
	changed := s.holds.Value != token.Value
	s.holds = token
	return changed, nil
}

func (s *shelf) Found(context.Context) (time.Time, error) { return s.left, nil }

func (s *shelf) Remove(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds, s.left = Token{}, time.Time{}
	s.removed++
	return nil
}

func (s *shelf) has(value string) {
	s.w.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holds.Value != value {
		s.w.Errorf("%s holds %q, not %q", s.name, s.holds.Value, value)
	}
}

// was says how often something was put there and removed.
func (s *shelf) was(puts, removed int) {
	s.w.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.puts != puts || s.removed != removed {
		s.w.Errorf("%s: %d times put there and %d times removed, not %d and %d", s.name, s.puts, s.removed, puts, removed)
	}
}

func (s *shelf) answers(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (w *world) entry(name, identity string, outlets ...Outlet) Entry {
	return Entry{Name: name, Identity: identity, Ask: w.ask, Outlets: outlets, Definition: name + identity + fmt.Sprint(outlets)}
}

var errAway = errors.New("the service is away")

func TestATokenIsRenewedAtTwoThirdsOfItsLife(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.shelf("a")
		w.Set(w.ctx, []Entry{w.entry("a", "x", s)})
		s.has("token-1")
		time.Sleep(199 * time.Second)
		s.has("token-1")
		time.Sleep(2 * time.Second)
		s.has("token-2")
		w.asks(2)
	})
}

func TestThoseWhoStartTogetherDoNotRenewTogether(t *testing.T) {
	inWorld(t, func(w *world) {
		w.Random = func() float64 { return 0 }
		s := w.shelf("a")
		w.Set(w.ctx, []Entry{w.entry("a", "x", s)})
		time.Sleep(181 * time.Second) // a tenth before two thirds
		s.has("token-2")
	})
}

func TestOneExchangeForAnIdentityHoweverManyOutputsItHas(t *testing.T) {
	inWorld(t, func(w *world) {
		var shelves []*shelf
		var entries []Entry
		for i := range 10 {
			one, two := w.shelf(fmt.Sprint("one-", i)), w.shelf(fmt.Sprint("two-", i))
			shelves = append(shelves, one, two)
			entries = append(entries, w.entry(fmt.Sprint(i), "x", one, two))
		}
		w.Set(w.ctx, entries)
		w.asks(1)
		for _, s := range shelves {
			s.has("token-1")
		}
		time.Sleep(201 * time.Second)
		w.asks(2)
		for _, s := range shelves {
			s.has("token-2")
		}
	})
}

func TestAnOutageIsSurvivedUntilTheLastGoodTokenEnds(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.shelf("a")
		w.Set(w.ctx, []Entry{w.entry("a", "x", s)})
		s.has("token-1")
		w.answers(errAway)
		time.Sleep(299 * time.Second)
		s.has("token-1")
		w.answers(nil)
		time.Sleep(31 * time.Second) // longer than the wait between two attempts
		s.has(w.last())
		if last := w.last(); last != "token-12" {
			t.Errorf("the last attempt was for %s", last)
		}
	})
}

func TestAnOutageThatIsLongerThanALifeRemovesNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.shelf("a")
		w.Set(w.ctx, []Entry{w.entry("a", "x", s)})
		s.has("token-1")
		w.answers(errAway)
		time.Sleep(time.Hour)
		w.jump(time.Hour) // everybody looks again
		time.Sleep(time.Minute)
		s.has("token-1")
		s.was(1, 0)
	})
}

func TestATokenThatHasEndedIsPutNowhere(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.shelf("a")
		s.answers(errors.New("no space left on device"))
		w.Set(w.ctx, []Entry{w.entry("a", "x", s)})
		synctest.Wait()
		w.answers(errAway)
		time.Sleep(301 * time.Second)
		s.answers(nil)
		time.Sleep(time.Minute)
		s.was(0, 0)
		w.answers(nil)
		time.Sleep(time.Minute)
		s.has(w.last())
	})
}

func TestAnOutputThatFailsIsTriedAgainAndKeepsWhatItHad(t *testing.T) {
	inWorld(t, func(w *world) {
		good, bad := w.shelf("good"), w.shelf("bad")
		w.Set(w.ctx, []Entry{w.entry("a", "x", bad, good)})
		bad.has("token-1")
		bad.answers(errors.New("no space left on device"))
		time.Sleep(201 * time.Second)
		good.has("token-2")
		bad.has("token-1")
		bad.answers(nil)
		time.Sleep(5 * time.Second)
		bad.has("token-2")
		w.asks(2)
	})
}

func TestWhatIsRefusedIsRemovedWhenTheLastTokenHasEnded(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.shelf("a")
		w.Set(w.ctx, []Entry{w.entry("a", "x", s)})
		s.has("token-1")
		w.answers(fmt.Errorf("%w: invalid_target", ErrRefused))
		time.Sleep(299 * time.Second)
		s.has("token-1")
		time.Sleep(2 * time.Second)
		s.has("")
		s.was(1, 1)
		w.answers(nil)
		time.Sleep(31 * time.Second)
		s.has(w.last())
	})
}

func TestWhatAnEarlierRunLeftIsRemovedWhenItIsRefusedAndHasEnded(t *testing.T) {
	inWorld(t, func(w *world) {
		alive, ended, nothing := w.shelf("alive"), w.shelf("ended"), w.shelf("nothing")
		alive.left, ended.left = w.Clock().Wall.Add(time.Minute), w.Clock().Wall.Add(-time.Minute)
		w.answers(fmt.Errorf("%w: invalid_request", ErrRefused))
		w.Set(w.ctx, []Entry{w.entry("a", "x", alive, ended, nothing)})
		alive.was(0, 0)
		ended.was(0, 1)
		nothing.was(0, 0)
		time.Sleep(61 * time.Second)
		alive.was(0, 1)
	})
}

func TestAClockThatIsSetForwardOrAMachineThatSleptMeansANewTokenAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.shelf("a")
		w.Set(w.ctx, []Entry{w.entry("a", "x", s)})
		s.has("token-1")
		w.jump(time.Hour)
		time.Sleep(watchEvery)
		s.has("token-2")
		time.Sleep(199 * time.Second)
		w.asks(2) // the life of the new one is counted from now
	})
}

func TestAClockThatIsSetBackDoesNotMakeATokenLiveLonger(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.shelf("a")
		w.Set(w.ctx, []Entry{w.entry("a", "x", s)})
		s.has("token-1")
		w.jump(-24 * time.Hour)
		time.Sleep(201 * time.Second)
		s.has("token-2")
	})
}

func TestWhatLeavesIsRemovedAndTheRestIsLeftAlone(t *testing.T) {
	inWorld(t, func(w *world) {
		stays, goes, other := w.shelf("stays"), w.shelf("goes"), w.shelf("other")
		w.Set(w.ctx, []Entry{w.entry("a", "x", stays), w.entry("b", "x", goes)})
		stays.has("token-1")
		goes.has("token-1")
		w.Set(w.ctx, []Entry{w.entry("a", "x", stays), w.entry("b", "x", goes), w.entry("c", "y", other)})
		other.has("token-2")
		w.Set(w.ctx, []Entry{w.entry("a", "x", stays)})
		goes.has("")
		other.has("")
		stays.has("token-1")
		w.asks(2)
		stays.was(1, 0)
		time.Sleep(201 * time.Second)
		w.asks(3) // nobody asks for y any more
	})
}

func TestAnOutputThatMovesToAnotherEntryIsNotRemovedInBetween(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.shelf("a")
		w.Set(w.ctx, []Entry{w.entry("a", "x", s)})
		s.has("token-1")
		w.Set(w.ctx, []Entry{w.entry("b", "y", s)})
		s.has("token-2")
		s.was(2, 0)
	})
}

func TestAnEntryThatComesLaterTakesTheTokenThatIsThere(t *testing.T) {
	inWorld(t, func(w *world) {
		one, two := w.shelf("one"), w.shelf("two")
		w.Set(w.ctx, []Entry{w.entry("a", "x", one)})
		one.has("token-1")
		w.Set(w.ctx, []Entry{w.entry("a", "x", one), w.entry("b", "x", two)})
		two.has("token-1")
		w.Set(w.ctx, []Entry{w.entry("b", "x", two), w.entry("a", "x", one, w.shelf("three"))}) // a begins again
		one.has("token-1")
		w.asks(1)
	})
}

func TestTheProgramIsToldOfEachChangeAndNeverTwiceAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		s, other := w.shelf("a"), w.shelf("b")
		e := w.entry("a", "x", s, other)
		var runs, now atomic.Int64
		var fails atomic.Bool
		e.OnChange = func(context.Context) error {
			if now.Add(1) > 1 {
				t.Error("it runs twice at the same time")
			}
			defer now.Add(-1)
			if runs.Add(1) == 2 { // longer than a token lives
				time.Sleep(9 * time.Minute)
			}
			if fails.Load() {
				return errors.New("exit status 1")
			}
			return nil
		}
		ran := func(n int64) {
			t.Helper()
			if synctest.Wait(); runs.Load() != n {
				t.Errorf("%d runs, not %d", runs.Load(), n)
			}
		}
		w.Set(w.ctx, []Entry{e})
		s.has("token-1")
		ran(1)
		time.Sleep(201 * time.Second)
		s.has("token-2")
		time.Sleep(201 * time.Second)
		s.has("token-3") // although the program still runs
		ran(2)
		time.Sleep(350 * time.Second) // it ends, and runs once for all that came meanwhile
		ran(3)
		fails.Store(true)
		time.Sleep(50*time.Second + 500*time.Millisecond)
		fails.Store(false)
		synctest.Wait()
		before := runs.Load()
		time.Sleep(31 * time.Second)
		ran(before + 1)
	})
}

func TestOnceWritesEverythingAndNamesWhatFailed(t *testing.T) {
	inWorld(t, func(w *world) {
		one, two, bad := w.shelf("one"), w.shelf("two"), w.shelf("bad")
		if err := w.Once(w.ctx, []Entry{w.entry("a", "x", one), w.entry("b", "x", two)}); err != nil {
			t.Error(err)
		}
		one.has("token-1")
		two.has("token-1")
		w.asks(1)
		bad.answers(errors.New("no space left on device"))
		err := w.Once(w.ctx, []Entry{w.entry("a", "x", one), w.entry("b", "x", bad)})
		if err == nil || !strings.Contains(err.Error(), "b: bad: no space left") || strings.Contains(err.Error(), "a: ") {
			t.Error(err)
		}
		one.has("token-2")
		w.answers(errAway)
		if err := w.Once(w.ctx, []Entry{w.entry("a", "x", one)}); !errors.Is(err, errAway) {
			t.Error(err)
		}
		one.has("token-2")
	})
}

func TestTokensDoNotPrint(t *testing.T) {
	token := Token{Value: "the-token"}
	if text := fmt.Sprintf("%v %+v %#v %s", token, token, token, token); strings.Contains(text, "the-token") {
		t.Error(text)
	}
	inWorld(t, func(w *world) {
		s := w.shelf("a")
		w.Set(w.ctx, []Entry{w.entry("a", "x", s)})
		s.answers(errors.New("full"))
		time.Sleep(time.Hour)
		synctest.Wait()
		if strings.Contains(w.log.String(), "token-") {
			t.Error(w.log.String())
		}
	})
}

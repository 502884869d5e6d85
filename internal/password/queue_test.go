package password

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
)

// hall is a queue with a clock that the test moves.
type hall struct {
	*queue
	t     *testing.T
	mu    sync.Mutex
	clock time.Time
	timer func()
	waits time.Duration
}

func newHall(t *testing.T) *hall {
	h := &hall{t: t, clock: time.Unix(1e9, 0)}
	h.queue = newQueue(func() time.Time {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.clock
	}, func(d time.Duration, f func()) { h.timer, h.waits = f, d })
	return h
}

func (h *hall) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock = h.clock.Add(d)
}

// guest is one call of acquire.
type guest struct {
	h       *hall
	release func()
	err     error
	done    chan struct{}
}

func known(key string) Caller    { return Caller{Known: true, Key: key} }
func stranger(key string) Caller { return Caller{Key: key} }

// come calls acquire and returns when it is decided or waits in the line.
func (h *hall) come(ctx context.Context, c Caller, weight float64) *guest {
	h.t.Helper()
	g := &guest{h: h, done: make(chan struct{})}
	before := h.inLine()
	go func() {
		g.release, g.err = h.acquire(ctx, c, weight)
		close(g.done)
	}()
	for h.inLine() == before && !g.decided() {
		runtime.Gosched()
	}
	return g
}

// enter is a caller who must be let in at once.
func (h *hall) enter(c Caller) *guest {
	h.t.Helper()
	g := h.come(h.t.Context(), c, 1)
	g.in()
	return g
}

func (h *hall) inLine() int {
	h.queue.mu.Lock()
	defer h.queue.mu.Unlock()
	return h.lanes[0].count + h.lanes[1].count
}

func (g *guest) decided() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

func (g *guest) in() {
	g.h.t.Helper()
	g.wait()
	if g.err != nil {
		g.h.t.Fatalf("not let in: %v", g.err)
	}
}

// wait gives a queue that lets nobody in long enough to be sure of it.
func (g *guest) wait() {
	g.h.t.Helper()
	select {
	case <-g.done:
	case <-time.After(5 * time.Second):
		g.h.t.Fatal("neither let in nor refused")
	}
}

func (g *guest) refused(want error) {
	g.h.t.Helper()
	g.wait()
	if !errors.Is(g.err, want) {
		g.h.t.Fatalf("%v, want %v", g.err, want)
	}
}

func TestAKnownCallerDoesNotWaitForStrangers(t *testing.T) {
	h := newHall(t)
	busy := h.enter(stranger("a"))
	for i := range maxWaiting {
		h.come(t.Context(), stranger(fmt.Sprint(i)), 1)
	}
	h.come(t.Context(), stranger("one more"), 1).refused(ErrBusy)
	first := h.enter(known("ada"))
	second := h.come(t.Context(), known("bob"), 1)
	first.release()
	second.in() // before every stranger
	third := h.come(t.Context(), known("eve"), 1)
	busy.release()
	third.in() // also in the place of a stranger
}

func TestEachKeyGetsItsTurn(t *testing.T) {
	h := newHall(t)
	now := h.enter(stranger("crowd"))
	var crowd []*guest
	for range 10 {
		crowd = append(crowd, h.come(t.Context(), stranger("crowd"), 1))
	}
	one := h.come(t.Context(), stranger("one"), 1)
	now.release()
	crowd[0].in()
	crowd[0].release()
	one.in() // although nine others came before
	one.release()
	crowd[1].in()
	crowd[1].release()
	crowd[2].in()
}

func TestAFullLineCostsWhoeverFilledIt(t *testing.T) {
	h := newHall(t)
	h.enter(stranger("crowd"))
	var crowd []*guest
	for range maxWaiting {
		crowd = append(crowd, h.come(t.Context(), stranger("crowd"), 1))
	}
	h.come(t.Context(), stranger("crowd"), 1).refused(ErrBusy)
	for i := range maxWaiting / 2 {
		one := make(chan *guest)
		go func() {
			g := &guest{h: h, done: make(chan struct{})}
			one <- g
			g.release, g.err = h.acquire(t.Context(), stranger("one"), 1)
			close(g.done)
		}()
		<-one
		crowd[maxWaiting-1-i].refused(ErrBusy)
	}
	h.come(t.Context(), stranger("one"), 1).refused(ErrBusy) // it has as many as the crowd by now
	if n := h.inLine(); n != maxWaiting {
		t.Errorf("%d in line", n)
	}
}

func TestStrangersHaveAPartOfTheMachine(t *testing.T) {
	h := newHall(t)
	for range burst {
		h.enter(stranger("a")).release()
	}
	waits := h.come(t.Context(), stranger("a"), 1)
	if waits.decided() || h.waits > time.Second {
		t.Fatalf("after the burst: decided %v, wait %v", waits.decided(), h.waits)
	}
	h.enter(known("ada")).release() // known callers have a part of their own
	h.pass(h.waits)
	h.timer()
	waits.in()
	waits.release()
	n := 0
	for range 60 * 10 { // a minute, in steps of a tenth of a second
		h.pass(time.Second / 10)
		for {
			ctx, cancel := context.WithCancel(t.Context())
			g := h.come(ctx, stranger("a"), 1)
			if !g.decided() {
				cancel()
				g.refused(context.Canceled)
				break
			}
			cancel()
			g.release()
			n++
		}
	}
	if want := 60 * strangersPerCore * runtime.GOMAXPROCS(0); n < want-1 || n > want+1 {
		t.Errorf("%d hashes for strangers in a minute, want %d", n, want)
	}
}

func TestAQuietDayEarnsNoMoreThanABurst(t *testing.T) {
	h := newHall(t)
	h.pass(24 * time.Hour)
	for range burst {
		h.enter(stranger("a")).release()
	}
	if one := h.come(t.Context(), stranger("a"), 1); one.decided() {
		t.Error("more than a burst at full speed")
	}
}

func TestADearHashCostsMore(t *testing.T) {
	h := newHall(t)
	h.come(t.Context(), stranger("a"), burst).release()
	if waits := h.come(t.Context(), stranger("b"), 1); waits.decided() {
		t.Error("a hash that costs as much as the burst leaves some of it")
	}
	phc, err := parse("$argon2id$v=19$m=38912,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	if err != nil || phc.weight() != 3 {
		t.Errorf("%v, %v", phc.weight(), err)
	}
}

func TestWhoeverStopsWaitingLeavesTheLine(t *testing.T) {
	h := newHall(t)
	busy := h.enter(stranger("a"))
	ctx, cancel := context.WithCancel(t.Context())
	gone, next := h.come(ctx, stranger("a"), 1), h.come(t.Context(), stranger("b"), 1)
	cancel()
	gone.refused(context.Canceled)
	busy.release()
	next.in()
	next.release()
	h.come(ctx, stranger("a"), 1).refused(context.Canceled)
	if h.running != 0 || h.inLine() != 0 || len(h.lanes[1].waiting) != 0 || len(h.lanes[1].turns) != 0 {
		t.Errorf("%d running, %d in line, %v", h.running, h.inLine(), h.lanes[1].turns)
	}
}

// A caller who gives up in the moment in which it is let in gives its place back.
func TestGivingUpWhileBeingLetIn(t *testing.T) {
	h := newHall(t)
	for range 100 {
		h.enter(stranger("a"))
		ctx, cancel := context.WithCancel(t.Context())
		g := h.come(ctx, stranger("b"), 0)
		h.queue.mu.Lock()
		cancel() // it has to wait for the lock now, before it can leave the line
		h.queue.running--
		h.lanes[1].running--
		h.dispatch() // and is let in, as release does it
		h.queue.mu.Unlock()
		<-g.done
		if g.err == nil {
			g.release()
		}
		h.pass(time.Second)
	}
	if h.running != 0 {
		t.Errorf("%d places are lost", h.running)
	}
}

func TestManyAtOnce(t *testing.T) {
	h := newHall(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	inside, most := 0, 0
	for i := range 500 {
		wg.Go(func() {
			release, err := h.acquire(t.Context(), Caller{Known: i%2 == 0, Key: fmt.Sprint(i % 7)}, 0)
			if err != nil {
				return
			}
			mu.Lock()
			inside++
			most = max(most, inside)
			mu.Unlock()
			runtime.Gosched()
			mu.Lock()
			inside--
			mu.Unlock()
			release()
		})
	}
	wg.Wait()
	if most > parallel || h.running != 0 || h.inLine() != 0 {
		t.Errorf("%d at once, %d running, %d in line", most, h.running, h.inLine())
	}
}

package revocation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// feed is a list that shows an entry when the test commits it, in whatever order.
type feed struct {
	mu      sync.Mutex
	visible []authority.Revocation
	next    int64
	err     error
	asked   []int64
	until   time.Time // when the entries end; the tests that forget set it
}

var errDown = errors.New("the database is away")

func (f *feed) Revoke(_ context.Context, r authority.Revocation) (authority.Revocation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return authority.Revocation{}, f.err
	}
	f.next++
	r.Seq = f.next
	f.visible = append(f.visible, r)
	return r, nil
}

func (f *feed) Revocations(_ context.Context, after int64, limit int) ([]authority.Revocation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, after)
	if f.err != nil {
		return nil, f.err
	}
	var page []authority.Revocation
	for _, r := range f.visible {
		if r.Seq > after {
			page = append(page, r)
		}
	}
	slices.SortFunc(page, func(a, b authority.Revocation) int { return int(a.Seq - b.Seq) })
	return page[:min(limit, len(page))], nil
}

func (f *feed) commit(seq int64, key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.visible = append(f.visible, authority.Revocation{Seq: seq, Kind: authority.RevokeKey, Key: key, ExpiresAt: cmp.Or(f.until, start.Add(time.Hour))})
}

func (f *feed) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func follow(store *feed) (*Follower, *time.Time) {
	now := start
	return &Follower{View: NewView(), Store: store, Now: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}, &now
}

func killed(f *Follower, key string) bool {
	return f.View.Revoked([]authority.Link{{Kind: authority.RevokeKey, Key: key}})
}

func TestFollowerReadsManyPages(t *testing.T) {
	store := new(feed)
	for i := range 2*pageSize + 1 {
		store.commit(int64(i+1), fmt.Sprint("k", i))
	}
	f, _ := follow(store)
	if err := f.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f.View.Len() != 2*pageSize+1 || !killed(f, "k0") || !killed(f, fmt.Sprint("k", 2*pageSize)) {
		t.Fatalf("%d of %d entries", f.View.Len(), 2*pageSize+1)
	}
}

// A transaction that took its number early may commit late: on PostgreSQL a
// reader sees 5 before 3. Whatever becomes visible less than the overlap after
// it took its number is read, once.
func TestFollowerFindsWhatCommitsLate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := new(feed)
		f, now := follow(store)
		applied := map[string]int{}
		f.Applied = func(news []authority.Revocation) {
			for _, r := range news {
				applied[r.Key]++
			}
		}
		type pending struct {
			seq int64
			due time.Time
		}
		var open []pending
		made := int64(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			*now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
			if rapid.Bool().Draw(t, "begin") {
				made++
				open = append(open, pending{made, now.Add(time.Duration(rapid.IntRange(0, int(overlap/time.Second)-1).Draw(t, "seconds to commit")) * time.Second)})
			}
			open = slices.DeleteFunc(open, func(p pending) bool {
				if p.due.After(*now) {
					return false
				}
				store.commit(p.seq, fmt.Sprint(p.seq))
				return true
			})
			// What has just become visible is read before the overlap is over, as Run does.
			if err := f.Load(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, r := range store.visible {
				if applied[r.Key] != 1 {
					t.Fatalf("entry %s of %d was applied %d times", r.Key, made, applied[r.Key])
				}
			}
		}
	})
}

func TestFollowerDoesNotReadTheWholeListForEver(t *testing.T) {
	store := new(feed)
	f, now := follow(store)
	for i := range 10 {
		store.commit(int64(i+1), fmt.Sprint(i))
		*now = now.Add(overlap)
		if err := f.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if last := store.asked[len(store.asked)-1]; last == 0 {
		t.Fatal("each poll reads the whole list")
	}
	if len(f.seen) > 5 || len(f.marks) > 5 {
		t.Fatalf("%d numbers and %d marks are kept", len(f.seen), len(f.marks))
	}
}

// A machine that starts with its clock two days ahead forgets what still lives by
// the right time. When its clock is set back it reads the whole list again.
func TestAClockThatIsSetBackBringsEverythingBack(t *testing.T) {
	store := new(feed)
	f, now := follow(store)
	*now = start.Add(48 * time.Hour)
	store.commit(1, "leaked") // ends an hour after start
	for range 2 {
		if err := f.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.View.Forget(*now)
	}
	if f.View.Len() != 0 {
		t.Fatal("the test shows nothing: it is still remembered")
	}
	*now = start
	for range 3 {
		*now = now.Add(pollEvery)
		if err := f.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !killed(f, "leaked") {
			t.Fatal("what was revoked is good again")
		}
	}
	if len(store.asked) != 5 || len(f.seen) != 1 {
		t.Errorf("asked %v", store.asked)
	}
}

// What is over needs no room: the database keeps it for a day longer than anybody needs it.
func TestWhatIsOverIsNotTakenIn(t *testing.T) {
	store := new(feed)
	store.commit(1, "over")
	store.until = start.Add(48 * time.Hour)
	store.commit(2, "needed")
	f, now := follow(store)
	*now = start.Add(2 * time.Hour)
	if err := f.Load(t.Context()); err != nil || f.View.Len() != 1 || !killed(f, "needed") {
		t.Errorf("%d entries, %v", f.View.Len(), err)
	}
}

func TestFollowerKnowsWhenItIsStale(t *testing.T) {
	store := new(feed)
	f, now := follow(store)
	if err := f.Fresh(); !errors.Is(err, ErrStale) {
		t.Fatalf("fresh before the first read: %v", err)
	}
	if err := f.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	*now = start.Add(staleAfter)
	if err := f.Fresh(); err != nil {
		t.Fatal(err)
	}
	store.fail(errDown)
	if err := f.Load(t.Context()); !errors.Is(err, errDown) {
		t.Fatal(err)
	}
	*now = start.Add(staleAfter + 1)
	if err := f.Fresh(); !errors.Is(err, ErrStale) {
		t.Fatalf("a failed read counts as news: %v", err)
	}
	store.fail(nil)
	if err := f.Load(t.Context()); err != nil || f.Fresh() != nil {
		t.Fatal("it never recovers")
	}
}

// What is asked before the database answers may be older than the answer: the
// view is as fresh as the question.
func TestFreshnessCountsFromTheQuestion(t *testing.T) {
	now := start
	f := &Follower{View: NewView(), Now: func() time.Time { return now }}
	f.Store = slow{new(feed), func() { now = now.Add(staleAfter + 1) }}
	if err := f.Load(t.Context()); err != nil || f.Fresh() == nil {
		t.Fatalf("an answer that took %s is news: %v", staleAfter, err)
	}
}

type slow struct {
	*feed
	wait func()
}

func (s slow) Revocations(ctx context.Context, after int64, limit int) ([]authority.Revocation, error) {
	s.wait()
	return s.feed.Revocations(ctx, after, limit)
}

func TestFollowerRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(feed)
		f := &Follower{View: NewView(), Store: store, Now: time.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
		ctx, cancel := context.WithCancel(t.Context())
		wake := make(chan struct{})
		done := make(chan struct{})
		go func() { f.Run(ctx, wake); close(done) }()

		store.until = time.Now().Add(time.Hour)
		store.commit(1, "woken")
		wake <- struct{}{}
		synctest.Wait()
		if !killed(f, "woken") {
			t.Error("a wake-up is not heard at once")
		}
		store.fail(errDown)
		store.commit(2, "polled")
		time.Sleep(2 * pollEvery)
		store.fail(nil)
		time.Sleep(pollEvery)
		synctest.Wait()
		if !killed(f, "polled") {
			t.Error("promise 1: without a wake-up, an entry waits for longer than a second")
		}
		time.Sleep(24 * time.Hour) // the entries' time was over long ago
		synctest.Wait()
		if f.View.Len() != 0 {
			t.Errorf("the view keeps %d entries forever", f.View.Len())
		}
		cancel()
		<-done
	})
}

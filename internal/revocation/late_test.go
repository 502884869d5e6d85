package revocation

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// late is a feed in which one entry becomes visible long after its number was taken.
type late struct {
	mu     sync.Mutex
	rows   []authority.Revocation
	hidden int64
	read   int // rows, since the last one was added
}

func (l *late) Revoke(context.Context, authority.Revocation) (authority.Revocation, error) {
	return authority.Revocation{}, nil
}

func (l *late) Revocations(_ context.Context, after int64, limit int) ([]authority.Revocation, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var page []authority.Revocation
	for _, r := range l.rows {
		if r.Seq > after && r.Seq != l.hidden && len(page) < limit {
			page = append(page, r)
		}
	}
	l.read += len(page)
	return page, nil
}

func (l *late) hide(seq int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hidden = seq
}

// readSince is how many rows were read since the last one was added.
func (l *late) readSince() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.read
}

func TestLateEntryBehindManyOthersIsHeard(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	grant := authority.NewID(now)
	feed := &late{hidden: 2}
	add := func(key string) {
		feed.rows = append(feed.rows, authority.Revocation{
			Seq: int64(len(feed.rows) + 1), Kind: authority.RevokeGrant, Key: key, NotBefore: now, ExpiresAt: now.Add(time.Hour),
		})
	}
	f := &Follower{View: NewView(), Store: feed, Now: func() time.Time { return now }}
	load := func() {
		if err := f.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	add("first")
	load()
	now = now.Add(time.Hour) // what was there at start is behind the overlap
	load()
	add(grant.String()) // takes its number, is not visible yet
	for i := range 5000 {
		add(strconv.Itoa(i))
	}
	load()
	now = now.Add(20 * time.Second)
	load()
	feed.hidden = 0
	load()
	if !f.View.Revoked([]authority.Link{{Kind: authority.RevokeGrant, Key: grant.String()}}) {
		t.Fatal("a revocation that was committed 20 s late is never heard")
	}
	now = now.Add(time.Minute)
	load()
	load()
	if len(f.marks) > 2 || len(f.seen) != 0 {
		t.Fatalf("the overlap does not move on: %d marks, %d entries read again", len(f.marks), len(f.seen))
	}
}

// Where pods end by the hundred each is a wake-up: it must not read all that ended in the
// last half minute. What is visible late is heard all the same, by the next look back.
func TestAWakeUpReadsWhatIsRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		grant, feed := authority.NewID(time.Now()), &late{}
		f := &Follower{View: NewView(), Store: feed, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		add := func(key string) {
			feed.mu.Lock()
			defer feed.mu.Unlock()
			feed.read = 0
			feed.rows = append(feed.rows, authority.Revocation{
				Seq: int64(len(feed.rows) + 1), Kind: authority.RevokeGrant, Key: key, NotBefore: time.Now(), ExpiresAt: time.Now().Add(time.Hour),
			})
		}
		add("first")
		if err := f.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		wake, done := make(chan struct{}), make(chan struct{})
		go func() { f.Run(ctx, wake); close(done) }()
		time.Sleep(time.Minute)
		feed.hide(2)
		add(grant.String())
		time.Sleep(5 * time.Millisecond) // so that no poll is at the same moment as a wake-up
		for i := range 500 {             // 100 a second
			add(strconv.Itoa(i))
			wake <- struct{}{}
			synctest.Wait()
			if read := feed.readSince(); read > 130 {
				t.Fatalf("the wake-up for entry %d reads %d entries", i, read)
			}
			if !f.View.Revoked([]authority.Link{{Kind: authority.RevokeGrant, Key: strconv.Itoa(i)}}) {
				t.Fatalf("entry %d is not heard at once", i)
			}
			time.Sleep(10 * time.Millisecond)
		}
		feed.hide(0) // 5 s late
		time.Sleep(lookBackEvery * pollEvery)
		synctest.Wait()
		if !f.View.Revoked([]authority.Link{{Kind: authority.RevokeGrant, Key: grant.String()}}) {
			t.Error("an entry that was committed 5 s late is not heard by the next look back")
		}
		cancel()
		<-done
	})
}

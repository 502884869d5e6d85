package revocation

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// late is a feed in which one entry becomes visible long after its number was taken.
type late struct {
	rows   []authority.Revocation
	hidden int64
}

func (l *late) Revoke(context.Context, authority.Revocation) (authority.Revocation, error) {
	return authority.Revocation{}, nil
}

func (l *late) Revocations(_ context.Context, after int64, limit int) ([]authority.Revocation, error) {
	var page []authority.Revocation
	for _, r := range l.rows {
		if r.Seq > after && r.Seq != l.hidden && len(page) < limit {
			page = append(page, r)
		}
	}
	return page, nil
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

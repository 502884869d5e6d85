package node

import (
	"context"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal/query"
)

// Whatever a node writes down has the time of the node's clock.
func TestEverythingHasTheNodesTime(t *testing.T) {
	at := time.Date(2040, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	n := mustOpen(t, testFile(t), Options{Now: func() time.Time { return at }})
	token, err := n.reader.Authenticate(mustMint(t, n))
	if err != nil || !token.Expires.Equal(at.Truncate(time.Second).Add(5*time.Minute)) || !token.GrantID.Time().Equal(at) {
		t.Errorf("a token: %v", err)
	}
	if err := n.endings.SetEpoch(t.Context(), authority.EpochClient, "batch", authority.Event{}); err != nil {
		t.Fatal(err)
	}
	revocations, err := n.db.Revocations(t.Context(), -1, 10)
	if err != nil || len(revocations) != 1 || !revocations[0].NotBefore.Equal(at) {
		t.Errorf("a revocation: %+v %v", revocations, err)
	}
	for _, k := range n.ring.Keys() {
		if !k.CreatedAt.Equal(at) {
			t.Errorf("a key: %s", k.CreatedAt)
		}
	}
	if d, err := n.db.Declaration(t.Context()); err != nil || !d.At.Equal(at) {
		t.Errorf("the declaration: %s %v", d.At, err)
	}
	n.tally(t.Context(), authority.Event{Type: authority.EventTokenRefused})
	n.Close()
	seen := 0
	err = query.Search(context.Background(), n.config().Journal.Dir, query.Query{}, func(r query.Record) error {
		if seen++; !r.Time.Equal(at) {
			t.Errorf("record %d, %s: %s", r.Seq, r.Type, r.Time)
		}
		return nil
	})
	if err != nil || seen < 4 {
		t.Errorf("%d records, %v", seen, err)
	}
}

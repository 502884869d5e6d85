package sqldb

import (
	"context"
	"errors"
	"testing"
)

func TestWhoLeavesDuringTheCommitStillGetsItsAnswer(t *testing.T) {
	for range 100 { // a select that may also take the hang-up would do so in half of them
		ctx, hangUp := context.WithCancel(t.Context())
		g := newGroups(1, func(group []*op) {
			hangUp()
			group[0].rows = 7
		})
		o := newOp(ctx, "", "", nil)
		err := g.submit(ctx, o)
		if err != nil || o.rows != 7 {
			t.Fatalf("what was committed was answered with %v", err)
		}
		g.close()
	}
}

func TestWhoLeavesBeforeItsTurnChangesNothing(t *testing.T) {
	busy, release := make(chan struct{}), make(chan struct{})
	var committed []string
	g := newGroups(1, func(group []*op) {
		for _, o := range group {
			committed = append(committed, o.key)
		}
		if group[0].key == "first" {
			close(busy)
			<-release
		}
	})
	first := make(chan error, 1)
	go func() { first <- g.submit(t.Context(), newOp(t.Context(), "first", "", nil)) }()
	<-busy
	gone, hangUp := context.WithCancel(t.Context())
	waiting := newOp(gone, "gone", "", nil)
	second := make(chan error, 1)
	go func() { second <- g.submit(gone, waiting) }()
	hangUp()
	if err := <-second; !errors.Is(err, context.Canceled) { // while the database hangs
		t.Fatalf("got %v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	g.close()
	if len(committed) != 1 {
		t.Fatalf("committed %q", committed)
	}
}

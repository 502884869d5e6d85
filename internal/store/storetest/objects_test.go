package storetest

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// The registries that break one promise each.

type lastWriterWins struct{ *model }

// UpdateObject does not look at the revision.
func (b lastWriterWins) UpdateObject(ctx context.Context, o authority.Object) error {
	old, err := b.Object(ctx, o.Kind, o.ID)
	if err != nil {
		return err
	}
	o.Revision = old.Revision
	if err := b.model.UpdateObject(ctx, o); !errors.Is(err, authority.ErrConflict) {
		return err
	}
	return b.UpdateObject(ctx, o)
}

type lookThenWrite struct{ *model }

// UpdateObject reads the revision, and then writes.
func (b lookThenWrite) UpdateObject(ctx context.Context, o authority.Object) error {
	if old, err := b.Object(ctx, o.Kind, o.ID); err != nil || old.Revision != o.Revision {
		return cmp.Or(err, authority.ErrConflict)
	}
	runtime.Gosched()
	return lastWriterWins(b).UpdateObject(ctx, o)
}

type forgetsIDs struct{ *model }

// DeleteObject leaves nothing.
func (b forgetsIDs) DeleteObject(ctx context.Context, kind authority.Kind, id string, revision int64, at time.Time) error {
	err := b.model.DeleteObject(ctx, kind, id, revision, at)
	if err == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.objects, [2]string{kind.Namespace(), id})
	}
	return err
}

type unclaimed struct{ *model }

// ClaimIDs keeps nothing.
func (unclaimed) ClaimIDs(context.Context, map[string]authority.Kind, time.Time) error { return nil }

type namespaceless struct{ *model }

// CreateObject looks at the ids of its own kind alone.
func (b namespaceless) CreateObject(ctx context.Context, o authority.Object) error {
	err := b.model.CreateObject(ctx, o)
	b.mu.Lock()
	defer b.mu.Unlock()
	at := [2]string{o.Kind.Namespace(), o.ID}
	if old := b.objects[at]; err != nil && old.Kind != "" && old.Kind != o.Kind {
		o.Revision = 1
		b.objects[at] = o
		return nil
	}
	return err
}

type namesake struct{ *model }

// CreateObject looks at the name first, and stores the object later.
func (b namesake) CreateObject(ctx context.Context, o authority.Object) error {
	name := o.Name
	if _, err := b.ObjectByName(ctx, o.Kind, name); err == nil {
		return authority.ErrExists
	}
	runtime.Gosched()
	o.Name = ""
	if err := b.model.CreateObject(ctx, o); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o.Name, o.Revision = name, 1
	b.objects[[2]string{o.Kind.Namespace(), o.ID}] = o
	return nil
}

func TestTheSuiteFindsBrokenRegistries(t *testing.T) {
	const neverReturn, keptForGood = "objects of a kind whose ids never return are kept", "the id of a deleted client or user never returns"
	for _, r := range []struct {
		name   string
		open   func() Store
		checks []string
	}{
		{"a change ignores the revision", func() Store { return lastWriterWins{newModel()} }, []string{neverReturn, "64 change one object on two nodes: one succeeds"}},
		{"a change reads and then writes", func() Store { return lookThenWrite{newModel()} }, []string{"64 change one object on two nodes: one succeeds"}},
		{"a deletion forgets the id", func() Store { return forgetsIDs{newModel()} }, []string{keptForGood}},
		{"clients and users have ids of their own", func() Store { return namespaceless{newModel()} },
			[]string{keptForGood, "clients and users share their ids, and resources have theirs", "64 take one id as a client and as a user: one succeeds"}},
		{"a file's ids are not kept", func() Store { return unclaimed{newModel()} },
			[]string{"an id that a file has declared is never anybody else's", "a file and the admin API take one id at once: one of them"}},
		{"a name is looked up and then written", func() Store { return namesake{newModel()} }, []string{"64 take one name on two nodes: one succeeds"}},
	} {
		for _, name := range r.checks {
			t.Run(r.name+"/"+name, func(t *testing.T) {
				// A race need not show on the first try.
				for range 200 {
					if found := judge(t, name, r.open); len(found) > 0 {
						t.Logf("found: %s", strings.SplitN(found[0], "\n", 2)[0])
						return
					}
				}
				t.Errorf("the suite lets it pass")
			})
		}
	}
}

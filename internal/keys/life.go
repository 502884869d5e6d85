package keys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

// TooEarlyError says why a rotation now would make verifications fail, and from when on it is possible.
type TooEarlyError struct {
	Reason string
	Until  time.Time
}

func (e *TooEarlyError) Error() string {
	return e.Reason + "; rotation is possible from " + e.Until.UTC().Format(time.RFC3339) + " on"
}

// maxPublished bounds the keys of one algorithm in the key set, since verifiers bound what they read. Hourly rotation, the shortest that can be
// configured, needs 28.
const maxPublished = 32

// ready says why next may not take over yet; nil if it may.
func (r *Ring) ready(next authority.Key) error {
	if until := next.CreatedAt.Add(Lead); r.Now().Before(until) && !r.first(next) {
		return &TooEarlyError{"the next key has not been published long enough", until}
	}
	return r.room(next)
}

// room says why the key set may not grow by a successor of next; nil if it may.
func (r *Ring) room(next authority.Key) error {
	published, oldest := 0, time.Time{}
	for _, row := range r.view.Load().rows {
		if row.Algorithm != next.Algorithm {
			continue
		}
		published++
		if row.State == authority.KeyRetired && (oldest.IsZero() || row.RetiredAt.Before(oldest)) {
			oldest = row.RetiredAt
		}
	}
	if published >= maxPublished {
		return &TooEarlyError{"too many retired keys are still needed", oldest.Add(keepRetired)}
	}
	return nil
}

// first says whether next was stored before every key that signs or has signed. Then all copies of the key set already hold it.
func (r *Ring) first(next authority.Key) bool {
	for _, row := range r.view.Load().rows {
		if row.State != authority.KeyNext && !next.CreatedAt.Before(row.CreatedAt) {
			return false
		}
	}
	return true
}

// Run calls Tick at once and then every ReloadEvery, until ctx ends. After a failure, which is logged, the last view stays in use.
func (r *Ring) Run(ctx context.Context) {
	ticker := time.NewTicker(ReloadEvery)
	defer ticker.Stop()
	for {
		if err := r.Tick(ctx); err != nil && ctx.Err() == nil {
			r.Log.WarnContext(ctx, "signing keys could not be kept up to date", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Tick reads the store and makes every transition that is due: it creates the next key, promotes it, and removes a retired one. Any number of nodes
// may call it at the same time: the store lets one win, and the others read what it did.
func (r *Ring) Tick(ctx context.Context) error {
	r.writes.Lock()
	defer r.writes.Unlock()
	if err := r.load(ctx); err != nil {
		return err
	}
	settings := r.Settings()
	now := r.Now()
	for _, row := range r.view.Load().rows {
		if row.State == authority.KeyRetired && !now.Before(row.RetiredAt.Add(keepRetired)) {
			if err := r.remove(ctx, row, "service", "every token that it signed has expired"); err != nil {
				return err
			}
		}
	}
	for _, alg := range settings.Algorithms {
		current, hasCurrent := r.row(alg, authority.KeyCurrent)
		next, hasNext := r.row(alg, authority.KeyNext)
		var err error
		switch {
		case !hasNext:
			// Also for an algorithm that was added to the configuration: its first key waits like every other.
			err = r.create(ctx, alg, authority.KeyNext)
		case r.ready(next) != nil:
		case !hasCurrent, !now.Before(current.PromotedAt.Add(settings.RotateEvery)):
			err = r.promote(ctx, next, current.ID, "service", "on schedule")
		}
		if err != nil {
			return err
		}
		// Made at once, so that a rotation by command and an emergency find a next key that is already known.
		if _, hasNext := r.row(alg, authority.KeyNext); !hasNext {
			if err := r.create(ctx, alg, authority.KeyNext); err != nil {
				return err
			}
		}
	}
	return nil
}

// Rotate promotes the next key of an algorithm ahead of schedule. *TooEarlyError if some verifier may not know it yet, unless it is an emergency:
// then tokens fail wherever the key is not known. authority.ErrConflict if another node rotated at the same moment.
func (r *Ring) Rotate(ctx context.Context, alg jose.Algorithm, emergency bool, actor string) error {
	r.writes.Lock()
	defer r.writes.Unlock()
	if err := r.load(ctx); err != nil {
		return err
	}
	next, ok := r.row(alg, authority.KeyNext)
	if !ok {
		current, has := r.row(alg, authority.KeyCurrent)
		if !has {
			return fmt.Errorf("%w: no signing key for %q", authority.ErrNotFound, string(alg))
		}
		if err := r.create(ctx, jose.Algorithm(current.Algorithm), authority.KeyNext); err != nil {
			return err
		}
		if next, ok = r.row(alg, authority.KeyNext); !ok {
			return fmt.Errorf("%w: another node is rotating", authority.ErrConflict)
		}
	}
	ready, why := r.ready, "by command"
	if emergency {
		ready, why = r.room, "by command, in an emergency"
	}
	if err := ready(next); err != nil {
		return err
	}
	current, _ := r.row(alg, authority.KeyCurrent)
	if err := r.promote(ctx, next, current.ID, actor, why); err != nil {
		return err
	}
	if row, _ := r.row(alg, authority.KeyCurrent); row.ID != next.ID {
		return fmt.Errorf("%w: another rotation was faster", authority.ErrConflict)
	}
	return r.create(ctx, alg, authority.KeyNext)
}

// Remove is for a key that has leaked. On this node it is unpublished and unusable at once, on the others after their next reload, which the caller
// triggers by a revocation of kind authority.RevokeKey. If the key was current, the next one takes over at once, even if some verifier does not have
// it yet: a token that fails is better than one that anybody can forge. authority.ErrNotFound if there is no such key. After an error, call it again.
func (r *Ring) Remove(ctx context.Context, kid, actor string) error {
	r.writes.Lock()
	defer r.writes.Unlock()
	for range 5 { // another node may change the ring between our reading and our writing
		if err := r.load(ctx); err != nil {
			return err
		}
		key, ok := r.view.Load().keys[kid]
		if !ok {
			return fmt.Errorf("%w: no signing key %q", authority.ErrNotFound, kid)
		}
		alg := key.public.Algorithm()
		if current, _ := r.row(alg, authority.KeyCurrent); current.ID == kid {
			// The successor comes first, so that no node finds the algorithm without a signing key.
			next, hasNext := r.row(alg, authority.KeyNext)
			if !hasNext {
				if err := r.create(ctx, alg, authority.KeyNext); err != nil {
					return err
				}
				if next, hasNext = r.row(alg, authority.KeyNext); !hasNext {
					continue
				}
			}
			if err := r.promote(ctx, next, kid, actor, "emergency removal of "+kid); err != nil {
				return err
			}
			if current, _ := r.row(alg, authority.KeyCurrent); current.ID == kid {
				continue
			}
		}
		row, ok := r.byID(kid)
		if !ok {
			return nil
		}
		if err := r.remove(ctx, row, actor, "emergency removal"); err != nil {
			return err
		}
		_, hasNext := r.row(alg, authority.KeyNext)
		if _, hasCurrent := r.row(alg, authority.KeyCurrent); hasCurrent && !hasNext {
			return r.create(ctx, alg, authority.KeyNext)
		}
		return nil
	}
	return fmt.Errorf("%w: other nodes keep changing the signing keys", authority.ErrConflict)
}

// fresh says that every key is younger than Lead: the installation is so new that a new key may sign at once.
func (r *Ring) fresh() bool {
	for _, row := range r.view.Load().rows {
		if !r.Now().Before(row.CreatedAt.Add(Lead)) {
			return false
		}
	}
	return true
}

func (r *Ring) row(alg jose.Algorithm, state authority.KeyState) (authority.Key, bool) {
	for _, row := range r.view.Load().rows {
		if row.State == state && row.Algorithm == string(alg) {
			return row, true
		}
	}
	return authority.Key{}, false
}

func (r *Ring) byID(kid string) (authority.Key, bool) {
	for _, row := range r.view.Load().rows {
		if row.ID == kid {
			return row, true
		}
	}
	return authority.Key{}, false
}

// create, promote and remove are the transitions. Each is one compare-and-swap in the store. The node that loses it reads again and reports no error:
// what it wanted is done, or will be by its next tick.

func (r *Ring) create(ctx context.Context, alg jose.Algorithm, state authority.KeyState) error {
	key, err := r.sealer.generate(alg, state, r.Now)
	if err != nil {
		return err
	}
	err = r.Store.AddKey(ctx, key)
	if errors.Is(err, authority.ErrConflict) {
		return r.load(ctx)
	}
	if err != nil {
		return fmt.Errorf("store a new signing key: %w", err)
	}
	// Where this line shows up at a service that already had keys, it has opened another database.
	r.Log.InfoContext(ctx, "a signing key was made", "kid", key.ID, "alg", string(alg), "state", string(state))
	return r.done(ctx, key.ID, "service", fmt.Sprintf("%s key created as %s", alg, state))
}

func (r *Ring) promote(ctx context.Context, next authority.Key, currentID, actor, why string) error {
	err := r.Store.PromoteKey(ctx, next.ID, currentID, r.Now().UTC())
	if errors.Is(err, authority.ErrConflict) {
		return r.load(ctx)
	}
	if err != nil {
		return fmt.Errorf("promote a signing key: %w", err)
	}
	if currentID != "" {
		err = r.done(ctx, currentID, actor, next.Algorithm+" key retired "+why)
	}
	return errors.Join(r.done(ctx, next.ID, actor, next.Algorithm+" key promoted to current "+why), err)
}

func (r *Ring) remove(ctx context.Context, row authority.Key, actor, why string) error {
	err := r.Store.RemoveKey(ctx, row.ID)
	if errors.Is(err, authority.ErrNotFound) {
		return r.load(ctx)
	}
	if err != nil {
		return fmt.Errorf("remove a signing key: %w", err)
	}
	return r.done(ctx, row.ID, actor, fmt.Sprintf("%s key in state %s removed: %s", row.Algorithm, row.State, why))
}

// done brings a transition into the view before it is recorded: a journal that fails must not keep a removed key in use.
func (r *Ring) done(ctx context.Context, kid, actor, reason string) error {
	loadErr := r.load(ctx)
	return errors.Join(loadErr, r.Record(ctx, authority.Event{
		Type: authority.EventKeyChanged, At: r.Now().UTC(), Actor: actor, Target: kid, Reason: reason,
	}))
}

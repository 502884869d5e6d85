package sqldb

import (
	"context"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// Keys implements authority.KeyStore.
func (db *DB) Keys(ctx context.Context) ([]authority.Key, error) {
	return all(ctx, db, func(r row) (k authority.Key, err error) {
		var state string
		var created, promoted, retired int64
		err = r.Scan(&k.ID, &k.Algorithm, &k.Public, &k.Sealed, &state, &created, &promoted, &retired)
		k.State = authority.KeyState(state)
		k.CreatedAt, k.PromotedAt, k.RetiredAt = timeOf(created), timeOf(promoted), timeOf(retired)
		return k, err
	}, `SELECT id, algorithm, public_jwk, sealed, state, created_at, promoted_at, retired_at FROM signing_keys ORDER BY created_at, id`)
}

// AddKey implements authority.KeyStore. The unique index over algorithm and
// state is what refuses a second next or current key.
func (db *DB) AddKey(ctx context.Context, k authority.Key) error {
	return db.transact(ctx, func(t tx) error {
		rows, err := t.exec(`INSERT INTO signing_keys (id, algorithm, public_jwk, sealed, state, created_at, promoted_at, retired_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
			k.ID, k.Algorithm, notNil(k.Public), notNil(k.Sealed), string(k.State), micros(k.CreatedAt), micros(k.PromotedAt), micros(k.RetiredAt))
		return orConflict(rows, err)
	})
}

// PromoteKey implements authority.KeyStore. Both updates compare before they
// swap; the current key steps down first, since there may only be one.
func (db *DB) PromoteKey(ctx context.Context, nextID, currentID string, at time.Time) error {
	return db.transact(ctx, func(t tx) error {
		if currentID != "" {
			rows, err := t.exec(`UPDATE signing_keys SET state = 'retired', retired_at = $3 WHERE id = $1 AND state = 'current'
				AND algorithm = (SELECT algorithm FROM signing_keys WHERE id = $2)`, currentID, nextID, micros(at))
			if err := orConflict(rows, err); err != nil {
				return err
			}
		}
		rows, err := t.exec(`UPDATE signing_keys SET state = 'current', promoted_at = $2 WHERE id = $1 AND state = 'next'
			AND NOT EXISTS (SELECT 1 FROM signing_keys AS other WHERE other.algorithm = signing_keys.algorithm AND other.state = 'current')`,
			nextID, micros(at))
		return orConflict(rows, err)
	})
}

// RemoveKey implements authority.KeyStore.
func (db *DB) RemoveKey(ctx context.Context, id string) error {
	if !isText(id) {
		return authority.ErrNotFound
	}
	return db.transact(ctx, func(t tx) error {
		rows, err := t.exec(`DELETE FROM signing_keys WHERE id = $1`, id)
		if err == nil && rows == 0 {
			return authority.ErrNotFound
		}
		return err
	})
}

func orConflict(rows int64, err error) error {
	if err == nil && rows == 0 {
		return authority.ErrConflict
	}
	return err
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

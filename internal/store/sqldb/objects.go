package sqldb

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// A row of objects is live, or it is only there so that its id is never given
// to another: then nothing but the id is in it.

const (
	selectObject = `SELECT id, coalesce(name, ''), body, revision, created_at, updated_at FROM objects `
	insertObject = `INSERT INTO objects (namespace, id, kind, state, name, body, revision, created_at, updated_at)
		VALUES ($1, $2, $3, 'live', $4, $5, 1, $6, $7) ON CONFLICT DO NOTHING`
	updateObject = `UPDATE objects SET name = $5, body = $6, updated_at = $7, revision = revision + 1
		WHERE namespace = $1 AND id = $2 AND kind = $3 AND state = 'live' AND revision = $4`
	retireObject = `UPDATE objects SET state = 'deleted', name = NULL, body = '', updated_at = $5, revision = revision + 1
		WHERE namespace = $1 AND id = $2 AND kind = $3 AND state = 'live' AND revision = $4`
	deleteObject = `DELETE FROM objects WHERE namespace = $1 AND id = $2 AND kind = $3 AND state = 'live' AND revision = $4`
	claimID      = `INSERT INTO objects (namespace, id, kind, state, body, revision, created_at, updated_at)
		VALUES ($1, $2, $3, 'declared', '', 0, $4, $4) ON CONFLICT DO NOTHING`
	claimedIDs = `SELECT id FROM objects WHERE kind = $1 AND state = 'declared'`
	stateOfID  = `SELECT kind, state FROM objects WHERE namespace = $1 AND id = $2`
)

// Object implements authority.ObjectStore.
func (db *DB) Object(ctx context.Context, kind authority.Kind, id string) (authority.Object, error) {
	return db.object(ctx, selectObject+`WHERE kind = $1 AND id = $2 AND state = 'live'`, kind, id)
}

// ObjectByName implements authority.ObjectStore.
func (db *DB) ObjectByName(ctx context.Context, kind authority.Kind, name string) (authority.Object, error) {
	return db.object(ctx, selectObject+`WHERE kind = $1 AND name = $2`, kind, name)
}

// object reads one object. What is wanted may be anything.
func (db *DB) object(ctx context.Context, sql string, kind authority.Kind, wanted string) (authority.Object, error) {
	o := authority.Object{Kind: kind}
	if !isText(wanted) {
		return o, authority.ErrNotFound
	}
	err := db.one(ctx, func(r row) error { return scanObject(r, &o) }, sql, string(kind), wanted)
	return o, err
}

// Objects implements authority.ObjectStore.
func (db *DB) Objects(ctx context.Context, kind authority.Kind, p authority.Page) ([]authority.Object, error) {
	return all(ctx, db, func(r row) (authority.Object, error) {
		o := authority.Object{Kind: kind}
		err := scanObject(r, &o)
		return o, err
	}, selectObject+`WHERE kind = $1 AND state = 'live' AND id > $2 ORDER BY id LIMIT $3`, string(kind), p.After, pageLimit(p))
}

// CreateObject implements authority.ObjectStore.
func (db *DB) CreateObject(ctx context.Context, o authority.Object) error {
	return db.transact(ctx, func(t tx) error {
		rows, err := t.exec(insertObject, o.Kind.Namespace(), o.ID, string(o.Kind), nameArg(o.Name), string(o.Body), micros(o.CreatedAt), micros(o.UpdatedAt))
		if err != nil || rows == 1 {
			return err
		}
		_, state, err := find(t, o.Kind, o.ID)
		switch {
		case err != nil:
			return err
		case state == "deleted", state == "declared":
			return authority.ErrRetired
		}
		return authority.ErrExists
	})
}

// ClaimIDs implements authority.ObjectStore. It writes what is new alone.
func (db *DB) ClaimIDs(ctx context.Context, kinds map[string]authority.Kind, at time.Time) error {
	return db.transact(ctx, func(t tx) error {
		left := maps.Clone(kinds)
		for _, kind := range []authority.Kind{authority.KindClient, authority.KindUser} {
			err := t.query(claimedIDs, []any{string(kind)}, func(r row) error {
				var id string
				err := r.Scan(&id)
				if left[id] == kind {
					delete(left, id)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		for _, id := range slices.Sorted(maps.Keys(left)) { // in one order, so that no two nodes wait for each other
			kind := left[id]
			rows, err := t.exec(claimID, kind.Namespace(), id, string(kind), micros(at))
			if err != nil || rows == 1 {
				if err != nil {
					return err
				}
				continue
			}
			is, state, err := find(t, kind, id)
			switch {
			case err != nil:
				return err
			case state == "declared" && is == kind: // by another node, just now
			case state == "live":
				return fmt.Errorf("%q: %w", id, authority.ErrExists)
			default:
				return fmt.Errorf("%q: %w", id, authority.ErrRetired)
			}
		}
		return nil
	})
}

// UpdateObject implements authority.ObjectStore.
func (db *DB) UpdateObject(ctx context.Context, o authority.Object) error {
	return db.swap(ctx, updateObject, o.Kind, o.ID, o.Revision, nameArg(o.Name), string(o.Body), micros(o.UpdatedAt))
}

// DeleteObject implements authority.ObjectStore.
func (db *DB) DeleteObject(ctx context.Context, kind authority.Kind, id string, revision int64, at time.Time) error {
	if kind.KeepsIDs() {
		return db.swap(ctx, retireObject, kind, id, revision, micros(at))
	}
	return db.swap(ctx, deleteObject, kind, id, revision)
}

// swap changes a live object that is still at its revision.
func (db *DB) swap(ctx context.Context, sql string, kind authority.Kind, id string, revision int64, more ...any) error {
	if !isText(id) {
		return authority.ErrNotFound
	}
	return db.transact(ctx, func(t tx) error {
		rows, err := t.exec(sql, append([]any{kind.Namespace(), id, string(kind), revision}, more...)...)
		if isDuplicate(err) {
			return authority.ErrExists
		}
		if err != nil || rows == 1 {
			return err
		}
		switch is, state, err := find(t, kind, id); {
		case err != nil:
			return err
		case is == kind && state == "live":
			return authority.ErrConflict
		}
		return authority.ErrNotFound
	})
}

// find says what has an id, and in what state; nothing if it is free.
func find(t tx, kind authority.Kind, id string) (is authority.Kind, state string, err error) {
	err = t.query(stateOfID, []any{kind.Namespace(), id}, func(r row) error { return r.Scan(&is, &state) })
	return is, state, err
}

func nameArg(name string) any {
	if name == "" {
		return nil
	}
	return name
}

func scanObject(r row, o *authority.Object) error {
	var created, updated int64
	err := r.Scan(&o.ID, &o.Name, &o.Body, &o.Revision, &created, &updated)
	o.CreatedAt, o.UpdatedAt = timeOf(created), timeOf(updated)
	return err
}

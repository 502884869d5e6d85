package sqldb

import (
	"context"
	"errors"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

const insertRevocation = `INSERT INTO revocations (kind, key, not_before, expires_at, seq)
	VALUES ($1, $2, $3, $4, nextval('revocation_seq')) ON CONFLICT (kind, key) DO UPDATE SET
	expires_at = GREATEST(revocations.expires_at, excluded.expires_at), seq = excluded.seq`

// What is dead stays dead: only a longer memory is news.
const revokeForGood = insertRevocation + `
	WHERE excluded.expires_at > revocations.expires_at
	RETURNING seq, kind, key, not_before, expires_at`

// An epoch moves forward and never back.
const moveEpoch = insertRevocation + `, not_before = GREATEST(revocations.not_before, excluded.not_before)
	WHERE excluded.not_before > revocations.not_before OR excluded.expires_at > revocations.expires_at
	RETURNING seq, kind, key, not_before, expires_at`

const revocationByKey = `SELECT seq, kind, key, not_before, expires_at FROM revocations WHERE kind = $1 AND key = $2`

func revocationArgs(r authority.Revocation) []any {
	return []any{string(r.Kind), r.Key, micros(r.NotBefore.Truncate(time.Millisecond)), micros(r.ExpiresAt)}
}

// Revoke implements authority.RevocationStore. What changes nothing writes
// nothing, and gives the entry that is there.
func (db *DB) Revoke(ctx context.Context, r authority.Revocation) (written authority.Revocation, err error) {
	statement := revokeForGood
	if r.Kind.IsEpoch() {
		statement = moveEpoch
	}
	scan := func(r row) (err error) {
		written, err = scanRevocation(r)
		return err
	}
	// Between the two statements the sweep may take the old entry away: then
	// the first one finds room.
	for range 3 {
		rows, err := db.writeReturning(ctx, string(r.Kind)+" "+r.Key, scan, statement, revocationArgs(r)...)
		if err != nil || rows == 1 {
			return written, err
		}
		err = db.one(ctx, scan, revocationByKey, string(r.Kind), r.Key)
		if !errors.Is(err, authority.ErrNotFound) {
			return written, err
		}
	}
	return authority.Revocation{}, errors.New("storage: the revocation was neither written nor found")
}

// Revocations implements authority.RevocationStore.
func (db *DB) Revocations(ctx context.Context, after int64, limit int) ([]authority.Revocation, error) {
	return all(ctx, db, scanRevocation, `SELECT seq, kind, key, not_before, expires_at FROM revocations
		WHERE seq > $1 ORDER BY seq LIMIT $2`, after, max(limit, 0))
}

func scanRevocation(r row) (authority.Revocation, error) {
	var v authority.Revocation
	var kind string
	var notBefore, expires int64
	err := r.Scan(&v.Seq, &kind, &v.Key, &notBefore, &expires)
	v.Kind = authority.RevocationKind(kind)
	v.NotBefore, v.ExpiresAt = timeOf(notBefore), timeOf(expires)
	return v, err
}

package sqldb

import (
	"context"
	"sync"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// keep is how long a grant stays after its expiry: the last token that it gave
// may live on for that long, and whoever asks about it should still find its
// grant. A revocation stays as long after its own, since they are few, and a node
// whose clock has run ahead must not take from the others what they still need.
// All else goes when it is over: a busy client spends a ticket with every request.
const keep = authority.MaxTokenTTL + authority.Leeway

// sweeper remembers how far the scan for idle grants has come.
type sweeper struct {
	mu     sync.Mutex
	cursor []byte // the id where the next scan starts; nil for the first
}

// Each removes at most $2 rows that were over at $1. The highest revocation
// stays, whatever its age, since on SQLite it is where the numbers continue from.
var sweeps = []struct {
	keep      time.Duration
	statement string
}{
	{0, `DELETE FROM grants WHERE id IN (SELECT id FROM grants WHERE sweep_at < $1 ORDER BY sweep_at LIMIT $2) AND sweep_at < $1`},
	{0, `DELETE FROM tickets WHERE (kind, hash) IN (SELECT kind, hash FROM tickets WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)`},
	{0, `DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)`},
	{keep, `DELETE FROM revocations WHERE seq IN (SELECT seq FROM revocations WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)
		AND expires_at < $1 AND seq < (SELECT max(seq) FROM revocations)`},
}

// A grant whose refresh token was left unused too long can only be found by
// looking at it: an index over the idle expiry would make every rotation write
// it. Ids sort by time, so a scan by id meets the oldest first. A grant with
// evidence stays until it expires: the end of the evidence finds it by its row,
// and must end what other grants still come from.
const (
	sweepIdle = `DELETE FROM grants WHERE id IN (
			SELECT id FROM (
				SELECT id, state, refresh_generation, refresh_idle_expires_at FROM grants WHERE id > $1 ORDER BY id LIMIT $2
			) AS slice WHERE state = 'active' AND refresh_generation > 0 AND refresh_idle_expires_at < $3
		) AND state = 'active' AND refresh_generation > 0 AND refresh_idle_expires_at < $3
		AND evidence_kind = ''`
	endOfSlice = `SELECT id FROM grants WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2`
)

// Sweep removes rows that nothing can need any more, at most limit of them,
// and looks at no more than a bounded number. Call it again at once if it
// removed limit, and now and then otherwise.
func (db *DB) Sweep(ctx context.Context, now time.Time, limit int) (removed int, err error) {
	for _, s := range sweeps {
		if removed >= limit {
			return removed, nil
		}
		rows, err := db.sweepSome(ctx, s.statement, micros(now.Add(-s.keep)), limit-removed)
		removed += int(rows)
		if err != nil {
			return removed, err
		}
	}
	if removed >= limit {
		return removed, nil
	}
	rows, err := db.sweepIdle(ctx, micros(now.Add(-keep)), limit-removed)
	return removed + int(rows), err
}

func (db *DB) sweepSome(ctx context.Context, statement string, args ...any) (rows int64, err error) {
	err = db.transact(ctx, func(t tx) error {
		rows, err = t.exec(statement, args...)
		return err
	})
	return rows, err
}

func (db *DB) sweepIdle(ctx context.Context, over int64, limit int) (rows int64, err error) {
	db.sweep.mu.Lock()
	defer db.sweep.mu.Unlock()
	start := db.sweep.cursor
	if start == nil {
		start = make([]byte, 16)
	}
	var next []byte
	err = db.engine.query(ctx, endOfSlice, []any{start, limit - 1}, func(r row) error { return r.Scan(&next) })
	if err != nil {
		return 0, storage(err)
	}
	rows, err = db.sweepSome(ctx, sweepIdle, start, limit, over)
	if err == nil {
		db.sweep.cursor = next // nil at the end: the next scan starts over
	}
	return rows, err
}

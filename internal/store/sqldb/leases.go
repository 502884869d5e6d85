package sqldb

import (
	"context"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// storeClock is the store's own time in microseconds, read again by every statement
// that has waited for a row.
const storeClock = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

const takeLease = `INSERT INTO leases (name, holder, fence, ready, expires) VALUES ($1, $2, 1, $3, ` + storeClock + ` + $4)
	ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, ready = excluded.ready, expires = excluded.expires,
		fence = CASE WHEN leases.holder = excluded.holder THEN leases.fence ELSE leases.fence + 1 END
	WHERE leases.holder = excluded.holder OR leases.expires <= ` + storeClock + `
	RETURNING name, holder, fence, ready, expires - ` + storeClock

// TakeLease implements authority.LeaseStore. excluded.expires may have been
// computed before a wait for the row, so a lease may come out shorter, never longer.
func (db *DB) TakeLease(ctx context.Context, name, holder string, life time.Duration, ready bool) (l authority.Lease, err error) {
	isReady := 0
	if ready {
		isReady = 1
	}
	rows, err := db.writeReturning(ctx, name, func(r row) (err error) {
		l, err = scanLease(r)
		return err
	}, takeLease, name, holder, isReady, life.Microseconds())
	if err != nil || rows == 1 {
		return l, err
	}
	if l, err = db.Lease(ctx, name); err != nil {
		return l, err
	}
	return l, authority.ErrConflict
}

// ReleaseLease implements authority.LeaseStore. The row stays, for its fence.
func (db *DB) ReleaseLease(ctx context.Context, name, holder string) error {
	_, err := db.writeOne(ctx, name, `UPDATE leases SET ready = 0, expires = 0 WHERE name = $1 AND holder = $2`, name, holder)
	return err
}

// Lease implements authority.LeaseStore.
func (db *DB) Lease(ctx context.Context, name string) (l authority.Lease, err error) {
	if !isText(name) {
		return l, authority.ErrNotFound
	}
	err = db.one(ctx, func(r row) (err error) {
		l, err = scanLease(r)
		return err
	}, `SELECT name, holder, fence, ready, expires - `+storeClock+` FROM leases WHERE name = $1`, name)
	return l, err
}

func scanLease(r row) (l authority.Lease, err error) {
	var ready, left int64
	err = r.Scan(&l.Name, &l.Holder, &l.Fence, &ready, &left)
	l.Left = max(0, time.Duration(left)*time.Microsecond)
	l.Ready = ready != 0 && l.Left > 0
	return l, err
}

package sqldb

import (
	"context"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// Journals implements authority.JournalStore.
func (db *DB) Journals(ctx context.Context) ([]authority.Journal, error) {
	return all(ctx, db, func(r row) (j authority.Journal, err error) {
		var seq, written, retired, first, last, lost int64
		var head []byte
		err = r.Scan(&j.Node, &j.Place, &seq, &head, &written, &retired, &first, &last, &lost, &j.Loss.By, &j.Loss.Reason)
		if err != nil {
			return j, err
		}
		j.Loss.First, j.Loss.Last, j.Loss.At = uint64(first), uint64(last), timeOf(lost)
		j.RetiredAt = timeOf(retired)
		j.Head, err = headOf(seq, head, written)
		return j, err
	}, `SELECT node, place, seq, head, written_at, retired_at, lost_first, lost_last, lost_at, lost_by, lost_why FROM journals ORDER BY node`)
}

// StartJournal implements authority.JournalStore. The unique index over the place is
// what refuses a second journal there.
func (db *DB) StartJournal(ctx context.Context, node, place string, first authority.JournalHead) (head authority.JournalHead, err error) {
	err = db.transact(ctx, func(t tx) error {
		rows, err := t.exec(`UPDATE journals SET place = $2 WHERE node = $1 AND retired_at = 0 AND lost_at = 0`, node, place)
		if isDuplicate(err) {
			return authority.ErrConflict
		}
		if err == nil && rows == 0 {
			rows, err = t.exec(`INSERT INTO journals (node, place, seq, head, written_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
				node, place, int64(first.Seq), first.Hash[:], micros(first.At))
		}
		if err := orConflict(rows, err); err != nil {
			return err
		}
		return t.query(`SELECT seq, head, written_at FROM journals WHERE node = $1`, []any{node}, func(r row) error {
			var seq, written int64
			var hash []byte
			if err := r.Scan(&seq, &hash, &written); err != nil {
				return err
			}
			head, err = headOf(seq, hash, written)
			return err
		})
	})
	return head, err
}

func headOf(seq int64, hash []byte, written int64) (h authority.JournalHead, err error) {
	h.Seq, h.At = uint64(seq), timeOf(written)
	h.Hash, err = hashOf(hash)
	return h, err
}

// SaveJournalHead implements authority.JournalStore.
func (db *DB) SaveJournalHead(ctx context.Context, node string, from, to authority.JournalHead) error {
	rows, err := db.writeOne(ctx, node, `UPDATE journals SET seq = $4, head = $5, written_at = $6 WHERE node = $1
		AND (seq = $2 AND head = $3 AND seq < $4 OR seq = $4 AND head = $5) AND retired_at = 0 AND lost_at = 0`,
		node, int64(from.Seq), from.Hash[:], int64(to.Seq), to.Hash[:], micros(to.At))
	return orConflict(rows, err)
}

// LoseJournal implements authority.JournalStore.
func (db *DB) LoseJournal(ctx context.Context, node string, loss authority.JournalLoss) error {
	return db.transact(ctx, func(t tx) error {
		rows, err := t.exec(`UPDATE journals SET lost_first = $2, lost_last = $3, lost_at = $4, lost_by = $5, lost_why = $6
			WHERE node = $1 AND lost_at = 0`, node, int64(loss.First), int64(loss.Last), micros(loss.At), loss.By, loss.Reason)
		return orAbsent(t, rows, err, node)
	})
}

// RetireJournal implements authority.JournalStore.
func (db *DB) RetireJournal(ctx context.Context, node string, at time.Time) error {
	if !isText(node) {
		return authority.ErrNotFound
	}
	return db.transact(ctx, func(t tx) error {
		rows, err := t.exec(`UPDATE journals SET retired_at = $2 WHERE node = $1 AND retired_at = 0`, node, micros(at))
		if err = orAbsent(t, rows, err, node); err == authority.ErrConflict {
			return nil // it was retired before
		}
		return err
	})
}

// orAbsent tells a node that is not known from one that was in the wrong state.
func orAbsent(t tx, rows int64, err error, node string) error {
	if err != nil || rows > 0 {
		return err
	}
	known := 0
	if err := t.query(`SELECT count(*) FROM journals WHERE node = $1`, []any{node}, func(r row) error { return r.Scan(&known) }); err != nil {
		return err
	}
	if known == 0 {
		return authority.ErrNotFound
	}
	return authority.ErrConflict
}

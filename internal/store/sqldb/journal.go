package sqldb

import (
	"context"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// JournalHead is the newest record of a node's journal that the database
// knows of. Who cuts off or rewrites the end of the local file is found out by it.
type JournalHead struct {
	Node string
	Seq  int64
	Head string
	At   time.Time
}

// SaveJournalHead notes how far a node's journal has come. It only goes
// forward: ErrConflict for a lower number, or for another head at the same one.
func (db *DB) SaveJournalHead(ctx context.Context, node string, seq int64, head string, at time.Time) error {
	rows, err := db.writeOne(ctx, node, `INSERT INTO journal_heads (node, seq, head, written_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (node) DO UPDATE SET seq = excluded.seq, head = excluded.head, written_at = excluded.written_at
		WHERE excluded.seq > journal_heads.seq OR (excluded.seq = journal_heads.seq AND excluded.head = journal_heads.head)`,
		node, seq, head, micros(at))
	if err == nil && rows == 0 {
		return authority.ErrConflict
	}
	return err
}

// JournalHeads lists the heads of all nodes, sorted by node.
func (db *DB) JournalHeads(ctx context.Context) ([]JournalHead, error) {
	return all(ctx, db, func(r row) (h JournalHead, err error) {
		var at int64
		err = r.Scan(&h.Node, &h.Seq, &h.Head, &at)
		h.At = timeOf(at)
		return h, err
	}, `SELECT node, seq, head, written_at FROM journal_heads ORDER BY node`)
}

package sqldb

import (
	"context"
	"database/sql"
	"os"
	"sync/atomic"
)

// checkpointer writes SQLite's log back into the database. SQLite would do
// that inside a commit, which then takes fifty times as long as the others: a
// hundred callers wait while scattered pages are synced. So a connection of its
// own does the bulk beside the commits, and the writer only the little that
// was committed meanwhile. That second step is needed: the log starts over
// only once all of it has been written back.
type checkpointer struct {
	path    string
	db      *sql.DB
	wanted  chan struct{}
	stopped chan struct{}
	bulk    atomic.Bool // the bulk is written back, the writer may do the rest
	busy    atomic.Bool
	since   int // transitions since the last checkpoint; the writer's
}

func (c *checkpointer) start(path string) (err error) {
	if c.db, err = sql.Open("sqlite", sqliteDSN(path, "_pragma=cache_size(-64)", "_pragma=wal_autocheckpoint(0)")); err != nil {
		return err
	}
	c.db.SetMaxOpenConns(1)
	c.path, c.wanted, c.stopped = path, make(chan struct{}, 1), make(chan struct{})
	go c.run()
	return nil
}

func (c *checkpointer) run() {
	defer close(c.stopped)
	for range c.wanted {
		// A failure costs nothing but disk: the next one tries again.
		_, _ = c.db.Exec("PRAGMA wal_checkpoint(PASSIVE)")
		c.bulk.Store(true)
	}
}

// committed is called by the writer between two commits.
func (c *checkpointer) committed(transitions int, writer *sql.Conn) {
	c.since += transitions
	switch {
	case c.bulk.CompareAndSwap(true, false):
		mode := "PASSIVE"
		if info, err := os.Stat(c.path + "-wal"); err == nil && info.Size() > sqliteMaxLog {
			mode = "TRUNCATE" // waits for the readers
		}
		_, _ = writer.ExecContext(context.Background(), "PRAGMA wal_checkpoint("+mode+")")
		c.since = 0
		c.busy.Store(false)
	case c.since >= sqliteCheckpointEvery && c.busy.CompareAndSwap(false, true):
		c.wanted <- struct{}{}
	}
}

// close is called after the writer's last commit.
func (c *checkpointer) close() error {
	close(c.wanted)
	<-c.stopped
	return c.db.Close()
}

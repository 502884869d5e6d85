package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	sqliteReaders = 3
	// The log is written back after this many transitions. Fewer would write
	// the same hot page more often, more would make the log longer.
	sqliteCheckpointEvery = 2000
	// Readers that never pause can keep the log from starting over; past this
	// size a commit waits for them.
	sqliteMaxLog = 64 << 20
)

// sqlite is SQLite: one writer, which groups transitions, and a few readers.
type sqlite struct {
	path    string
	writeDB *sql.DB
	readDB  *sql.DB
	writer  *sqliteWriter
	groups  *groups
	reads   sync.Map // SQL -> *sql.Stmt on readDB
	bell    bell
	fault   *fault
	log     checkpointer
}

func openSQLite(ctx context.Context, path string) (*sqlite, error) {
	if path == "" || strings.ContainsAny(path, "?#\x00") {
		return nil, errors.New("storage url must be sqlite: and the path of a file")
	}
	if err := createPrivately(path); err != nil {
		return nil, err
	}
	s := &sqlite{path: path, fault: &fault{}}
	var err error
	if s.writeDB, err = sql.Open("sqlite", sqliteDSN(path, "_pragma=cache_size(-4096)", "_pragma=wal_autocheckpoint(0)")); err != nil {
		return nil, err
	}
	s.writeDB.SetMaxOpenConns(1)
	if s.readDB, err = sql.Open("sqlite", sqliteDSN(path, "_pragma=cache_size(-2048)", "_pragma=query_only(1)")); err != nil {
		return nil, errors.Join(err, s.writeDB.Close())
	}
	s.readDB.SetMaxOpenConns(sqliteReaders)
	s.readDB.SetMaxIdleConns(sqliteReaders)
	if err := migrate(ctx, s.writeDB, sqliteDialect); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), s.writeDB.Close(), s.readDB.Close())
	}
	conn, err := s.writeDB.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, s.writeDB.Close(), s.readDB.Close())
	}
	if err := s.log.start(path); err != nil {
		return nil, errors.Join(err, s.writeDB.Close(), s.readDB.Close())
	}
	s.writer = &sqliteWriter{conn: conn, statements: map[string]*sql.Stmt{}, fault: s.fault}
	s.groups = newGroups(1, s.commit)
	return s, nil
}

// createPrivately makes the file and its folder before SQLite does, since
// SQLite would ask the umask; the log and its index take over the file's mode.
func createPrivately(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("create the folder of the database: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("create the database: %w", err)
	}
	return file.Close()
}

func sqliteDSN(path string, more ...string) string {
	settings := append([]string{
		fmt.Sprintf("_pragma=busy_timeout(%d)", lockTimeout.Milliseconds()),
		"_pragma=journal_mode(WAL)",
		"_pragma=synchronous(FULL)",
		"_pragma=foreign_keys(1)",
		"_pragma=temp_store(MEMORY)",
		fmt.Sprintf("_pragma=journal_size_limit(%d)", sqliteMaxLog),
	}, more...)
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + strings.Join(settings, "&")
}

// toSQLite translates PostgreSQL's words. SQLite has one writer and needs no
// row locks; its sequence is one more than the highest number (the sweep
// never takes the highest row).
var toSQLite = strings.NewReplacer(
	"$", "?",
	" FOR UPDATE", "",
	"GREATEST(", "max(",
	storeClock, "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
	"nextval('revocation_seq')", "(SELECT coalesce(max(seq), 0) + 1 FROM revocations)",
)

func (s *sqlite) write(ctx context.Context, o *op) error {
	return s.groups.submit(ctx, o)
}

func (s *sqlite) transact(ctx context.Context, fn func(tx) error) error {
	o := newOp(ctx, "", "", nil)
	o.fn = fn
	return s.groups.submit(ctx, o)
}

// commit answers a group. A statement that fails undoes the whole group, and
// then each runs alone, so that nobody's bad transition fails its neighbours.
// A commit that fails, fails them all.
func (s *sqlite) commit(group []*op) {
	failed, err := s.writer.attempt(group)
	if err != nil && failed && len(group) > 1 {
		for _, o := range group {
			_, o.err = s.writer.attempt([]*op{o})
			s.ringIfRevoked(o.err)
		}
		return
	}
	for _, o := range group {
		o.err = err
	}
	s.ringIfRevoked(err)
	s.log.committed(len(group), s.writer.conn)
}

func (s *sqlite) ringIfRevoked(err error) {
	if err == nil && s.writer.revoked {
		s.bell.ring()
	}
}

func (s *sqlite) query(ctx context.Context, text string, args []any, each func(row) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.fault.strike(); err != nil {
		return err
	}
	cached, ok := s.reads.Load(text)
	if !ok {
		stmt, err := s.readDB.PrepareContext(ctx, toSQLite.Replace(text))
		if err != nil {
			return err
		}
		var raced bool
		if cached, raced = s.reads.LoadOrStore(text, stmt); raced {
			_ = stmt.Close()
		}
	}
	// Without the context: the driver starts a goroutine for every statement
	// that can be cancelled, which costs more than a read by key does.
	return eachRow(cached.(*sql.Stmt), args, func(r row) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return each(r)
	})
}

func eachRow(stmt *sql.Stmt, args []any, each func(row) error) error {
	rows, err := stmt.Query(args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (s *sqlite) ping(ctx context.Context) error {
	return s.query(ctx, "SELECT count(*) FROM journals", nil, func(row) error { return nil })
}

// clock is that of the one machine that has the file.
func (s *sqlite) clock(context.Context) (time.Time, error) { return time.Now(), nil }

func (s *sqlite) changes(ctx context.Context) <-chan struct{} { return s.bell.listen(ctx) }

func (s *sqlite) close() error {
	s.groups.close()
	s.reads.Range(func(_, stmt any) bool {
		_ = stmt.(*sql.Stmt).Close()
		return true
	})
	return errors.Join(s.log.close(), s.readDB.Close(), s.writer.close(), s.writeDB.Close())
}

// sqliteWriter is the one connection that writes, used by one goroutine.
type sqliteWriter struct {
	conn       *sql.Conn
	statements map[string]*sql.Stmt
	fault      *fault
	revoked    bool // the transaction under way wrote a revocation
}

// attempt runs a group in one transaction. On an error nothing of it remains;
// failed says that a statement failed, rather than the start or the commit.
func (w *sqliteWriter) attempt(group []*op) (failed bool, err error) {
	w.revoked = false
	if _, err := w.exec("BEGIN IMMEDIATE"); err != nil {
		return false, err
	}
	for _, o := range group {
		if err := w.run(o); err != nil {
			w.rollback()
			return true, err
		}
	}
	if _, err := w.exec("COMMIT"); err != nil {
		w.rollback()
		return false, err
	}
	return false, nil
}

// rollback ignores its own error: SQLite has rolled back by itself after some
// failures, and then there is nothing to undo.
func (w *sqliteWriter) rollback() {
	_, _ = w.conn.ExecContext(context.Background(), "ROLLBACK")
}

func (w *sqliteWriter) run(o *op) error {
	o.rows, o.answer, o.err = 0, nil, nil
	switch {
	case o.fn != nil:
		return w.runSeveral(o)
	case o.scan != nil:
		return w.query(o.sql, o.args, func(r row) error {
			o.rows++
			return o.scan(r)
		})
	default:
		var err error
		o.rows, err = w.exec(o.sql, o.args...)
		return err
	}
}

// runSeveral gives a transition of several statements a savepoint, since it
// may refuse half-way, and its neighbours in the group must stay.
func (w *sqliteWriter) runSeveral(o *op) error {
	if _, err := w.exec("SAVEPOINT transition"); err != nil {
		return err
	}
	err := o.fn(w)
	if err != nil && !isAnswer(err) {
		return err
	}
	if o.answer = err; err != nil {
		if _, err := w.exec("ROLLBACK TO transition"); err != nil {
			return err
		}
	}
	_, err = w.exec("RELEASE transition")
	return err
}

func (w *sqliteWriter) prepared(text string) (*sql.Stmt, error) {
	if err := w.fault.strike(); err != nil {
		return nil, err
	}
	if stmt, ok := w.statements[text]; ok {
		return stmt, nil
	}
	stmt, err := w.conn.PrepareContext(context.Background(), toSQLite.Replace(text))
	if err != nil {
		return nil, err
	}
	w.statements[text] = stmt
	return stmt, nil
}

func (w *sqliteWriter) exec(text string, args ...any) (int64, error) {
	stmt, err := w.prepared(text)
	if err != nil {
		return 0, err
	}
	result, err := stmt.Exec(args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (w *sqliteWriter) query(text string, args []any, each func(row) error) error {
	stmt, err := w.prepared(text)
	if err != nil {
		return err
	}
	w.revoked = w.revoked || strings.Contains(text, "INTO revocations")
	return eachRow(stmt, args, each)
}

func (w *sqliteWriter) forEach(text string, args [][]any, each func(row) error) error {
	for _, a := range args {
		if err := w.query(text, a, each); err != nil {
			return err
		}
	}
	return nil
}

// lock has nothing to do: transitions run one after the other.
func (w *sqliteWriter) lock(...lock) {}

func (w *sqliteWriter) close() error {
	for _, stmt := range w.statements {
		_ = stmt.Close()
	}
	return w.conn.Close()
}

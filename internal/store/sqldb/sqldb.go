// Package sqldb keeps the state of Signalbox in SQLite or in PostgreSQL.
//
// SQL is written once, in PostgreSQL's words; the SQLite engine translates the
// few places where the two differ when it prepares a statement (see toSQLite).
// Every write is a transition of authority/store.go. A transition of one
// statement is grouped with those of other callers into one commit, since the
// sync of the disk, not the statement, is what a commit costs.
package sqldb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	sqlite3 "modernc.org/sqlite"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// DB is one open database. It implements every store interface of authority.
type DB struct {
	engine engine
	sweep  sweeper
	close  func() error
}

// Open opens `sqlite:/path/file.db` or `postgres://…`, and brings its tables
// to the version that this program knows. It refuses a newer database.
func Open(ctx context.Context, url string) (*DB, error) {
	var e engine
	var err error
	switch {
	case strings.HasPrefix(url, "sqlite:"):
		e, err = openSQLite(ctx, strings.TrimPrefix(url, "sqlite:"))
	case strings.HasPrefix(url, "postgres://"), strings.HasPrefix(url, "postgresql://"):
		e, err = openPostgres(ctx, url)
	default:
		return nil, errors.New("storage url must start with sqlite: or postgres://")
	}
	if err != nil {
		return nil, err
	}
	return &DB{engine: e, close: sync.OnceValue(e.close)}, nil
}

// Close waits for the transitions under way and closes the database. Later
// calls do nothing.
func (db *DB) Close() error { return db.close() }

// Ping says whether the database answers.
func (db *DB) Ping(ctx context.Context) error { return storage(db.engine.ping(ctx)) }

// CheckClock refuses a machine whose clock is far from the database's, by which all
// nodes can be compared: it would take an epoch for older or younger than it is, and
// sweep what others still need.
func (db *DB) CheckClock(ctx context.Context) error {
	before := time.Now()
	theirs, err := db.engine.clock(ctx)
	if err != nil {
		return storage(err)
	}
	return sameTime(before, theirs, time.Now())
}

// sameTime compares what was asked for between two readings of our own clock.
func sameTime(before, theirs, after time.Time) error {
	apart := max(before.Sub(theirs), theirs.Sub(after))
	if apart <= authority.Leeway {
		return nil
	}
	return fmt.Errorf("it is %s on this machine and %s on the database's, and they may be %s apart: run NTP on both",
		after.UTC().Format(time.RFC3339), theirs.UTC().Format(time.RFC3339), authority.Leeway)
}

// Changes gives a channel that receives after revocations were written, here
// or by another node, until ctx ends; then it is closed. A message may be
// missed, so a follower must also poll.
func (db *DB) Changes(ctx context.Context) <-chan struct{} { return db.engine.changes(ctx) }

// engine is what differs between SQLite and PostgreSQL.
type engine interface {
	// write runs a transition of one statement, in one commit with those of others.
	write(ctx context.Context, o *op) error
	// transact runs a transition of several statements. fn may run more than
	// once; an error from it undoes all that it did.
	transact(ctx context.Context, fn func(tx) error) error
	// query reads outside any transaction.
	query(ctx context.Context, sql string, args []any, each func(row) error) error
	ping(ctx context.Context) error
	clock(ctx context.Context) (time.Time, error)
	connections() Pool
	changes(ctx context.Context) <-chan struct{}
	close() error
}

// tx is a transaction in which a transition of several statements runs.
type tx interface {
	exec(sql string, args ...any) (int64, error)
	query(sql string, args []any, each func(row) error) error
	// forEach runs one statement for each list of arguments, in one round
	// trip, and hands on the one row that each of them may return.
	forEach(sql string, args [][]any, each func(row) error) error
	// lock holds what is named from the next statement to the end of the
	// transaction. That statement, and those after it, see what was committed by
	// whoever held a lock before that excludes this one.
	lock(locks ...lock)
}

// lock is how transitions take turns on what may have no row: whoever ends a
// thing holds its lock alone, whoever is born from it shares it.
type lock struct {
	on   lockOn
	name string
	mode lockMode
}

// lockOn says what kind of thing a lock is on. Everybody takes locks in this
// order, so that no two transitions wait for each other.
type lockOn int32

const (
	onEvidence lockOn = iota + 1
	onPending         // the place of the one pending grant of a session and a client
	onGrant
)

type lockMode bool

const (
	shared lockMode = false
	alone  lockMode = true
)

type row interface{ Scan(dest ...any) error }

// Timeouts: a caller gets 503 rather than a place in an endless queue.
const (
	lockTimeout = 5 * time.Second
	// commitTimeout is for a transition of one statement. A commit that hangs may
	// still happen after its caller was refused: so the caller must have time to come
	// again before a refresh that went through looks like one that was stolen.
	commitTimeout = 5 * time.Second
	// transactTimeout is for several statements, which may end thousands of grants.
	transactTimeout = 10 * time.Second
)

var errClosed = errors.New("the database is closed")

// storage marks a failure that is not one of the store's answers.
func storage(err error) error {
	if err == nil || isAnswer(err) {
		return err
	}
	return fmt.Errorf("storage: %w", err)
}

// isAnswer tells the store's answers from failures of the storage.
func isAnswer(err error) bool {
	for _, answer := range []error{
		authority.ErrNotFound, authority.ErrExists, authority.ErrSpent, authority.ErrConflict, authority.ErrEnded, authority.ErrRetired,
	} {
		if errors.Is(err, answer) {
			return true
		}
	}
	return false
}

// isDuplicate says that a statement failed because a unique value is taken.
func isDuplicate(err error) bool {
	var inPostgres *pgconn.PgError
	var inSQLite *sqlite3.Error
	return errors.As(err, &inPostgres) && inPostgres.Code == "23505" ||
		errors.As(err, &inSQLite) && inSQLite.Code() == 2067 // SQLITE_CONSTRAINT_UNIQUE
}

// writeOne runs a transition that is one statement, and gives the number of
// rows that it touched.
func (db *DB) writeOne(ctx context.Context, key string, sql string, args ...any) (int64, error) {
	o := newOp(ctx, key, sql, args)
	if err := db.engine.write(ctx, o); err != nil {
		return 0, storage(err)
	}
	return o.rows, nil
}

// writeReturning is writeOne for a statement that returns at most one row.
func (db *DB) writeReturning(ctx context.Context, key string, scan func(row) error, sql string, args ...any) (int64, error) {
	o := newOp(ctx, key, sql, args)
	o.scan = scan
	if err := db.engine.write(ctx, o); err != nil {
		return 0, storage(err)
	}
	return o.rows, nil
}

func (db *DB) transact(ctx context.Context, fn func(tx) error) error {
	return storage(db.engine.transact(ctx, fn))
}

// one reads at most one row.
func (db *DB) one(ctx context.Context, scan func(row) error, sql string, args ...any) error {
	found := false
	err := db.engine.query(ctx, sql, args, func(r row) error {
		found = true
		return scan(r)
	})
	if err != nil {
		return storage(err)
	}
	if !found {
		return authority.ErrNotFound
	}
	return nil
}

// all reads a list.
func all[T any](ctx context.Context, db *DB, scan func(row) (T, error), sql string, args ...any) ([]T, error) {
	var list []T
	err := db.engine.query(ctx, sql, args, func(r row) error {
		v, err := scan(r)
		list = append(list, v)
		return err
	})
	if err != nil {
		return nil, storage(err)
	}
	return list, nil
}

// micros is how a time is stored: whole microseconds, 0 for none.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func timeOf(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

// idArg and hashArg store "none" as NULL.
func idArg(id authority.ID) any {
	if id.IsZero() {
		return nil
	}
	return id.Bytes()
}

func hashArg(hash [32]byte) any {
	if hash == [32]byte{} {
		return nil
	}
	return hash[:]
}

func idOf(b []byte) (authority.ID, error) {
	if len(b) == 0 {
		return authority.ID{}, nil
	}
	return authority.IDFromBytes(b)
}

func hashOf(b []byte) (hash [32]byte, err error) {
	if len(b) != 0 && len(b) != len(hash) {
		return hash, fmt.Errorf("a hash of %d bytes", len(b))
	}
	copy(hash[:], b)
	return hash, nil
}

// listArg stores a list as JSON text, the empty one as empty text.
func listArg(list []string) string {
	if len(list) == 0 {
		return ""
	}
	text, _ := json.Marshal(list) // strings always marshal
	return string(text)
}

func listOf(text string) (list []string, err error) {
	if text == "" {
		return nil, nil
	}
	err = json.Unmarshal([]byte(text), &list)
	return list, err
}

// isText says whether a database can hold s as text. PostgreSQL refuses NUL
// and broken UTF-8; a name with either cannot exist, and asking for it must
// not look like a failing storage.
func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

func pageLimit(p authority.Page) int { return min(max(p.Limit, 1), 1000) }

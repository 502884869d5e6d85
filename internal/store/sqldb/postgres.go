package sqldb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	// Two groups under way: while the server syncs one to disk the other's
	// statements run. More only makes the groups smaller.
	postgresCommitters  = 2
	postgresConnections = 12
	postgresRetries     = 5
	// Any number that nobody else takes: "signalbx" in ASCII.
	postgresMigrationLock = 0x7369676e616c6278
	revocationsChannel    = "signalbox_revocations"
)

// postgres is PostgreSQL, shared by any number of nodes.
type postgres struct {
	pool   *pgxpool.Pool
	groups *groups
	bell   bell
	fault  *fault
	stop   context.CancelFunc
	ended  chan struct{} // the listener has returned
}

func openPostgres(ctx context.Context, url string) (*postgres, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("storage url is not a PostgreSQL url") // the cause may quote the password
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = postgresConnections
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = lockTimeout
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "signalbox"
	}
	config.AfterConnect = settle
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	p := &postgres{pool: pool, fault: &fault{}, ended: make(chan struct{})}
	if err := p.migrate(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("open the PostgreSQL database %s on %s: %w", config.ConnConfig.Database, config.ConnConfig.Host, err)
	}
	p.groups = newGroups(postgresCommitters, p.commit)
	listening, stop := context.WithCancel(context.Background())
	p.stop = stop
	go p.listen(listening)
	return p, nil
}

// settle fixes what the transitions rely on, whatever the server's defaults
// are. Each statement must see what was committed before it (see send),
// and an answer must not come before the commit is on disk; a stricter setting
// than "on" stays. A node that is cut off in the middle of a transaction must not
// commit it when its network comes back: the other nodes have looked past the
// number of its revocation by then (see revocation.Follower). Nor may it keep its
// locks: whoever takes over its watch on pods, after at most 4 s, ends the same pods.
func settle(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT set_config('default_transaction_isolation', 'read committed', false),
		set_config('idle_in_transaction_session_timeout', '4s', false),
		set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)`)
	return err
}

// migrate lets one node at a time look and migrate. The lock is not taken when
// there is nothing to do.
func (p *postgres) migrate(ctx context.Context) error {
	db := stdlib.OpenDBFromPool(p.pool)
	defer db.Close()
	version, err := currentVersion(ctx, db, postgresDialect)
	if err == nil && version == knownVersion(postgresDialect) {
		return nil
	}
	if err != nil {
		return err
	}
	lock, err := p.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer lock.Release()
	if _, err := lock.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(postgresMigrationLock)); err != nil {
		return err
	}
	err = migrate(ctx, db, postgresDialect)
	if _, unlockErr := lock.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, int64(postgresMigrationLock)); unlockErr != nil {
		return errors.Join(err, unlockErr, lock.Conn().Close(context.WithoutCancel(ctx)))
	}
	return err
}

func (p *postgres) write(ctx context.Context, o *op) error { return p.groups.submit(ctx, o) }

// commit answers a group. Deadlocks and serialization failures are tried
// again. A statement that fails otherwise undoes the group, and then each runs
// alone, so that nobody's bad transition fails its neighbours. All of it has
// one deadline, since its callers wait for it even when they want to leave.
func (p *postgres) commit(group []*op) {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	slices.SortStableFunc(group, func(a, b *op) int { return strings.Compare(a.key, b.key) })
	err := retry(func() error { return p.attempt(ctx, group) })
	var refused *pgconn.PgError
	if len(group) > 1 && errors.As(err, &refused) {
		for _, o := range group {
			o.err = retry(func() error { return p.attempt(ctx, []*op{o}) })
		}
		return
	}
	for _, o := range group {
		o.err = err
	}
}

// attempt sends a whole group in one round trip. Between two Syncs of the
// protocol the server runs everything as one transaction, which commits at the
// second one: its failure comes out of Close.
func (p *postgres) attempt(ctx context.Context, group []*op) error {
	batch := &pgx.Batch{}
	for _, o := range group {
		if err := p.fault.strike(); err != nil {
			batch.Queue(failingStatement)
		}
		batch.Queue(o.sql, o.args...)
	}
	if err := p.fault.strike(); err != nil {
		batch.Queue(failingStatement)
	}
	results := p.pool.SendBatch(ctx, batch)
	for _, o := range group {
		o.rows = 0
		if err := readResult(results, o); err != nil {
			_ = results.Close()
			return err
		}
	}
	return results.Close()
}

// failingStatement is what a planted failure sends, so that the server itself
// has half a transition to undo.
const failingStatement = `SELECT 1 / 0`

func readResult(results pgx.BatchResults, o *op) error {
	if o.scan == nil {
		tag, err := results.Exec()
		o.rows = tag.RowsAffected()
		return err
	}
	rows, err := results.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		o.rows++
		if err := o.scan(rows); err != nil {
			return err
		}
	}
	rows.Close()
	return rows.Err()
}

// transact is not left half-way by a caller who hangs up: who is told of a
// failure could not record what the server has committed all the same.
func (p *postgres) transact(ctx context.Context, fn func(tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), transactTimeout)
	defer cancel()
	return retry(func() error {
		return pgx.BeginFunc(ctx, p.pool, func(t pgx.Tx) error {
			if err := fn(&postgresTx{ctx: ctx, tx: t, fault: p.fault}); err != nil {
				return err
			}
			return p.fault.strike() // the commit
		})
	})
}

// retry runs a transaction again after the server has broken a tie between
// two. Such an error says that nothing was committed.
func retry(fn func() error) error {
	for try := 1; ; try++ {
		err := fn()
		var refused *pgconn.PgError
		if try == postgresRetries || !errors.As(err, &refused) || (refused.Code != "40001" && refused.Code != "40P01") {
			return err
		}
		time.Sleep(rand.N(time.Duration(try) * 5 * time.Millisecond))
	}
}

func (p *postgres) query(ctx context.Context, sql string, args []any, each func(row) error) error {
	if err := p.fault.strike(); err != nil {
		return err
	}
	// A server that takes connections and answers nothing must not hold the
	// caller forever: that is 503 too.
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	rows, err := p.pool.Query(ctx, sql, args...)
	return eachPostgresRow(rows, err, each)
}

func eachPostgresRow(rows pgx.Rows, err error, each func(row) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	rows.Close()
	return rows.Err()
}

func (p *postgres) ping(ctx context.Context) error { return p.pool.Ping(ctx) }

func (p *postgres) clock(ctx context.Context) (now time.Time, err error) {
	err = p.query(ctx, `SELECT clock_timestamp()`, nil, func(r row) error { return r.Scan(&now) })
	return now, err
}

func (p *postgres) changes(ctx context.Context) <-chan struct{} { return p.bell.listen(ctx) }

func (p *postgres) close() error {
	p.groups.close()
	p.stop()
	<-p.ended
	p.pool.Close()
	return nil
}

// listen rings the bell for every revocation that any node writes. It has a
// connection of its own; after each new one it rings once, for what it missed.
func (p *postgres) listen(ctx context.Context) {
	defer close(p.ended)
	for ctx.Err() == nil {
		conn, err := pgx.ConnectConfig(ctx, p.pool.Config().ConnConfig)
		if err == nil {
			_, err = conn.Exec(ctx, "LISTEN "+revocationsChannel)
			for err == nil {
				p.bell.ring()
				_, err = conn.WaitForNotification(ctx)
			}
			_ = conn.Close(context.WithoutCancel(ctx))
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

type postgresTx struct {
	ctx   context.Context
	tx    pgx.Tx
	fault *fault
	locks []advisory // to be taken before the next statement
}

// advisory is a lock on a pair of numbers, which the server holds until the
// transaction ends (PostgreSQL manual, 13.3.5).
type advisory struct {
	on     lockOn
	number int32
	mode   lockMode
}

// postgresGrantLocks is how many locks there are on grants. The end of evidence
// locks all its grants, and the server's table of locks has room for some
// thousands. Grants that share a lock wait for each other, and no more.
const postgresGrantLocks = 1024

func (t *postgresTx) lock(locks ...lock) {
	for _, l := range locks {
		hash := fnv.New32a()
		_, _ = hash.Write([]byte(l.name)) // never fails
		number := hash.Sum32()
		if l.on == onGrant {
			number %= postgresGrantLocks
		}
		t.locks = append(t.locks, advisory{l.on, int32(number), l.mode})
	}
	slices.SortFunc(t.locks, func(a, b advisory) int { return cmp.Or(cmp.Compare(a.on, b.on), cmp.Compare(a.number, b.number)) })
	t.locks = slices.Compact(t.locks)
}

// send takes the locks and then runs one statement for each list of arguments,
// all in one round trip. The server takes a new snapshot for each statement, so
// those behind the locks see what their last holders have committed.
func (t *postgresTx) send(sql string, args [][]any) (pgx.BatchResults, error) {
	batch := &pgx.Batch{}
	queue := func(sql string, args ...any) {
		if err := t.fault.strike(); err != nil {
			batch.Queue(failingStatement)
		}
		batch.Queue(sql, args...)
	}
	for _, l := range t.locks {
		if l.mode == alone {
			queue(`SELECT pg_advisory_xact_lock($1::integer, $2::integer)`, int32(l.on), l.number)
		} else {
			queue(`SELECT pg_advisory_xact_lock_shared($1::integer, $2::integer)`, int32(l.on), l.number)
		}
	}
	for _, a := range args {
		queue(sql, a...)
	}
	results := t.tx.SendBatch(t.ctx, batch)
	for range t.locks {
		if _, err := results.Exec(); err != nil {
			_ = results.Close()
			return nil, err
		}
	}
	t.locks = nil
	return results, nil
}

func (t *postgresTx) exec(sql string, args ...any) (int64, error) {
	results, err := t.send(sql, [][]any{args})
	if err != nil {
		return 0, err
	}
	tag, err := results.Exec()
	if err != nil {
		_ = results.Close()
		return 0, err
	}
	return tag.RowsAffected(), results.Close()
}

func (t *postgresTx) query(sql string, args []any, each func(row) error) error {
	return t.forEach(sql, [][]any{args}, each)
}

func (t *postgresTx) forEach(sql string, args [][]any, each func(row) error) error {
	results, err := t.send(sql, args)
	if err != nil {
		return err
	}
	for range args {
		rows, err := results.Query()
		if err := eachPostgresRow(rows, err, each); err != nil {
			_ = results.Close()
			return err
		}
	}
	return results.Close()
}

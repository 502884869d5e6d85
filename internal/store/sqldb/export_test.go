package sqldb

import (
	"context"
	"errors"
	"testing"
)

const CommitTimeout = commitTimeout

// FailAfter lets n more statements pass and then fails them all; below 0 it heals.
func (db *DB) FailAfter(n int) {
	switch e := db.engine.(type) {
	case *sqlite:
		e.fault.arm(n)
	case *postgres:
		e.fault.arm(n)
	}
}

// Exec runs a statement that the package itself never would.
func (db *DB) Exec(t testing.TB, sql string) {
	t.Helper()
	err := db.engine.transact(t.Context(), func(tx tx) error {
		_, err := tx.exec(sql)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Setting is what a PostgreSQL connection of the pool uses, and how many there may be.
func (db *DB) Setting(t testing.TB, name string) (value string, connections int32) {
	t.Helper()
	p := db.engine.(*postgres)
	if err := p.pool.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value, p.pool.Config().MaxConns
}

// BeforeCommit runs f in every transition of several statements, after the last one.
func (db *DB) BeforeCommit(f func()) { db.engine = &watched{engine: db.engine, beforeCommit: f} }

// CountRows counts the rows that reads outside transitions are given.
func (db *DB) CountRows() *int {
	w := &watched{engine: db.engine}
	db.engine = w
	return &w.rows
}

// UndoFirst runs every transition of several statements once for nothing, as a
// server does that has to break a tie.
func (db *DB) UndoFirst() { db.engine = &undoing{db.engine} }

type undoing struct{ engine }

func (u *undoing) transact(ctx context.Context, fn func(tx) error) error {
	undone := errors.New("undone")
	err := u.engine.transact(ctx, func(t tx) error { return errors.Join(undone, fn(t)) })
	if !errors.Is(err, undone) {
		return err
	}
	return u.engine.transact(ctx, fn)
}

type watched struct {
	engine
	beforeCommit func()
	rows         int
}

func (w *watched) transact(ctx context.Context, fn func(tx) error) error {
	return w.engine.transact(ctx, func(t tx) error {
		err := fn(t)
		w.beforeCommit()
		return err
	})
}

func (w *watched) query(ctx context.Context, sql string, args []any, each func(row) error) error {
	return w.engine.query(ctx, sql, args, func(r row) error {
		w.rows++
		return each(r)
	})
}

package sqldb

import "testing"

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

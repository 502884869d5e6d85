package sqldb

// FailAfter lets n more statements pass and then fails them all; below 0 it heals.
func (db *DB) FailAfter(n int) {
	switch e := db.engine.(type) {
	case *sqlite:
		e.fault.arm(n)
	}
}

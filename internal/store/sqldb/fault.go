package sqldb

import (
	"errors"
	"sync/atomic"
)

var errFault = errors.New("a failure planted by a test")

// fault makes the storage fail on purpose, for the tests that prove that no
// failure leaves half a transition behind.
type fault struct {
	armed atomic.Bool
	left  atomic.Int64
}

// strike fails from the chosen statement on, until it is disarmed.
func (f *fault) strike() error {
	if f.armed.Load() && f.left.Add(-1) < 0 {
		return errFault
	}
	return nil
}

// arm lets n more statements (BEGIN and COMMIT count) pass; below 0 it disarms.
func (f *fault) arm(n int) {
	f.left.Store(int64(n))
	f.armed.Store(n >= 0)
}

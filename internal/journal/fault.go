package journal

import (
	"errors"
	"sync/atomic"
)

var errFault = errors.New("a disk failure planted by a test")

// fault makes the disk fail on purpose, for the tests of those who append: they
// must hand out nothing that is not on record.
type fault struct {
	armed atomic.Bool
	left  atomic.Int64
}

func (f *fault) strike() error {
	if f.armed.Load() && f.left.Add(-1) < 0 {
		return errFault
	}
	return nil
}

// FailAfter lets n more writes and syncs pass and fails all that follow, as a dying
// disk does: a journal that has failed once takes no more records until it is opened
// again. It is for tests. A record costs one write and one sync, and the first of a
// journal one write more, for the zeros that it goes over; who waits alone for each
// record can count on that.
func (j *Journal) FailAfter(n int) {
	j.fault.left.Store(int64(n))
	j.fault.armed.Store(n >= 0)
}

package userdir

import (
	"context"
	"errors"
	"os"
	"time"
)

// ErrBusy says that another process holds the lock.
var ErrBusy = errors.New("another process holds the lock")

// Lock waits for at most so long until no other process holds the lock of this
// name. The kernel gives it back when a process ends, however it ends, so no lock
// is ever stale.
func (d *Dir) Lock(ctx context.Context, name string, wait time.Duration) (unlock func(), err error) {
	f, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		// Asked first: the lock may be free although there is no time to wait.
		if err = tryLock(f); err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, ErrBusy) {
			break
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, f.Close())
		case <-time.After(20 * time.Millisecond): // the kernel cannot wait with a limit
		}
	}
	return nil, errors.Join(err, f.Close())
}

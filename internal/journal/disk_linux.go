package journal

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// putData writes b at off and returns once it is on disk: one call for the write and
// the sync (pwritev2 with RWF_DSYNC), which asks the disk for these bytes only.
// errors.ErrUnsupported where the kernel or the file system cannot; nothing is written
// then.
func putData(f *os.File, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := unix.Pwritev2(int(f.Fd()), [][]byte{b}, off, unix.RWF_DSYNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL): // EINVAL: Linux before 4.7
			return errors.ErrUnsupported
		case err != nil:
			return os.NewSyscallError("pwritev2", err)
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// syncData makes the content and the length of f last. fdatasync spares the
// write of the file's times.
func syncData(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err != syscall.EINTR {
			return err
		}
	}
}

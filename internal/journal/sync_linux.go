package journal

import (
	"os"
	"syscall"
)

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

package userdir

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// A user's own folders are the user's alone here, and mode bits say nothing of it.

func tryLock(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrBusy
	}
	return err
}

// sync has nothing to do: a rename is in the journal of the file system.
func (d *Dir) sync() error { return nil }

func ownedByUs(fs.FileInfo) bool        { return true }
func writableByOthers(fs.FileInfo) bool { return false }
func openToOthers(fs.FileInfo) bool     { return false }

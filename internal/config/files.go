package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// File is a file that a configuration depends on, as it was just before it was
// read: what is written later, however soon, shows as a change.
type File struct {
	Path  string
	state string
}

// look notes what a file is like now. Times and sizes also tell of the symbolic
// links that Kubernetes swaps, where file events do not.
func look(path string) File {
	info, err := os.Stat(path)
	if err != nil {
		return File{path, "gone"}
	}
	return File{path, fmt.Sprintf("%d %d", info.Size(), info.ModTime().UnixNano())}
}

// Changed says whether one of the files is no longer what it was.
func Changed(files []File) bool {
	for _, f := range files {
		if look(f.Path) != f {
			return true
		}
	}
	return false
}

// ReloadWanted waits until somebody asks (SIGHUP), or until changed says so at a
// tick. It returns false when ctx ends.
func ReloadWanted(ctx context.Context, asked <-chan os.Signal, tick <-chan time.Time, changed func() bool) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-asked:
			return true
		case <-tick:
			if changed() {
				return true
			}
		}
	}
}

// refused is why a file could not be taken, and what was looked at.
type refused struct {
	error
	files []File
}

func (r *refused) Unwrap() error { return r.error }

// FilesOf are the files that a refusal by Load depends on: once one of them has
// changed, or is there at last, it is worth another try.
func FilesOf(err error) []File {
	var r *refused
	if !errors.As(err, &r) {
		return nil
	}
	return r.files
}

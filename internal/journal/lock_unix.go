//go:build unix

package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// lockName is the file whose lock says that a process writes in the directory.
const lockName = "journal.lock"

// lockDir makes sure that no other process writes in dir. The kernel gives the
// lock back when the process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			pid, _ := io.ReadAll(io.LimitReader(f, 20))
			return nil, fmt.Errorf("%s: another process (pid %s) writes this journal; give each node its own directory",
				path, strings.TrimSpace(string(pid)))
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// Only for the message above: a lock without a pid is as good.
	if f.Truncate(0) == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return f, nil
}

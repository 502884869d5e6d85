package rig

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A process holds the end of a pipe. Its parent, this test binary again, is killed, and the
// pipe is closed: the process has ended too.
func TestProcessEndsWhenItsParentIsKilled(t *testing.T) {
	if log := os.Getenv("RIG_TEST_PARENT"); log != "" {
		syscall.CloseOnExec(4) // this test binary alone says that it has started
		child := exec.Command("sleep", "600")
		child.ExtraFiles = []*os.File{os.NewFile(3, "pipe")}
		if _, err := startProcess(log, child); err != nil {
			t.Fatal(err)
		}
		os.NewFile(4, "started").Close()
		select {}
	}
	alive, held := pipe(t)
	waiting, started := pipe(t)
	parent := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	parent.Env = append(os.Environ(), "RIG_TEST_PARENT="+filepath.Join(t.TempDir(), "log"))
	parent.ExtraFiles = []*os.File{held, started}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	held.Close()
	started.Close()
	untilClosed(t, waiting, "the process has started")
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	untilClosed(t, alive, "the process has ended")
}

func pipe(t *testing.T) (reader, writer *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	return reader, writer
}

func untilClosed(t *testing.T, pipe *os.File, what string) {
	t.Helper()
	if err := pipe.SetReadDeadline(time.Now().Add(startLimit)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(pipe); err != nil {
		t.Fatalf("%s: not within %v", what, startLimit)
	}
}

package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDevLeavesNoFolder, however it ends: by Ctrl-C, with its terminal, or because
// nobody reads what it prints, as in `signalbox dev 2>&1 | head -1`.
func TestDevLeavesNoFolder(t *testing.T) {
	for _, row := range []struct {
		sentence string
		signal   os.Signal // nil: it ends by itself
	}{
		{"interrupted", os.Interrupt},
		{"its terminal was closed", syscall.SIGHUP},
		{"its reader has gone", nil},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			temporary := t.TempDir()
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			cmd := exec.Command(binary, "dev", "--listen", "127.0.0.1:0")
			cmd.Env = append(os.Environ(), "TMPDIR="+temporary)
			cmd.Stdout, cmd.Stderr = writer, writer
			p := &process{cmd: cmd, done: make(chan struct{})}
			if row.signal == nil {
				_ = reader.Close() // what it prints first has no reader; its folder is there by then
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			_ = writer.Close()
			go func() {
				p.err = cmd.Wait()
				close(p.done)
			}()
			if row.signal != nil {
				if first, err := bufio.NewReader(reader).ReadString('('); err != nil || !strings.HasPrefix(first, "Signalbox serves") {
					t.Errorf("it printed %q, %v", first, err)
				}
				p.stop(row.signal)
			}
			select {
			case <-p.done:
			case <-time.After(startLimit):
				p.stop(syscall.SIGKILL)
				t.Error("it runs on")
			}
			if left, err := os.ReadDir(temporary); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// TestTheLastLineSaysStopped: whoever reads the log knows that nothing was cut off.
func TestTheLastLineSaysStopped(t *testing.T) {
	s := startServe(t, houseConfig, houseFiles())
	s.stop()
	lines := strings.Split(strings.TrimSpace(s.proc.out.String()), "\n")
	var last struct{ Msg string }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Msg != "stopped" {
		t.Errorf("the last line is %q", lines[len(lines)-1])
	}
}

//go:build unix

package agent

import (
	"os/exec"
	"syscall"
)

// inGroup makes the program the first of a group of its own, which is ended as a
// whole: what it has started does not stay.
func inGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

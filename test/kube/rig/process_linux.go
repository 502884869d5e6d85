package rig

import (
	"os/exec"
	"syscall"
)

// dieWithParent ends the process when the test binary is killed.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

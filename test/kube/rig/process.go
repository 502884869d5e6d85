package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// process is a running program whose output goes to a file.
type process struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{} // closed when it has ended
}

func startProcess(log string, cmd *exec.Cmd) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = out, out
	dieWithParent(cmd)
	p := &process{cmd: cmd, log: log, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel takes the end of the thread that started a process for the end of its
		// parent. This thread lives until the process has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer out.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// wait returns when ready does, or an error with the end of the log.
func (p *process) wait(what string, ready func() bool) error {
	limit := time.After(startLimit)
	for !ready() {
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended (%v) before %s:\n%s", filepath.Base(p.cmd.Path), p.cmd.ProcessState, what, tail(p.log, 0))
		case <-limit:
			p.kill()
			return fmt.Errorf("%v were over before %s:\n%s", startLimit, what, tail(p.log, 0))
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// kill ends it at once. Everything that matters is in etcd by then, and an API server that
// drains waits for its watchers. A nil process never started.
func (p *process) kill() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
}

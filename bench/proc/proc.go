//go:build linux

// Package proc starts a server as its own process, so that its CPU and memory
// can be read apart from the load generator's, and ends it by its process id.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a started server.
type Process struct {
	cmd     *exec.Cmd
	log     *os.File
	exited  chan struct{}
	err     error         // set before exited is closed
	ReadyIn time.Duration // from start to ready
}

// Start runs cmd and waits until ready says so. What the server writes goes to
// logFile, whose end is part of the error when it does not come up.
func Start(ctx context.Context, cmd *exec.Cmd, ready Ready, logFile string) (*Process, error) {
	log, err := os.Create(logFile)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	// Ctrl-C reaches the whole terminal; the bench ends its servers itself.
	cmd.SysProcAttr.Setpgid = true
	p := &Process{cmd: cmd, log: log, exited: make(chan struct{})}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		log.Close()
		return nil, err
	}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	if err := p.await(ctx, ready); err != nil {
		p.Stop()
		return nil, fmt.Errorf("%s: %w\n%s", cmd.Path, err, tail(logFile))
	}
	p.ReadyIn = time.Since(begin)
	return p, nil
}

// await asks every millisecond: that is the precision of ReadyIn.
func (p *Process) await(ctx context.Context, ready Ready) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", context.Cause(ctx))
		case <-p.exited:
			return fmt.Errorf("ended before it was ready: %v", p.err)
		case <-tick.C:
		}
		if ready(ctx) {
			return nil
		}
	}
}

// Ready reports whether the server does its work.
type Ready func(context.Context) bool

// Answers is ready when a GET of url gives 200.
func Answers(url string) Ready {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return func(ctx context.Context) bool {
		req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			return false
		}
		resp, err := client.Do(req)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
}

// PID is the server's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop asks the server to end, and ends it after ten seconds.
func (p *Process) Stop() error {
	defer p.log.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
		return errors.New("did not end within 10 s of SIGTERM")
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) && !exit.Sys().(syscall.WaitStatus).Signaled() {
		return fmt.Errorf("ended with %w", p.err)
	}
	return nil
}

// CPU is the time that the server has computed so far, in user and kernel
// mode. The kernel counts it in ticks of 10 ms.
func (p *Process) CPU() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return 0, err
	}
	return parseStat(b)
}

func parseStat(b []byte) (time.Duration, error) {
	// The second field is the program's name, which may hold blanks and ')'.
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 13 {
		return 0, errors.New("short /proc stat")
	}
	user, err1 := strconv.ParseInt(string(f[11]), 10, 64)
	system, err2 := strconv.ParseInt(string(f[12]), 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

// ThreadCPU is the CPU time of the calling thread.
func ThreadCPU() (time.Duration, error) {
	return usageOf(syscall.RUSAGE_THREAD)
}

// OwnCPU is the CPU time of the calling process.
func OwnCPU() (time.Duration, error) {
	return usageOf(syscall.RUSAGE_SELF)
}

func usageOf(who int) (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(who, &usage); err != nil {
		return 0, err
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}

// Machine is the time that all processes together have computed so far, so that
// a run can tell how much went to others.
func Machine() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	f := bytes.Fields(line)
	if len(f) < 9 || string(f[0]) != "cpu" {
		return 0, errors.New("no cpu line in /proc/stat")
	}
	var ticks int64
	for _, i := range []int{1, 2, 3, 6, 7} { // user nice system irq softirq
		n, err := strconv.ParseInt(string(f[i]), 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// Memory is resident memory in bytes.
type Memory struct{ Now, Peak int64 }

// Memory reads VmRSS and VmHWM.
func (p *Process) Memory() (Memory, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return Memory{}, err
	}
	return parseStatus(string(b))
}

func parseStatus(s string) (Memory, error) {
	var m Memory
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "kB" {
			continue
		}
		kb, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return m, err
		}
		switch f[0] {
		case "VmRSS:":
			m.Now = kb << 10
		case "VmHWM:":
			m.Peak = kb << 10
		}
	}
	if m.Now == 0 || m.Peak == 0 {
		return m, errors.New("no VmRSS or VmHWM")
	}
	return m, nil
}

// FreePort returns a loopback port that was free a moment ago.
func FreePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func tail(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return string(b[max(0, len(b)-2000):])
}

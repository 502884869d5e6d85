package systemd

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// firstFD is SD_LISTEN_FDS_START of sd_listen_fds(3).
const firstFD = 3

// maxFDs is far above the two listeners that a service leaves.
const maxFDs = 16

// kept takes the descriptors that systemd passes: those that were stored before
// (sd_listen_fds_with_names(3)). They are for this process if it is named.
func kept(getenv func(string) string) map[string]*os.File {
	count, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || count < 1 || count > maxFDs || getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil
	}
	files := map[string]*os.File{}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	for i := range count {
		fd := firstFD + i
		syscall.CloseOnExec(fd)
		if i >= len(names) || files[names[i]] != nil {
			_ = syscall.Close(fd)
			continue
		}
		files[names[i]] = os.NewFile(uintptr(fd), names[i])
	}
	return files
}

// keep gives systemd a copy of a listener (FDSTORE in sd_notify(3)). The unit
// says how many it takes: FileDescriptorStoreMax.
func (m *Manager) keep(name string, ln *net.TCPListener) error {
	if m.socket == "" {
		return nil
	}
	raw, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	// Not by ln.File(), which would make accepting block.
	failed := raw.Control(func(fd uintptr) {
		err = m.send("FDSTORE=1\nFDNAME="+name, syscall.UnixRights(int(fd)))
	})
	if failed != nil {
		return failed
	}
	return err
}

func (m *Manager) send(text string, rights []byte) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Sendmsg(fd, []byte(text), rights, &unix.SockaddrUnix{Name: m.socket}, unix.MSG_NOSIGNAL)
		_ = unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("systemd is not told %q: %w", strings.ReplaceAll(text, "\n", " "), err)
	}
	return nil
}

// Reloading is the state of a service that reads its configuration again. Ready
// ends it.
func Reloading() []string {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // cannot fail for this clock
	return []string{"RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000)}
}

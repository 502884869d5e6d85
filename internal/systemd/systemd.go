// Package systemd is what a service tells systemd, and how it gets back the
// listeners that it left there: sd_notify(3) and the store of file descriptors.
//
// A listener that systemd keeps outlives a restart: whoever connects between the
// old process and the new one waits in the kernel's queue for as long as the new
// one needs to start, and is not refused.
package systemd

import (
	"errors"
	"net"
	"os"
	"strings"
)

// Manager is the systemd that started this process. The zero value is none: it
// hears nothing and keeps nothing.
type Manager struct {
	socket string
	kept   map[string]*os.File // listeners of the process before, by their name
}

// Find reads what systemd has put into the environment.
func Find(getenv func(string) string) *Manager {
	return &Manager{socket: getenv("NOTIFY_SOCKET"), kept: kept(getenv)}
}

// Notify tells a change of state, such as Ready.
func (m *Manager) Notify(state ...string) error {
	if m.socket == "" {
		return nil
	}
	return m.send(strings.Join(state, "\n"), nil)
}

// The states that a service has.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
)

// Listen takes the listener of this name and address from the process before, or
// opens it. Either way systemd has it from now on, for the process after.
func (m *Manager) Listen(name, address string) (net.Listener, error) {
	if file := m.kept[name]; file != nil {
		delete(m.kept, name)
		ln, err := net.FileListener(file)
		if err = errors.Join(err, file.Close()); err == nil && listensOn(ln, address) {
			return ln, nil
		}
		// The configuration names another address now. Nobody may wait at the old one.
		if ln != nil {
			err = ln.Close()
		}
		if err = errors.Join(err, m.Notify("FDSTOREREMOVE=1", "FDNAME="+name)); err != nil {
			return nil, err
		}
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	if err := m.keep(name, ln.(*net.TCPListener)); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// listensOn says whether ln is what net.Listen would open for address.
func listensOn(ln net.Listener, address string) bool {
	has, is := ln.Addr().(*net.TCPAddr)
	want, err := net.ResolveTCPAddr("tcp", address)
	if !is || err != nil || has.Port != want.Port {
		return false
	}
	anywhere := want.IP == nil || want.IP.IsUnspecified()
	return has.IP.Equal(want.IP) || anywhere && has.IP.IsUnspecified()
}

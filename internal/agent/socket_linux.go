package agent

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

func peersKnown() error { return nil }

// uidOf is the user who connected, as the kernel knows it.
func uidOf(c net.Conn) (uint32, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a Unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	controlled := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(controlled, err); err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

//go:build unix

package platform

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// credential is what the child must switch to; nil if it is that already.
func credential(a *Account) *syscall.Credential {
	if a == nil {
		return nil
	}
	w := whoIs(nil)
	if a.UID == w.uid && a.GID == w.gid && a.UID != 0 {
		return nil // an ordinary user may not even set the groups it has
	}
	return &syscall.Credential{Uid: a.UID, Gid: a.GID, Groups: a.Groups}
}

// blockingFD is the descriptor of f without O_NONBLOCK, which would be shared
// with the child.
func blockingFD(f *os.File) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var nerr error
	err = raw.Control(func(v uintptr) {
		fd = int(v)
		nerr = unix.SetNonblock(fd, false)
	})
	return fd, errors.Join(err, nerr)
}

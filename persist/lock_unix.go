//go:build unix

package persist

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

var errHeld = errors.New("held by another process")

func openLockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) {
		return os.Open(path) // a lock needs no right to write
	}
	return f, err
}

// tryLock uses flock and not fcntl: the latter is lost when any descriptor of
// the file is closed.
func tryLock(f *os.File) error {
	for {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return errHeld
		default:
			return err
		}
	}
}

// alive is false of a zombie, where that can be told: its lock was released at
// its death, and if it is held all the same, then by a child that it was
// forking, until that one execs.
func alive(pid int) bool {
	if b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); err == nil {
		state := b[bytes.LastIndexByte(b, ')')+1:] // proc_pid_stat(5): a name may hold parentheses
		return !bytes.HasPrefix(state, []byte(" Z"))
	}
	err := unix.Kill(pid, 0)
	return err == nil || errors.Is(err, unix.EPERM)
}

func unlock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }

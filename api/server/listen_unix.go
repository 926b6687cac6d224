//go:build unix

package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/keeper"
)

// Listen opens the manager's socket, readable by its owner alone. The
// directory is made if it is missing (0700). A socket that nobody answers is
// replaced; one that answers is an error, and so is anything else of that
// name. Only one process at a time may try: the caller holds the lock of its
// data directory.
//
// The listening socket is kept in store, if that isn't nil, and taken over from
// there: then clients have waited in its queue while no manager lived.
func Listen(path string, store *keeper.Store) (net.Listener, error) {
	if l := inherited(path, store); l != nil {
		return l, nil
	}
	l, err := listen(path)
	if err != nil {
		return nil, err
	}
	if fd, err := duplicate(l); err == nil {
		store.Keep(keeper.SocketName, fd)
	} // else a new one is made, as without a store
	return l, nil
}

// inherited is the listener that an earlier manager left, nil if there is none
// or clients don't reach it.
func inherited(path string, store *keeper.Store) net.Listener {
	fds := store.Claim(keeper.SocketName)
	if len(fds) == 0 {
		return nil
	}
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), path)
		l, err := net.FileListener(f)
		if u, ok := l.(*net.UnixListener); ok && err == nil && u.Addr().String() == path {
			if fi, err := os.Lstat(path); err == nil && fi.Mode()&fs.ModeSocket != 0 {
				u.SetUnlinkOnClose(true)
				if kept, err := duplicate(l); err == nil {
					store.Keep(keeper.SocketName, kept)
				}
				f.Close()
				return l
			}
		}
		if l != nil {
			l.Close()
		}
		f.Close()
	}
	store.Drop(keeper.SocketName)
	return nil
}

// duplicate is a second descriptor of a listener, which closes on exec and
// leaves the first one as it is.
func duplicate(l net.Listener) (fd int, err error) {
	u, ok := l.(*net.UnixListener)
	if !ok {
		return -1, errors.ErrUnsupported
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return -1, err
	}
	cerr := raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(cerr, err)
}

// LeaveOpen has l stay where it is in the file system when it is closed,
// because somebody keeps it.
func LeaveOpen(l net.Listener) {
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
}

func listen(path string) (net.Listener, error) {
	if err := prepareDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("can't listen on %s: %w", path, err)
	}
	// Between bind and here the umask decides. The directory, and the check
	// of each peer, keep others out meanwhile.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("can't make %s private: %w", path, err)
	}
	return l, nil
}

func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("can't make the directory of the socket: %w", err)
	}
	if dir != api.FallbackRuntimeDir() {
		return nil
	}
	// Anyone may have made this one before us.
	fi, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("can't look at the directory of the socket: %w", err)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.IsDir() || int(st.Uid) != os.Getuid() || fi.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s must be a directory of yours that nobody else may enter (chmod 700); remove it, or give a --socket elsewhere", dir)
	}
	return nil
}

func removeStale(path string) error {
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("can't look at the socket: %w", err)
	case fi.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s is there already and is no socket; move it away, or give another --socket", path)
	}
	c, err := net.DialTimeout("unix", path, 5*time.Second)
	switch {
	case err == nil:
		c.Close()
		return fmt.Errorf("a manager is running already: it answers on %s; `syspulse shutdown` ends it", path)
	case errors.Is(err, syscall.ECONNREFUSED): // nobody listens: left behind by a crash
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("can't remove the socket of an earlier manager: %w", err)
		}
		return nil
	case errors.Is(err, syscall.EAGAIN): // its queue is full, so it is alive
		return fmt.Errorf("a manager is running already on %s, and is busy", path)
	}
	return fmt.Errorf("can't tell whether a manager is running on %s: %w", path, err)
}

// allowed reports whether p may give orders: the manager's own user and root.
func allowed(p peer) bool {
	return p.known && (p.uid == os.Geteuid() || p.uid == 0)
}

func peerOf(c net.Conn) peer {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return peer{}
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return peer{}
	}
	var p peer
	if err := raw.Control(func(fd uintptr) {
		if uid, err := peerUID(int(fd)); err == nil {
			p = peer{known: true, uid: uid}
		}
	}); err != nil {
		return peer{}
	}
	return p
}

//go:build unix

package logs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/keeper"
)

// followed is of use where followers are not told by what moves the bytes.
func (*engine) followed() {}

// makeDir makes a directory that nobody else can enter, or checks that the
// one that is there (reached through a symbolic link, perhaps: logs may lie
// on another disk) belongs to us or root, and lets nobody else write to it.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return checkDir(dir, unix.Stat)
}

// makeOwnDir is makeDir for one that may not be a symbolic link.
func makeOwnDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return checkDir(dir, unix.Lstat)
}

func checkDir(dir string, stat func(string, *unix.Stat_t) error) error {
	var st unix.Stat_t
	if err := retry(func() error { return stat(dir, &st) }); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if uint32(st.Mode)&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%s is %s where a directory should be: move it away", dir, kindOf(&st))
	}
	if uid := os.Geteuid(); int(st.Uid) != uid && st.Uid != 0 {
		return fmt.Errorf("%s belongs to user %d, who could read and change what is in it: chown it to user %d, or choose another data directory", dir, st.Uid, uid)
	}
	if mode := uint32(st.Mode) & 0o7777; mode&0o022 != 0 {
		if err := os.Chmod(dir, os.FileMode(mode&0o755)); err != nil {
			return fmt.Errorf("%s can be written to by others: %w", dir, err)
		}
	}
	return nil
}

func kindOf(st *unix.Stat_t) string {
	switch uint32(st.Mode) & unix.S_IFMT {
	case unix.S_IFREG:
		return "a file"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	}
	return "a device"
}

// retry calls f until it was not interrupted by a signal.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// openFIFO opens the FIFO at path for reading and writing without blocking,
// and makes it if nothing is there. What is there and is no FIFO is not
// touched: the directory is ours alone, so somebody put it there on purpose.
func openFIFO(path string, o StreamOptions) (fd int, err error) {
	// Between look and open, or look and make, somebody else may have made or
	// removed it; more than a few times in a row nobody does by accident.
	for range 10 {
		var st unix.Stat_t
		err = retry(func() error { return unix.Lstat(path, &st) })
		if err == unix.ENOENT {
			if err = unix.Mkfifo(path, 0o600); err != nil && err != unix.EEXIST {
				return -1, &os.PathError{Op: "mkfifo", Path: path, Err: err}
			}
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "stat", Path: path, Err: err}
		}
		if uint32(st.Mode)&unix.S_IFMT != unix.S_IFIFO {
			return -1, fmt.Errorf("%s is %s where a FIFO should be: remove it", path, kindOf(&st))
		}
		err = retry(func() error {
			fd, err = unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
			return err
		})
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: path, Err: err}
		}
		if err = ownFIFO(fd, path, o.UID, o.GID); err != nil {
			unix.Close(fd)
			return -1, err
		}
		return fd, nil
	}
	return -1, fmt.Errorf("%s comes and goes while it is being opened", path)
}

// ownFIFO checks that fd is a FIFO and gives it to the daemon's user.
func ownFIFO(fd int, path string, uid, gid int) error {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if uint32(st.Mode)&unix.S_IFMT != unix.S_IFIFO {
		return fmt.Errorf("%s is %s where a FIFO should be: remove it", path, kindOf(&st))
	}
	if os.Geteuid() == 0 && (int(st.Uid) != uid || int(st.Gid) != gid) {
		if err := unix.Fchown(fd, uid, gid); err != nil {
			return &os.PathError{Op: "chown", Path: path, Err: err}
		}
	}
	if uint32(st.Mode)&0o777 != 0o600 {
		if err := unix.Fchmod(fd, 0o600); err != nil {
			return &os.PathError{Op: "chmod", Path: path, Err: err}
		}
	}
	return nil
}

// keep has a FIFO kept open under a name that says which it is: the descriptor
// that keeps it shares its inode, so that no other FIFO has that meanwhile.
func keep(store *keeper.Store, fd int) (name string) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return ""
	}
	name = "fifo-" + strconv.FormatUint(uint64(st.Ino), 36)
	store.Keep(name, fd)
	return name
}

// openWriter opens a second description of the FIFO that fd is, for the
// daemon: blocking, and with flags of its own, whatever a former incarnation
// did to those of its.
func openWriter(path string, fd int) (*os.File, error) {
	var w int
	err := retry(func() (err error) {
		w, err = unix.Open(path, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		return err
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	same, err := sameFile(w, fd)
	if err == nil && !same {
		err = errReplaced
	}
	if err != nil {
		unix.Close(w)
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(w), path), nil
}

var errReplaced = errors.New("it was replaced by another")

func sameFile(a, b int) (bool, error) {
	var x, y unix.Stat_t
	if err := retry(func() error { return unix.Fstat(a, &x) }); err != nil {
		return false, err
	}
	if err := retry(func() error { return unix.Fstat(b, &y) }); err != nil {
		return false, err
	}
	return x.Dev == y.Dev && x.Ino == y.Ino, nil
}

// pathInterval is how often, while bytes come, the path of a log file is
// compared with the file that is open, to notice that somebody moved it.
const pathInterval = time.Second

// logFile is the file at the end of a stream. It is not safe for concurrent
// use.
type logFile struct {
	path     string
	fd       int
	pos      int64 // where the next byte goes
	dev, ino uint64
	looked   int64 // when its path was last compared, on the engine's clock
}

// open opens the file at its end, without O_APPEND, which splice(2) refuses.
func (f *logFile) open() error {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Open(f.path, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0o600)
		return err
	})
	var st unix.Stat_t
	switch {
	case err == unix.ELOOP, err == unix.EMLINK, err == unix.ENXIO: // a symbolic link (FreeBSD: EMLINK), a FIFO
		if unix.Lstat(f.path, &st) == nil {
			return fmt.Errorf("%s is %s where a log file should be: move it away", f.path, kindOf(&st))
		}
		fallthrough
	case err != nil:
		return &os.PathError{Op: "open", Path: f.path, Err: err}
	}
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		unix.Close(fd)
		return &os.PathError{Op: "stat", Path: f.path, Err: err}
	}
	if uint32(st.Mode)&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return fmt.Errorf("%s is %s where a log file should be: move it away", f.path, kindOf(&st))
	}
	if f.fd >= 0 {
		unix.Close(f.fd)
	}
	f.fd, f.pos, f.dev, f.ino = fd, st.Size, uint64(st.Dev), uint64(st.Ino)
	return nil
}

// check is called before bytes are written at pos. It finds out whether
// somebody cut the file, added to it, removed it or (looking only every
// pathInterval) moved it, and sees to it that the bytes go to where the
// file's readers look for them. now is in nanoseconds.
func (f *logFile) check(now int64, h *hub) error {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(f.fd, &st) }); err != nil {
		return err
	}
	moved := st.Nlink == 0
	if !moved && now-f.looked >= int64(pathInterval) {
		f.looked = now
		var at unix.Stat_t
		err := retry(func() error { return unix.Lstat(f.path, &at) })
		moved = err == unix.ENOENT || err == nil && (uint64(at.Ino) != f.ino || uint64(at.Dev) != f.dev)
	}
	if moved {
		err := f.open()
		if errors.Is(err, os.ErrNotExist) { // its directory is gone, too
			if err = makeOwnDir(filepath.Dir(f.path)); err == nil {
				err = f.open()
			}
		}
		if err != nil {
			return err
		}
		h.emit(Event{Kind: Switched})
		return nil
	}
	if st.Size < f.pos {
		h.emit(Event{Kind: Truncated, Size: st.Size})
	}
	f.pos = st.Size
	return nil
}

func (f *logFile) close() {
	if f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
}

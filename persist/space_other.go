//go:build unix && !linux

package persist

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// allocate is not done: F_PREALLOCATE of macOS may reserve without being
// asked where, and FreeBSD's ZFS can't. The free space is looked at before
// each transaction instead.
func allocate(string, int64) error { return errors.ErrUnsupported }

// syncMapped writes out a file, what was written to it through memory maps
// included: msync hands that to the file, and Sync (F_FULLFSYNC on macOS)
// takes it through the disk's cache.
func syncMapped(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() > 0 {
		m, err := unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return os.NewSyscallError("mmap", err)
		}
		err = unix.Msync(m, unix.MS_SYNC)
		if uerr := unix.Munmap(m); err == nil {
			err = uerr
		}
		if err != nil {
			return os.NewSyscallError("msync", err)
		}
	}
	return f.Sync()
}

func syncFS(string) error { return errors.ErrUnsupported }

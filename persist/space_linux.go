package persist

import (
	"os"

	"golang.org/x/sys/unix"
)

// allocate makes the blocks of the first size bytes of a file exist. See
// fallocate(2).
func allocate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
		if err != unix.EINTR {
			return err
		}
	}
}

// syncMapped writes out a file, what was written to it through memory maps
// included: on Linux fsync does that (msync(2) is fsync of a range).
func syncMapped(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// syncFS makes everything on the file system of dir durable: one journal
// commit instead of one for each file.
func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

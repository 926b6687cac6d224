//go:build unix

package platform

import (
	"os"

	"golang.org/x/sys/unix"
)

// spareDescriptors are kept for what must go on when descriptors run out: to
// answer the API, to look at processes, to write the state.
const spareDescriptors = 32

// SpareDescriptors says whether another process may be started without using
// up the last descriptors; nil if so. It costs three system calls.
func SpareDescriptors() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil
	}
	most := uint64(limit.Cur)
	fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return descriptorsShort(err, most)
	}
	defer unix.Close(fd)
	// The lowest free number is what was opened: so many are in use, at least.
	if uint64(fd)+min(spareDescriptors, most/4) >= most {
		return descriptorsShort(unix.EMFILE, most)
	}
	return nil
}

func descriptorsShort(err error, most uint64) error {
	return startError(StageSystem, err, "out of descriptors: the manager may have %d and keeps the last ones for itself; raise its limit of open files (ulimit -n, LimitNOFILE)", most)
}

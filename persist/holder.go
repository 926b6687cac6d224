package persist

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// Holder reports which living process uses a data directory, and since when.
// It is for clients: a manager that has the directory but doesn't answer yet
// is starting. It neither makes nor changes anything.
func Holder(dir string) (pid int, since time.Time, ok bool) {
	path := filepath.Join(dir, "lock")
	// The lock is tried only if its holder may live, so that a manager that
	// starts just now doesn't find it taken by who asks.
	pid = lockHolder(path)
	if pid == 0 || !alive(pid) {
		return 0, time.Time{}, false
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrPermission) {
		f, err = os.Open(path)
	}
	if err != nil {
		return 0, time.Time{}, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !errors.Is(tryLock(f), errHeld) {
		return 0, time.Time{}, false
	}
	return pid, info.ModTime(), true
}

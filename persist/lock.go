package persist

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ErrLocked is returned by Open if another manager uses the data directory.
var ErrLocked = errors.New("the data directory is in use")

// dirLock is held by whoever uses a data directory. The system releases it
// when its holder dies, so a file left behind is no obstacle. The file is
// never deleted: two managers could then each lock a file of that name.
type dirLock struct{ f *os.File }

// lockPatience is how long a lock is waited for whose holder is dead, unknown,
// or this very process (before it executed itself anew): a killed process
// holds it until it is torn down, and a child that was just forked until it
// execs.
const lockPatience = 2 * time.Second

func lockDir(dir string) (*dirLock, error) {
	path := filepath.Join(dir, "lock")
	f, err := openLockFile(path)
	if err != nil {
		return nil, fmt.Errorf("the data directory can't be locked: %w", err)
	}
	deadline := time.Now().Add(lockPatience)
	for {
		err := tryLock(f)
		if err == nil {
			break
		}
		if !errors.Is(err, errHeld) {
			f.Close()
			return nil, fmt.Errorf("the data directory can't be locked: %s: %w", path, err)
		}
		pid := lockHolder(path)
		other := pid != 0 && pid != os.Getpid() && alive(pid)
		if other || time.Now().After(deadline) {
			f.Close()
			who := "another manager"
			if pid != 0 {
				who = fmt.Sprintf("another manager (pid %d)", pid)
			}
			return nil, fmt.Errorf("%w: %s is using %s; stop it with `syspulse shutdown`, or use another --data-dir", ErrLocked, who, dir)
		}
		time.Sleep(2 * time.Millisecond)
	}
	// Who holds it is for messages only; on a full disk it stays unknown.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return &dirLock{f}, nil
}

// lockHolder reads who holds a lock; 0 if that is not known.
func lockHolder(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 {
		return 0
	}
	return pid
}

// release unlocks before it closes: a child that was just forked may have the
// file open still.
func (l *dirLock) release() error {
	return errors.Join(unlock(l.f), l.f.Close())
}

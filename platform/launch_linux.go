package platform

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/launch"
)

// needsLauncher says whether something is asked for that can't be set between
// Go's fork and exec. Another start of this binary comes in between then.
func (c *Command) needsLauncher() bool { return c.WatchdogPID }

// forkLauncher is forkExec by way of a launcher, with the same errors.
func (t *spawnerThread) forkLauncher(self string, b birth, l launch.Launch) (pid int, err error) {
	l.Path, l.Args, l.Dir, l.Credential = b.path, b.args, b.dir, b.cred
	var report [2]int
	if err := unix.Pipe2(report[:], unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	defer unix.Close(report[0])
	b.path, b.args, b.dir, b.cred = self, l.Argv(), "", nil
	b.env = launch.Environ(b.env, 1) // the mark: whoever looks for the incarnation finds it
	b.report = report[1]
	pid, err = t.forkExec(b)
	unix.Close(report[1])
	if err != nil {
		return 0, err
	}
	if err = launch.Report(report[0]); err == nil {
		return pid, nil
	}
	// It ends by itself; no one else reaps it while a fork is under way.
	var ws unix.WaitStatus
	for {
		_, werr := unix.Wait4(pid, &ws, 0, nil)
		if werr != unix.EINTR {
			break
		}
	}
	if errors.Is(err, launch.ErrNotExecuted) {
		exit := exitOf(ws)
		if exit.Signal != "" {
			return 0, fmt.Errorf("%w: %s", err, exit.Signal)
		}
		return 0, fmt.Errorf("%w: exit code %d", err, exit.Code)
	}
	return 0, err
}

// fork starts a program on this thread.
func (t *spawnerThread) fork(c *Command, b birth) (pid int, err error) {
	if !c.needsLauncher() {
		return t.forkExec(b)
	}
	return t.forkLauncher("/proc/self/exe", b, launch.Launch{WatchdogPID: c.WatchdogPID})
}

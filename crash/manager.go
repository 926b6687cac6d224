//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/api"
)

// Limits for what a manager does at once. They only bound how long the suite
// waits for something that never comes.
const (
	patience   = 30 * time.Second
	lookEvery  = 5 * time.Millisecond
	settleLook = 20 * time.Millisecond
)

// launched is what the suite itself has started: the manager, or its keeper.
type launched struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// tune makes what is rare in life frequent here, and keepers impatient.
const tune = "SYSPULSE_TUNE=snapshot-every=150,max-events=20000,flatten-at=2,keeper-delay-ms=20,trial-ms=1500"

// launch starts a manager, and its keeper if there is to be one, and doesn't
// wait for them.
func (s *suite) launch() {
	if s.launched != nil {
		<-s.launched.done
		s.over()
		s.shuttingDown = false
	}
	args := []string{"--data-dir", s.data, "daemon"}
	if !s.options.keeper {
		args = append(args, "--no-keeper")
	}
	cmd := exec.Command(s.binary, args...)
	cmd.Env = append(os.Environ(), "SYSPULSE_FAILPOINT=@"+s.armFile(), tune, "SYSPULSE_SABOTAGE="+s.options.sabotage)
	if s.options.noCgroups {
		cmd.Env = append(cmd.Env, "SYSPULSE_NO_CGROUPS=1")
	}
	cmd.Stdout, cmd.Stderr = s.managerLog, s.managerLog
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		s.fatal("the manager can't be started: %v", err)
	}
	p := openProcess(cmd.Process.Pid) // it can't be reaped yet
	if s.options.keeper {
		s.keeper = p
	} else {
		s.manager = p
	}
	l := &launched{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // ProcessState says how it ended
		close(l.done)
	}()
	s.launched = l
	s.up.Store(true)
}

// ensure sees to it that a manager answers, with a keeper if there is to be
// one. Only the suite starts what has nobody else who would.
func (s *suite) ensure() {
	for deadline := time.Now().Add(patience); ; time.Sleep(lookEvery) {
		s.find()
		if s.manager == nil && s.keeper == nil {
			s.whileDown(false)
			s.launch()
		}
		ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
		p, err := s.api.Ping(ctx)
		cancel()
		if err == nil {
			s.recognize(p)
		}
		if err == nil && s.manager != nil && p.PID == s.manager.pid {
			s.answered = true
			if !s.options.keeper {
				break
			}
			if p.KeeperPID != nil && s.keeper != nil && *p.KeeperPID == s.keeper.pid {
				if s.kept.IsZero() {
					s.kept = time.Now()
				}
				break
			}
		}
		if time.Now().After(deadline) {
			s.violation("a manager does not come back", "for %v; ping says %+v, %v; its log ends with:\n%s", patience, p, err, s.tail())
			s.fatal("no manager")
		}
	}
	s.up.Store(true)
}

// A victim is who is killed.
type victim string

const (
	theManager victim = "manager"
	theKeeper  victim = "keeper"
	both       victim = "both"
)

// kill kills.
func (s *suite) kill(who victim) {
	s.find()
	keeper, manager := s.keeper, s.manager
	if who == theManager {
		keeper = nil
	}
	if who == theKeeper {
		manager = nil
	}
	if keeper != nil { // first, or it starts another manager
		keeper.kill()
		s.died(theKeeper, time.Now())
	}
	if manager != nil {
		s.up.Store(s.keeper != nil)
		manager.kill()
		s.died(theManager, time.Now())
	}
	switch {
	case keeper != nil && manager != nil:
		s.killed[both]++
	case keeper != nil:
		s.killed[theKeeper]++
	case manager != nil:
		s.killed[theManager]++
	}
	s.find()
}

// death is that of a manager or a keeper.
type death struct {
	who victim
	at  time.Time
}

// keptFor is how long a new keeper needs at most to be given everything.
const keptFor = 500 * time.Millisecond

// died notes a death. From then on, if nobody else holds the daemons' pipes
// and looks after their ends, what they leave is lost with them.
func (s *suite) died(who victim, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := false
	switch who {
	case theManager:
		held = s.keeper != nil && !s.keeper.dead() && !s.kept.IsZero() && at.After(s.kept.Add(keptFor))
		s.answered = false
	case theKeeper:
		held = s.manager != nil && !s.manager.dead() && s.answered
		s.kept = time.Time{}
	}
	s.deaths = append(s.deaths, death{who, at})
	if who == theManager {
		s.aways = append(s.aways, at)
	}
	if !held {
		s.gaps = append(s.gaps, at)
	}
}

// over checks how what the suite has started came to its end.
func (s *suite) over() {
	select {
	case <-s.launched.done:
	default:
		return
	}
	ws := s.launched.cmd.ProcessState.Sys().(syscall.WaitStatus)
	clean := s.shuttingDown && ws.Exited() && ws.ExitStatus() == 0
	// A keeper that a manager was just making when it was killed starts the next
	// one by itself, and the suite, which has not seen it, another.
	late := s.options.keeper && ws.Exited() && ws.ExitStatus() == 1 && strings.Contains(s.tail(), "the data directory is in use: another manager")
	if !late && !clean && !(ws.Signaled() && ws.Signal() == unix.SIGKILL) {
		s.violation("a manager ended by itself", "%v; its log ends with:\n%s", s.launched.cmd.ProcessState, s.tail())
	}
}

// readLog looks for what a manager must never say.
func (s *suite) readLog() {
	b, err := os.ReadFile(s.managerLog.Name())
	if err != nil {
		s.fatal("%v", err)
	}
	for line := range bytes.Lines(b[s.logRead:]) {
		for _, bad := range []string{"panic:", "fatal error:", "an actor failed", "level=ERROR"} {
			if bytes.Contains(line, []byte(bad)) {
				s.violation("a manager failed", "%s", bytes.TrimSpace(line))
			}
		}
	}
	s.logRead = len(b)
}

// tail is the end of the managers' log.
func (s *suite) tail() string {
	b, err := os.ReadFile(s.managerLog.Name())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return "\t" + strings.Join(lines[max(0, len(lines)-20):], "\n\t")
}

// fds lists what a process has open, as /proc shows it.
func (p *process) fds() map[string]int {
	out := make(map[string]int)
	dir := fmt.Sprintf("/proc/%d/fd", p.pid)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if link, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			out[link]++
		}
	}
	return out
}

// alive says whether there is such a process and it is no zombie.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, ok := strings.Cut(string(b), ") ")
	return ok && rest != "" && rest[0] != 'Z' && rest[0] != 'X'
}

// held says whether anything of a daemon lives.
func (s *suite) held(name string) bool {
	fd, err := unix.Open(filepath.Join(s.dir, "locks", name), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		s.violation("the suite failed", "lock of %s: %v", name, err)
		return false
	}
	defer unix.Close(fd)
	// Asked, never taken, not even for a moment: a daemon that starts just then
	// would find it taken. (That is why it isn't flock.)
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock); err != nil {
		s.violation("the suite failed", "lock of %s: %v", name, err)
		return false
	}
	return lock.Type != unix.F_UNLCK
}

// cgroupDirs are the cgroups that this data directory's managers made.
func (s *suite) cgroupDirs() []string {
	var out []string
	for _, base := range s.cgroupBases {
		entries, _ := os.ReadDir(base)
		for _, e := range entries {
			if e.IsDir() {
				out = append(out, filepath.Join(base, e.Name()))
			}
		}
	}
	return out
}

// shutDown asks the manager to end all daemons and itself.
func (s *suite) shutDown() {
	time.Sleep(time.Duration(s.rng.IntN(300)) * time.Millisecond)
	s.shuttingDown = true
	s.away(time.Now())
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	_ = s.api.Shutdown(ctx, api.ShutdownRequest{Force: s.rng.IntN(3) == 0}) // it is to be killed meanwhile
}

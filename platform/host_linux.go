package platform

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/keeper"
)

// New opens the host. The first call of a process takes the process-wide state
// (umask 077, child subreaper, SIGCHLD), which stays.
func New(o Options) (Host, error) {
	e, err := theEngine()
	if err != nil {
		return nil, fmt.Errorf("process handling: %w", err)
	}
	h := &host{engine: e, procs: make(map[string]*process), store: o.Store, kept: make(map[string]int)}
	h.openExits()
	if !o.NoCgroups && os.Getenv("SYSPULSE_NO_CGROUPS") != "1" {
		h.cgroups = findCgroupBase(o.DataDir)
	}
	return h, nil
}

type host struct {
	*engine
	cgroups string // directory for those of incarnations; "" without

	store *keeper.Store // nil: nothing is kept
	exits *keeper.Exits // of those that our keeper reaps; nil without

	mu    sync.Mutex
	procs map[string]*process // by incarnation, until released
	kept  map[string]int      // pidfds that belong to the store, by incarnation, until forgotten
}

func (h *host) BootID() string { return h.bootID }

func (h *host) Uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// userHZ is the unit of start times in /proc, ticks per second: the same on all
// architectures that Go knows (time(7)).
const userHZ = 100

// Age takes the end of the tick that the process was started in.
func (h *host) Age(id Identity) time.Duration {
	if id.StartTime == 0 {
		return 0
	}
	return max(h.Uptime()-time.Duration(id.StartTime+1)*(time.Second/userHZ), 0)
}

func (h *host) cgroupDir(incarnation string) string {
	if h.cgroups == "" || !validIncarnation(incarnation) {
		return ""
	}
	return filepath.Join(h.cgroups, incarnation)
}

func (h *host) Start(c Command) (Process, error) {
	if err := checkCommand(&c); err != nil {
		return nil, err
	}
	w := whoIs(c.Account)
	path, serr := findProgram(c.Args[0], c.Dir, c.Env, w)
	if serr != nil {
		return nil, serr
	}
	cred := credential(c.Account)
	files := []int{h.null, h.null, h.null}
	for i, f := range []*os.File{c.Stdout, c.Stderr} {
		if f == nil {
			continue
		}
		fd, err := blockingFD(f)
		if err != nil {
			return nil, startError(StageSystem, err, "output: %v", err)
		}
		files[i+1] = fd
	}
	env := marked(c.Env, c.Incarnation)

	p := &process{host: h, incarnation: c.Incarnation, child: true, fifos: fifosOf(c.Stdout, c.Stderr)}
	p.quick, p.await = p.quicklyEmpty, p.awaitEmpty
	if dir := h.cgroupDir(c.Incarnation); dir != "" {
		if err := unix.Mkdir(dir, 0o755); err == nil || err == unix.EEXIST {
			p.cgroup = dir
		}
	}

	var pid int
	var err error
	fork := func(path string, args []string) {
		h.spawner.do(c.Umask, func(t *spawnerThread) {
			h.beginFork() // until it is registered
			b := birth{path: path, args: args, env: env, dir: c.Dir, files: files, cred: cred, cgroup: p.cgroup}
			pid, err = t.fork(&c, b)
			if err != nil && p.cgroup != "" && cgroupRefused(err) {
				// Not every kernel or container lets a child be born in a cgroup.
				removeCgroup(p.cgroup)
				p.cgroup, b.cgroup = "", ""
				pid, err = t.fork(&c, b)
			}
		})
	}
	fork(path, c.Args)
	if errors.Is(err, unix.ENOEXEC) && isText(inDir(c.Dir, path)) {
		h.endFork()
		fork("/bin/sh", slices.Concat([]string{"/bin/sh", path}, c.Args[1:]))
	}
	if err == nil {
		err = h.take(p, pid, c.Keep)
	}
	h.endFork()
	runtime.KeepAlive(c.Stdout)
	runtime.KeepAlive(c.Stderr)
	if err != nil {
		if p.cgroup != "" {
			removeCgroup(p.cgroup)
		}
		return nil, explain(err, &c, path, w, cred != nil)
	}
	h.adopt(p)
	return p, nil
}

// take makes a child that was just forked, and can't have been reaped, that of p.
func (h *host) take(p *process, pid int, keep bool) error {
	var err error
	if p.pidfd, err = openPidfd(pid); err == unix.ENOSYS {
		err = nil
	}
	if keep && err == nil {
		h.keep(p) // first of all: whoever follows us finds it by that
	}
	var s stat
	if err == nil {
		s, err = readStat(pid)
	}
	if err != nil {
		// It is there; what lacks is a descriptor to look at it with. Nobody
		// could ever prove who this is: end it.
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
		if p.isKept {
			h.Forget(p.incarnation)
		} else if p.pidfd >= 0 {
			unix.Close(p.pidfd)
		}
		return unix.EMFILE
	}
	p.id = Identity{BootID: h.bootID, PID: pid, StartTime: s.start}
	p.session, p.group, p.since = pid, pid, s.start
	h.register(p)
	return nil
}

// adopt begins to watch a process that is registered.
func (h *host) adopt(p *process) {
	h.mu.Lock()
	h.procs[p.incarnation] = p
	h.mu.Unlock()
	if p.pidfd >= 0 {
		p.watchExit()
		return
	}
	h.wakeReaper() // it may have died before it was registered
}

func cgroupRefused(err error) bool {
	for _, e := range []error{errNoCgroup, unix.ENOSYS, unix.EBUSY, unix.EOPNOTSUPP, unix.EINVAL, unix.EBADF, unix.ENODEV} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// withoutPidfds makes do as before Linux 5.3, to test that.
var withoutPidfds = os.Getenv("SYSPULSE_NO_PIDFDS") == "1"

// openPidfd fails with ESRCH if there is no such process.
func openPidfd(pid int) (int, error) {
	if withoutPidfds {
		return -1, unix.ENOSYS
	}
	fd, err := unix.PidfdOpen(pid, 0)
	switch err {
	case nil:
		return fd, nil
	case unix.EINVAL, unix.ENOENT:
		// The number is a thread's, which is said so since Linux 6.15, or of a
		// process that is just being reaped.
		return -1, unix.ESRCH
	}
	return -1, err
}

// known is the handle of an incarnation that was not released.
func (h *host) known(incarnation string) *process {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.procs[incarnation]
}

func (h *host) Adopt(id Identity, incarnation string) (Process, error) {
	// Two handles would compete for the exit code.
	if p := h.known(incarnation); p != nil && p.id == id {
		return p, nil
	}
	if id.BootID != h.bootID {
		return nil, &GoneError{Why: "the machine was restarted since"}
	}
	// The reaper takes a child that nobody registered for an orphan. It must
	// not do so between the look at those it reaped and the registration.
	h.beginFork()
	defer h.endFork()
	gone := &GoneError{Why: fmt.Sprintf("process %d has ended", id.PID), Exit: h.obituary(id), ID: id}
	if id.PID <= 1 || id.PID == h.selfPID {
		return nil, gone
	}
	fd, isKept := h.claim(incarnation)
	if isKept && h.isOfAnother(fd, id) {
		h.Forget(incarnation)
		isKept = false
	}
	var err error
	if isKept && pidfdDead(fd) {
		// It stays kept until its end has been noted.
		if gone.Exit == nil {
			gone.Exit = h.exitBehind(fd, id)
		}
		return nil, gone
	}
	if !isKept {
		fd, err = openPidfd(id.PID)
	}
	if err == unix.ESRCH {
		return nil, gone
	}
	if err != nil {
		return nil, fmt.Errorf("process %d: pidfd_open: %w", id.PID, err)
	}
	// The start time that /proc shows for the pid is that of the process behind
	// the pidfd if the latter has still not died after it was read.
	s, err := readStat(id.PID)
	letGo := func() {
		if !isKept {
			unix.Close(fd)
		}
	}
	if err != nil && err != unix.ESRCH {
		letGo()
		return nil, err
	}
	if err != nil || s.start != id.StartTime && !failpoint.Sabotaged(failpoint.NoIdentity) {
		letGo()
		if isKept { // not what its name says
			h.Forget(incarnation)
		}
		if err == nil {
			gone.Why = fmt.Sprintf("process %d has ended; its pid belongs to another process now", id.PID)
		}
		return nil, gone
	}
	if pidfdDead(fd) {
		gone.Exit = h.exitBehind(fd, id)
		if gone.Exit == nil {
			gone.Exit = h.obituary(id)
		}
		letGo()
		return nil, gone
	}
	p := &process{
		host: h, id: id, incarnation: incarnation, pidfd: fd, child: s.ppid == h.selfPID,
		session: s.session, group: s.pgrp, since: id.StartTime,
	}
	if p.isKept = isKept; !isKept {
		h.keep(p)
	}
	p.cgroup = h.cgroupFor(incarnation, id.PID)
	p.fifos = fifosOfPID(id.PID)
	p.quick, p.await = p.quicklyEmpty, p.awaitEmpty
	h.register(p)
	h.adopt(p)
	return p, nil
}

// isOfAnother says whether a kept pidfd is not of the process that it is kept for:
// another one has become the main process of its tree, and the manager died before
// that one was kept.
func (h *host) isOfAnother(fd int, id Identity) bool {
	if pid := pidOf(fd); pid > 0 {
		return pid != id.PID
	}
	// It was reaped, and knows its number no more.
	s, err := readStat(id.PID)
	return err == nil && s.start == id.StartTime
}

// reapGrace is how long a dead process may wait for its parent until its exit
// code counts as lost, in milliseconds. A parent that reaps at all needs
// microseconds.
const reapGrace = 250

// exitBehind is how a dead process ended; nil if nobody can tell.
func (h *host) exitBehind(fd int, id Identity) *Exit {
	if exit, err := waitPidfd(fd); err == nil {
		return &exit
	}
	if exit, ok := zombieExit(id); ok {
		return &exit
	}
	if exit, ok := pidfdExit(fd); ok {
		return &exit
	}
	if exit := h.keptExit(id); exit != nil {
		return exit
	}
	pidfdReaped(fd, reapGrace)
	if exit, ok := pidfdExit(fd); ok {
		return &exit
	}
	return nil
}

// cgroupFor is the cgroup of an incarnation: the one that its process is in, if
// that was made for it (by a manager that ran elsewhere in the tree, perhaps),
// else the one that this manager would make.
func (h *host) cgroupFor(incarnation string, pid int) string {
	if h.cgroups == "" || !validIncarnation(incarnation) {
		return ""
	}
	// An incarnation has but one, so if there is one of its name, it is that.
	dir := h.cgroupDir(incarnation)
	if cgroupPopulated(dir) {
		return dir
	}
	if rel := cgroupOf(strconv.Itoa(pid)); filepath.Base(rel) == incarnation {
		if mount, root := cgroupMount(); mount != "" {
			if r, err := filepath.Rel(root, rel); err == nil {
				if dir := filepath.Join(mount, r); cgroupPopulated(dir) {
					return dir
				}
			}
		}
	}
	return ""
}

func (h *host) Close() error {
	h.mu.Lock()
	all := slices.Collect(maps.Values(h.procs))
	h.mu.Unlock()
	for _, p := range all {
		p.Release()
	}
	h.closeKept()
	if h.cgroups != "" {
		_ = unix.Rmdir(h.cgroups)
	}
	return nil
}

package platform

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/spec"
)

// process is one tree on Linux. Its main process, the first one unless Follow has
// made another of them that, is watched through a pidfd.
// Without pidfds (before Linux 5.3) the reaper tells it of its end instead, and a
// child's pid is safe to signal while nobody has reaped it: died does that under mu.
type process struct {
	host        *host
	id          Identity
	incarnation string
	cgroup      string   // directory; "" without
	fifos       []fileID // its outputs, if they are FIFOs with a name: evidence of who belongs to it
	session     int      // of the main process: its own pid, unless that is not the first one
	group       int      // likewise
	since       uint64   // start time of the first process, or of the earliest that is known
	child       bool     // what it orphans comes to us
	pidfd       int      // -1 without
	isKept      bool     // pidfd belongs to the host's store

	// All that follows is guarded by the notices' mu.
	notices
	watch *Watch
	grace *time.Timer // until a dead process that nobody reaps counts as lost
	kept  *time.Timer // until it is reaped though its pidfd isn't with the keeper yet
	late  bool        // that time is over
	left  leftovers
	known map[procKey]bool // members of the last look
}

func (p *process) Identity() Identity  { return p.id }
func (p *process) Incarnation() string { return p.incarnation }

// watchExit registers the pidfd. Should the poller refuse, the reaper still
// tells of the end of a child.
func (p *process) watchExit() {
	w, err := p.host.poller.Add(p.pidfd, Readable, func(Events) { p.died() })
	if err != nil {
		p.host.wakeReaper()
		return
	}
	p.mu.Lock()
	p.watch = w
	if p.exited || p.released { // between Add and here
		p.watch = nil
		w.Remove()
	}
	p.mu.Unlock()
}

// died is called when the first process may have died, and when it may have been
// reaped after that.
func (p *process) died() {
	p.mu.Lock()
	if p.exited || p.released || !p.safeLocked() {
		p.mu.Unlock()
		return
	}
	exit, dead := p.reapLocked()
	if !dead {
		p.mu.Unlock()
		return
	}
	p.exited, p.exit = true, exit
	if p.watch != nil {
		p.watch.Remove()
		p.watch = nil
	}
	if p.grace != nil {
		p.grace.Stop()
	}
	if p.kept != nil {
		p.kept.Stop()
	}
	p.mu.Unlock()
	p.host.unregister(p)
	p.settle()
}

// keepGrace is how long a death may wait for a keeper that is slow.
const keepGrace = 100 * time.Millisecond

// safeLocked says whether the process may be reaped. A reaped one's exit is known to
// whoever has its pidfd, one that isn't reaped to who inherits it: should this manager
// be killed before the exit is in the journal, the keeper has to be one of the two.
func (p *process) safeLocked() bool {
	if !p.isKept || p.late || p.host.store.Sent(p.incarnation, p.died) {
		return true
	}
	if p.kept == nil {
		p.kept = time.AfterFunc(keepGrace, func() {
			p.mu.Lock()
			p.late = true
			p.mu.Unlock()
			p.died()
		})
	}
	return false
}

// reapLocked learns how the first process ended, and reaps it if it is ours.
func (p *process) reapLocked() (exit Exit, dead bool) {
	exit, err := Exit{}, error(unix.EINVAL)
	if p.pidfd >= 0 {
		p.host.reaps.begin()
		exit, err = waitPidfd(p.pidfd)
		p.host.reaps.end()
	}
	switch {
	case err == nil:
		return exit, true
	case err == unix.EINVAL && p.child: // before Linux 5.4
		var ws unix.WaitStatus
		p.host.reaps.begin()
		got, err := unix.Wait4(p.id.PID, &ws, unix.WNOHANG, nil)
		p.host.reaps.end()
		if err == nil && got == p.id.PID {
			return exitOf(ws), true
		}
		p.rearm(Readable)
		return Exit{}, err == unix.ECHILD
	case err != unix.ECHILD || !pidfdDead(p.pidfd):
		p.rearm(Readable)
		return Exit{}, false
	}
	// Not our child: the kernel tells while nobody has reaped it, and, if it
	// is new enough, once somebody has.
	if exit, ok := zombieExit(p.id); ok {
		return exit, true
	}
	if exit, ok := pidfdExit(p.pidfd); ok {
		return exit, true
	}
	if exit := p.host.keptExit(p.id); exit != nil {
		return *exit, true
	}
	if pidfdReaped(p.pidfd, 0) {
		exit, _ := pidfdExit(p.pidfd) // it may have been reaped just now
		return exit, true
	}
	if p.grace == nil {
		p.grace = time.AfterFunc(reapGrace*time.Millisecond, p.giveUpExit)
	}
	p.rearm(0) // for Hangup
	return Exit{}, false
}

func (p *process) rearm(ev Events) {
	if p.watch != nil {
		_ = p.watch.Rearm(ev)
	}
}

// giveUpExit ends the wait for a parent that does not reap, where the kernel
// doesn't let us look: a zombie counts as dead, its code as unknown.
func (p *process) giveUpExit() {
	p.mu.Lock()
	if p.exited || p.released {
		p.mu.Unlock()
		return
	}
	p.exited = true
	p.exit, _ = pidfdExit(p.pidfd)
	if p.watch != nil {
		p.watch.Remove()
		p.watch = nil
	}
	p.mu.Unlock()
	p.host.unregister(p)
	p.settle()
}

func (p *process) Signal(sig string, mode spec.KillMode) error {
	n, err := ParseSignal(sig)
	if err != nil {
		return err
	}
	switch mode {
	case spec.KillMain:
		return p.signalMain(n)
	case spec.KillAll:
		return p.signalAll(n)
	case spec.KillGroup, "":
		return p.signalGroup(n)
	}
	return fmt.Errorf("unknown kill mode %q", mode)
}

func (p *process) signalMain(sig unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exited || p.released {
		return ErrDead
	}
	if p.pidfd < 0 {
		return dead(unix.Kill(p.id.PID, sig)) // our child, not reaped
	}
	return dead(unix.PidfdSendSignal(p.pidfd, sig, nil, 0))
}

// signalGroup signals the group that the first process leads, also after that
// one has died. The kernel finds the group by the pidfd (Linux 6.9), so that a
// reused number is never meant.
func (p *process) signalGroup(sig unix.Signal) error {
	p.mu.Lock()
	if p.released {
		p.mu.Unlock()
		return ErrDead
	}
	if p.pidfd >= 0 {
		err := unix.PidfdSendSignal(p.pidfd, sig, nil, unix.PIDFD_SIGNAL_PROCESS_GROUP)
		if err != unix.EINVAL && (err != unix.ESRCH || p.group == p.id.PID) {
			p.mu.Unlock()
			return dead(err)
		}
	}
	if p.child && !p.exited && p.group > 1 {
		// Not reaped, so the number is still its own.
		err := unix.Kill(-p.group, sig)
		p.mu.Unlock()
		return dead(err)
	}
	p.mu.Unlock()
	n := 0
	members, err := p.members()
	for _, m := range members {
		if m.pgrp == p.group {
			k, e := signalMember(m, sig)
			n, err = n+k, errors.Join(err, e)
		}
	}
	if n == 0 && err == nil {
		return ErrDead
	}
	return err
}

func dead(err error) error {
	if err == unix.ESRCH {
		return ErrDead
	}
	return err
}

// signalAll signals everything once. What is forked meanwhile is looked for
// until a look finds nothing new.
func (p *process) signalAll(sig unix.Signal) error {
	n, err := sweep(p.members, func(s stat) (int, error) { return signalMember(s, sig) })
	if n == 0 && err == nil {
		return ErrDead
	}
	return err
}

func (p *process) Kill() error {
	p.mu.Lock()
	if p.released || p.empty {
		p.mu.Unlock()
		return nil
	}
	// The first process and its group go first, in one call each: from then on
	// nothing in the group can fork.
	if p.pidfd >= 0 {
		_ = unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, unix.PIDFD_SIGNAL_PROCESS_GROUP)
		_ = unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0)
	} else if !p.exited {
		_ = unix.Kill(p.id.PID, unix.SIGKILL)
	}
	p.mu.Unlock()
	if p.cgroup != "" && !p.host.selfIn(p.cgroup) {
		_ = cgroupKill(p.cgroup) // before Linux 5.14 the sweep does it alone
	}
	_, err := sweep(p.members, func(s stat) (int, error) { return signalMember(s, unix.SIGKILL) })
	return err
}

// signalMember signals exactly the process that s describes. It returns 0 if
// that one is gone.
func signalMember(s stat, sig unix.Signal) (int, error) {
	fd, err := openPidfd(s.pid)
	if err == unix.ENOSYS {
		if now, err := readStat(s.pid); err != nil || now.start != s.start {
			return 0, unlessGone(err)
		}
		err = unix.Kill(s.pid, sig)
	} else if err == nil {
		defer unix.Close(fd)
		// The pidfd is of s if the process at that pid has the start time of s
		// now: had s died before the open, its successor would be seen.
		if now, err := readStat(s.pid); err != nil || now.start != s.start {
			return 0, unlessGone(err)
		}
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
	switch err {
	case nil:
		return 1, nil
	case unix.ESRCH, unix.EINVAL:
		return 0, nil
	}
	return 0, fmt.Errorf("process %d: %s: %w", s.pid, SignalName(sig), err)
}

// unlessGone is err, unless it says that a process is gone.
func unlessGone(err error) error {
	if err == unix.ESRCH {
		return nil
	}
	return err
}

func (p *process) Empty() bool {
	p.mu.Lock()
	if !p.exited || p.empty || p.released {
		defer p.mu.Unlock()
		return p.exited && (p.empty || p.released)
	}
	p.mu.Unlock()
	if p.quicklyEmpty() {
		return true
	}
	if p.cgroup != "" && cgroupPopulated(p.cgroup) && !p.host.selfIn(p.cgroup) {
		return false // also while the kernel lists none, because the last are dying
	}
	members, err := p.members()
	return p.foundEmpty(err == nil && len(members) == 0)
}

// quicklyEmpty answers the common case in microseconds: true is sure, false is
// perhaps.
func (p *process) quicklyEmpty() bool {
	switch {
	case p.cgroup != "":
		return p.foundEmpty(!cgroupPopulated(p.cgroup))
	case p.child && p.host.orphans >= 0:
		// Its children, and theirs, have come to us by now, or there are none.
		orphans, err := p.host.orphanPIDs()
		return p.foundEmpty(err == nil && len(orphans) == 0)
	}
	return false
}

func (p *process) Release() {
	p.mu.Lock()
	if p.released {
		p.mu.Unlock()
		return
	}
	p.released = true
	exited := p.exited
	if p.watch != nil {
		p.watch.Remove()
		p.watch = nil
	}
	if p.grace != nil {
		p.grace.Stop()
	}
	if p.pidfd >= 0 {
		if !p.isKept {
			unix.Close(p.pidfd)
		}
		p.pidfd = -1
	}
	p.onExit, p.onEmpty = nil, nil
	p.left.stopLocked()
	if p.exited && p.exit.Known {
		// Perhaps nobody was told yet, and whoever adopts it next will ask.
		p.host.deceased.add(p.id.PID, p.id.StartTime, p.exit)
	}
	p.mu.Unlock()
	p.host.cgroupEvents.unwatch(p)
	p.host.unregister(p)
	p.host.wakeReaper() // from now on it is an orphan like any other
	p.host.mu.Lock()
	if p.host.procs[p.incarnation] == p {
		delete(p.host.procs, p.incarnation)
	}
	p.host.mu.Unlock()
	switch {
	case p.cgroup == "":
	case exited:
		removeDeadCgroup(p.cgroup)
	default:
		removeCgroup(p.cgroup)
	}
}

package platform

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/failpoint"
)

func (h *host) Find(incarnation string) (Process, error) {
	if !validIncarnation(incarnation) {
		return nil, ErrNotFound
	}
	if p := h.known(incarnation); p != nil {
		return p, nil
	}
	if id, ok := h.keptIdentity(incarnation); ok {
		return h.Adopt(id, incarnation)
	}
	members, err := h.marked(incarnation, Identity{})
	first := firstOf(members)
	if err != nil && (first == nil || IsLack(err)) {
		return nil, err // it may run all the same
	}
	if first == nil {
		return nil, ErrNotFound
	}
	p, err := h.Adopt(Identity{BootID: h.bootID, PID: first.pid, StartTime: first.start}, incarnation)
	if gone := (*GoneError)(nil); errors.As(err, &gone) {
		return nil, ErrNotFound
	}
	return p, err
}

// marked are the living processes of an incarnation that this manager may not
// have started. The session of the first process counts if its number cannot
// have been given to another one since. With an error they are not all.
func (h *host) marked(incarnation string, id Identity) ([]stat, error) {
	inCgroup := make(map[int]bool)
	if dir := h.cgroupDir(incarnation); dir != "" {
		pids, err := cgroupPIDs(dir)
		if err != nil {
			return nil, err
		}
		for _, pid := range pids {
			inCgroup[pid] = true
		}
	}
	procs, err := h.scans.snapshot()
	session := id.BootID == h.bootID && id.PID > 1 && noPIDReusedYet()
	found := closure(procs, func(s *proc) bool {
		return s.mark == incarnation || inCgroup[s.pid] ||
			session && s.session == id.PID && s.start >= id.StartTime
	}, h.selfPID)
	return found, errors.Join(err, undecided(procs, found, id.StartTime))
}

// noPIDReusedYet says whether fewer processes were ever made on this boot than
// there are pids: the kernel gives them out in rising order.
func noPIDReusedYet() bool {
	b, err := readProc("/proc/stat", nil)
	if err != nil {
		return false
	}
	m, err := readProc("/proc/sys/kernel/pid_max", nil)
	if err != nil {
		return false
	}
	forks, limit := field(b, "processes "), parsePIDs(m)
	const spare = 1000 // pids that the kernel skips on its first round
	return forks > 0 && len(limit) == 1 && forks < limit[0]-spare
}

// leftoverWait bounds the wait for what was killed: only a process stuck in the
// kernel takes longer than moments.
const leftoverWait = 10 * time.Second

func (h *host) EndLeftovers(incarnation string, id Identity) (int, error) {
	if !validIncarnation(incarnation) || failpoint.Sabotaged(failpoint.NoLeftovers) {
		return 0, nil
	}
	dir := h.cgroupDir(incarnation)
	var killed []stat
	_, err := sweep(func() ([]stat, error) { return h.marked(incarnation, id) }, func(s stat) (int, error) {
		killed = append(killed, s)
		return signalMember(s, unix.SIGKILL)
	})
	deadline := time.Now().Add(leftoverWait)
	for _, s := range killed {
		if !h.awaitDeath(s, time.Until(deadline)) {
			err = errors.Join(err, fmt.Errorf("process %d was killed but does not die", s.pid))
		}
	}
	if dir != "" {
		// The kernel doesn't list who is dying, and may still hold files.
		for pause := time.Millisecond; cgroupPopulated(dir) && !h.selfIn(dir) && time.Now().Before(deadline); pause *= 2 {
			time.Sleep(pause)
		}
		removeCgroup(dir)
	}
	return len(killed), err
}

// awaitDeath waits for the death of a process that is not managed, without a
// thread of its own.
func (h *host) awaitDeath(s stat, timeout time.Duration) bool {
	fd, err := openPidfd(s.pid)
	if err == unix.ESRCH {
		return true
	}
	if err != nil { // before Linux 5.3, or out of descriptors
		for end := time.Now().Add(timeout); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if now, err := readStat(s.pid); err == unix.ESRCH || err == nil && (now.start != s.start || now.dead()) {
				return true
			}
		}
		return false
	}
	defer unix.Close(fd)
	if now, err := readStat(s.pid); err == unix.ESRCH || err == nil && now.start != s.start {
		return true
	}
	died := make(chan struct{})
	w, err := h.poller.Add(fd, Readable, func(Events) { close(died) })
	if err != nil {
		return false
	}
	defer w.Remove()
	t := time.NewTimer(max(timeout, 0))
	defer t.Stop()
	select {
	case <-died:
		return true
	case <-t.C:
		return pidfdDead(fd)
	}
}

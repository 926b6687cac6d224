package platform

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Member implements Host.
func (h *host) Member(incarnation string, pid int) (Identity, error) {
	if !validIncarnation(incarnation) || pid <= 1 {
		return Identity{}, ErrNotFound
	}
	// Looked at through a pidfd, so that all that is seen is of one process.
	fd, err := openPidfd(pid)
	if err != nil && err != unix.ENOSYS {
		return Identity{}, ErrNotFound
	}
	if err == nil {
		defer unix.Close(fd)
	}
	s, err := readStat(pid)
	if err != nil {
		return Identity{}, ErrNotFound
	}
	p := h.known(incarnation)
	if p == nil { // its mark and its cgroup tell
		p = &process{host: h, incarnation: incarnation}
	}
	if !p.contains(pid) || fd >= 0 && pidfdDead(fd) {
		return Identity{}, ErrNotFound
	}
	return Identity{BootID: h.bootID, PID: pid, StartTime: s.start}, nil
}

// Follow implements Host.
func (h *host) Follow(old Process, id Identity) (Process, error) {
	q, ok := old.(*process)
	if !ok || id.BootID != h.bootID || withoutPidfds {
		return nil, ErrNotFound
	}
	h.beginFork() // as in Adopt
	defer h.endFork()
	gone := &GoneError{Why: fmt.Sprintf("process %d has ended", id.PID), Exit: h.obituary(id), ID: id}
	fd, err := openPidfd(id.PID)
	if err == unix.ESRCH {
		return nil, gone
	}
	if err != nil {
		return nil, fmt.Errorf("process %d: pidfd_open: %w", id.PID, err)
	}
	s, err := readStat(id.PID)
	if err != nil && err != unix.ESRCH {
		unix.Close(fd)
		return nil, err
	}
	if err != nil || s.start != id.StartTime || pidfdDead(fd) {
		if err == nil && s.start == id.StartTime {
			gone.Exit = h.exitBehind(fd, id)
		}
		unix.Close(fd)
		return nil, gone
	}
	p := &process{
		host: h, id: id, incarnation: q.incarnation, cgroup: q.cgroup, fifos: q.fifos, pidfd: fd, child: s.ppid == h.selfPID,
		session: s.session, group: s.pgrp, since: q.since,
	}
	p.quick, p.await = p.quicklyEmpty, p.awaitEmpty
	q.mu.Lock()
	wasKept := q.isKept
	q.isKept, q.cgroup = false, ""
	q.mu.Unlock()
	if wasKept {
		h.mu.Lock()
		delete(h.kept, q.incarnation)
		h.mu.Unlock()
		h.store.Drop(q.incarnation)
		h.keep(p)
	}
	h.register(p)
	h.adopt(p)
	q.Release() // it is the reaper's now, should it still live
	return p, nil
}

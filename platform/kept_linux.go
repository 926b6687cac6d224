package platform

import (
	"os"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/keeper"
)

// What is kept of a process is its pidfd, under the name of its incarnation. It
// stays open here, too, after the process's end, until Forget: it can then be
// given to another keeper, or to another binary, at any time.

// keep has a process's pidfd kept.
func (h *host) keep(p *process) {
	if h.store == nil || p.pidfd < 0 {
		return
	}
	p.isKept = true
	h.mu.Lock()
	h.kept[p.incarnation] = p.pidfd
	h.mu.Unlock()
	h.store.Keep(p.incarnation, p.pidfd)
}

// claim is the pidfd that a predecessor had kept, or that was claimed before.
func (h *host) claim(incarnation string) (fd int, ok bool) {
	if h.store == nil {
		return -1, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if fd, ok := h.kept[incarnation]; ok {
		return fd, true
	}
	fds := h.store.Claim(incarnation)
	if len(fds) == 0 {
		return -1, false
	}
	for _, fd := range fds[1:] {
		unix.Close(fd)
	}
	h.kept[incarnation] = fds[0]
	h.store.Keep(incarnation, fds[0])
	return fds[0], true
}

// Forget implements Host.
func (h *host) Forget(incarnation string) {
	if h.store == nil {
		return
	}
	h.claim(incarnation) // an inherited one must be closed, too
	h.mu.Lock()
	fd, ok := h.kept[incarnation]
	p := h.procs[incarnation]
	if ok && p != nil {
		// Somebody still works with it: it is the process's again.
		p.mu.Lock()
		p.isKept = false
		ok = p.released
		p.mu.Unlock()
	}
	delete(h.kept, incarnation)
	h.mu.Unlock()
	h.store.Drop(incarnation)
	if ok {
		unix.Close(fd)
	}
}

// closeKept closes what Forget would; it stays kept by who keeps it.
func (h *host) closeKept() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, fd := range h.kept {
		unix.Close(fd)
	}
	clear(h.kept)
}

// keptIdentity is who an incarnation's kept pidfd belongs to. It is unknown if
// that one was reaped: the pidfd doesn't know its own number then.
func (h *host) keptIdentity(incarnation string) (Identity, bool) {
	fd, ok := h.claim(incarnation)
	if !ok {
		return Identity{}, false
	}
	b, err := readProc("/proc/self/fdinfo/"+strconv.Itoa(fd), nil)
	if err != nil {
		return Identity{}, false
	}
	pid := field(b, "Pid:")
	if pid <= 0 {
		return Identity{}, false
	}
	s, err := readStat(pid)
	if err != nil || pid != pidOf(fd) { // reaped meanwhile
		return Identity{}, false
	}
	return Identity{BootID: h.bootID, PID: pid, StartTime: s.start}, true
}

func pidOf(pidfd int) int {
	b, err := readProc("/proc/self/fdinfo/"+strconv.Itoa(pidfd), nil)
	if err != nil {
		return 0
	}
	return field(b, "Pid:")
}

// openExits takes over, or makes, the file in memory in which the keeper notes
// the ends of those that it reaps.
func (h *host) openExits() {
	if h.store == nil {
		return
	}
	var f *os.File
	if fds := h.store.Claim(keeper.ExitsName); len(fds) > 0 {
		failpoint.Hit(failpoint.HandoverExits)
		f = os.NewFile(uintptr(fds[0]), keeper.ExitsName)
		h.store.Keep(keeper.ExitsName, fds[0])
	} else {
		fd, err := unix.MemfdCreate("syspulse-exits", unix.MFD_CLOEXEC)
		if err != nil {
			return // before Linux 3.17
		}
		f = os.NewFile(uintptr(fd), keeper.ExitsName)
		h.store.Keep(keeper.ExitsName, fd)
	}
	h.exits = keeper.NewExits(f)
}

// keptExit is what the keeper has noted; nil if that is nothing.
func (h *host) keptExit(id Identity) *Exit {
	if h.exits == nil || id.BootID != h.bootID {
		return nil
	}
	ws, ok := h.exits.Find(id.PID, id.StartTime)
	if !ok {
		return nil
	}
	exit := exitOf(unix.WaitStatus(ws))
	return &exit
}

// obituary is how a process ended that is gone, as far as we or the keeper saw it.
func (h *host) obituary(id Identity) *Exit {
	if exit := h.deceased.find(id); exit != nil {
		return exit
	}
	return h.keptExit(id)
}

// StartHelper implements Host.
func (h *host) StartHelper(args, env []string, files []*os.File, f func()) (int, error) {
	fds := []int{h.null, 1, 2}
	for _, file := range files {
		fd, err := blockingFD(file)
		if err != nil {
			return 0, err
		}
		fds = append(fds, fd)
	}
	var pid int
	var err error
	h.spawner.do(nil, func(t *spawnerThread) {
		h.beginFork()
		pid, err = t.forkExec(birth{path: "/proc/self/exe", args: args, env: env, files: fds})
	})
	pidfd := -1
	if err == nil {
		pidfd, _ = openPidfd(pid)
	}
	h.endFork()
	runtime.KeepAlive(files)
	if err != nil {
		return 0, os.NewSyscallError("exec", err)
	}
	if pidfd >= 0 {
		err = h.awaitFD(pidfd, f)
	}
	return pid, err
}

// PrepareExec implements Host. A child that was forked and isn't kept yet would be
// nobody's: none is on its way while the exec is.
func (h *host) PrepareExec() (resume func()) {
	h.forking.Lock()
	unix.Umask(h.spawner.umask)
	return func() {
		unix.Umask(0o077)
		h.forking.Unlock()
		h.wakeReaper()
	}
}

// OnDeath implements Host.
func (h *host) OnDeath(pid int, f func()) error {
	fd, err := openPidfd(pid)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	return h.awaitFD(fd, f)
}

// awaitFD calls f and closes a pidfd when its process has died.
func (h *host) awaitFD(pidfd int, f func()) error {
	var once sync.Once
	died := func(Events) {
		once.Do(func() {
			unix.Close(pidfd) // epoll forgets it with that
			go f()
		})
	}
	if _, err := h.poller.Add(pidfd, Readable, died); err != nil {
		unix.Close(pidfd)
		return err
	}
	return nil
}

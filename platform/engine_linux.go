package platform

import (
	"math"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// engine is what a process can have only one of: the spawner threads, the
// reaper, the poller of exits, the umask. All Hosts of the process share it, and
// it lives as long as the process.
type engine struct {
	spawner      *spawner
	poller       *Poller
	null         int // /dev/null
	bootID       string
	orphans      int // /proc file of the main thread's children, which is what was reparented to us; -1 without
	selfPID      int
	sigchld      chan os.Signal
	deceased     *obituaries
	scans        scanner
	cgroupEvents *cgroupEvents // nil without inotify

	// forking is held for reading from before a fork until the child is in
	// managed, and for writing to reap a child that is not: a child that dies
	// at once must not be taken for an orphan.
	forking  sync.RWMutex
	deferred atomic.Bool // a reap had to be put off because of a fork

	reaps reaps

	mu      sync.Mutex
	managed map[int]*process // by pid, until reaped
}

// reaps counts what takes children out of the kernel's lists, so that who reads
// such a list knows whether one was taken out meanwhile.
type reaps struct{ begun, ended atomic.Uint64 }

func (r *reaps) begin() { r.begun.Add(1) }
func (r *reaps) end()   { r.ended.Add(1) }

// calm returns a function that says whether nothing was reaped since the call, nor
// was about to be.
func (r *reaps) calm() func() bool {
	ended := r.ended.Load() // first: what ends in between has begun, too
	return func() bool { return r.begun.Load() == ended }
}

var theEngine = sync.OnceValues(newEngine)

func newEngine() (*engine, error) {
	// Everything that the manager makes is for its user alone. The spawner
	// threads leave the shared attributes afterwards and put theirs right.
	started := unix.Umask(0o077)
	dropIgnored()
	closeOnExec()
	e := &engine{
		managed:  make(map[int]*process),
		selfPID:  os.Getpid(),
		sigchld:  make(chan os.Signal, 1),
		deceased: newObituaries(),
	}
	var err error
	if e.spawner, err = newSpawner(started); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	if e.poller, err = NewPoller(); err != nil {
		return nil, err
	}
	if e.null, err = unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	e.bootID = string(b[:max(len(b)-1, 0)])
	e.orphans, err = unix.Open(e.orphansPath(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		e.orphans = -1 // not in every kernel
	}
	e.cgroupEvents = newCgroupEvents(e.poller)
	// Whatever a daemon orphans comes to us instead of init, and stays findable.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, os.NewSyscallError("prctl", err)
	}
	signal.Notify(e.sigchld, unix.SIGCHLD)
	e.sigchld <- unix.SIGCHLD // for what died before
	go func() {
		for range e.sigchld {
			e.reap()
		}
	}()
	return e, nil
}

// closeOnExec marks what the manager itself was given by who started it: Go opens
// everything so, others do not.
func closeOnExec() {
	if unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	entries, err := os.ReadDir("/proc/self/fd") // before Linux 5.11
	if err != nil {
		return
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= 3 {
			unix.CloseOnExec(fd)
		}
	}
}

// reap reaps orphans that have died. Children of ours are left to their own
// pidfd; without pidfds this is how their end is noticed.
func (e *engine) reap() {
	for {
		pid := peekDead()
		if pid == 0 {
			return
		}
		if p := e.find(pid); p != nil {
			p.died()
			if e.find(pid) == p {
				return // its reaping is under way elsewhere; that ends in wakeReaper
			}
			continue
		}
		if !e.forking.TryLock() {
			e.deferred.Store(true)
			if !e.forking.TryLock() {
				return // whoever forks wakes us
			}
		}
		if e.find(pid) == nil {
			// Also when it can't be looked at: it would be met here for ever.
			s, serr := readStat(pid)
			var ws unix.WaitStatus
			e.reaps.begin()
			got, err := unix.Wait4(pid, &ws, unix.WNOHANG, nil)
			e.reaps.end()
			if err == nil && got == pid && serr == nil {
				e.deceased.add(pid, s.start, exitOf(ws))
			}
		}
		e.forking.Unlock()
	}
}

func (e *engine) wakeReaper() {
	select {
	case e.sigchld <- unix.SIGCHLD:
	default:
	}
}

// beginFork and endFork enclose a fork and the registration of its child.
func (e *engine) beginFork() { e.forking.RLock() }
func (e *engine) endFork() {
	e.forking.RUnlock()
	if e.deferred.Swap(false) {
		e.wakeReaper()
	}
}

func (e *engine) orphansPath() string {
	return "/proc/self/task/" + strconv.Itoa(e.selfPID) + "/children"
}

func (e *engine) find(pid int) *process {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.managed[pid]
}

func (e *engine) register(p *process) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.managed[p.id.PID] = p
}

func (e *engine) unregister(p *process) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.managed[p.id.PID] == p {
		delete(e.managed, p.id.PID)
	}
}

// peekDead is the pid of some child that has died, without reaping it; 0 if
// there is none.
func peekDead() int {
	var si unix.Siginfo
	for {
		err := unix.Waitid(unix.P_ALL, 0, &si, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0
		}
		pid, _ := siginfoChild(&si)
		return pid
	}
}

// siginfoChild reads the members that waitid(2) fills in; x/sys leaves them out.
// They begin at the union, which is aligned as a pointer is.
func siginfoChild(si *unix.Siginfo) (pid int, status Exit) {
	const union = (12 + unsafe.Sizeof(uintptr(0)) - 1) &^ (unsafe.Sizeof(uintptr(0)) - 1)
	f := (*struct {
		pid    int32
		uid    uint32
		status int32
	})(unsafe.Add(unsafe.Pointer(si), union))
	if f.pid == 0 {
		return 0, Exit{}
	}
	const exited = 1 // CLD_EXITED; the others are deaths by signal
	if si.Code == exited {
		return int(f.pid), Exit{Known: true, Code: int(f.status)}
	}
	return int(f.pid), Exit{Known: true, Signal: SignalName(syscall.Signal(f.status))}
}

// waitPidfd reaps the child behind a pidfd if it has died. ECHILD: it is no child
// of ours, or reaped already; EAGAIN: it lives.
func waitPidfd(fd int) (Exit, error) {
	var si unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PIDFD, fd, &si, unix.WEXITED|unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return Exit{}, err
		}
		pid, exit := siginfoChild(&si)
		if pid == 0 {
			return Exit{}, unix.EAGAIN
		}
		return exit, nil
	}
}

// pidfdExit asks how the process behind a pidfd ended, which the kernel knows
// once it was reaped by whoever its parent is (Linux 6.15).
func pidfdExit(fd int) (Exit, bool) {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	if err := unix.IoctlPidfdInfo(fd, &info); err != nil || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return Exit{}, false
	}
	return exitOf(unix.WaitStatus(info.Exit_code)), true
}

// pidfdDead says whether the process behind a pidfd has died, reaped or not.
func pidfdDead(fd int) bool { return pollPidfd(fd, unix.POLLIN, 0) }

// pidfdReaped waits up to so many milliseconds until it was reaped, too.
func pidfdReaped(fd, ms int) bool { return pollPidfd(fd, unix.POLLHUP, ms) }

func pollPidfd(fd int, event int16, ms int) bool {
	want := event
	if event == unix.POLLHUP {
		want = 0 // reported unasked; POLLIN would end the wait at the death
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: want}}
	for {
		_, err := unix.Poll(fds, ms)
		if err == unix.EINTR {
			continue
		}
		return err == nil && fds[0].Revents&event != 0
	}
}

// obituaries keeps how orphans ended that were reaped before somebody asked: the
// children that an upgraded manager has from the binary before it.
type obituaries struct {
	mu    sync.Mutex
	order []obituary
	next  int
}

type obituary struct {
	pid   int
	start uint64
	exit  Exit
}

// obituariesKept bounds them; each is some 50 bytes.
const obituariesKept = 4096

func newObituaries() *obituaries { return &obituaries{} }

func (o *obituaries) add(pid int, start uint64, exit Exit) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.order) < obituariesKept {
		o.order = append(o.order, obituary{pid, start, exit})
		return
	}
	o.order[o.next] = obituary{pid, start, exit}
	o.next = (o.next + 1) % obituariesKept
}

func (o *obituaries) find(id Identity) *Exit {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.order {
		if o.order[i].pid == id.PID && o.order[i].start == id.StartTime {
			exit := o.order[i].exit
			return &exit
		}
	}
	return nil
}

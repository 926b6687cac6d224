package platform

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawner forks on threads of its own, because a child inherits from the thread
// that forks it what Go cannot set between fork and exec: the umask and the
// signal mask. These threads have left the file-system attributes (umask, working
// directory) that all others share, so that the umask may be set for one fork
// while the rest of the manager goes on under 077. And they have left the shared
// table of descriptors: a fork copies the table and an exec closes what is in the
// copy, one by one, which for the five thousand of a manager of a thousand daemons
// takes half a millisecond each time. Starts queue here: a thousand at once need
// no thousand threads.
type spawner struct {
	jobs  chan func(*spawnerThread)
	umask int // as the manager was started with
}

// spawnerThread is what a job gets to know of where it runs.
type spawnerThread struct {
	// self is a pidfd of the manager, to fetch descriptors by; -1 if the thread
	// shares the manager's table (before Linux 5.9, or where a sandbox forbids it).
	self int
}

func newSpawner(umask int) (*spawner, error) {
	s := &spawner{jobs: make(chan func(*spawnerThread)), umask: umask}
	// Two forks overlap well: one waits for its exec while another begins.
	n := min(max(runtime.GOMAXPROCS(0), 2), 4)
	errs := make(chan error)
	for range n {
		go s.thread(errs)
	}
	var err error
	for range n {
		if e := <-errs; e != nil {
			err = e
		}
	}
	return s, err
}

// thread serves jobs on a thread that is no one else's.
func (s *spawner) thread(ready chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// Not on the main thread: orphans become its children, and only
		// orphans shall be.
		moved := make(chan struct{})
		go func() {
			defer close(moved)
			s.thread(ready)
		}()
		<-moved
		return
	}
	// Never unlocked: a thread with attributes of its own must not be reused.
	err := unix.Unshare(unix.CLONE_FS)
	t := &spawnerThread{self: -1}
	if err == nil {
		var none unix.Sigset_t
		err = unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil)
	}
	if err == nil {
		err = t.leaveTable()
	}
	ready <- err
	if err != nil {
		return
	}
	for job := range s.jobs {
		job(t)
	}
}

// leaveTable gives the thread a table of descriptors of its own, with next to
// nothing in it, if it can reach those of the manager from there.
func (t *spawnerThread) leaveTable() error {
	const none = math.MaxUint32 // no descriptor has this number
	if withoutPidfds || unix.CloseRange(none, none, 0) != nil {
		return nil
	}
	self, err := unix.PidfdOpen(unix.Getpid(), 0)
	if err != nil {
		return nil
	}
	fd, err := unix.PidfdGetfd(self, self, 0)
	unix.Close(self)
	if err != nil {
		return nil
	}
	unix.Close(fd)
	needed := neededByRuntime()
	if len(needed) == 0 || unix.Unshare(unix.CLONE_FILES) != nil {
		return nil
	}
	next := 3
	for _, fd := range append(needed, none) {
		if fd > next {
			if err := unix.CloseRange(uint(next), uint(fd-1), 0); err != nil {
				return os.NewSyscallError("close_range", err)
			}
		}
		next = fd + 1
	}
	t.self, err = unix.PidfdOpen(unix.Getpid(), 0)
	return os.NewSyscallError("pidfd_open", err)
}

// neededByRuntime are the descriptors that Go's runtime uses on whatever thread
// it happens to be, in order: its poller, which it asks after each stop of the
// world, too. They live as long as the process does.
func neededByRuntime() (fds []int) {
	// Something that is polled brings the poller into being.
	r, w, err := os.Pipe()
	if err != nil {
		return nil
	}
	defer r.Close()
	defer w.Close()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	polls := false
	for _, e := range entries {
		fd, _ := strconv.Atoi(e.Name())
		what, err := os.Readlink("/proc/self/fd/" + e.Name())
		// epoll and eventfd today; whatever else it may be tomorrow has no name either.
		if err == nil && fd > 2 && strings.HasPrefix(what, "anon_inode:") && what != "anon_inode:[pidfd]" {
			fds = append(fds, fd)
			polls = polls || what == "anon_inode:[eventpoll]"
		}
	}
	if !polls {
		return nil
	}
	slices.Sort(fds)
	return fds
}

// fetch gives the thread a descriptor of the manager's; whoever asked closes it
// by drop.
func (t *spawnerThread) fetch(fd int) (int, error) {
	if t.self < 0 {
		return fd, nil
	}
	fd, err := unix.PidfdGetfd(t.self, fd, 0)
	return fd, os.NewSyscallError("pidfd_getfd", err)
}

func (t *spawnerThread) drop(fd int) {
	if t.self >= 0 && fd >= 0 {
		unix.Close(fd)
	}
}

// do runs f on a spawner thread, with the umask set.
func (s *spawner) do(umask *int, f func(*spawnerThread)) {
	done := make(chan struct{})
	s.jobs <- func(t *spawnerThread) {
		defer close(done)
		mask := s.umask
		if umask != nil {
			mask = *umask
		}
		unix.Umask(mask)
		f(t)
	}
	<-done
}

// errNoCgroup is about the cgroup that a child was to be born in.
var errNoCgroup = errors.New("the cgroup can't be opened")

// birth is what a child is to be born as.
type birth struct {
	path      string
	args, env []string
	dir       string // "" is the manager's
	files     []int  // descriptors of the manager; the child's 0 and on
	report    int    // one of the thread, the child's next; 0 is none
	cred      *syscall.Credential
	cgroup    string // a directory; "" is the manager's own
}

// forkExec starts a program.
func (t *spawnerThread) forkExec(b birth) (pid int, err error) {
	attr := &syscall.ProcAttr{
		Dir: b.dir,
		Env: b.env,
		Sys: &syscall.SysProcAttr{Setsid: true, Credential: b.cred},
	}
	for _, fd := range b.files {
		own, err := t.fetch(fd)
		if err != nil {
			return 0, err
		}
		defer t.drop(own)
		attr.Files = append(attr.Files, uintptr(own))
	}
	if b.report != 0 {
		attr.Files = append(attr.Files, uintptr(b.report))
	}
	if b.cgroup != "" {
		fd, err := unix.Open(b.cgroup, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errNoCgroup, err)
		}
		defer unix.Close(fd)
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, fd
	}
	return syscall.ForkExec(b.path, b.args, attr)
}

// inheritedIgnored is a sink for signals; nobody reads it.
var inheritedIgnored = make(chan os.Signal, 1)

// dropIgnored replaces every ignored signal by a handler that drops it, which is
// the same for the manager, but not inherited: exec resets handlers to the default
// and keeps SIG_IGN. (nohup ignores SIGHUP, systemd SIGPIPE, shells SIGINT of what
// runs in the background.)
var dropIgnored = sync.OnceFunc(func() {
	b, err := readProc("/proc/self/status", nil)
	if err != nil {
		return
	}
	_, rest, _ := strings.Cut(string(b), "\nSigIgn:\t")
	line, _, _ := strings.Cut(rest, "\n")
	set, _ := strconv.ParseUint(line, 16, 64)
	for sig := 1; sig <= 64; sig++ {
		if set&(1<<(sig-1)) != 0 && syscall.Signal(sig) != syscall.SIGKILL && syscall.Signal(sig) != syscall.SIGSTOP {
			signal.Notify(inheritedIgnored, syscall.Signal(sig))
		}
	}
})

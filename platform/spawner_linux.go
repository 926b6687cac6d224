package platform

import (
	"os"
	"os/signal"
	"runtime"
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
// while the rest of the manager goes on under 077. Starts queue here: a thousand
// at once need no thousand threads.
type spawner struct {
	jobs  chan func()
	umask int // as the manager was started with
}

func newSpawner(umask int) (*spawner, error) {
	s := &spawner{jobs: make(chan func()), umask: umask}
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
	if err == nil {
		var none unix.Sigset_t
		err = unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil)
	}
	ready <- err
	if err != nil {
		return
	}
	for job := range s.jobs {
		job()
	}
}

// do runs f on a spawner thread, with the umask set.
func (s *spawner) do(umask *int, f func()) {
	done := make(chan struct{})
	s.jobs <- func() {
		defer close(done)
		mask := s.umask
		if umask != nil {
			mask = *umask
		}
		unix.Umask(mask)
		f()
	}
	<-done
}

// forkExec starts path. dir "" is the manager's. cgroup is a descriptor, or -1.
// The pidfd is -1 where the kernel has none.
func forkExec(path string, args, env []string, dir string, files [3]int, cred *syscall.Credential, cgroup int) (pid, pidfd int, err error) {
	attr := &syscall.ProcAttr{
		Dir:   dir,
		Env:   env,
		Files: []uintptr{uintptr(files[0]), uintptr(files[1]), uintptr(files[2])},
		Sys: &syscall.SysProcAttr{
			Setsid:     true,
			Credential: cred,
		},
	}
	pidfd = -1
	if !withoutPidfds {
		attr.Sys.PidFD = &pidfd
	}
	if cgroup >= 0 {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, cgroup
	}
	pid, err = syscall.ForkExec(path, args, attr)
	return pid, pidfd, err
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

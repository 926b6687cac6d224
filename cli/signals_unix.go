//go:build !windows

package cli

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	sigHangup      os.Signal = syscall.SIGHUP
	sigUpgrade     os.Signal = syscall.SIGUSR2
	ignoredSignals           = []os.Signal{syscall.SIGPIPE}
)

// terminal is the controlling terminal, whose end a SIGHUP means.
type terminal struct {
	f    *os.File // nil: there is none
	gone chan struct{}
	at   time.Time // when it was hung up; valid once gone is closed
}

// hangupTime is how long after a hang-up a SIGHUP may tell of it. One that comes
// later is somebody's who means the manager: it was left running in the
// background of a shell that has ended.
const hangupTime = 5 * time.Second

// watchTerminal begins to watch the controlling terminal.
func watchTerminal() *terminal {
	t := &terminal{gone: make(chan struct{})}
	f, err := os.OpenFile("/dev/tty", os.O_RDONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return t
	}
	t.f = f
	go func() {
		raw, err := f.SyscallConn()
		if err != nil {
			return
		}
		// Woken by what is typed, too, which is left to who reads it.
		if raw.Read(isHungUp) == nil {
			t.at = time.Now()
			close(t.gone)
		}
	}()
	return t
}

func isHungUp(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
}

// hangup reports whether a SIGHUP that has just come is about the terminal.
func (t *terminal) hangup() bool {
	if t.f == nil {
		return false
	}
	select {
	case <-t.gone:
		return time.Since(t.at) < hangupTime
	default:
		return true // it is there, or about to be gone
	}
}

// detach makes cmd a process that outlives this shell.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// isClosedPipe: nobody reads the output any more. (Without a handler SIGPIPE
// has ended the program before; it may be ignored, by `up` and by who started
// it.)
func isClosedPipe(err error) bool { return errors.Is(err, syscall.EPIPE) }

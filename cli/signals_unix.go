//go:build !windows

package cli

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

var (
	sigHangup      os.Signal = syscall.SIGHUP
	sigUpgrade     os.Signal = syscall.SIGUSR2
	ignoredSignals           = []os.Signal{syscall.SIGPIPE}
)

// hasTerminal reports whether there is a controlling terminal, whose end a
// SIGHUP would mean.
func hasTerminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// detach makes cmd a process that outlives this shell.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// isClosedPipe: nobody reads the output any more. (Without a handler SIGPIPE
// has ended the program before; it may be ignored, by `up` and by who started
// it.)
func isClosedPipe(err error) bool { return errors.Is(err, syscall.EPIPE) }

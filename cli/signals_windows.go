package cli

import (
	"errors"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/windows"
)

// noSignal is one that never comes.
type noSignal struct{}

func (noSignal) Signal()        {}
func (noSignal) String() string { return "hangup" }

var (
	sigHangup      os.Signal = noSignal{}
	sigUpgrade     os.Signal = noSignal{}
	ignoredSignals           = []os.Signal{noSignal{}}
)

// terminal is of no concern here: consoles send no SIGHUP.
type terminal struct{}

func watchTerminal() terminal { return terminal{} }

func (terminal) hangup() bool { return false }

// detach makes cmd a process that outlives this console.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP | windows.DETACHED_PROCESS}
}

// isClosedPipe: nobody reads the output any more.
func isClosedPipe(err error) bool {
	return errors.Is(err, windows.ERROR_BROKEN_PIPE) || errors.Is(err, windows.ERROR_NO_DATA)
}

package cli

import (
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
	ignoredSignals           = []os.Signal{noSignal{}}
)

func hasTerminal() bool { return false }

// detach makes cmd a process that outlives this console.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP | windows.DETACHED_PROCESS}
}

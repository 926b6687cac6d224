package persist

import "syscall"

// TerminateProcess with 1 is what os.Process.Kill does.
func killed(ws syscall.WaitStatus) bool { return ws.ExitCode == 1 }

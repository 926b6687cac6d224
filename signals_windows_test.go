package main

import "syscall"

// signals are those that scripts send.
var signals = map[string]syscall.Signal{"KILL": syscall.SIGKILL}

//go:build !windows

package cli

import "golang.org/x/sys/unix"

// signalNumber is n for a signal's name, 0 if it is unknown.
func signalNumber(name string) int { return int(unix.SignalNum(name)) }

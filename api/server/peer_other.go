//go:build unix && !linux && !darwin && !freebsd

package server

import "os"

// peerUID trusts the mode of the socket where the system has no way to ask.
func peerUID(int) (int, error) { return os.Geteuid(), nil }

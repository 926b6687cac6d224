//go:build !linux

package platform

// Contains says whether a process is the first one of p's tree: on this system
// it can't tell of others.
func Contains(p Process, pid int) bool { return p.Identity().PID == pid }

package keeper

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Exits is a file in memory in which the keeper notes how those ended that it
// reaped, before it reaps them: whoever finds a process reaped finds its note.
// It has room for exitsKept; the oldest is overwritten.
type Exits struct{ f *os.File }

const (
	exitSize  = 16   // pid, wait status, start time
	exitsKept = 8192 // sessions' leaders only, so this is far more daemons than die in a gap
)

// NewExits uses an open file, which may hold notes already. The manager makes
// it and gives it to the keeper, because it outlives both that way.
func NewExits(f *os.File) *Exits { return &Exits{f} }

// note writes one down. The header counts all that were ever written.
func (e *Exits) note(pid int, start uint64, status syscall.WaitStatus) {
	if e == nil {
		return
	}
	var b [exitSize]byte
	_, _ = e.f.ReadAt(b[:8], 0)
	n := binary.NativeEndian.Uint64(b[:8])
	binary.NativeEndian.PutUint32(b[0:], uint32(pid))
	binary.NativeEndian.PutUint32(b[4:], uint32(status))
	binary.NativeEndian.PutUint64(b[8:], start)
	if _, err := e.f.WriteAt(b[:], exitSize+int64(n%exitsKept)*exitSize); err != nil {
		return
	}
	binary.NativeEndian.PutUint64(b[:8], n+1)
	_, _ = e.f.WriteAt(b[:8], 0)
}

// Find is how a process ended that the keeper has reaped. start is its start
// time in clock ticks since boot, field 22 of proc_pid_stat(5).
func (e *Exits) Find(pid int, start uint64) (syscall.WaitStatus, bool) {
	var head [8]byte
	if _, err := e.f.ReadAt(head[:], 0); err != nil {
		return 0, false
	}
	n := min(binary.NativeEndian.Uint64(head[:]), exitsKept)
	b := make([]byte, n*exitSize)
	got, _ := e.f.ReadAt(b, exitSize)
	for b = b[:got]; len(b) >= exitSize; b = b[exitSize:] {
		if binary.NativeEndian.Uint32(b) == uint32(pid) && binary.NativeEndian.Uint64(b[8:]) == start {
			return syscall.WaitStatus(binary.NativeEndian.Uint32(b[4:])), true
		}
	}
	return 0, false
}

// leader reports whether a process that was not reaped leads a session, as
// every daemon's first process does, and when it started.
func leader(pid int) (start uint64, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	// After the name, which may hold anything.
	_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	f := strings.Fields(rest)
	const session, starttime = 6 - 3, 22 - 3 // as proc_pid_stat(5) counts
	if len(f) <= starttime || f[session] != strconv.Itoa(pid) {
		return 0, false
	}
	start, err = strconv.ParseUint(f[starttime], 10, 64)
	return start, err == nil
}

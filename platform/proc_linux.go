package platform

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// readProc reads a whole file of /proc, of which fstat knows no size. buf is
// used if it is large enough.
func readProc(path string, buf []byte) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return readAll(fd, buf)
}

func readAll(fd int, buf []byte) ([]byte, error) {
	buf = buf[:0]
	for {
		if cap(buf)-len(buf) < 512 {
			grown := make([]byte, len(buf), 2*cap(buf)+4096)
			copy(grown, buf)
			buf = grown
		}
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return buf, nil
		}
		buf = buf[:len(buf)+n]
	}
}

// readStat fails with ESRCH if there is no such process that we may look at. Any
// other error says nothing about it: we lack what is needed to look.
func readStat(pid int) (stat, error) {
	var buf [1024]byte
	b, err := readProc("/proc/"+strconv.Itoa(pid)+"/stat", buf[:])
	if IsLack(err) {
		return stat{}, fmt.Errorf("process %d: can't be looked at: %w", pid, err)
	}
	s, ok := parseStat(b)
	if err != nil || !ok {
		return stat{}, unix.ESRCH
	}
	return s, nil
}

// Flags of a process, as the kernel's linux/sched.h has them.
const (
	pfExiting = 0x00000004
	pfKthread = 0x00200000
)

// leaderless is the state of a process whose first thread has ended and others
// have not: they run on, or are still closing the process's files. The kernel
// shows it as a zombie.
const leaderless = 'z'

// parseStat starts after the last parenthesis: the name before it may hold
// spaces and parentheses itself.
func parseStat(b []byte) (stat, bool) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return stat{}, false
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 20 || len(f[0]) != 1 {
		return stat{}, false
	}
	s := stat{state: f[0][0]}
	ok := true
	number := func(v string) int {
		n, err := strconv.Atoi(v)
		ok = ok && err == nil
		return n
	}
	s.pid = number(string(bytes.TrimSpace(b[:open])))
	s.ppid, s.pgrp, s.session = number(f[1]), number(f[2]), number(f[3])
	start, err := strconv.ParseUint(f[19], 10, 64)
	s.start = start
	flags, _ := strconv.ParseUint(f[6], 10, 64)
	s.kernel = flags&pfKthread != 0
	if threads, _ := strconv.Atoi(f[17]); s.state == 'Z' && threads > 1 {
		s.state = leaderless
	}
	return s, ok && err == nil
}

// zombieExit is how a dead process ended whose parent has not reaped it: the
// field exit_code of /proc/PID/stat (proc(5), Linux 3.5) has what waitpid would
// give. To those who may not look it shows 0, which must not pass for a success.
func zombieExit(id Identity) (Exit, bool) {
	path := "/proc/" + strconv.Itoa(id.PID)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || os.Geteuid() != 0 && os.Geteuid() != int(st.Uid) {
		return Exit{}, false
	}
	var buf [1024]byte
	b, err := readProc(path+"/stat", buf[:])
	if err != nil {
		return Exit{}, false
	}
	s, ok := parseStat(b)
	if !ok || s.state != 'Z' || s.start != id.StartTime {
		return Exit{}, false
	}
	const exitCode = 52 - 3 // the fields are numbered from 1; the first two precede the parenthesis
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) <= exitCode {
		return Exit{}, false
	}
	status, err := strconv.ParseUint(f[exitCode], 10, 32)
	if err != nil {
		return Exit{}, false
	}
	return exitOf(unix.WaitStatus(status)), true
}

// readMark is the incarnation that a process carries in its environment; "" if it
// carries none or the kernel does not let us look, as with another user's. It is
// not known of a process in the middle of an exec, and of one that is dying and
// has no memory any more, but may still hold its files. It fails only if we lack
// what is needed to look.
func readMark(pid int, buf []byte) (mark string, known bool, scratch []byte, err error) {
	b, err := readProc("/proc/"+strconv.Itoa(pid)+"/environ", buf)
	if err == unix.ESRCH { // newer kernels say so of one without a memory
		b, err = buf[:0], nil
	}
	switch {
	case IsLack(err):
		return "", false, buf, fmt.Errorf("process %d: can't be looked at: %w", pid, err)
	case err != nil:
		return "", true, buf, nil
	case len(b) == 0:
		known, err := withoutEnvironment(pid)
		return "", known, b, err
	}
	return markIn(b), true, b, nil
}

// anotherThread is the id of a thread that still runs, of a process whose first
// one has ended; the process's own id if there is none.
func anotherThread(pid int) (int, error) {
	threads, err := readNames("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		return pid, ifLack(err)
	}
	for _, t := range threads {
		if tid, err := strconv.Atoi(t); err == nil && tid != pid {
			if s, err := readStat(tid); err == nil && !s.dead() { // shown for any thread, though not listed
				return tid, nil
			}
		}
	}
	return pid, nil
}

// withoutEnvironment says whether a process that showed no environment has none.
// In the middle of exec(2) it shows none either: its memory is new, and the
// kernel (fs/binfmt_elf.c) sets first where the environment begins, then where it
// ends, then where the code ends. By the time of this look the exec may be over;
// an environment that is there now does not count as none.
func withoutEnvironment(pid int) (bool, error) {
	var buf [1024]byte
	b, err := readProc("/proc/"+strconv.Itoa(pid)+"/stat", buf[:])
	if IsLack(err) {
		return false, fmt.Errorf("process %d: can't be looked at: %w", pid, err)
	}
	if err != nil {
		return true, nil // it has died
	}
	const state, flags, endCode, envStart, envEnd = 3, 9, 27, 50, 51 // as proc_pid_stat(5) counts
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) <= envEnd-state {
		return true, nil // before Linux 3.5
	}
	if n, _ := strconv.ParseUint(string(f[flags-state]), 10, 64); n&pfExiting != 0 {
		return false, nil // its memory is gone
	}
	return string(f[endCode-state]) != "0" && bytes.Equal(f[envStart-state], f[envEnd-state]), nil
}

// look reads the evidence of whose a process is. It fails only if we lack what is
// needed to look.
func (q *proc) look(buf []byte) (scratch []byte, err error) {
	if q.dead() {
		return buf, nil
	}
	pid := q.pid
	if q.state == leaderless {
		// Its first thread shows nothing any more; /proc/TID is that of any.
		if pid, err = anotherThread(q.pid); err != nil {
			return buf, err
		}
	}
	var known bool
	q.mark, known, buf, err = readMark(pid, buf)
	q.unsure = !known
	if q.mark == "" {
		q.files = outputsOf(pid)
	}
	return buf, err
}

// execPatience bounds the wait for execs that are under way, all of one look
// together. They take a fraction of a millisecond on a processor of their own, and
// as long as anything does on a machine that has none to spare or that swaps.
const execPatience = 3 * time.Second

// lookAgain waits for the execs that were under way at the first look. Who is
// unsure after that stays so.
func lookAgain(procs []proc) error {
	var unsure []*proc
	for i := range procs {
		if procs[i].unsure {
			unsure = append(unsure, &procs[i])
		}
	}
	var buf []byte
	pause := 50 * time.Microsecond
	for end := time.Now().Add(execPatience); len(unsure) > 0 && time.Now().Before(end); {
		time.Sleep(pause) // nothing tells of the end of somebody else's exec
		pause = min(2*pause, 10*time.Millisecond)
		still := unsure[:0]
		for _, q := range unsure {
			now, err := readStat(q.pid)
			switch {
			case err == unix.ESRCH || err == nil && now.start != q.start:
				q.state, q.unsure = 'X', false
				continue
			case err != nil:
				return err
			}
			q.stat = now
			if buf, err = q.look(buf); err != nil {
				return err
			}
			if q.unsure {
				still = append(still, q)
			}
		}
		unsure = still
	}
	return nil
}

// undecided is the error of a look that leaves open whether somebody belongs to a
// tree whose first process was started at since: unsure, and not among those whom
// other evidence tells.
func undecided(procs []proc, members []stat, since uint64) error {
	in := make(map[int]bool, len(members))
	for _, s := range members {
		in[s.pid] = true
	}
	for i := range procs {
		if q := &procs[i]; q.unsure && !in[q.pid] && q.start >= since {
			return fmt.Errorf("process %d is in the middle of an exec for more than %v: whose it is can't be told yet", q.pid, execPatience)
		}
	}
	return nil
}

var markPrefix = []byte(IncarnationVariable + "=")

func markIn(environ []byte) string {
	for len(environ) > 0 {
		var kv []byte
		kv, environ, _ = bytes.Cut(environ, []byte{0})
		if v, ok := bytes.CutPrefix(kv, markPrefix); ok {
			return string(v)
		}
	}
	return ""
}

// pids are all processes that /proc shows.
func pids() ([]int, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	out := make([]int, 0, len(names))
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			out = append(out, pid)
		}
	}
	return out, nil
}

// parsePIDs reads numbers parted by spaces or line ends.
func parsePIDs(b []byte) []int {
	var out []int
	for _, f := range bytes.Fields(b) {
		if pid, err := strconv.Atoi(string(f)); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	return out
}

// cgroupOf is the cgroup v2 path of a process, "" if it has none.
func cgroupOf(pid string) string {
	b, err := readProc("/proc/"+pid+"/cgroup", nil)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return path
		}
	}
	return ""
}

// field is the number after a word at the start of a line, 0 if there is none.
func field(b []byte, word string) int {
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(line, []byte(word)); ok {
			n, _ := strconv.Atoi(string(bytes.TrimSpace(v)))
			return n
		}
	}
	return 0
}

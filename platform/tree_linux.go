package platform

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Who belongs to a tree, when no cgroup says so: the first process, its session,
// who carries its incarnation mark, who has its FIFO for an output, and whatever
// descends from one of these. A process that forks, calls setsid and forks again
// keeps the mark; one that wiped its environment (servers that set their title
// write over it) keeps its output.
//
// What this manager started and somebody orphaned is a child of its main thread,
// since the manager is a subreaper and forks on other threads. So the living
// members are all found below the first process and these orphans, without a look
// at the rest of the machine. Processes that are adopted from another parent lose
// their orphans to that one: for them the whole of /proc is read.

// namedFIFO identifies the FIFO at a path, or behind /proc/PID/fd/N.
func namedFIFO(path string) fileID {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return fileID{}
	}
	// Pipes without a name are FIFOs too, but shared by accident with anybody.
	if link, err := os.Readlink(path); err == nil && !strings.HasPrefix(link, "/") {
		return fileID{}
	}
	return fileID{st.Dev, st.Ino}
}

func fifosOf(files ...*os.File) []fileID {
	var out []fileID
	for _, f := range files {
		if f == nil {
			continue
		}
		if raw, err := f.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				if id := namedFIFO("/proc/self/fd/" + strconv.Itoa(int(fd))); id != (fileID{}) {
					out = append(out, id)
				}
			})
		}
	}
	return out
}

func outputsOf(pid int) (files [2]fileID) {
	fd := "/proc/" + strconv.Itoa(pid) + "/fd/"
	return [2]fileID{namedFIFO(fd + "1"), namedFIFO(fd + "2")}
}

func fifosOfPID(pid int) []fileID {
	var out []fileID
	for _, id := range outputsOf(pid) {
		if id != (fileID{}) {
			out = append(out, id)
		}
	}
	return out
}

// members are the living processes of the tree; never this one itself. With an
// error they are not all.
func (p *process) members() ([]stat, error) {
	var procs []proc
	var err error
	if p.child && p.host.orphans >= 0 {
		procs, err = p.host.belowUs(p.id)
	} else {
		procs, err = p.host.scans.snapshot()
	}
	reused := false
	if other := p.host.find(p.id.PID); other != nil && other != p {
		reused = true
	}
	for _, s := range procs {
		if s.pid == p.id.PID && s.start != p.id.StartTime {
			reused = true
		}
	}
	var inCgroup map[int]bool
	if p.cgroup != "" {
		pids, e := cgroupPIDs(p.cgroup)
		err = errors.Join(err, e)
		inCgroup = make(map[int]bool, len(pids))
		listed := make(map[int]bool, len(procs))
		for _, s := range procs {
			listed[s.pid] = true
		}
		for _, pid := range pids {
			inCgroup[pid] = true
			if listed[pid] {
				continue
			}
			if s, e := readStat(pid); e == nil {
				procs = append(procs, proc{stat: s})
			} else {
				err = errors.Join(err, unlessGone(e))
			}
		}
	}
	alive := !p.isExited()
	p.mu.Lock()
	known := p.known
	p.mu.Unlock()
	seed := func(s *proc) bool {
		switch {
		case known[s.key()]:
			return true // one that is dying has lost all other evidence
		case s.pid == p.id.PID:
			return s.start == p.id.StartTime
		case inCgroup[s.pid], s.mark == p.incarnation && s.mark != "":
			return true
		case s.session == p.session && p.session > 1 && !reused && s.start >= p.since:
			// The number is the session's own as long as its leader lives, and
			// below us nobody else's session has it.
			return alive || p.child
		}
		for _, f := range p.fifos {
			if s.files[0] == f || s.files[1] == f {
				return true
			}
		}
		return false
	}
	out := closure(procs, seed, p.host.selfPID)
	known = make(map[procKey]bool, len(out))
	for _, s := range out {
		known[s.key()] = true
	}
	p.mu.Lock()
	p.known = known
	p.mu.Unlock()
	return out, errors.Join(err, undecided(procs, out, p.since))
}

// orphanPIDs are the children of the main thread that nobody manages: what
// daemons left behind, dead or alive.
func (e *engine) orphanPIDs() ([]int, error) {
	var buf [4096]byte
	var b []byte
	for range sweeps {
		calm := e.reaps.calm()
		n, err := unix.Pread(e.orphans, buf[:], 0)
		if err != nil {
			return nil, err
		}
		b = buf[:n]
		if n == len(buf) {
			if b, err = readProc(e.orphansPath(), nil); err != nil {
				return nil, err
			}
		}
		// When the child that the kernel is at has been reaped, it goes on by
		// number, and skips one.
		if calm() {
			break
		}
	}
	all := parsePIDs(b)
	out := all[:0]
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, pid := range all {
		if e.managed[pid] == nil {
			out = append(out, pid)
		}
	}
	return out, nil
}

// belowUs are the first process, the orphans and all that descends from them.
// With an error they are not all.
func (e *engine) belowUs(first Identity) (out []proc, err error) {
	var buf []byte
	note := func(more error) {
		if err == nil { // one is enough
			err = unlessGone(more)
		}
	}
	seen := make(map[int]bool)
	var walk func(pid int)
	walk = func(pid int) {
		if seen[pid] {
			return
		}
		seen[pid] = true
		s, serr := readStat(pid)
		if serr != nil {
			note(serr)
			return
		}
		q := proc{stat: s}
		buf, serr = q.look(buf)
		note(serr)
		out = append(out, q)
		children, cerr := childrenOf(pid)
		note(cerr)
		for _, c := range children {
			walk(c)
		}
	}
	if s, serr := readStat(first.PID); serr != nil {
		note(serr)
	} else if s.start == first.StartTime {
		walk(first.PID)
	}
	// What dies in the course of the walk hands its children to us before they
	// were seen: walk until there are no orphans that were not.
	for range sweeps {
		before := len(seen)
		orphans, oerr := e.orphanPIDs()
		note(oerr)
		for _, pid := range orphans {
			walk(pid)
		}
		if len(seen) == before {
			break
		}
	}
	note(lookAgain(out))
	return out, err
}

// childrenOf lists the children of all threads of a process. The kernel may skip
// one when another dies meanwhile; sweeps look again.
func childrenOf(pid int) (out []int, err error) {
	dir := "/proc/" + strconv.Itoa(pid) + "/task"
	threads, err := readNames(dir)
	if err != nil {
		return nil, ifLack(err)
	}
	for _, t := range threads {
		b, e := readProc(dir+"/"+t+"/children", nil)
		if e == nil {
			out = append(out, parsePIDs(b)...)
		} else if IsLack(e) {
			err = e
		}
	}
	return out, err
}

// readNames lists a directory.
func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

func ifLack(err error) error {
	if IsLack(err) {
		return err
	}
	return nil
}

// scanner reads the process table. Who asks while a pass is under way gets the
// next one, together with all who asked: a snapshot is never older than the
// question, and a thousand questions cost two passes.
type scanner struct {
	mu      sync.Mutex
	running bool
	next    *pass
}

type pass struct {
	done  chan struct{}
	procs []proc
	err   error
}

// snapshot is the process table. With an error it is not complete.
func (sc *scanner) snapshot() ([]proc, error) {
	sc.mu.Lock()
	if sc.next == nil {
		sc.next = &pass{done: make(chan struct{})}
	}
	mine := sc.next
	if !sc.running {
		sc.running = true
		go sc.run()
	}
	sc.mu.Unlock()
	<-mine.done
	return append([]proc(nil), mine.procs...), mine.err
}

func (sc *scanner) run() {
	for {
		sc.mu.Lock()
		p := sc.next
		sc.next = nil
		if p == nil {
			sc.running = false
			sc.mu.Unlock()
			return
		}
		sc.mu.Unlock()
		p.procs, p.err = scan()
		close(p.done)
	}
}

// scan reads every process of the machine but the kernel's own.
func scan() ([]proc, error) {
	all, err := pids()
	if err != nil {
		return nil, fmt.Errorf("the process table can't be read: %w", err)
	}
	out := make([]proc, 0, len(all))
	var buf []byte
	for _, pid := range all {
		s, serr := readStat(pid)
		if serr != nil || s.kernel {
			if IsLack(serr) {
				return out, serr
			}
			continue
		}
		q := proc{stat: s}
		if buf, serr = q.look(buf); serr != nil {
			return out, serr
		}
		out = append(out, q)
	}
	return out, lookAgain(out)
}

// selfIn says whether this process is in a cgroup itself: a manager that one of
// its daemons restarted must not kill itself with it.
func (h *host) selfIn(dir string) bool {
	pids, err := cgroupPIDs(dir)
	return err != nil || slices.Contains(pids, h.selfPID)
}

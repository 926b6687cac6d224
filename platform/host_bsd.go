//go:build darwin || freebsd

package platform

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/spec"
)

// Here there are no pidfds: a pid is checked against its start time right before
// it is signalled, and that of a child is safe until it was reaped. Exits come
// through kqueue. Orphans go to init, so that who leaves the group and the session
// is found by its incarnation mark alone.

var startOnce = sync.OnceValues(func() (*shared, error) {
	p, err := NewPoller()
	if err != nil {
		return nil, err
	}
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	tv, err := unix.SysctlTimeval("kern.boottime")
	if err != nil {
		return nil, err
	}
	return &shared{poller: p, null: null, umask: unix.Umask(0o077), bootID: strconv.FormatInt(int64(tv.Sec), 10)}, nil
})

type shared struct {
	poller *Poller
	null   int
	umask  int // as the manager was started with
	bootID string
	fork   sync.Mutex // the umask is the whole process's
}

// New opens the host. The first call of a process sets its umask to 077.
func New(o Options) (Host, error) {
	s, err := startOnce()
	if err != nil {
		return nil, fmt.Errorf("process handling: %w", err)
	}
	return &host{shared: s, procs: make(map[string]*process)}, nil
}

type host struct {
	*shared
	mu    sync.Mutex
	procs map[string]*process // by incarnation, until released
}

func (h *host) BootID() string { return h.bootID }

func (h *host) Uptime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func (h *host) Age(id Identity) time.Duration {
	if id.StartTime == 0 {
		return 0
	}
	return max(time.Since(time.UnixMicro(int64(id.StartTime))), 0)
}

func (h *host) Start(c Command) (Process, error) {
	if err := checkCommand(&c); err != nil {
		return nil, err
	}
	w := whoIs(c.Account)
	path, serr := findProgram(c.Args[0], c.Dir, c.Env, w)
	if serr != nil {
		return nil, serr
	}
	files := []uintptr{uintptr(h.null), uintptr(h.null), uintptr(h.null)}
	for i, f := range []*os.File{c.Stdout, c.Stderr} {
		if f == nil {
			continue
		}
		fd, err := blockingFD(f)
		if err != nil {
			return nil, startError(StageSystem, err, "output: %v", err)
		}
		files[i+1] = uintptr(fd)
	}
	attr := &syscall.ProcAttr{
		Dir: c.Dir, Env: marked(c.Env, c.Incarnation), Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true, Credential: credential(c.Account)},
	}
	mask := h.umask
	if c.Umask != nil {
		mask = *c.Umask
	}
	h.fork.Lock()
	unix.Umask(mask)
	pid, err := syscall.ForkExec(path, c.Args, attr)
	if errors.Is(err, unix.ENOEXEC) && isText(inDir(c.Dir, path)) {
		pid, err = syscall.ForkExec("/bin/sh", slices.Concat([]string{"/bin/sh", path}, c.Args[1:]), attr)
	}
	unix.Umask(0o077)
	h.fork.Unlock()
	runtime.KeepAlive(c.Stdout)
	runtime.KeepAlive(c.Stderr)
	if err != nil {
		return nil, explain(err, &c, path, w, attr.Sys.Credential != nil)
	}
	s, _ := readStat(pid)
	return h.watch(&process{host: h, incarnation: c.Incarnation, child: true,
		id: Identity{BootID: h.bootID, PID: pid, StartTime: s.start}}), nil
}

func (h *host) watch(p *process) *process {
	p.quick, p.await = p.quicklyEmpty, p.awaitEmpty
	h.mu.Lock()
	h.procs[p.incarnation] = p
	h.mu.Unlock()
	h.poller.addExit(p.id.PID, p.died)
	return p
}

func (h *host) known(incarnation string) *process {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.procs[incarnation]
}

func (h *host) Adopt(id Identity, incarnation string) (Process, error) {
	if p := h.known(incarnation); p != nil && p.id == id {
		return p, nil
	}
	if id.BootID != h.bootID {
		return nil, &GoneError{Why: "the machine was restarted since"}
	}
	gone := &GoneError{Why: fmt.Sprintf("process %d has ended", id.PID)}
	s, ok := readStat(id.PID)
	if id.PID <= 1 || id.StartTime == 0 || !ok || s.start != id.StartTime {
		return nil, gone
	}
	if s.dead() {
		var ws unix.WaitStatus
		if got, err := unix.Wait4(id.PID, &ws, unix.WNOHANG, nil); err == nil && got == id.PID {
			exit := exitOf(ws)
			gone.Exit = &exit
		}
		return nil, gone
	}
	return h.watch(&process{host: h, id: id, incarnation: incarnation, child: s.ppid == os.Getpid()}), nil
}

func (h *host) Find(incarnation string) (Process, error) {
	if p := h.known(incarnation); p != nil {
		return p, nil
	}
	for _, s := range h.marked(incarnation) {
		if s.session != s.pid {
			continue
		}
		if p, err := h.Adopt(Identity{BootID: h.bootID, PID: s.pid, StartTime: s.start}, incarnation); err == nil {
			return p, nil
		}
	}
	return nil, ErrNotFound
}

func (h *host) marked(incarnation string) []stat {
	return closure(table(), func(s *proc) bool { return s.mark != "" && s.mark == incarnation }, os.Getpid())
}

func (h *host) EndLeftovers(incarnation string, _ Identity) (int, error) {
	return sweep(func() ([]stat, error) { return h.marked(incarnation), nil }, func(s stat) (int, error) {
		n, err := signalMember(s, unix.SIGKILL)
		if n > 0 {
			died := make(chan struct{})
			h.poller.addExit(s.pid, func() { close(died) })
			<-died
		}
		return n, err
	})
}

func (h *host) Survivors(search Search) ([]Survivor, error) {
	found := make(map[Survivor][]stat)
	for _, p := range table() {
		if !p.dead() && p.pid != os.Getpid() && p.mark != "" && search.Mine(p.mark) {
			who := Survivor{Incarnation: p.mark}
			found[who] = append(found[who], p.stat)
		}
	}
	return survivors(found, h.bootID, h.Age), nil
}

func (h *host) Close() error {
	h.mu.Lock()
	var all []*process
	for _, p := range h.procs {
		all = append(all, p)
	}
	h.mu.Unlock()
	for _, p := range all {
		p.Release()
	}
	return nil
}

type process struct {
	host        *host
	id          Identity
	incarnation string
	child       bool

	notices
	known map[procKey]bool // members of the last look; guarded by mu
}

func (p *process) Identity() Identity  { return p.id }
func (p *process) Incarnation() string { return p.incarnation }

// died reaps a child, which may take the kernel a moment more. How another's
// process ended is not known here.
func (p *process) died() {
	var exit Exit
	if p.child {
		var ws unix.WaitStatus
		for {
			got, err := unix.Wait4(p.id.PID, &ws, 0, nil)
			if err == unix.EINTR {
				continue
			}
			if err == nil && got == p.id.PID {
				exit = exitOf(ws)
			}
			break
		}
	}
	p.mu.Lock()
	if p.exited {
		p.mu.Unlock()
		return
	}
	p.exited, p.exit = true, exit
	p.mu.Unlock()
	p.settle()
}

func (p *process) members() []stat {
	p.mu.Lock()
	known, alive := p.known, !p.exited
	p.mu.Unlock()
	out := closure(table(), func(s *proc) bool {
		switch {
		case known[s.key()]:
			return true
		case s.pid == p.id.PID:
			return s.start == p.id.StartTime
		}
		return s.mark != "" && s.mark == p.incarnation || alive && (s.session == p.id.PID || s.pgrp == p.id.PID)
	}, os.Getpid())
	known = make(map[procKey]bool, len(out))
	for _, s := range out {
		known[s.key()] = true
	}
	p.mu.Lock()
	p.known = known
	p.mu.Unlock()
	return out
}

func (p *process) Signal(sig string, mode spec.KillMode) error {
	n, err := ParseSignal(sig)
	if err != nil {
		return err
	}
	if mode == spec.KillAll {
		k, err := sweep(func() ([]stat, error) { return p.members(), nil }, func(s stat) (int, error) { return signalMember(s, n) })
		if k == 0 && err == nil {
			return p.signal(-p.id.PID, n)
		}
		return err
	}
	if mode == spec.KillMain {
		return p.signal(p.id.PID, n)
	}
	return p.signal(-p.id.PID, n)
}

// signal goes to the first process or its group while the number is provably its own.
func (p *process) signal(pid int, sig unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exited || p.released {
		return ErrDead
	}
	if !p.child {
		if s, ok := readStat(p.id.PID); !ok || s.start != p.id.StartTime {
			return ErrDead
		}
	}
	if err := unix.Kill(pid, sig); err != unix.ESRCH {
		return err
	}
	return ErrDead
}

func signalMember(s stat, sig unix.Signal) (int, error) {
	if now, ok := readStat(s.pid); !ok || now.start != s.start {
		return 0, nil
	}
	switch err := unix.Kill(s.pid, sig); err {
	case nil:
		return 1, nil
	case unix.ESRCH:
		return 0, nil
	default:
		return 0, fmt.Errorf("process %d: %s: %w", s.pid, SignalName(sig), err)
	}
}

func (p *process) Kill() error {
	p.members() // while the first process still shows who belongs to it
	_ = p.signal(-p.id.PID, unix.SIGKILL)
	_, err := sweep(func() ([]stat, error) { return p.members(), nil }, func(s stat) (int, error) { return signalMember(s, unix.SIGKILL) })
	return err
}

func (p *process) Empty() bool {
	if !p.isExited() {
		return false
	}
	return p.quicklyEmpty()
}

func (p *process) quicklyEmpty() bool {
	p.mu.Lock()
	empty := p.empty
	p.mu.Unlock()
	return empty || p.foundEmpty(len(p.members()) == 0)
}

func (p *process) awaitEmpty() {
	m := p.members()
	if len(m) == 0 {
		p.gone()
		return
	}
	p.host.poller.addExit(m[0].pid, p.awaitEmpty)
}

func (p *process) Release() {
	p.mu.Lock()
	p.released = true
	p.onExit, p.onEmpty = nil, nil
	p.mu.Unlock()
	p.host.mu.Lock()
	if p.host.procs[p.incarnation] == p {
		delete(p.host.procs, p.incarnation)
	}
	p.host.mu.Unlock()
}

package platform

import (
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// leftovers waits for the end of what a first process left behind. It is guarded
// by the process's mu.
type leftovers struct {
	watches map[int]*Watch // by pidfd
	retry   *time.Timer
}

func (l *leftovers) stopLocked() {
	for fd, w := range l.watches {
		w.Remove()
		unix.Close(fd)
	}
	l.watches = nil
	if l.retry != nil {
		l.retry.Stop()
	}
}

// watchedLeftovers bounds the descriptors that one tree's leftovers cost; when
// those watched have died, the next ones are looked for.
const watchedLeftovers = 16

// awaitEmpty looks at what is left, and again whenever that may have changed,
// until nothing is. It runs on a goroutine of its own, since looking takes time.
func (p *process) awaitEmpty() {
	if p.cgroup != "" && p.host.cgroupEvents.watch(p) {
		// The look comes after the watch, so that no change falls between them.
		populated, err := cgroupState(p.cgroup)
		if err != nil {
			p.lookLater() // nothing may change any more
			return
		}
		if populated {
			return
		}
		p.host.cgroupEvents.unwatch(p)
		p.gone()
		return
	}
	for {
		members, err := p.members()
		if err != nil {
			p.lookLater() // whoever is there can wait for that, too
			return
		}
		if len(members) == 0 {
			p.gone()
			return
		}
		if p.watchMembers(members) {
			return
		}
	}
}

// watchMembers sees to it that awaitEmpty is called again when members have died.
// It returns false if they have already.
func (p *process) watchMembers(members []stat) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		return true
	}
	p.left.watches = make(map[int]*Watch)
	failed := false
	for _, m := range members[:min(len(members), watchedLeftovers)] {
		fd, err := openPidfd(m.pid)
		if err != nil {
			failed = failed || err != unix.ESRCH
			continue
		}
		if now, err := readStat(m.pid); err != nil || now.start != m.start {
			unix.Close(fd)
			failed = failed || err != nil && err != unix.ESRCH
			continue
		}
		w, err := p.host.poller.Add(fd, Readable, func(Events) { p.memberDied(fd) })
		if err != nil {
			unix.Close(fd)
			failed = true
			continue
		}
		p.left.watches[fd] = w
	}
	if len(p.left.watches) > 0 {
		return true
	}
	if failed {
		p.lookLaterLocked()
		return true
	}
	return false
}

// lookLater has awaitEmpty called again: out of descriptors, or on a kernel
// without pidfds, time must do.
func (p *process) lookLater() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.released {
		p.lookLaterLocked()
	}
}

func (p *process) lookLaterLocked() {
	if p.left.retry != nil {
		p.left.retry.Stop()
	}
	p.left.retry = time.AfterFunc(100*time.Millisecond, p.awaitEmpty)
}

func (p *process) memberDied(fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.left.watches[fd]
	if w == nil {
		return
	}
	delete(p.left.watches, fd)
	w.Remove()
	unix.Close(fd)
	if len(p.left.watches) == 0 && !p.released {
		go p.awaitEmpty()
	}
}

// cgroupEvents watches the cgroup.events of trees whose first process has died
// before the rest: one inotify descriptor for all.
type cgroupEvents struct {
	fd    int
	read  *Watch
	mu    sync.Mutex
	trees map[int]*process // by watch descriptor
}

// newCgroupEvents returns nil where there is no inotify to be had.
func newCgroupEvents(p *Poller) *cgroupEvents {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil
	}
	c := &cgroupEvents{fd: fd, trees: make(map[int]*process)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read, err = p.Add(fd, Readable, func(Events) { c.changed() }); err != nil {
		unix.Close(fd)
		return nil
	}
	return c
}

// watch has awaitEmpty called when the tree's cgroup has become empty; false if
// that cannot be watched.
func (c *cgroupEvents) watch(p *process) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	wd, err := unix.InotifyAddWatch(c.fd, p.cgroup+"/cgroup.events", unix.IN_MODIFY)
	if err != nil {
		return false
	}
	c.trees[wd] = p
	return true
}

func (c *cgroupEvents) unwatch(p *process) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for wd, q := range c.trees {
		if q == p {
			delete(c.trees, wd)
			_, _ = unix.InotifyRmWatch(c.fd, uint32(wd))
		}
	}
}

// changed reads what inotify has to say, on the poller's goroutine.
func (c *cgroupEvents) changed() {
	var touched []*process
	var buf [4096]byte
	c.mu.Lock()
	for {
		n, err := unix.Read(c.fd, buf[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n < unix.SizeofInotifyEvent {
			break
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			ev := (*unix.InotifyEvent)(unsafe.Pointer(&b[0]))
			if ev.Mask&unix.IN_IGNORED != 0 {
				delete(c.trees, int(ev.Wd)) // the cgroup was removed
			} else if p := c.trees[int(ev.Wd)]; p != nil {
				touched = append(touched, p)
			}
			b = b[min(len(b), unix.SizeofInotifyEvent+int(ev.Len)):]
		}
	}
	_ = c.read.Rearm(Readable)
	c.mu.Unlock()
	for _, p := range touched {
		switch populated, err := cgroupState(p.cgroup); {
		case err != nil:
			p.lookLater()
		case !populated:
			c.unwatch(p)
			go p.gone()
		}
	}
}

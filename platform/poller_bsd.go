//go:build darwin || freebsd

package platform

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Events are the conditions of a descriptor that a Poller reports.
type Events uint32

// The events. Hangup is reported whether it was asked for or not.
const (
	Readable Events = 1 << iota
	Writable
	Hangup
)

// Poller watches descriptors with one thread, blocked in kevent(2): a kqueue
// cannot be made non-blocking for Go's network poller everywhere.
type Poller struct {
	kq int

	mu      sync.Mutex
	watches map[int]*Watch   // by descriptor
	exits   map[int][]func() // by pid
	closed  bool
	done    chan struct{}
}

// Watch is a descriptor in a Poller.
type Watch struct {
	p  *Poller
	fd int
	f  func(Events)
}

// wakeIdent is the EVFILT_USER event that ends the Poller.
const wakeIdent = 1

// NewPoller returns a running Poller. Close ends it.
func NewPoller() (*Poller, error) {
	kq, err := unix.Kqueue()
	if err != nil {
		return nil, os.NewSyscallError("kqueue", err)
	}
	unix.CloseOnExec(kq)
	p := &Poller{kq: kq, watches: make(map[int]*Watch), exits: make(map[int][]func()), done: make(chan struct{})}
	if err := p.change(wakeIdent, unix.EVFILT_USER, unix.EV_ADD|unix.EV_CLEAR, 0); err != nil {
		unix.Close(kq)
		return nil, os.NewSyscallError("kevent", err)
	}
	go p.run()
	return p, nil
}

func (p *Poller) change(ident, filter, flags int, fflags uint32) error {
	var ev [1]unix.Kevent_t
	unix.SetKevent(&ev[0], ident, filter, flags)
	ev[0].Fflags = fflags
	for {
		_, err := unix.Kevent(p.kq, ev[:], nil, nil)
		if err != unix.EINTR {
			return err
		}
	}
}

// Add watches fd and has f called on the Poller's goroutine when one of the
// events has come. Each call of f is followed by silence until Rearm. f must not
// block. The descriptor must stay open until Remove.
func (p *Poller) Add(fd int, events Events, f func(Events)) (*Watch, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, os.ErrClosed
	}
	if p.watches[fd] != nil {
		return nil, os.NewSyscallError("kevent", unix.EEXIST)
	}
	w := &Watch{p: p, fd: fd, f: f}
	if err := w.arm(events); err != nil {
		return nil, os.NewSyscallError("kevent", err)
	}
	p.watches[fd] = w
	return w, nil
}

func (w *Watch) arm(events Events) error {
	if events&Readable != 0 {
		if err := w.p.change(w.fd, unix.EVFILT_READ, unix.EV_ADD|unix.EV_ONESHOT, 0); err != nil {
			return err
		}
	}
	if events&Writable != 0 {
		return w.p.change(w.fd, unix.EVFILT_WRITE, unix.EV_ADD|unix.EV_ONESHOT, 0)
	}
	return nil
}

// Rearm asks for one more call. After Remove it does nothing.
func (w *Watch) Rearm(events Events) error {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	if w.p.closed || w.p.watches[w.fd] != w {
		return nil
	}
	return os.NewSyscallError("kevent", w.arm(events))
}

// Remove ends the watch; no call begins after it. One that is under way on the
// Poller's goroutine may still be running. A second Remove does nothing.
func (w *Watch) Remove() {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	if w.p.watches[w.fd] != w {
		return
	}
	delete(w.p.watches, w.fd)
	if !w.p.closed {
		_ = w.p.change(w.fd, unix.EVFILT_READ, unix.EV_DELETE, 0)
		_ = w.p.change(w.fd, unix.EVFILT_WRITE, unix.EV_DELETE, 0)
	}
}

// addExit has f called when the process has died, or at once if it has.
func (p *Poller) addExit(pid int, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.exits[pid] = append(p.exits[pid], f)
	if err := p.change(pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT, unix.NOTE_EXIT); err != nil {
		fs := p.exits[pid]
		delete(p.exits, pid)
		for _, f := range fs {
			go f()
		}
	}
}

// Close ends the Poller and waits for a call that is under way. It must not be
// called from a Watch's function.
func (p *Poller) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	clear(p.watches)
	_ = p.change(wakeIdent, unix.EVFILT_USER, 0, unix.NOTE_TRIGGER)
	p.mu.Unlock()
	<-p.done
	return unix.Close(p.kq)
}

func (p *Poller) run() {
	defer close(p.done)
	var buf [128]unix.Kevent_t
	for {
		n, err := unix.Kevent(p.kq, nil, buf[:], nil)
		if err != nil && err != unix.EINTR {
			return
		}
		for i := range buf[:max(n, 0)] {
			ev := &buf[i]
			ident := int(ev.Ident)
			if ev.Filter == unix.EVFILT_PROC {
				p.mu.Lock()
				fs := p.exits[ident]
				delete(p.exits, ident)
				p.mu.Unlock()
				for _, f := range fs {
					go f() // they wait for the kernel to finish the death
				}
				continue
			}
			p.mu.Lock()
			w, closed := p.watches[ident], p.closed
			p.mu.Unlock()
			if closed {
				return
			}
			if w == nil {
				continue
			}
			got := Readable
			if ev.Filter == unix.EVFILT_WRITE {
				got = Writable
			}
			if ev.Flags&unix.EV_EOF != 0 {
				got |= Hangup
			}
			w.f(got)
		}
	}
}

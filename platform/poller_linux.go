package platform

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Events are the conditions of a descriptor that a Poller reports.
type Events uint32

// The events. Hangup is reported whether it was asked for or not.
const (
	Readable Events = unix.EPOLLIN
	Writable Events = unix.EPOLLOUT
	Hangup   Events = unix.EPOLLHUP | unix.EPOLLERR
)

// Poller watches descriptors with one goroutine and no thread: its epoll
// descriptor is itself watched by Go's network poller. A descriptor costs no
// goroutine then, as it would in the network poller itself, and may be any that
// epoll takes: pidfds, FIFOs opened by others, inotify.
type Poller struct {
	ep   *os.File
	epfd int

	mu      sync.Mutex
	watches map[int32]*Watch
	next    int32
	closed  bool
	done    chan struct{}
}

// Watch is a descriptor in a Poller.
type Watch struct {
	p  *Poller
	fd int
	id int32
	f  func(Events)
}

// NewPoller returns a running Poller. Close ends it.
func NewPoller() (*Poller, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// os.NewFile registers only what is non-blocking with the network poller.
	if err := unix.SetNonblock(epfd, true); err != nil {
		unix.Close(epfd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &Poller{
		ep:      os.NewFile(uintptr(epfd), "epoll"),
		epfd:    epfd,
		watches: make(map[int32]*Watch),
		done:    make(chan struct{}),
	}
	raw, err := p.ep.SyscallConn()
	if err != nil {
		p.ep.Close()
		return nil, err
	}
	go p.run(raw)
	return p, nil
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
	for p.watches[p.next] != nil {
		p.next++
	}
	w := &Watch{p: p, fd: fd, id: p.next, f: f}
	p.next++
	ev := w.event(events)
	if err := unix.EpollCtl(p.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	p.watches[w.id] = w
	return w, nil
}

// event carries the watch's number, not its descriptor: an event of a
// descriptor that was closed and given out again must find nobody.
func (w *Watch) event(events Events) unix.EpollEvent {
	return unix.EpollEvent{Events: uint32(events) | unix.EPOLLONESHOT, Fd: w.id}
}

// Rearm asks for one more call. After Remove it does nothing.
func (w *Watch) Rearm(events Events) error {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	if w.p.closed || w.p.watches[w.id] != w {
		return nil
	}
	ev := w.event(events)
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(w.p.epfd, unix.EPOLL_CTL_MOD, w.fd, &ev))
}

// Remove ends the watch; no call begins after it. One that is under way on the
// Poller's goroutine may still be running. A second Remove does nothing.
func (w *Watch) Remove() {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	if w.p.watches[w.id] != w {
		return
	}
	delete(w.p.watches, w.id)
	if !w.p.closed {
		_ = unix.EpollCtl(w.p.epfd, unix.EPOLL_CTL_DEL, w.fd, nil)
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
	err := p.ep.Close()
	p.mu.Unlock()
	<-p.done
	return err
}

func (p *Poller) run(raw syscall.RawConn) {
	defer close(p.done)
	var buf [128]unix.EpollEvent
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			for {
				var err error
				n, err = unix.EpollWait(int(fd), buf[:], 0)
				if err != unix.EINTR {
					return n != 0
				}
			}
		})
		if err != nil {
			return // closed
		}
		for _, ev := range buf[:max(n, 0)] {
			p.mu.Lock()
			w := p.watches[ev.Fd]
			p.mu.Unlock()
			if w != nil {
				w.f(Events(ev.Events))
			}
		}
	}
}

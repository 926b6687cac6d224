package notify

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/platform"
)

// After so many datagrams at once a socket rests for so long. A program that says
// something a hundred times a second doesn't notice; one that does nothing else
// waits, and costs a percent of a processor instead of one.
const (
	burst = 32
	rest  = 10 * time.Millisecond
)

// socket is that of one daemon. It is read on the poller's goroutine, and only
// under mu, so that its descriptor can be closed at any time.
type socket struct {
	r      *Receiver
	daemon string
	addr   string

	mu      sync.Mutex
	fd      int // -1: closed
	watch   *platform.Watch
	l       *listening
	stalled bool // not watched until messages are done
	closer  closer
}

// listening is one Listen.
type listening struct {
	Listener
	sent     uint64 // messages that Handle has got; each has its number
	open     int    // of those that are not done
	barriers []barrier
	said     []string // what the log was told of
}

// barrier is a descriptor whose sender waits for its end.
type barrier struct {
	fd    int
	sent  uint64 // messages before it
	waits int    // of those that are not done
}

func (s *socket) watchIt() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.l = &listening{}
	s.stalled = true // nobody listens yet
	s.watch, err = s.r.poller.Add(s.fd, 0, func(platform.Events) { s.read() })
	return err
}

// listen begins another Listen.
func (s *socket) listen(l Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
	if l.Fresh {
		discard(s.fd)
	}
	s.l = &listening{Listener: l}
	s.stalled = false
	s.rearm()
}

// release lets go of everybody who waits for what nobody will handle.
func (s *socket) release() {
	for _, b := range s.l.barriers {
		s.closer.close(b.fd)
	}
	s.l.barriers = nil
}

func (s *socket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
	s.l = &listening{}
	s.watch.Remove()
	unix.Close(s.fd)
	s.fd = -1
}

func (s *socket) rearm() {
	if s.fd >= 0 && !s.stalled {
		_ = s.watch.Rearm(platform.Readable)
	}
}

// read takes what is there.
func (s *socket) read() {
	for range burst {
		if !s.take() {
			return
		}
	}
	s.pause()
}

// pause has the socket read again after a rest.
func (s *socket) pause() {
	time.AfterFunc(rest, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.rearm()
	})
}

// take takes one datagram. It is false if there is none, or it may not.
func (s *socket) take() bool {
	s.mu.Lock()
	l := s.l
	switch {
	case s.fd < 0:
		s.mu.Unlock()
		return false
	case l.open+len(l.barriers) >= Window:
		s.stalled = true // until done
		s.mu.Unlock()
		return false
	}
	d, err := s.r.buf.receive(s.fd, s.closer.keepsUp())
	switch err {
	case nil:
	case unix.EAGAIN:
		s.rearm()
	default: // out of memory, say
		s.pause()
	}
	if err != nil {
		s.mu.Unlock()
		return false
	}
	s.mu.Unlock()

	p, refused := s.check(l, &d)
	switch {
	case refused != "":
		s.refuse(l, refused)
	case p.barrier:
		s.hold(l, d.fds[0])
		d.fds = d.fds[1:]
	default:
		s.deliver(l, Message{State: p.State, PID: d.pid, UID: d.uid, MainPID: p.mainPID})
	}
	if len(d.fds) > 0 {
		s.mu.Lock()
		s.closer.close(d.fds...)
		s.mu.Unlock()
	}
	return true
}

// check reads a datagram if it may be heard.
func (s *socket) check(l *listening, d *datagram) (p parsed, refused string) {
	if !d.hasCredentials {
		return p, "its sender is unknown"
	}
	if d.uid != 0 && d.uid != s.r.uid && d.uid != l.UID {
		return p, fmt.Sprintf("process %d of user %d is neither the daemon's user nor root", d.pid, d.uid)
	}
	if d.truncated {
		return p, fmt.Sprintf("it is longer than %d bytes", maxMessage)
	}
	p, err := parse(d.data)
	switch {
	case err != nil:
		return p, err.Error()
	case p.barrier && !p.alone:
		return p, "BARRIER=1 must be the only assignment"
	case p.barrier && len(d.fds) != 1:
		return p, fmt.Sprintf("BARRIER=1 came with %d descriptors instead of one", len(d.fds))
	}
	return p, ""
}

// deliver gives a message to who listens, if that is still the same.
func (s *socket) deliver(l *listening, m Message) {
	s.mu.Lock()
	if s.l != l || l.Handle == nil {
		s.mu.Unlock()
		return
	}
	l.sent++
	l.open++
	number := l.sent
	s.mu.Unlock()
	var once sync.Once
	m.done = func() { once.Do(func() { s.done(l, number) }) }
	l.Handle(m)
}

func (s *socket) done(l *listening, number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l != l {
		return
	}
	l.open--
	for i := range l.barriers {
		if number <= l.barriers[i].sent {
			l.barriers[i].waits--
		}
	}
	l.barriers = slices.DeleteFunc(l.barriers, func(b barrier) bool {
		if b.waits == 0 {
			s.closer.close(b.fd)
		}
		return b.waits == 0
	})
	if s.stalled && l.open+len(l.barriers) <= Window/2 {
		s.stalled = false
		s.rearm()
	}
}

// hold closes a descriptor once everything before it is done.
func (s *socket) hold(l *listening, fd int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l != l || l.open == 0 {
		s.closer.close(fd)
		return
	}
	l.barriers = append(l.barriers, barrier{fd: fd, sent: l.sent, waits: l.open})
}

// refuse says once for each Listen what is not heard, and why.
func (s *socket) refuse(l *listening, why string) {
	s.mu.Lock()
	known := len(l.said) >= 8 || slices.Contains(l.said, why)
	if !known {
		l.said = append(l.said, why)
	}
	s.mu.Unlock()
	if !known {
		s.r.log.Warn("a notification is not heard", "daemon", s.daemon, "reason", why)
	}
}

// closer closes descriptors that somebody has sent. Closing may take as long as
// whoever serves the file likes (a FUSE file system, a socket that lingers), so it
// is done by a goroutine, which is there while there are any.
type closer struct {
	mu      sync.Mutex
	fds     []int
	running bool
}

// closable is how many descriptors may wait for being closed.
const closable = 256

// keepsUp says whether more may come.
func (c *closer) keepsUp() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.fds) < closable
}

func (c *closer) close(fds ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fds = append(c.fds, fds...)
	if !c.running && len(c.fds) > 0 {
		c.running = true
		go c.run()
	}
}

func (c *closer) run() {
	for {
		c.mu.Lock()
		fds := c.fds
		c.fds = nil
		c.running = len(fds) > 0
		c.mu.Unlock()
		if len(fds) == 0 {
			return
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}

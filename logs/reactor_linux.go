//go:build !logs_poll

package logs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/keeper"
)

// engine moves the bytes of all streams.
//
// A quiet stream is armed in an epoll instance, which Go's netpoller watches
// as one descriptor; it costs nothing until bytes come. Then it is due: its
// bytes are spliced at once, and it is armed again. If the next bytes come
// within pace, the stream is busy: from then on it is looked at by the clock
// (a timerfd in the same epoll instance, since timers of the runtime are no
// finer than a millisecond), until a look finds nothing. The interval is the
// time in which its pipe gets half full, at most busyPace and a little for
// each other busy stream. So a pipe is never left full for long, and a daemon that
// writes short lines has its pipe's lock taken from it once per millisecond
// instead of once per line.
//
// Streams that are due queue for a worker and move one pipe's content per
// turn, round robin. Workers are goroutines that exist only while something
// is due; there are several since writing to a disk may block.
type engine struct {
	epoll *os.File
	epfd  int
	timer int // timerfd
	log   *slog.Logger
	base  time.Time
	pipes pipeBudget
	store *keeper.Store
	done  chan struct{}

	active atomic.Int64 // streams that are due or will be by the clock

	mu      sync.Mutex
	streams map[uint64]*stream
	lastID  uint64
	due     dueHeap
	alarm   int64 // when the timer fires; 0 if it is not set
	ready   queue
	workers int
	closed  bool
}

const (
	pace       = time.Millisecond       // of looks at a stream that begins to be busy
	busyPace   = 2 * time.Millisecond   // of looks at one that stays so, at most
	perActive  = 10 * time.Microsecond  // what each busy stream adds to busyPace
	maxPace    = 20 * time.Millisecond  // what they add up to
	shortest   = 30 * time.Microsecond  // an interval below it is none
	slack      = 100 * time.Microsecond // what is due so soon needs no wake-up of its own
	maxWorkers = 4

	minBackoff = 10 * time.Millisecond
	maxBackoff = time.Second

	maxMove = 1 << 20 // bytes per turn
)

// timerID is the epoll data of the timer; streams count from 1.
const timerID = 0

func newEngine(log *slog.Logger) (*engine, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// Only a descriptor that says it does not block goes to the netpoller.
	if err := unix.SetNonblock(epfd, true); err != nil {
		unix.Close(epfd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		unix.Close(epfd)
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	e := &engine{
		epfd: epfd, timer: timer, log: log, base: time.Now(),
		streams: make(map[uint64]*stream), done: make(chan struct{}),
	}
	e.pipes.init()
	// Edge-triggered: each expiry is told once, without a read.
	ev := epollEvent(timerID, unix.EPOLLIN|unix.EPOLLET)
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, timer, &ev); err != nil {
		unix.Close(timer)
		unix.Close(epfd)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	e.epoll = os.NewFile(uintptr(epfd), "epoll")
	raw, err := e.epoll.SyscallConn()
	if err != nil {
		unix.Close(timer)
		e.epoll.Close()
		return nil, err
	}
	go e.run(raw)
	return e, nil
}

func epollEvent(id uint64, events uint32) unix.EpollEvent {
	return unix.EpollEvent{Events: events, Fd: int32(id), Pad: int32(id >> 32)}
}

// now is the engine's clock in nanoseconds, never 0.
func (e *engine) now() int64 { return int64(time.Since(e.base)) + 1 }

func (e *engine) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.epoll.Close()
	<-e.done
	unix.Close(e.timer)
}

// run waits for events until the engine is closed.
func (e *engine) run(raw syscall.RawConn) {
	defer close(e.done)
	events := make([]unix.EpollEvent, 256)
	err := raw.Read(func(uintptr) bool {
		for {
			n, err := unix.EpollWait(e.epfd, events, 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				e.log.Error("capture of output: epoll_wait", "error", err)
				return false
			}
			if n > 0 {
				e.dispatch(events[:n])
			}
			// The netpoller tells of edges: wait only when all was taken.
			if n < len(events) {
				return false
			}
		}
	})
	e.mu.Lock()
	closed := e.closed
	e.mu.Unlock()
	if err != nil && !closed {
		e.log.Error("capture of output has ended", "error", err)
	}
}

func (e *engine) dispatch(events []unix.EpollEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	for i := range events {
		id := uint64(uint32(events[i].Fd)) | uint64(uint32(events[i].Pad))<<32
		if id == timerID {
			e.alarm = 0
			continue
		}
		s := e.streams[id]
		if s == nil || s.state != armed { // closed since
			continue
		}
		e.active.Add(1)
		if now-s.last.Load() >= int64(pace) {
			s.paced = false
			e.enqueue(s)
		} else {
			s.paced = true
			e.at(s, s.last.Load()+int64(pace))
		}
	}
	for e.due.len() > 0 && e.due.min().at <= now+int64(slack) {
		e.enqueue(e.due.pop())
	}
	e.setAlarm()
	e.hire()
}

// enqueue and at take a stream from where it is to the queue or the clock.
// e.mu is held.
func (e *engine) enqueue(s *stream) {
	s.state = queued
	e.ready.push(s)
}

func (e *engine) at(s *stream, t int64) {
	s.state = waiting
	s.at = t
	e.due.push(s)
}

// setAlarm makes the timer fire when the first stream is due.
func (e *engine) setAlarm() {
	if e.due.len() == 0 || e.closed {
		return
	}
	at := e.due.min().at
	if e.alarm != 0 && e.alarm <= at {
		return
	}
	in := max(at-e.now(), 1)
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(in)}
	if err := unix.TimerfdSettime(e.timer, 0, &spec, nil); err != nil {
		e.log.Error("capture of output: timerfd_settime", "error", err)
		return
	}
	e.alarm = at
}

// hire sees to it that somebody works on the queue.
func (e *engine) hire() {
	for n := e.ready.len(); n > 0 && e.workers < maxWorkers; n-- {
		e.workers++
		go e.work()
	}
}

func (e *engine) work() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.ready.len() > 0 {
		s := e.ready.pop()
		if s.state == closed {
			continue
		}
		s.state = moving
		paced := s.paced
		e.mu.Unlock()
		in, rest := s.turn(paced)
		e.mu.Lock()
		switch {
		case s.state == closed:
			e.active.Add(-1)
		case rest:
			e.active.Add(-1)
			s.state = armed
			ev := epollEvent(s.id, unix.EPOLLIN|unix.EPOLLONESHOT)
			if err := unix.EpollCtl(e.epfd, unix.EPOLL_CTL_MOD, s.fifo, &ev); err != nil {
				e.log.Error("capture of output: epoll_ctl", "file", s.file.path, "error", err)
			}
		case in == 0:
			s.paced = true
			e.enqueue(s)
		default:
			s.paced = true
			e.at(s, e.now()+int64(in))
			e.setAlarm()
		}
	}
	e.workers--
}

// longest is the longest interval at which a busy stream is looked at.
func (e *engine) longest() time.Duration {
	return min(busyPace+time.Duration(e.active.Load())*perActive, maxPace)
}

// state is where a stream is; e.mu guards it.
type state uint8

const (
	armed   state = iota // epoll tells when bytes come
	waiting              // for the clock, in e.due
	queued               // for a worker, in e.ready
	moving               // a worker is at it
	closed
)

// stream is one FIFO and the file its bytes go to.
type stream struct {
	e    *engine
	id   uint64
	hub  *hub
	path string // of the FIFO
	kept string // its name in the store

	// Guarded by e.mu.
	state state
	paced bool  // it is looked at by the clock
	at    int64 // state waiting: when
	index int   // state waiting: in e.due

	last atomic.Int64          // when bytes were last moved
	fail atomic.Pointer[error] // why bytes can't be written

	mu      sync.Mutex // held while bytes are moved; may be held when e.mu is taken
	fifo    int        // changes with both held
	owner   StreamOptions
	file    logFile
	size    int  // of the pipe, in bytes
	fast    bool // it was about half full
	fixed   bool // it can't be enlarged
	copying bool // the file system can't splice
	held    []byte
	backoff time.Duration
}

func (e *engine) open(p streamPaths, o StreamOptions, h *hub) (*stream, error) {
	s := &stream{e: e, hub: h, path: p.fifo, owner: o, fifo: -1, file: logFile{path: p.file, fd: -1}}
	if err := s.file.open(); err != nil {
		return nil, err
	}
	var err error
	if s.fifo, err = openFIFO(p.fifo, o); err != nil {
		s.file.close()
		return nil, err
	}
	s.measure()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lastID++
	s.id = e.lastID
	ev := epollEvent(s.id, unix.EPOLLIN|unix.EPOLLONESHOT)
	if err := unix.EpollCtl(e.epfd, unix.EPOLL_CTL_ADD, s.fifo, &ev); err != nil {
		unix.Close(s.fifo)
		s.file.close()
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	e.streams[s.id] = s
	s.kept = keep(e.store, s.fifo)
	return s, nil
}

// close lets go of the FIFO and the file.
func (s *stream) close() {
	e := s.e
	e.mu.Lock()
	if s.state == closed {
		e.mu.Unlock()
		return
	}
	switch s.state {
	case waiting:
		e.due.remove(s)
		e.active.Add(-1)
	case queued:
		e.active.Add(-1) // a worker that comes upon it drops it
	}
	s.state = closed
	delete(e.streams, s.id)
	e.mu.Unlock()

	s.mu.Lock() // waits for a worker that is at it
	defer s.mu.Unlock()
	// An epoll instance forgets a file with its last descriptor, but a child
	// that is being forked may have a copy for a moment.
	unix.EpollCtl(e.epfd, unix.EPOLL_CTL_DEL, s.fifo, nil)
	unix.Close(s.fifo)
	s.fifo = -1
	s.file.close()
	e.pipes.give(s.id)
}

func (s *stream) setOwner(uid, gid int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fifo < 0 {
		return errClosed
	}
	s.owner = StreamOptions{UID: uid, GID: gid}
	return ownFIFO(s.fifo, s.path, uid, gid)
}

// writer opens the daemon's end. If somebody removed or replaced the FIFO,
// what is in it is carried and another is opened, since the next manager will
// look for it at its path.
func (s *stream) writer() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fifo < 0 {
		return nil, errClosed
	}
	w, err := openWriter(s.path, s.fifo)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, errReplaced) {
		s.e.log.Warn("a FIFO was removed or replaced: what still writes to it goes unread", "fifo", s.path)
		if err := s.replace(); err != nil {
			return nil, err
		}
		w, err = openWriter(s.path, s.fifo)
	}
	return w, err
}

// replace opens the FIFO at the stream's path instead of the one that is open.
func (s *stream) replace() error {
	if err := s.carry(); err != nil {
		return err
	}
	fd, err := openFIFO(s.path, s.owner)
	if err != nil {
		return err
	}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.state == closed {
		unix.Close(fd)
		return errClosed
	}
	ev := epollEvent(s.id, unix.EPOLLONESHOT)
	if s.state == armed {
		ev.Events |= unix.EPOLLIN
	}
	if err := unix.EpollCtl(s.e.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("epoll_ctl", err)
	}
	unix.EpollCtl(s.e.epfd, unix.EPOLL_CTL_DEL, s.fifo, nil)
	s.e.store.Drop(s.kept)
	unix.Close(s.fifo)
	s.fifo = fd
	s.kept = keep(s.e.store, fd)
	s.measure()
	return nil
}

// measure notes the size of the pipe.
func (s *stream) measure() {
	size, err := unix.FcntlInt(uintptr(s.fifo), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		size = 64 << 10
	}
	s.size, s.fixed = size, false
}

// failure is why bytes can't be written; nil if they can.
func (s *stream) failure() error {
	if err := s.fail.Load(); err != nil {
		return *err
	}
	return nil
}

// turn moves what is in the pipe, and says when to look again: when bytes
// come (rest), or after an interval.
func (s *stream) turn(paced bool) (in time.Duration, rest bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fifo < 0 {
		return 0, true
	}
	if s.fast && !s.fixed {
		s.enlarge()
	}
	n, err := s.move()
	now := s.e.now()
	since := now - s.last.Swap(now)
	if err != nil {
		s.backoff = min(max(2*s.backoff, minBackoff), maxBackoff)
		return s.backoff, false
	}
	if n == 0 {
		s.fast = false
		return 0, true
	}
	s.fast = n >= s.size/2-os.Getpagesize()
	if !paced && !s.fast {
		return 0, true
	}
	half := time.Duration(float64(since) * float64(s.size/2) / float64(n))
	if half < shortest {
		return 0, false
	}
	return min(half, s.e.longest()), false
}

// drain moves what is in the pipe when it is called, and gives the file's
// size then.
func (s *stream) drain() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fifo < 0 {
		return 0, nil
	}
	failpoint.Hit(failpoint.LogDrain)
	err := s.carry()
	return s.file.pos, err
}

// carry moves as many bytes as there are at its beginning: with a writer that
// never stops it ends all the same.
func (s *stream) carry() error {
	left, err := unix.IoctlGetInt(s.fifo, unix.TIOCINQ) // FIONREAD by its other name
	if err != nil {
		return os.NewSyscallError("ioctl(FIONREAD)", err)
	}
	for left > 0 || len(s.held) > 0 {
		n, err := s.move()
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		left -= n
	}
	return nil
}

// move carries at most maxMove bytes from the pipe to the file, and keeps
// account of failures. 0 without an error: the pipe is empty.
func (s *stream) move() (int, error) {
	failpoint.Hit(failpoint.LogBefore)
	n, err := s.tryMove()
	switch {
	case err != nil:
		if s.fail.Swap(&err) == nil {
			s.e.log.Error("output can not be written and waits in its pipe", "file", s.file.path, "error", err)
		}
		return 0, err
	case n > 0:
		failpoint.Hit(failpoint.LogAfter)
		if s.fail.Load() != nil {
			s.fail.Store(nil)
			s.backoff = 0
			s.e.log.Info("output can be written again", "file", s.file.path)
		}
		s.hub.emit(Event{Kind: Grown})
	}
	return n, nil
}

func (s *stream) tryMove() (int, error) {
	if err := s.file.check(s.e.now(), s.hub); err != nil {
		return 0, err
	}
	if s.copying || failpoint.Sabotaged(failpoint.NoSplice) {
		return s.copy()
	}
	for {
		n, err := unix.Splice(s.fifo, nil, s.file.fd, &s.file.pos, maxMove, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		switch err {
		case nil:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		case unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP:
			s.copying = true
			return s.copy()
		default:
			return 0, fmt.Errorf("%s: %w", s.file.path, err)
		}
	}
}

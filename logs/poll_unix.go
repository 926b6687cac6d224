//go:build unix && (!linux || logs_poll)

package logs

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/keeper"
)

// engine moves the bytes of all streams by read and write, on one goroutine
// and so one thread: Go keeps FIFOs out of its poller on macOS, and where it
// does not, as on FreeBSD, one way for all is simpler. poll(2) looks at every
// stream at each wake-up, so a busy engine rests pace between rounds.
type engine struct {
	log  *slog.Logger
	base time.Time
	wake [2]int // a pipe: the set of streams has changed
	done chan struct{}

	store *keeper.Store

	mu      sync.Mutex
	streams map[*stream]struct{}
	closed  bool
}

const (
	pace       = time.Millisecond
	retryAfter = 200 * time.Millisecond // after a failed write
)

func newEngine(log *slog.Logger) (*engine, error) {
	e := &engine{log: log, base: time.Now(), streams: make(map[*stream]struct{}), done: make(chan struct{})}
	if err := unix.Pipe(e.wake[:]); err != nil {
		return nil, os.NewSyscallError("pipe", err)
	}
	for _, fd := range e.wake {
		unix.CloseOnExec(fd)
		unix.SetNonblock(fd, true)
	}
	go e.run()
	return e, nil
}

func (e *engine) now() int64 { return int64(time.Since(e.base)) + 1 }

func (e *engine) kick() { unix.Write(e.wake[1], []byte{0}) } // full is awake enough

func (e *engine) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.kick()
	<-e.done
	unix.Close(e.wake[0])
	unix.Close(e.wake[1])
}

func (e *engine) run() {
	defer close(e.done)
	var fds []unix.PollFd
	var of []*stream
	for {
		fds = append(fds[:0], unix.PollFd{Fd: int32(e.wake[0]), Events: unix.POLLIN})
		of = of[:0]
		timeout := -1
		e.mu.Lock()
		if e.closed {
			e.mu.Unlock()
			return
		}
		for s := range e.streams {
			if s.fail.Load() != nil { // its bytes wait, so poll would not
				timeout = int(retryAfter / time.Millisecond)
				of = append(of, s)
				fds = append(fds, unix.PollFd{Fd: -1})
				continue
			}
			fds = append(fds, unix.PollFd{Fd: int32(s.fifo), Events: unix.POLLIN})
			of = append(of, s)
		}
		e.mu.Unlock()
		n, err := unix.Poll(fds, timeout)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			e.log.Error("capture of output: poll", "error", err)
			time.Sleep(retryAfter)
			continue
		}
		if fds[0].Revents != 0 {
			var b [64]byte
			unix.Read(e.wake[0], b[:])
		}
		for i, s := range of {
			if fds[i+1].Revents != 0 || n == 0 && s.fail.Load() != nil {
				s.mu.Lock()
				if s.fifo >= 0 {
					s.move()
				}
				s.mu.Unlock()
			}
		}
		time.Sleep(pace)
	}
}

// stream is one FIFO and the file its bytes go to.
type stream struct {
	e    *engine
	hub  *hub
	path string
	kept string // the FIFO's name in the store
	fail atomic.Pointer[error]

	mu    sync.Mutex
	fifo  int // changes with e.mu held, too
	owner StreamOptions
	file  logFile
	held  []byte // read and not written yet
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
	s.kept = keep(e.store, s.fifo)
	e.mu.Lock()
	e.streams[s] = struct{}{}
	e.mu.Unlock()
	e.kick()
	return s, nil
}

func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fifo < 0 {
		return
	}
	s.e.mu.Lock()
	delete(s.e.streams, s)
	unix.Close(s.fifo)
	s.fifo = -1
	s.e.mu.Unlock()
	s.file.close()
	s.e.kick()
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

func (s *stream) writer() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fifo < 0 {
		return nil, errClosed
	}
	w, err := openWriter(s.path, s.fifo)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, errReplaced) {
		// The next manager will look for it at its path.
		s.e.log.Warn("a FIFO was removed or replaced: what still writes to it goes unread", "fifo", s.path)
		if _, err := s.carry(); err != nil {
			return nil, err
		}
		fd, err := openFIFO(s.path, s.owner)
		if err != nil {
			return nil, err
		}
		s.e.mu.Lock()
		s.e.store.Drop(s.kept)
		unix.Close(s.fifo)
		s.fifo = fd
		s.kept = keep(s.e.store, fd)
		s.e.mu.Unlock()
		s.e.kick()
		return openWriter(s.path, s.fifo)
	}
	return w, err
}

func (s *stream) failure() error {
	if err := s.fail.Load(); err != nil {
		return *err
	}
	return nil
}

// drain moves what is in the pipe when it is called, at most as much as a
// pipe can hold, and gives the file's size then.
func (s *stream) drain() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fifo < 0 {
		return 0, nil
	}
	return s.carry()
}

func (s *stream) carry() (int64, error) {
	for range 16 {
		n, err := s.move()
		if err != nil || n == 0 {
			return s.file.pos, err
		}
	}
	return s.file.pos, nil
}

// move carries some bytes. 0 without an error: the pipe is empty.
func (s *stream) move() (int, error) {
	n, err := s.tryMove()
	switch {
	case err != nil:
		if s.fail.Swap(&err) == nil {
			s.e.log.Error("output can not be written and waits in its pipe", "file", s.file.path, "error", err)
		}
	case n > 0:
		if s.fail.Swap(nil) != nil {
			s.e.log.Info("output can be written again", "file", s.file.path)
		}
		s.hub.emit(Event{Kind: Grown})
	}
	return n, err
}

func (s *stream) tryMove() (int, error) {
	if err := s.file.check(s.e.now(), s.hub); err != nil {
		return 0, err
	}
	return s.copy()
}

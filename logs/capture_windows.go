package logs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/windows"

	"github.com/cyber-boost/syspulse/keeper"
)

// engine has nothing to move: a daemon writes to its log file itself. It
// tells followers of growth by looking at the files, only while somebody
// follows: what is written to a file through another process's handle is told
// by no event that can be relied on.
type engine struct {
	mu      sync.Mutex
	streams map[*stream]struct{}
	follow  chan struct{} // somebody follows
	stop    chan struct{}
	done    chan struct{}
	store   *keeper.Store // keeps nothing here: the daemons write to the files themselves
}

// lookInterval is how often a file that is followed is looked at.
const lookInterval = 100 * time.Millisecond

func newEngine(*slog.Logger) (*engine, error) {
	e := &engine{streams: make(map[*stream]struct{}), follow: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go e.run()
	return e, nil
}

func (e *engine) close() {
	close(e.stop)
	<-e.done
}

// followed is called after somebody has begun to follow a stream.
func (e *engine) followed() {
	select {
	case e.follow <- struct{}{}:
	default:
	}
}

func (e *engine) run() {
	defer close(e.done)
	var tick <-chan time.Time // nil: nobody follows
	for {
		select {
		case <-e.stop:
			return
		case <-e.follow:
		case <-tick:
		}
		tick = nil
		e.mu.Lock()
		for s := range e.streams {
			if s.hub.subs.Load() != nil {
				s.look()
				tick = time.After(lookInterval)
			}
		}
		e.mu.Unlock()
	}
}

type stream struct {
	e    *engine
	hub  *hub
	path string
	kept string

	mu   sync.Mutex
	size int64
}

func (e *engine) open(p streamPaths, _ StreamOptions, h *hub) (*stream, error) {
	s := &stream{e: e, hub: h, path: p.file}
	w, err := s.writer() // makes the file, or says why it can't be
	if err != nil {
		return nil, err
	}
	w.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.streams[s] = struct{}{}
	e.followed() // somebody may have waited for it
	return s, nil
}

func (s *stream) close() {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	delete(s.e.streams, s)
}

// look tells followers what has happened to the file since the last look.
func (s *stream) look() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Lstat(s.path)
	if err != nil {
		return s.size
	}
	was := s.size
	s.size = info.Size()
	if s.size < was {
		s.hub.emit(Event{Kind: Truncated, Size: s.size})
	}
	if s.size != was {
		s.hub.emit(Event{Kind: Grown})
	}
	return s.size
}

// writer opens the log file for appending, so that several processes of a
// daemon don't overwrite each other, and with full sharing, so that it can be
// read, moved and deleted meanwhile.
func (s *stream) writer() (*os.File, error) {
	name, err := windows.UTF16PtrFromString(s.path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: s.path, Err: err}
	}
	h, err := windows.CreateFile(name, windows.FILE_APPEND_DATA|windows.SYNCHRONIZE,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, nil,
		windows.OPEN_ALWAYS, windows.FILE_ATTRIBUTE_NORMAL|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: s.path, Err: err}
	}
	f := os.NewFile(uintptr(h), s.path)
	if info, err := os.Lstat(s.path); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("%s is no regular file: move it away", s.path))
	}
	return f, nil
}

func (s *stream) setOwner(_, _ int) error { return nil }
func (s *stream) failure() error          { return nil }
func (s *stream) drain() (int64, error)   { return s.look(), nil }

// makeDir makes a directory; it inherits who may enter it from the data
// directory, which lies in the user's profile.
func makeDir(dir string) error { return os.MkdirAll(dir, 0o700) }

func makeOwnDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no directory: move it away", dir)
	}
	return err
}

// openLog opens a log file for reading with full sharing, and gives its size.
func openLog(path string) (*os.File, int64, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, nil,
		windows.OPEN_EXISTING, windows.FILE_ATTRIBUTE_NORMAL|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return nil, 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(h), path)
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// identify is the identity of an open file: the volume's serial number and
// the file index, which NTFS keeps as long as the file exists.
func identify(f *os.File) (fileID, error) {
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &info); err != nil {
		return fileID{}, err
	}
	return fileID{uint64(info.VolumeSerialNumber), uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow)}, nil
}

package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/text/unicode/norm"

	"github.com/cyber-boost/syspulse/keeper"
)

// Options are those of a Capturer.
type Options struct {
	Dir    string       // the data directory
	Logger *slog.Logger // nil is slog.Default
	// Store keeps the FIFOs open, and so what is in them, while no manager
	// lives. Nil: the daemons alone do that, as long as they live.
	Store *keeper.Store
}

// Capturer carries the output of all daemons of one manager. Its methods may
// be called concurrently.
type Capturer struct {
	dir    string
	log    *slog.Logger
	engine *engine
	hubs   hubs

	mu       sync.Mutex
	captures map[string]*Capture
	closed   bool
}

// errClosed is returned by what is called after Close.
var errClosed = errors.New("logs: closed")

// New makes a Capturer, and the directories logs and run in the data
// directory. Only one may work on a data directory at a time; two would share
// the bytes of each stream between them.
func New(o Options) (*Capturer, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("logs: %w", err)
	}
	for _, d := range []string{dir, filepath.Join(dir, "logs"), filepath.Join(dir, "run")} {
		if err := makeDir(d); err != nil {
			return nil, fmt.Errorf("logs: %w", err)
		}
	}
	e, err := newEngine(o.Logger)
	if err != nil {
		return nil, fmt.Errorf("logs: %w", err)
	}
	e.store = o.Store
	return &Capturer{dir: dir, log: o.Logger, engine: e, captures: make(map[string]*Capture)}, nil
}

// StreamOptions are those of one daemon's streams.
type StreamOptions struct {
	// The user and group the daemon runs as, who will own its FIFOs, so that
	// it can open /dev/stdout again. Used only by a manager that is root.
	UID, GID int
}

// Open begins, or goes on, to carry a daemon's output: what a former manager
// left in the FIFOs is carried first. It makes what is missing of
// directories, FIFOs and files, and refuses what is in their place but is
// something else. Opening a daemon that is open gives the same Capture, with
// its FIFOs handed to the user that o names.
func (c *Capturer) Open(daemon string, o StreamOptions) (*Capture, error) {
	if err := checkName(daemon); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if open := c.captures[daemon]; open != nil {
		for _, s := range open.streams {
			if err := s.setOwner(o.UID, o.GID); err != nil {
				return nil, fmt.Errorf("logs of %s: %w", daemon, err)
			}
		}
		return open, nil
	}
	if err := makeOwnDir(Dir(c.dir, daemon)); err != nil {
		return nil, fmt.Errorf("logs of %s: %w", daemon, err)
	}
	k := &Capture{c: c, daemon: daemon}
	for _, which := range []Stream{Stdout, Stderr} {
		s, err := c.engine.open(streamPaths{
			fifo: filepath.Join(c.dir, "run", daemon+"."+which.String()),
			file: Path(c.dir, daemon, which),
		}, o, c.hubs.get(daemon, which))
		if err != nil {
			if which == Stderr {
				k.streams[Stdout].close()
			}
			return nil, fmt.Errorf("logs of %s: %w", daemon, err)
		}
		k.streams[which] = s
	}
	c.captures[daemon] = k
	return k, nil
}

// streamPaths is where a stream begins and ends.
type streamPaths struct{ fifo, file string }

// Notify tells f of what happens to a daemon's stream, whether the daemon is
// open already or will be. It is the [Notifier] of a [Tail].
func (c *Capturer) Notify(daemon string, s Stream, f func(Event)) (stop func()) {
	stop = c.hubs.subscribe(daemon, s, f)
	c.engine.followed()
	return stop
}

// DataDir is the data directory as an absolute path.
func (c *Capturer) DataDir() string { return c.dir }

// Close closes every Capture. Daemons write on into their FIFOs; whoever
// opens them next goes on there.
func (c *Capturer) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	for _, k := range c.captures {
		k.closeStreams()
	}
	clear(c.captures)
	c.engine.close()
}

// Capture carries the two streams of one daemon, over all its incarnations.
// Its methods may be called concurrently.
type Capture struct {
	c       *Capturer
	daemon  string
	streams [2]*stream
}

// Writers gives what a new incarnation gets as stdout and stderr. They are
// blocking and close on exec; the caller closes them right after the fork.
func (k *Capture) Writers() (stdout, stderr *os.File, err error) {
	if stdout, err = k.streams[Stdout].writer(); err != nil {
		return nil, nil, fmt.Errorf("logs of %s: %w", k.daemon, err)
	}
	if stderr, err = k.streams[Stderr].writer(); err != nil {
		stdout.Close()
		return nil, nil, fmt.Errorf("logs of %s: %w", k.daemon, err)
	}
	return stdout, stderr, nil
}

// Drain is called when the daemon has ended, before that is told to anybody.
// It returns when what was in both pipes has reached the files, and tells
// followers that an unfinished line will not be continued by this
// incarnation. It moves the bytes on the caller's goroutine and may take as
// long as the disk does. An error means that they are in the pipe still (the
// disk is full, say) and will be carried when that is possible again.
func (k *Capture) Drain() error {
	var errs []error
	for i, s := range k.streams {
		size, err := s.drain()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s of %s: %w", Stream(i), k.daemon, err))
		}
		s.hub.emit(Event{Kind: Ended, Size: size})
	}
	return errors.Join(errs...)
}

// Paths are the files written to now.
func (k *Capture) Paths() (stdout, stderr string) {
	return Path(k.c.dir, k.daemon, Stdout), Path(k.c.dir, k.daemon, Stderr)
}

// Notify is the Capturer's for this daemon.
func (k *Capture) Notify(s Stream, f func(Event)) (stop func()) {
	return k.c.Notify(k.daemon, s, f)
}

// Err says why bytes can not be written at the moment; "" if they can. They
// stay in the pipe, the daemon waits once that is full, and writing is tried
// again at growing intervals of up to a second.
func (k *Capture) Err() string {
	for i, s := range k.streams {
		if err := s.failure(); err != nil {
			return fmt.Sprintf("%s can not be written: %v", Stream(i), err)
		}
	}
	return ""
}

// Close carries what is in the pipes and lets go of them and of the files.
// A daemon that lives writes on into its pipes, and the next Open goes on
// there. The bytes of one that has ended must have been drained before: they
// vanish with the last descriptor of their pipe.
func (k *Capture) Close() {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	k.closeLocked()
}

func (k *Capture) closeLocked() {
	if k.c.captures[k.daemon] == k {
		delete(k.c.captures, k.daemon)
		for _, s := range k.streams {
			s.drain() // what it can't carry stays in the pipe, for as long as somebody has that open
			k.c.engine.store.Drop(s.kept)
			s.close()
		}
	}
}

func (k *Capture) closeStreams() {
	for _, s := range k.streams {
		s.drain() // what it can't carry stays in the pipe
		s.close()
	}
}

// Remove closes and removes the FIFOs, and with purge the logs too, rotated
// ones included. Nobody may write to the FIFOs any more.
func (k *Capture) Remove(purge bool) error {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	k.closeLocked()
	return k.c.removeLocked(k.daemon, purge)
}

// Remove does for a daemon that is not open what [Capture.Remove] does.
func (c *Capturer) Remove(daemon string, purge bool) error {
	if err := checkName(daemon); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.captures[daemon]; k != nil {
		k.closeLocked()
	}
	return c.removeLocked(daemon, purge)
}

// Tidy removes the FIFOs of daemons that there are no more: a manager may have
// been killed in the middle of a removal. It is called before any are opened.
func (c *Capturer) Tidy(known func(daemon string) bool) error {
	dir := filepath.Join(c.dir, "run")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	var errs []error
	for _, e := range entries {
		for _, which := range []Stream{Stdout, Stderr} {
			daemon, ok := strings.CutSuffix(e.Name(), "."+which.String())
			if ok && e.Type() == fs.ModeNamedPipe && !known(norm.NFC.String(daemon)) {
				errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	return nil
}

func (c *Capturer) removeLocked(daemon string, purge bool) error {
	c.hubs.drop(daemon)
	var errs []error
	for _, which := range []Stream{Stdout, Stderr} {
		err := os.Remove(filepath.Join(c.dir, "run", daemon+"."+which.String()))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if purge {
		// RemoveAll does not follow symbolic links.
		errs = append(errs, os.RemoveAll(Dir(c.dir, daemon)))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("logs of %s: %w", daemon, err)
	}
	return nil
}

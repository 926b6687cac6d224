package persist

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/dgraph-io/badger/v4"
)

// unwritable says why the journal must not be opened for writing now; nil if
// it may be.
func (s *Store) unwritable() error {
	free, err := s.freeSpace()
	if err == nil && free < s.opts.ReserveBytes {
		return errNoSpace{s.opts.Dir, free, s.opts.ReserveBytes}
	}
	if err := os.MkdirAll(s.stateDir, 0o700); err != nil {
		return fmt.Errorf("the folder of the journal can't be made: %w", err)
	}
	probe := filepath.Join(s.stateDir, "PROBE")
	if err := writeTemp(probe, []byte("x"), false); err != nil {
		return fmt.Errorf("the journal can't be written: %w", err)
	}
	return os.Remove(probe)
}

// environment are the errors that say nothing about the journal itself, so
// that setting it aside would only lose it.
var environment = []error{
	syscall.ENOSPC, syscall.EROFS, syscall.EACCES, syscall.EPERM,
	syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EIO,
}

// isEnvironment looks at the text, too: Badger doesn't wrap errors.
func isEnvironment(err error) bool {
	for _, e := range environment {
		if errors.Is(err, e) || strings.Contains(err.Error(), e.Error()) {
			return true
		}
	}
	return false
}

// openBadger opens a database whose files may be damaged, which Badger may
// answer with an error, a panic or log.Fatal.
func openBadger(opts badger.Options) (db *badger.DB, err error) {
	logWriter.Lock()
	defer logWriter.Unlock()
	out := log.Writer()
	if last, ok := out.(fatalToEnd); ok {
		out = last.w
	}
	log.SetOutput(fatalToPanic{out})
	defer log.SetOutput(fatalToEnd{out, opts.Logger})
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it is damaged: %v", p)
		}
	}()
	return badger.Open(opts)
}

// logWriter is held while the standard logger writes elsewhere.
var logWriter sync.Mutex

// fatalToPanic is where the standard logger writes to while Badger opens. It
// panics out of log.Fatal, which would else end the process, on every start
// again.
type fatalToPanic struct{ w io.Writer }

func (f fatalToPanic) Write(b []byte) (int, error) {
	if isFatal() {
		text, _, _ := strings.Cut(string(bytes.TrimSpace(b)), "\n")
		panic(text)
	}
	return f.w.Write(b)
}

// fatalToEnd is where it writes to from then on. Badger's background work calls
// log.Fatal, too, when a file fails under it. That would end the manager
// without a word and with the code 1, as if it had been told to end. With 70
// (EX_SOFTWARE) its keeper starts it again.
type fatalToEnd struct {
	w   io.Writer
	log badger.Logger
}

func (f fatalToEnd) Write(b []byte) (int, error) {
	if isFatal() {
		f.log.Errorf("the journal can't go on: %s", bytes.TrimSpace(b))
		os.Exit(70)
	}
	return f.w.Write(b)
}

// isFatal says whether the caller writes for log.Fatal.
func isFatal() bool {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		frame, more := frames.Next()
		if strings.HasPrefix(frame.Function, "log.Fatal") {
			return true
		}
		if !more {
			return false
		}
	}
}

// openInMemory is for a journal that can't be written: its disk is full or
// read-only, say. What is in it is read from a copy on another file system;
// failing that, the state is that of the plain copies. From then on events are
// kept in memory, until there is room.
func (s *Store) openInMemory(why error) error {
	s.degrade(why)
	s.remark("%v; until that changes the journal is kept in memory only", why)
	blind := false
	if err := s.readElsewhere(); err != nil {
		s.closeDB()
		s.reset()
		blind = true
		s.notice("the journal can't be read either (%v): the state of the daemons is unknown and their registrations are those of the plain copies", err)
	}
	if blind {
		// What the journal has is not known: numbers begin far beyond.
		s.blind = true
		s.lastSeq = s.found().upTo + blindGap
		s.snapSeq, s.firstSeq = s.lastSeq, s.lastSeq+1
	}
	if err := s.reconcile(blind); err != nil {
		return err
	}
	s.recovered()
	return nil
}

// blindGap is more events than a journal ever gets between two writes of the
// plain copies.
const blindGap = 1 << 32

// readElsewhere replays a copy of the journal.
func (s *Store) readElsewhere() error {
	if _, err := os.Stat(filepath.Join(s.stateDir, badger.ManifestFilename)); errors.Is(err, fs.ErrNotExist) {
		return nil // there is none yet
	}
	var errs []error
	for _, parent := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/dev/shm", "/run", os.TempDir()} {
		if parent == "" {
			continue
		}
		err := s.readAt(parent)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *Store) readAt(parent string) error {
	dir, err := os.MkdirTemp(parent, "syspulse-journal-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	size, err := s.Size()
	if err != nil {
		return err
	}
	if free, err := diskFree(dir); err != nil || free < size+8*memTableSize {
		return fmt.Errorf("%s has no room for a copy of it", parent)
	}
	if err := copyDir(dir, s.stateDir, func(string) bool { return false }); err != nil {
		return err
	}
	db, err := openBadger(databaseOptions(dir, s.log))
	if err != nil {
		return err
	}
	s.reset()
	s.wal = wal{elsewhere: true}
	s.dbmu.Lock()
	s.db = db
	s.dbmu.Unlock()
	err = s.replay()
	return errors.Join(err, s.closeDB())
}

// copyDir copies the files of a folder but those to be skipped, without the
// zeros at their ends: the logs are mostly holes.
func copyDir(dst, src string, skip func(name string) bool) error {
	entries, err := os.ReadDir(src)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || skip(e.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(src, e.Name()))
		if err != nil {
			return err
		}
		size := int64(len(b))
		f, err := os.OpenFile(filepath.Join(dst, e.Name()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(bytes.TrimRight(b, "\x00"))
		if err == nil {
			err = f.Truncate(size)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// reopen opens a journal that could not be opened at the start. What it held
// was read then; if not, names may have other numbers in it.
func (s *Store) reopen() error {
	if err := s.checkFormat(true); err != nil {
		return err
	}
	db, err := openBadger(databaseOptions(s.stateDir, s.log))
	if err != nil {
		return fmt.Errorf("the journal can't be opened: %w", err)
	}
	s.dbmu.Lock()
	s.db = db
	s.dbmu.Unlock()
	s.wal.rotations = db.Levels()[0].NumTables / 2
	err = s.wal.opened(s)
	if err == nil {
		err = s.dropIncomplete()
	}
	if err == nil && s.blind {
		err = s.adoptNumbers()
	}
	if err != nil {
		return errors.Join(err, s.closeDB())
	}
	return nil
}

// adoptNumbers takes the numbers that the journal has for names, and keeps the
// daemons that only the journal knows: the next start finds them.
func (s *Store) adoptNumbers() error {
	found := &Store{opts: s.opts, log: s.log}
	found.reset()
	if err := s.db.View(found.read); err != nil {
		return err
	}
	s.rmu.Lock()
	defer s.rmu.Unlock()
	next := found.nextID
	for n, nm := range s.names {
		if old, ok := found.names[n]; ok {
			nm.id = old.id
		} else {
			nm.id = next
			next++
		}
		s.names[n], s.ids[n] = nm, nm.id
		if d := s.daemons[n]; d != nil {
			d.id, d.recDirty, d.regDirty = nm.id, true, true
		}
	}
	for n, nm := range found.names {
		if _, ok := s.names[n]; ok {
			continue
		}
		s.names[n], s.ids[n] = nm, nm.id
		if d := found.daemons[n]; d != nil {
			d.recDirty, d.regDirty = true, true
			s.daemons[n] = d
		}
	}
	s.nextID = next
	s.firstSeq = min(s.firstSeq, found.firstSeq)
	s.baseSeq = found.baseSeq
	s.kept = found.kept
	s.blind = false
	return nil
}

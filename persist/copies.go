package persist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// copyDelay is how long changes of registrations are gathered before their
// plain copies are written: they are the second line of defence, and a bulk
// command must not wait for a thousand files.
const copyDelay = 250 * time.Millisecond

// copyRetryMost is how long copies that could not be written wait at most
// until they are written again.
const copyRetryMost = 30 * time.Second

// syncEach is up to how many files are synced one by one; more are cheaper
// with one sync of the whole file system, where there is such a call.
const syncEach = 8

// copyFile is <data_dir>/registrations/<name>.json.
type copyFile struct {
	Spec   *spec.Daemon `json:"spec,omitempty"`
	Group  *spec.Group  `json:"group,omitempty"` // instead
	Source string       `json:"source,omitempty"`
	Seq    uint64       `json:"seq"` // of the event that it was written after

	wish   `json:"-"` // from the file of the wishes
	wished bool       // it is there
}

// copies writes the plain copies of the registrations, from which a manager
// starts if its journal can't be read: one file for each daemon, and one more
// for what is wanted of all of them, because a bulk command changes that for a
// thousand daemons at once. It works in the background, only while there is
// something to write.
type copies struct {
	dir string
	log *slog.Logger

	mu      sync.Mutex
	idle    sync.Cond            // no writer is at work
	dirty   map[string]*copyFile // nil: is to be removed
	seq     uint64               // all events up to here are in dirty or written
	wishes  map[string]wish
	wished  bool        // wishes is to be written
	timer   *time.Timer // of the next write
	writing bool
	delay   time.Duration // until what failed is tried again; 0: nothing failed
	closed  bool
}

// wish is the part of a record that is copied.
type wish struct {
	Wanted supervision.Wanted `json:"wanted"`
	Ended  bool               `json:"ended,omitempty"`
	Seq    uint64             `json:"seq"` // of the event that it was written after
}

// wishesFile holds the wishes by name.
const wishesFile = ".wanted.json"

func newCopies(s *Store) *copies {
	c := &copies{
		dir:    filepath.Join(s.opts.Dir, "registrations"),
		log:    s.log,
		dirty:  make(map[string]*copyFile),
		wishes: make(map[string]wish),
	}
	c.idle.L = &c.mu
	return c
}

// changed takes note of events that were appended.
func (c *copies) changed(s *Store, events []supervision.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range events {
		ev := &events[i]
		if ev.Daemon == "" {
			continue
		}
		if ev.Kind == supervision.EventRemoved {
			delete(c.wishes, ev.Daemon)
			c.wished = true
			c.dirty[ev.Daemon] = nil
			continue
		}
		d := s.daemons[ev.Daemon] // as of the last of these events
		if d == nil || d.reg == nil {
			continue
		}
		if ev.Spec != nil {
			c.dirty[ev.Daemon] = newCopyFile(d)
		}
		c.wish(ev.Daemon, d)
	}
	c.seq = s.lastSeq
	if c.wished || len(c.dirty) > 0 {
		c.plan()
	}
}

// wish notes what is wanted of a daemon. c.mu is held.
func (c *copies) wish(name string, d *daemon) {
	w := d.wish()
	if was, ok := c.wishes[name]; ok && was.Wanted == w.Wanted && was.Ended == w.Ended {
		return
	}
	c.wishes[name] = w
	c.wished = true
}

func (d *daemon) wish() wish {
	if d.rec == nil {
		return wish{Wanted: supervision.WantStopped, Seq: d.seq}
	}
	return wish{d.rec.Wanted, d.rec.Ended, d.seq}
}

func newCopyFile(d *daemon) *copyFile {
	return &copyFile{Spec: d.reg.Spec, Group: d.reg.Group, Source: d.reg.Source, Seq: d.seq}
}

// plan sets the timer. c.mu is held.
func (c *copies) plan() {
	if c.closed || c.writing || c.timer != nil {
		return
	}
	c.timer = time.AfterFunc(max(copyDelay, c.delay), c.write)
}

// retry writes what could not be written before.
func (c *copies) retry(*Store) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wished || len(c.dirty) > 0 {
		c.plan()
	}
}

// write writes what is dirty.
func (c *copies) write() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writing || !c.wished && len(c.dirty) == 0 {
		return
	}
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	batch, seq := c.dirty, c.seq
	var wishes map[string]wish
	if c.wished {
		wishes = maps.Clone(c.wishes)
	}
	c.dirty, c.wished = make(map[string]*copyFile), false
	c.writing = true
	c.mu.Unlock()
	err := c.writeBatch(batch, wishes, seq)
	c.mu.Lock()
	c.writing = false
	c.idle.Broadcast()
	if err != nil {
		for name, f := range batch {
			if _, newer := c.dirty[name]; !newer {
				c.dirty[name] = f
			}
		}
		c.wished = c.wished || wishes != nil
		if c.delay == 0 {
			c.log.Warn("the plain copies of the registrations are not up to date; they are written again until that is done", "error", err)
		}
		c.delay = min(max(2*c.delay, copyDelay), copyRetryMost)
		c.plan()
		return
	}
	if c.delay > 0 {
		c.log.Info("the plain copies of the registrations are up to date again")
	}
	c.delay = 0
	if c.wished || len(c.dirty) > 0 {
		c.plan()
	}
}

// close writes what is dirty.
func (c *copies) close() error {
	c.mu.Lock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	for c.writing {
		c.idle.Wait()
	}
	c.mu.Unlock()
	c.write()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.writing {
		c.idle.Wait()
	}
	if n := len(c.dirty); n > 0 || c.wished {
		return fmt.Errorf("%d plain copies of registrations in %s are not up to date", n, c.dir)
	}
	return nil
}

// writeBatch writes every file under another name, makes them durable and only
// then renames them. Nil wishes are left as they are.
func (c *copies) writeBatch(batch map[string]*copyFile, wishes map[string]wish, seq uint64) error {
	failpoint.Hit(failpoint.CopiesBefore)
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	var temps, paths []string
	defer func() {
		for _, tmp := range temps {
			os.Remove(tmp)
		}
	}()
	for name, f := range batch {
		path := c.path(name)
		if f == nil {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		b, err := f.encode()
		if err != nil {
			return fmt.Errorf("the copy of %q: %w", name, err)
		}
		if f.isAt(path) {
			continue
		}
		tmp := filepath.Join(c.dir, fmt.Sprintf(".%d.tmp", len(temps)))
		if err := writeTemp(tmp, b, false); err != nil {
			return err
		}
		temps, paths = append(temps, tmp), append(paths, path)
	}
	if err := syncFiles(c.dir, temps); err != nil {
		return err
	}
	failpoint.Hit(failpoint.CopiesTemp)
	for i := range temps {
		if err := os.Rename(temps[i], paths[i]); err != nil {
			return err
		}
		failpoint.Hit(failpoint.CopiesRenamed)
	}
	temps = nil
	if wishes != nil {
		b, err := json.Marshal(wishes)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(c.dir, wishesFile), b); err != nil {
			return err
		}
	} else if err := syncDir(c.dir); err != nil {
		return err
	}
	failpoint.Hit(failpoint.CopiesWritten)
	return writeFile(filepath.Join(c.dir, copiesMark), fmt.Appendf(nil, "%d\n", seq))
}

func (f *copyFile) encode() ([]byte, error) {
	b, err := json.MarshalIndent(f, "", "  ")
	return append(b, '\n'), err
}

// isAt reports whether a file says the same already, of whatever event.
func (f *copyFile) isAt(path string) bool {
	old, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	var at struct{ Seq uint64 }
	if json.Unmarshal(old, &at) != nil {
		return false
	}
	same := *f
	same.Seq = at.Seq
	b, err := same.encode()
	return err == nil && bytes.Equal(old, b)
}

// copiesMark is the file that says up to which event the copies are.
const copiesMark = ".seq"

// syncFiles makes files durable.
func syncFiles(dir string, paths []string) error {
	if len(paths) > syncEach {
		if err := syncFS(dir); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	for _, p := range paths {
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		err = f.Sync()
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// path is where a daemon's copy lies. Names that spec allows are file names
// everywhere; anything else is escaped.
func (c *copies) path(name string) string {
	return filepath.Join(c.dir, fileName(name)+".json")
}

func fileName(name string) string {
	var b strings.Builder
	for i, r := range name {
		ok := unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r) || r == '_' || i > 0 && (r == '-' || r == '.')
		if ok && r != unicode.ReplacementChar {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "%%%X", string(r))
		}
	}
	if b.Len() == 0 {
		return "%"
	}
	return b.String()
}

// foundCopies is what Open finds of the copies.
type foundCopies struct {
	all     map[string]*copyFile // by name
	files   map[string]bool      // those that can be read
	damaged []damagedFile
	upTo    uint64 // they were written after this event
	err     error  // they can't be read at all
}

type damagedFile struct {
	file string
	why  error
}

// names lists the files there are, and deletes temporary ones.
func (c *copies) names() (map[string]bool, error) {
	entries, err := os.ReadDir(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	files := make(map[string]bool, len(entries))
	for _, e := range entries {
		switch {
		case strings.HasSuffix(e.Name(), ".tmp"):
			os.Remove(filepath.Join(c.dir, e.Name()))
		case strings.HasSuffix(e.Name(), ".json") && !strings.HasPrefix(e.Name(), "."):
			// A file system may have decomposed it.
			files[norm.NFC.String(e.Name())] = true
		}
	}
	return files, nil
}

// readAll reads every copy.
func (c *copies) readAll() (found foundCopies) {
	files, err := c.names()
	if err != nil {
		return foundCopies{err: err}
	}
	found = foundCopies{all: make(map[string]*copyFile, len(files)), files: files}
	read := func(file string, parse func([]byte) error) {
		b, err := os.ReadFile(filepath.Join(c.dir, file))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil: // that says nothing about the file
			found.err = err
		default:
			if err := parse(b); err != nil {
				found.damaged = append(found.damaged, damagedFile{file, err})
				delete(files, file)
			}
		}
	}
	var wishes map[string]wish
	read(wishesFile, func(b []byte) error { return json.Unmarshal(b, &wishes) })
	read(copiesMark, func(b []byte) (err error) {
		found.upTo, err = strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
		if err == nil && found.upTo > mostSeq {
			found.upTo, err = 0, errors.New("there is no such event")
		}
		return err
	})
	for file := range maps.Clone(files) {
		read(file, func(b []byte) error {
			f := new(copyFile)
			if err := json.Unmarshal(b, f); err != nil {
				return err
			}
			if (f.Spec == nil || f.Spec.Name == "") && (f.Group == nil || f.Group.Name == "") || f.Seq > mostSeq {
				return errors.New("it is of no daemon")
			}
			name := (&supervision.Registration{Spec: f.Spec, Group: f.Group}).Key()
			if fileName(name)+".json" != file {
				return fmt.Errorf("it is of %q", name)
			}
			// Its mark may be lost.
			found.upTo = max(found.upTo, f.Seq)
			f.wish = wish{Wanted: supervision.WantStopped}
			if f.Spec != nil && f.Spec.Autostart {
				f.Wanted = supervision.WantRunning
			}
			if w, ok := wishes[name]; ok && w.Seq <= mostSeq {
				f.wish, f.wished = w, true
				f.Seq = max(f.Seq, w.Seq)
			}
			found.all[name] = f
			return nil
		})
	}
	return found
}

// mostSeq is beyond every number that events get.
const mostSeq = 1 << 62

// setAside moves a file out of the way and returns where to.
func (c *copies) setAside(file string, now time.Time) (string, error) {
	dir := damagedName(c.dir, now)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	to := filepath.Join(dir, file)
	return to, os.Rename(filepath.Join(c.dir, file), to)
}

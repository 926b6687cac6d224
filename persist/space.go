package persist

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

var errNotOpen = errors.New("the journal could not be opened")

// errNoSpace says that the disk has less room than the journal wants.
type errNoSpace struct {
	dir        string
	free, need int64
}

func (e errNoSpace) Error() string {
	return fmt.Sprintf("the disk of %s is full: %d KiB are free, %d KiB are needed", e.dir, e.free>>10, e.need>>10)
}

// freeSpace is what an unprivileged process may still write, in bytes.
func (s *Store) freeSpace() (int64, error) {
	if s.opts.Faults.FreeSpace != nil {
		return s.opts.Faults.FreeSpace()
	}
	n, err := diskFree(s.opts.Dir)
	if err != nil {
		return 0, fmt.Errorf("the free space of %s is unknown: %w", s.opts.Dir, err)
	}
	return n, nil
}

// Size is what the journal takes on disk, in bytes, without the holes of its
// files.
func (s *Store) Size() (int64, error) {
	entries, err := os.ReadDir(s.stateDir)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			continue // deleted meanwhile
		}
		sum += allocated(fi)
	}
	return sum, nil
}

// wal follows the logs of Badger's memtables (NNNNN.mem): sparse files that it
// writes through a memory map. When one is full, it begins the next one and
// writes the old memtable to a table in the background, which deletes its log.
//
// Three things are needed that Badger doesn't do: that the blocks under the
// map exist before they are written (else a full disk is SIGBUS), that a new
// log is not begun with little room, and that Sync covers the logs that are
// full but not written to a table yet.
type wal struct {
	fid       int   // of the current log
	log       int64 // what it holds, rather more than less
	table     int64 // what its memtable holds, likewise
	allocated bool  // all its blocks exist
	newDir    bool  // the directory has entries that are not synced
	rotations int   // logs begun since the last compaction
	elsewhere bool  // it is a copy on another disk, to be read once
}

// walFull is where the log may end: Badger begins the next one before a
// transaction that finds it past memTableSize.
const walFull = memTableSize + memTableSize/5

func (w *wal) path(s *Store, fid int) string {
	return filepath.Join(s.stateDir, fmt.Sprintf("%05d.mem", fid))
}

// logs lists the numbers of all logs there are.
func (w *wal) logs(s *Store) ([]int, error) {
	entries, err := os.ReadDir(s.stateDir)
	if err != nil {
		return nil, err
	}
	var fids []int
	for _, e := range entries {
		if base, ok := strings.CutSuffix(e.Name(), ".mem"); ok {
			if fid, err := strconv.Atoi(base); err == nil {
				fids = append(fids, fid)
			}
		}
	}
	return fids, nil
}

// opened looks which log a database that was just opened writes.
func (w *wal) opened(s *Store) error {
	fids, err := w.logs(s)
	if err != nil {
		return err
	}
	*w = wal{newDir: true, rotations: w.rotations}
	for _, fid := range fids {
		w.fid = max(w.fid, fid)
	}
	w.allocate(s)
	return nil
}

func (w *wal) allocate(s *Store) {
	w.allocated = allocate(w.path(s, w.fid), walFull) == nil
}

// admit says whether a transaction may be written. Most calls cost nothing.
func (w *wal) admit(s *Store) error {
	if w.elsewhere {
		return nil
	}
	full := w.full()
	if full {
		w.followed(s)
		full = w.full()
	}
	if !full && w.allocated {
		return nil
	}
	free, err := s.freeSpace()
	if err != nil {
		return err
	}
	if free < s.opts.ReserveBytes {
		return errNoSpace{s.opts.Dir, free, s.opts.ReserveBytes}
	}
	if !full {
		w.allocate(s)
		return nil
	}
	// The next log and the table of this one are opened in the background,
	// where a failure ends the process.
	if err := descriptorsLeft(); err != nil {
		return fmt.Errorf("the next log of the journal can't be begun: %w", err)
	}
	return w.awaitFlush(s)
}

// followed notices that the next log was begun.
func (w *wal) followed(s *Store) {
	for {
		if _, err := os.Stat(w.path(s, w.fid+1)); err != nil {
			return
		}
		w.fid++
		w.log, w.table = 0, 0
		w.grew(maxTxnSize, maxTxnCount) // what began it is in it
		w.newDir = true
		w.rotations++
		w.allocate(s)
	}
}

// flushPatience is how long a full log waits for an older one to be written
// to its table.
const flushPatience = 10 * time.Second

// awaitFlush waits until there are so few logs that Badger begins a new one at
// once. On a failing disk it would wait, and Append with it, for ever.
func (w *wal) awaitFlush(s *Store) error {
	older := w.path(s, w.fid-2) // they are written out in order
	for deadline := time.Now().Add(flushPatience); ; {
		if _, err := os.Stat(older); err != nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("a log of the journal is not written to a table after %s", flushPatience)
		}
		time.Sleep(time.Millisecond)
	}
}

// grew counts a transaction: of so many bytes of keys and values in so many
// entries. What Badger adds to each (header, version, checksum, node) is known
// on average, and a log holds thousands.
func (w *wal) grew(bytes, entries int) {
	w.log += int64(bytes) + int64(entries)*20 + 52
	w.table += int64(bytes) + int64(entries)*40
}

func (w *wal) full() bool { return max(w.log, w.table) >= memTableSize }

// sync makes all logs durable. The current one is not special: Badger's Sync
// would leave out the others, and does nothing on Windows.
func (w *wal) sync(s *Store) error {
	if s.db == nil {
		return errNotOpen
	}
	fids, err := w.logs(s)
	if err != nil {
		return fmt.Errorf("the journal can't be synced: %w", err)
	}
	for _, fid := range fids {
		if fid > w.fid {
			w.newDir = true
		}
		// One that is gone is in a table, which Badger synced.
		if err := syncMapped(w.path(s, fid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the journal can't be synced: %w", err)
		}
	}
	if w.newDir {
		if err := syncDir(s.stateDir); err != nil {
			return fmt.Errorf("the journal can't be synced: %w", err)
		}
		w.newDir = false
	}
	return nil
}

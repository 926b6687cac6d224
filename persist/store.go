// Package persist keeps the state of all daemons: an event-sourced journal in
// Badger, and plain copies of the registrations beside it.
//
// In the data directory it owns:
//
//	lock                        held by the manager that uses the directory
//	state/                      the journal, and FORMAT, which says who wrote it
//	state.damaged-<UTC time>/   a journal that could not be read, set aside
//	registrations/<name>.json   the plain copies
//
// # What is durable when
//
// [Store.Append] commits to a memory-mapped log: once it returns, the events
// survive the death of the process, by kill -9 too, but not a power cut.
// [Store.Sync] makes all that was appended before survive that as well.
//
// # How the state is found again
//
// Every event carries the full record that results from it, so a daemon's
// state is its last event. A snapshot (the state of all daemons, rewritten
// where it changed) is taken every few thousand events and at Close, so that
// startup reads the snapshot and the few events after it. The oldest events
// are deleted past a limit; what they said is kept in a base, from which the
// state at a past time is built.
//
// # Disks that are full
//
// A write through a memory map to a full disk is SIGBUS, which ends the
// process. So the log's blocks are allocated before it is written, and before
// a new log is begun the free space is looked at. Below a reserve the store
// keeps events in memory ([Store.Degraded] says so) and writes them, with a
// snapshot, once there is room. What is left: a program that fills the whole
// reserve in the milliseconds in which Badger writes a table ends the manager;
// nothing committed is lost by that, and its successor starts in memory.
package persist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/persist/journalpb"
	"github.com/cyber-boost/syspulse/supervision"
)

// Errors of a store.
var (
	ErrClosed   = errors.New("the journal is closed")
	ErrDegraded = errors.New("the journal is kept in memory only")
)

// Options say how a store is opened. Dir is required; a zero is the default
// of every other field.
type Options struct {
	Dir     string // the data directory; created with mode 0700
	BootID  string // of this boot; recorded with the event manager_started
	Version string // of this build; recorded likewise, and in state/FORMAT
	Logger  *slog.Logger
	Now     func() time.Time

	// MaxEvents is how many events are kept for history and for the state at
	// a past time; the oldest are deleted (default 100,000).
	MaxEvents int
	// SnapshotEvery is after how many events a snapshot is taken (default
	// 4096).
	SnapshotEvery int
	// ReserveBytes is what stays free on the disk: with less, events are
	// kept in memory (default 16 MiB).
	ReserveBytes int64
	// MaxPending is how many events are kept in memory while they can't be
	// written; the state of every daemon is kept in any case (default
	// 10,000).
	MaxPending int

	// Locked is called once the data directory is ours, before the journal is
	// opened; nil is for nothing.
	Locked func()

	Faults Faults
}

// Faults lets tests make things go wrong. All may be nil.
type Faults struct {
	FreeSpace func() (int64, error)  // instead of asking the file system
	Commit    func(events int) error // before each commit
	Sync      func() error           // before each sync
	Point     func(name string)      // reached: commit, snapshot, trim, recover, open
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxEvents <= 0 {
		o.MaxEvents = failpoint.Tune("max-events", 100_000)
	}
	if o.SnapshotEvery <= 0 {
		o.SnapshotEvery = failpoint.Tune("snapshot-every", 4096)
	}
	if o.ReserveBytes <= 0 {
		o.ReserveBytes = 16 << 20
	}
	if o.MaxPending <= 0 {
		o.MaxPending = 10_000
	}
	if o.Faults.Point == nil {
		o.Faults.Point = func(string) {}
	}
}

// Daemon is one daemon's state at some moment.
type Daemon struct {
	Name         string
	Seq          uint64    // of its last event
	Time         time.Time // of its last event
	Registration *supervision.Registration
	Record       supervision.Record
	// WantedCopied tells that Record.Wanted is of the plain copies and newer
	// than the rest of Record.
	WantedCopied bool
}

// Recovery is what Open found.
type Recovery struct {
	Daemons []Daemon // sorted by name
	LastSeq uint64   // of the newest event

	// BootID and Version are those of the last manager that recorded
	// manager_started; empty if none did.
	BootID  string
	Version string
	// LastManager is the newest manager_started or manager_stopped; nil if
	// there is none. Clean says that it is manager_stopped.
	LastManager *supervision.Event
	Clean       bool

	// Notices say, for people, what was wrong and what was done about it.
	Notices []string
	// Damage is those of them that somebody should look at still when the
	// disk is writable and has room.
	Damage []string
}

// Store is the journal. There is one writer: Append, Sync, Compact, Retry and
// Close exclude each other. Everything else may be called at any time by any
// goroutine, and sees every event whose Append has returned.
type Store struct {
	opts     Options
	log      *slog.Logger
	stateDir string
	lock     *dirLock
	recovery Recovery
	aside    string // where damaged files of this start are; empty if there are none
	copies   *copies
	found    func() foundCopies // of the copies, at the start

	// Of the writer.
	wmu       sync.Mutex
	closed    bool
	daemons   map[string]*daemon
	names     map[string]name // of every number in use
	nextID    daemonID
	firstSeq  uint64 // the oldest event kept
	lastSeq   uint64
	kept      int    // how many events there are
	baseSeq   uint64 // the newest deleted event
	snapSeq   uint64 // the snapshot has all up to here
	manager   *journalpb.Manager
	wal       wal
	openBatch bool // a batch in several transactions was begun and is not complete
	retryAt   time.Time
	lost      bool     // synced data may be gone: a sync failed
	gaps      []string // events that were missing at the start
	blind     bool     // what the journal holds could not be read
	slab      []byte

	// db is nil while the journal can't be opened. dbmu is held for reading
	// by whoever uses db, for writing only to open or close it.
	dbmu       sync.RWMutex
	db         *badger.DB
	background sync.WaitGroup
	compacting sync.Mutex

	// What readers need, guarded by rmu.
	rmu      sync.RWMutex
	visible  uint64 // events after it belong to a batch that is not complete
	degraded string // why events are kept in memory; empty if they are not
	pending  []supervision.Event
	// condensed is what is kept of the oldest of those, for each daemon.
	condensed map[string]supervision.Event
	ids       map[string]daemonID
}

// daemon is the current state of one daemon.
type daemon struct {
	id       daemonID
	seq      uint64
	time     time.Time
	rec      *supervision.Record
	reg      *supervision.Registration
	recDirty bool // not in the snapshot yet
	regDirty bool
	copied   bool // what is wanted of it is known from the plain copies
}

// name is what a number in the keys stands for.
type name struct {
	id      daemonID
	removed uint64 // its last removal
}

// Open locks the data directory, opens the journal in it and replays it. It
// fails with [ErrLocked] if another manager uses the directory and with
// [ErrNewerState] if a newer version wrote it. A journal that can't be read is
// set aside and a new one is begun from the plain copies; Recovered says so.
func Open(opts Options) (*Store, error) {
	opts.setDefaults()
	if opts.Dir == "" {
		return nil, errors.New("no data directory is given")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("the data directory: %w", err)
	}
	opts.Dir = dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the data directory can't be made: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		opts:     opts,
		log:      opts.Logger,
		stateDir: filepath.Join(dir, "state"),
		lock:     lock,

		condensed: make(map[string]supervision.Event),
	}
	s.reset()
	if opts.Locked != nil {
		opts.Locked()
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return s, nil
}

// reset forgets what was read of a journal.
func (s *Store) reset() {
	s.daemons = make(map[string]*daemon)
	s.names = make(map[string]name)
	s.ids = make(map[string]daemonID)
	s.manager = new(journalpb.Manager)
	s.nextID = 1
	s.firstSeq, s.lastSeq, s.snapSeq, s.baseSeq = 1, 0, 0, 0
	s.gaps, s.kept = nil, 0
	s.openBatch = false
	s.visible = 0
}

// Recovered is what Open found. The result is shared: don't change it.
func (s *Store) Recovered() Recovery { return s.recovery }

func (s *Store) recovered() {
	r := &s.recovery
	r.LastSeq = s.lastSeq
	r.Daemons = r.Daemons[:0]
	for n, d := range s.daemons {
		r.Daemons = append(r.Daemons, d.public(n))
	}
	slices.SortFunc(r.Daemons, func(a, b Daemon) int { return strings.Compare(a.Name, b.Name) })
	r.BootID = s.manager.Started.GetBootId()
	r.Version = s.manager.Started.GetVersion()
	if s.manager.Last != nil {
		ev, _ := eventFromPB(s.manager.Last)
		r.LastManager = &ev
		r.Clean = ev.Kind == supervision.EventManagerStop
	}
}

func (d *daemon) public(name string) Daemon {
	out := Daemon{Name: name, Seq: d.seq, Time: d.time, Registration: d.reg, WantedCopied: d.copied}
	if d.rec != nil {
		out.Record = *d.rec
	}
	return out
}

// Degraded says, for people, why events are kept in memory only; it is empty
// if they are not.
func (s *Store) Degraded() string {
	s.rmu.RLock()
	defer s.rmu.RUnlock()
	return s.degraded
}

// Close writes a snapshot and the plain copies, syncs, and releases the data
// directory. A second call does nothing.
func (s *Store) Close() error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	if s.Degraded() != "" {
		s.recoverFrom(true)
	}
	if why := s.Degraded(); why != "" {
		errs = append(errs, fmt.Errorf("%w: %s", ErrDegraded, why))
	} else if err := s.snapshot(); err != nil {
		errs = append(errs, err)
	}
	s.background.Wait()
	if free, err := s.freeSpace(); err == nil && free < s.opts.ReserveBytes {
		errs = append(errs, s.abandonDB())
	} else {
		errs = append(errs, s.closeDB())
	}
	errs = append(errs, s.copies.close(), s.lock.release())
	return errors.Join(errs...)
}

// abandonDB is for a full disk: closing the database would write its memtable
// to a table, which needs room. The logs are there and are replayed at the
// next start. Its goroutines stay until the process ends.
func (s *Store) abandonDB() error {
	s.dbmu.Lock()
	defer s.dbmu.Unlock()
	if s.db == nil {
		return nil
	}
	err := s.wal.sync(s)
	s.db = nil
	return err
}

// closeDB syncs, too.
func (s *Store) closeDB() error {
	s.dbmu.Lock()
	defer s.dbmu.Unlock()
	if s.db == nil {
		return nil
	}
	err := s.db.Close()
	s.db = nil
	if err != nil {
		return fmt.Errorf("closing the journal: %w", err)
	}
	return nil
}

// view calls fn with a reading transaction and the last event that it may
// show. fn is not called if the journal is not open.
func (s *Store) view(ctx context.Context, fn func(txn *badger.Txn, visible uint64) error) error {
	s.dbmu.RLock()
	defer s.dbmu.RUnlock()
	if s.db == nil {
		return nil
	}
	s.rmu.RLock()
	visible := s.visible
	s.rmu.RUnlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	return fn(txn, visible)
}

package persist

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
	"google.golang.org/protobuf/proto"

	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/persist/journalpb"
	"github.com/cyber-boost/syspulse/supervision"
)

// entry is one change of the database.
type entry struct {
	key, val []byte
	del      bool
}

// Append commits events in one piece, in their order, and numbers them: it
// sets Seq, and Time where that is zero, in the caller's slice. Once it
// returns they survive the death of the process; see Sync for a power cut.
//
// Either all events of a call are found again or none. There is no limit to
// their number; one event may have 224 KiB, and a larger one fails the call
// with nothing committed, and an [EventError] that says which it is.
//
// When the disk is full or failing, events are kept in memory and Append
// succeeds: see Degraded and Retry.
//
// Records and registrations are kept and must not be changed afterwards.
func (s *Store) Append(events []supervision.Event) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if len(events) == 0 {
		return nil
	}
	entries, err := s.encode(events)
	if err != nil {
		return err
	}
	if s.Degraded() != "" {
		s.recoverFrom(false)
	}
	if s.Degraded() == "" {
		if err := s.commit(entries, len(events)); err != nil {
			s.degrade(err)
		} else {
			s.kept += len(events)
		}
	}
	s.apply(events)
	s.publish(events)
	s.copies.changed(s, events)
	s.tidy()
	return nil
}

// EventError says of one event of an Append that the journal can't take it. It
// would take the others.
type EventError struct {
	Index int // in the slice
	Err   error
}

func (e *EventError) Error() string { return e.Err.Error() }
func (e *EventError) Unwrap() error { return e.Err }

// encode numbers the events and makes their entries. If it fails, nothing has
// changed but the slice.
func (s *Store) encode(events []supervision.Event) ([]entry, error) {
	entries := make([]entry, 0, len(events)+8)
	fresh := make(map[string]name)
	nextID := s.nextID
	slab := s.slab[:0]
	seq := s.lastSeq
	for i := range events {
		ev := &events[i]
		seq++
		ev.Seq = seq
		if ev.Time.IsZero() {
			ev.Time = s.opts.Now()
		}
		n, known := fresh[ev.Daemon]
		if !known {
			n, known = s.names[ev.Daemon]
		}
		if ev.Daemon != "" && (!known || ev.Kind == supervision.EventRemoved) {
			if !known {
				n.id = nextID
				nextID++
			}
			if ev.Kind == supervision.EventRemoved {
				n.removed = seq
			}
			fresh[ev.Daemon] = n
			entries = append(entries, nameEntry(ev.Daemon, n))
		}
		p, err := s.message(ev)
		if err != nil {
			return nil, &EventError{i, err}
		}
		at := len(slab)
		slab, err = proto.MarshalOptions{}.MarshalAppend(slab, p)
		if err != nil {
			return nil, &EventError{i, fmt.Errorf("event %q of %q can't be written: %w", ev.Kind, ev.Daemon, err)}
		}
		if size := len(slab) - at; size > maxValue {
			return nil, &EventError{i, fmt.Errorf("event %q of %q has %d bytes; %d are the most that the journal takes: make its environment or command shorter (env_file is not kept in the journal)", ev.Kind, ev.Daemon, size, maxValue)}
		}
		key := eventKey{seq, clampNanos(ev.Time), n.id, contentsOf(ev)}
		entries = append(entries, entry{key: key.append(make([]byte, 0, eventKeyLen)), val: slab[at:len(slab):len(slab)]})
	}
	for daemon, n := range fresh {
		s.names[daemon] = n
	}
	s.nextID = nextID
	if cap(slab) <= 256<<10 {
		s.slab = slab // values are copied by the commit
	}
	return entries, nil
}

// message is an event as the journal has it.
func (s *Store) message(ev *supervision.Event) (*journalpb.Event, error) {
	p, err := eventToPB(ev)
	if err == nil && ev.Kind == supervision.EventManagerStart {
		p.BootId, p.Version = s.opts.BootID, s.opts.Version
	}
	return p, err
}

func nameEntry(daemon string, n name) entry {
	b, _ := proto.Marshal(&journalpb.Name{Name: daemon, RemovedSeq: n.removed})
	return entry{key: daemonKey(namePrefix, n.id), val: b}
}

// commit writes entries, all or none. If they don't fit into one transaction,
// the first one leaves a mark that the last one deletes: on the next start a
// mark means that the events from there on are not complete and are deleted.
func (s *Store) commit(entries []entry, events int) error {
	s.opts.Faults.Point("commit")
	failpoint.Hit(failpoint.CommitBefore)
	if s.opts.Faults.Commit != nil {
		if err := s.opts.Faults.Commit(events); err != nil {
			return err
		}
	}
	cut := txnEnd(entries)
	if cut < len(entries) || s.openBatch {
		mark, err := proto.Marshal(&journalpb.Mark{Seq: s.lastSeq + 1})
		if err != nil {
			return err
		}
		if !s.openBatch {
			if err := s.transact([]entry{{key: metaBatch, val: mark}}); err != nil {
				return err
			}
			s.openBatch = true
		}
		for cut < len(entries) {
			if err := s.transact(entries[:cut]); err != nil {
				return err
			}
			s.opts.Faults.Point("batch")
			failpoint.Hit(failpoint.CommitPart)
			entries = entries[cut:]
			cut = txnEnd(entries)
		}
		entries = append(entries[:len(entries):len(entries)], entry{key: metaBatch, del: true})
	}
	if err := s.transact(entries); err != nil {
		return err
	}
	s.openBatch = false
	failpoint.Hit(failpoint.CommitAfter)
	return nil
}

// txnEnd is how many of the entries fit into one transaction, leaving room for
// the mark.
func txnEnd(entries []entry) int {
	size := 0
	for i := range entries {
		size += len(entries[i].key) + len(entries[i].val) + 32
		if i > 0 && (size > maxTxnSize || i >= maxTxnCount) {
			return i
		}
	}
	return len(entries)
}

func (s *Store) transact(entries []entry) error {
	if s.db == nil {
		return errNotOpen
	}
	if err := s.wal.admit(s); err != nil {
		return err
	}
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	bytes := 0
	for i := range entries {
		e := &entries[i]
		bytes += len(e.key) + len(e.val)
		var err error
		if e.del {
			err = txn.Delete(e.key)
		} else {
			err = txn.SetEntry(badger.NewEntry(e.key, e.val))
		}
		if err != nil {
			return fmt.Errorf("the journal takes no more: %w", err)
		}
	}
	if err := txn.Commit(); err != nil {
		return fmt.Errorf("the journal can't be written: %w", err)
	}
	s.wal.grew(bytes, len(entries))
	return nil
}

// apply brings the current state up to date with committed events.
func (s *Store) apply(events []supervision.Event) {
	for i := range events {
		s.applyOne(&events[i])
	}
}

func (s *Store) applyOne(ev *supervision.Event) {
	s.lastSeq = ev.Seq
	switch {
	case ev.Daemon == "":
		if p, err := s.message(ev); err == nil {
			s.applyManager(p)
		}
	case ev.Kind == supervision.EventRemoved:
		delete(s.daemons, ev.Daemon)
	case ev.Record != nil || ev.Spec != nil:
		d := s.daemons[ev.Daemon]
		if d == nil {
			d = &daemon{id: s.names[ev.Daemon].id}
			s.daemons[ev.Daemon] = d
		}
		d.seq, d.time = ev.Seq, ev.Time
		d.recDirty = true
		if ev.Record != nil {
			d.rec = ev.Record
		}
		if ev.Spec != nil {
			d.reg, d.regDirty = ev.Spec, true
		}
	}
}

func (s *Store) applyManager(p *journalpb.Event) {
	switch supervision.Kind(p.Kind) {
	case supervision.EventManagerStart:
		s.manager.Started, s.manager.Last = p, p
	case supervision.EventManagerStop:
		s.manager.Last = p
	}
}

// publish lets readers see events.
func (s *Store) publish(events []supervision.Event) {
	s.rmu.Lock()
	defer s.rmu.Unlock()
	for i := range events {
		if d := events[i].Daemon; d != "" {
			if _, ok := s.ids[d]; !ok {
				s.ids[d] = s.names[d].id
			}
		}
	}
	if s.degraded == "" {
		s.visible = s.lastSeq
		return
	}
	s.pending = append(s.pending, events...)
	over := max(0, len(s.pending)-s.opts.MaxPending)
	for _, ev := range s.pending[:over] {
		if ev.Daemon == "" {
			continue
		}
		// Of the events that are left out the last of each daemon stays, and
		// with it the last registration: history has holes, states don't.
		if was := s.condensed[ev.Daemon]; ev.Kind != supervision.EventRemoved {
			if ev.Spec == nil {
				ev.Spec = was.Spec
			}
			if ev.Record == nil {
				ev.Record = was.Record
			}
		}
		s.condensed[ev.Daemon] = ev
	}
	s.pending = s.pending[over:]
}

// unwritten is what is in memory only, in order. s.rmu is held, or it is the
// writer that asks.
func (s *Store) unwritten() []supervision.Event {
	events := make([]supervision.Event, 0, len(s.condensed)+len(s.pending))
	for _, ev := range s.condensed {
		events = append(events, ev)
	}
	slices.SortFunc(events, func(a, b supervision.Event) int { return cmp.Compare(a.Seq, b.Seq) })
	return append(events, s.pending...)
}

// Sync makes everything that was appended before survive a power cut. It fails
// with ErrDegraded while events are kept in memory.
func (s *Store) Sync() error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.Degraded() != "" {
		s.recoverFrom(false)
	}
	if why := s.Degraded(); why != "" {
		return fmt.Errorf("%w: %s", ErrDegraded, why)
	}
	if err := s.sync(); err != nil {
		// What the kernel could not write it may have dropped: what is on
		// disk is known only after everything was written again.
		s.lost = true
		s.degrade(err)
		return fmt.Errorf("%w: %w", ErrDegraded, err)
	}
	return nil
}

func (s *Store) sync() error {
	if s.opts.Faults.Sync != nil {
		if err := s.opts.Faults.Sync(); err != nil {
			return err
		}
	}
	err := s.wal.sync(s)
	failpoint.Hit(failpoint.CommitSynced)
	return err
}

// degrade turns to memory.
func (s *Store) degrade(err error) {
	s.rmu.Lock()
	was := s.degraded
	s.degraded = err.Error()
	s.rmu.Unlock()
	if was == "" {
		s.log.Error("the journal is kept in memory only; what happens now is lost if the manager dies", "cause", err)
	}
	s.retryAt = s.opts.Now().Add(retryEvery)
}

// retryEvery is how often a journal in memory looks whether it can be written
// again.
const retryEvery = time.Second

// Retry looks whether a journal that is kept in memory can be written again,
// and if so writes it. It reports whether the journal is on disk. Append and
// Sync do so, too, once a second; call it on a timer while Degraded says
// something.
func (s *Store) Retry() bool {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.closed {
		return false
	}
	if s.Degraded() != "" {
		s.recoverFrom(true)
	}
	return s.Degraded() == ""
}

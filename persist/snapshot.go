package persist

import (
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"google.golang.org/protobuf/proto"

	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/persist/journalpb"
)

// trimChunk is how many of the oldest events are deleted at once: few enough
// for Append not to be slow.
const trimChunk = 256

// tidy takes snapshots and deletes old events as the journal grows. What
// fails is tried again later; what matters is committed already.
func (s *Store) tidy() {
	if s.Degraded() != "" {
		return
	}
	if s.lastSeq-s.snapSeq >= uint64(s.opts.SnapshotEvery) {
		if err := s.snapshot(); err != nil {
			s.degrade(err)
			return
		}
	}
	for s.kept >= s.opts.MaxEvents+trimChunk {
		if err := s.trim(); err != nil {
			s.degrade(err)
			return
		}
	}
	if s.wal.rotations >= failpoint.Tune("flatten-at", flattenAt) {
		s.wal.rotations = 0
		s.flatten()
	}
}

// snapshot writes what has changed since the last one.
func (s *Store) snapshot() error {
	if s.snapSeq == s.lastSeq && !s.lost {
		return nil
	}
	s.opts.Faults.Point("snapshot")
	failpoint.Hit(failpoint.SnapshotBefore)
	entries, err := s.snapshotEntries()
	if err != nil {
		return err
	}
	if err := s.commit(entries, 0); err != nil {
		return err
	}
	failpoint.Hit(failpoint.SnapshotAfter)
	s.snapshotDone()
	return nil
}

// snapshotEntries: replay compares no numbers, so entries of a snapshot must
// be committed with its mark or be followed by the same events again.
func (s *Store) snapshotEntries() ([]entry, error) {
	var entries []entry
	if s.lost {
		for n, nm := range s.names {
			entries = append(entries, nameEntry(n, nm))
		}
		for _, d := range s.daemons {
			d.recDirty, d.regDirty = true, true
		}
	}
	put := func(key []byte, m proto.Message) error {
		b, err := proto.Marshal(m)
		if err != nil {
			return fmt.Errorf("the snapshot can't be written: %w", err)
		}
		entries = append(entries, entry{key: key, val: b})
		return nil
	}
	for _, d := range s.daemons {
		if d.recDirty {
			st := &journalpb.State{Seq: d.seq, Time: timeToPB(d.time), Record: recordToPB(d.rec)}
			if err := put(daemonKey(snapPrefix, d.id), st); err != nil {
				return nil, err
			}
		}
		if d.regDirty {
			reg, err := registrationToPB(d.reg)
			if err != nil {
				return nil, err
			}
			if err := put(daemonKey(snapRegPrefix, d.id), reg); err != nil {
				return nil, err
			}
		}
	}
	for n, nm := range s.names {
		if nm.removed > s.snapSeq && s.daemons[n] == nil {
			entries = append(entries,
				entry{key: daemonKey(snapPrefix, nm.id), del: true},
				entry{key: daemonKey(snapRegPrefix, nm.id), del: true})
		}
	}
	if err := put(metaManager, s.manager); err != nil {
		return nil, err
	}
	return entries, put(metaSnapshot, &journalpb.Mark{Seq: s.lastSeq, Time: timeToPB(s.opts.Now())})
}

func (s *Store) snapshotDone() {
	for _, d := range s.daemons {
		d.recDirty, d.regDirty = false, false
	}
	s.snapSeq = s.lastSeq
	s.lost = false
	s.writeMark()
}

// trim deletes the oldest events and takes what they said into the base.
func (s *Store) trim() error {
	// Startup replays what is behind the snapshot: it must stay, or be in it.
	if s.firstSeq+trimChunk > s.snapSeq {
		if err := s.snapshot(); err != nil {
			return err
		}
	}
	s.opts.Faults.Point("trim")
	failpoint.Hit(failpoint.TrimBefore)
	type last struct{ rec, reg []byte }
	var (
		entries []entry
		mark    journalpb.Mark
		most    = min(trimChunk, s.kept-s.opts.MaxEvents)
		end     = s.snapSeq + 1 // the first to stay
		base    = make(map[daemonID]*last)
		removed = make(map[daemonID]bool)
	)
	err := s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{PrefetchValues: false, Prefix: []byte{eventPrefix}})
		defer it.Close()
		for it.Seek(seqKey(s.firstSeq)); it.Valid(); it.Next() {
			item := it.Item()
			k, ok := parseEventKey(item.Key())
			if !ok {
				continue
			}
			if len(entries) == most || k.seq > s.snapSeq {
				end = k.seq
				break
			}
			entries = append(entries, entry{key: item.KeyCopy(nil), del: true})
			p := new(journalpb.Event)
			if err := item.Value(func(b []byte) error { return proto.Unmarshal(b, p) }); err != nil {
				return fmt.Errorf("event %d can't be read: %w", k.seq, err)
			}
			mark.Time = p.Time
			if k.daemon == 0 {
				continue
			}
			if k.contents&isRemoval != 0 {
				removed[k.daemon] = true
				delete(base, k.daemon)
				continue
			}
			l := base[k.daemon]
			if l == nil {
				l = new(last)
				base[k.daemon] = l
			}
			if p.Record != nil {
				b, err := proto.Marshal(&journalpb.State{Seq: k.seq, Time: p.Time, Record: p.Record})
				if err != nil {
					return err
				}
				l.rec = b
			}
			if p.Registration != nil {
				b, err := proto.Marshal(p.Registration)
				if err != nil {
					return err
				}
				l.reg = b
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	trimmed := len(entries)
	for id := range removed {
		entries = append(entries,
			entry{key: daemonKey(basePrefix, id), del: true},
			entry{key: daemonKey(baseRegPrefix, id), del: true})
	}
	for id, l := range base {
		if l.rec != nil {
			entries = append(entries, entry{key: daemonKey(basePrefix, id), val: l.rec})
		}
		if l.reg != nil {
			entries = append(entries, entry{key: daemonKey(baseRegPrefix, id), val: l.reg})
		}
	}
	// A name that nothing refers to any more is forgotten.
	var gone []string
	for n, nm := range s.names {
		if removed[nm.id] && nm.removed < end && s.daemons[n] == nil && base[nm.id] == nil {
			gone = append(gone, n)
			entries = append(entries, entry{key: daemonKey(namePrefix, nm.id), del: true})
		}
	}
	mark.Seq = end - 1
	b, err := proto.Marshal(&mark)
	if err != nil {
		return err
	}
	entries = append(entries, entry{key: metaBase, val: b})
	if err := s.commit(entries, 0); err != nil {
		return err
	}
	failpoint.Hit(failpoint.TrimAfter)
	s.firstSeq, s.baseSeq = end, end-1
	s.kept -= trimmed
	if trimmed == 0 { // there is nothing left to delete
		s.kept = 0
	}
	s.rmu.Lock()
	for _, n := range gone {
		delete(s.names, n)
		delete(s.ids, n)
	}
	s.rmu.Unlock()
	return nil
}

// flatten merges the tables of the journal in the background, which frees the
// space of what was deleted. It writes the whole journal anew before it
// deletes the old tables.
func (s *Store) flatten() {
	s.background.Add(1)
	go func() {
		defer s.background.Done()
		if err := s.flattenNow(); err != nil {
			s.log.Warn("the journal was not compacted", "error", err)
		}
	}()
}

func (s *Store) flattenNow() error {
	s.compacting.Lock()
	defer s.compacting.Unlock()
	s.dbmu.RLock()
	defer s.dbmu.RUnlock()
	if s.db == nil {
		return nil
	}
	size, err := s.Size()
	if err != nil {
		return err
	}
	free, err := s.freeSpace()
	if err != nil {
		return err
	}
	if free < size+s.opts.ReserveBytes {
		return fmt.Errorf("it takes %d bytes beside the reserve and %d are free", size, free)
	}
	failpoint.Hit(failpoint.CompactBefore)
	if err := s.db.Flatten(1); err != nil {
		return err
	}
	failpoint.Hit(failpoint.CompactAfter)
	s.pageOut()
	return nil
}

// Compact takes a snapshot, deletes what is past the limit and frees its
// space. The journal does so by itself as it grows; there is no need to call
// it on a timer.
func (s *Store) Compact() error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if why := s.Degraded(); why != "" {
		return fmt.Errorf("%w: %s", ErrDegraded, why)
	}
	if err := s.snapshot(); err != nil {
		return err
	}
	for s.kept > s.opts.MaxEvents {
		if err := s.trim(); err != nil {
			return err
		}
	}
	return s.flattenNow()
}

// recoverFrom writes what was kept in memory, if the disk takes it again.
// Without now it looks no more often than every retryEvery.
func (s *Store) recoverFrom(now bool) {
	at := s.opts.Now()
	if wait := s.retryAt.Sub(at); !now && wait > 0 && wait <= retryEvery {
		return // a clock that was set back does not count
	}
	s.retryAt = at.Add(retryEvery)
	s.opts.Faults.Point("recover")
	if err := s.rewrite(); err != nil {
		s.degrade(err)
		return
	}
	s.rmu.Lock()
	dropped := s.degraded
	s.degraded, s.pending = "", nil
	clear(s.condensed)
	s.visible = s.lastSeq
	s.rmu.Unlock()
	s.log.Info("the journal is on disk again", "was", dropped)
	s.copies.retry(s)
	s.tidy()
}

// rewrite commits the events that were kept in memory and a snapshot.
func (s *Store) rewrite() error {
	free, err := s.freeSpace()
	if err != nil {
		return err
	}
	// Twice the reserve, or it would go to and fro.
	if need := 2 * s.opts.ReserveBytes; free < need {
		return errNoSpace{s.opts.Dir, free, need}
	}
	if s.db == nil {
		if err := s.reopen(); err != nil {
			return err
		}
	}
	pending := s.unwritten()
	entries := make([]entry, 0, len(pending)+8)
	for i := range pending {
		ev := &pending[i]
		p, err := s.message(ev)
		if err != nil {
			return err
		}
		b, err := proto.Marshal(p)
		if err != nil {
			return err
		}
		key := eventKey{ev.Seq, clampNanos(ev.Time), s.names[ev.Daemon].id, contentsOf(ev)}
		entries = append(entries, entry{key: key.append(nil), val: b})
	}
	s.lost = true // all of it is written
	snap, err := s.snapshotEntries()
	if err != nil {
		return err
	}
	if err := s.commit(append(entries, snap...), len(pending)); err != nil {
		return err
	}
	s.kept += len(pending)
	s.snapshotDone()
	return s.sync()
}

package persist

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"google.golang.org/protobuf/proto"

	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/persist/journalpb"
)

// open opens the journal and replays it, or finds the state in another way.
func (s *Store) open() error {
	s.copies = newCopies(s)
	for _, dir := range []string{s.stateDir, s.copies.dir} {
		s.clearWay(dir)
	}
	// A thousand files take as long to read as the journal does.
	s.found = sync.OnceValue(s.copies.readAll)
	go s.found()
	s.opts.Faults.Point("open")
	if why := s.unwritable(); why != nil {
		if err := s.checkFormat(false); err != nil {
			return err
		}
		return s.openInMemory(why)
	}
	if err := s.checkFormat(true); err != nil {
		return err
	}
	found, err := inspect(s.stateDir)
	if err != nil {
		return s.openInMemory(fmt.Errorf("the journal can't be read: %w", err))
	}
	s.keepLoose(found.loose)
	lossy, err := s.openFound(found)
	if err == nil && (lossy || s.incomplete()) && len(found.loose) > 0 {
		lossy, err = true, s.adoptLoose()
	}
	if err != nil {
		if isEnvironment(err) {
			return s.openInMemory(err)
		}
		return err
	}
	if err := os.RemoveAll(s.looseDir()); err != nil {
		s.log.Warn("tables that the journal does not use are left behind", "error", err)
	}
	if err := s.reconcile(lossy || s.incomplete()); err != nil {
		return errors.Join(err, s.closeDB())
	}
	s.recovered()
	s.tidy()
	s.pageOut()
	return nil
}

// clearWay sets aside what is in the place of a directory.
func (s *Store) clearWay(dir string) {
	fi, err := os.Lstat(dir)
	if err != nil || fi.IsDir() || fi.Mode()&fs.ModeSymlink != 0 {
		return
	}
	aside := damagedName(dir, s.opts.Now())
	if err := os.Rename(dir, aside); err != nil {
		s.notice("%s is no directory and can't be set aside: %v", dir, err)
		return
	}
	s.notice("%s was no directory and was set aside as %s", dir, aside)
}

// damagedName is what something damaged is set aside as.
func damagedName(path string, now time.Time) string {
	return fmt.Sprintf("%s.damaged-%s", path, now.UTC().Format("20060102T150405.000Z"))
}

// incomplete reports whether the journal lacks something that it had.
func (s *Store) incomplete() bool {
	for _, d := range s.daemons {
		if d.reg == nil {
			return true
		}
	}
	return len(s.gaps) > 0 || s.readMark() > s.lastSeq || s.found().upTo > s.lastSeq
}

// openFound opens the database, repairs it, or begins a new one. It reports
// whether something may be lost.
func (s *Store) openFound(found inspection) (lossy bool, err error) {
	for _, name := range found.logs {
		// Badger cuts it off where it can't be read.
		lossy = true
		if err := s.copyAside(name); err != nil {
			return lossy, err
		}
		s.notice("the journal's log %s is damaged; what is behind the damage is lost, and the file was copied to %s", name, s.aside)
	}
	for _, name := range found.values {
		// Badger would open it today and not tomorrow.
		err := s.copyAside(name)
		if err == nil {
			err = os.Remove(filepath.Join(s.stateDir, name))
		}
		if err != nil {
			return lossy, err
		}
		s.notice("the journal's file %s is damaged; it holds nothing, and was moved to %s", name, s.aside)
	}
	var why error
	switch {
	case found.manifest != nil:
		why = fmt.Errorf("the journal is damaged: %w", found.manifest)
	case len(found.tables) > 0:
		why = fmt.Errorf("of the journal %s is damaged", strings.Join(found.tables, ", "))
	default:
		if why = s.openDB(); why == nil || isEnvironment(why) {
			return lossy, why
		}
	}
	s.reset()
	if err = s.repair(found); err == nil {
		err = s.openDB()
	}
	if err == nil {
		s.notice("%v; it was set aside as %s, and what could be read of it was taken over", why, s.aside)
		return true, nil
	}
	if isEnvironment(err) {
		return true, err
	}
	return true, s.beginAnew(errors.Join(why, err))
}

// beginAnew sets a journal aside that nothing can be read of.
func (s *Store) beginAnew(why error) error {
	s.reset()
	aside := false
	if s.aside != "" {
		_, err := os.Stat(filepath.Join(s.aside, "state"))
		aside = err == nil
	}
	var err error
	if aside {
		err = os.RemoveAll(s.stateDir) // the repaired copy
	} else {
		err = s.setAside()
	}
	if err != nil {
		return errors.Join(why, err)
	}
	s.notice("%v; it was set aside as %s and a new one was begun from the plain copies of the registrations", why, s.aside)
	if err := s.checkFormat(true); err != nil {
		return err
	}
	return s.openDB()
}

// The file state/MARK says up to which event the journal goes at least. It
// tells of a loss that leaves no gap: of the end.

func (s *Store) readMark() (seq uint64) {
	if b, err := os.ReadFile(filepath.Join(s.stateDir, "MARK")); err == nil {
		_, _ = fmt.Sscan(string(b), &seq)
	}
	if seq > mostSeq { // it is damaged, and is written again with the next snapshot
		return 0
	}
	return seq
}

// writeMark needs no sync: after a power cut an old mark is as good.
func (s *Store) writeMark() {
	path := filepath.Join(s.stateDir, "MARK")
	if err := writeTemp(path+".tmp", fmt.Appendf(nil, "%d\n", s.snapSeq), false); err == nil {
		failpoint.Hit(failpoint.SnapshotMark)
		_ = os.Rename(path+".tmp", path)
	}
}

// openDB opens the database and replays it.
func (s *Store) openDB() error {
	db, err := openBadger(databaseOptions(s.stateDir, s.log))
	if err != nil {
		return fmt.Errorf("the journal can't be opened: %w", err)
	}
	s.dbmu.Lock()
	s.db = db
	s.dbmu.Unlock()
	s.wal.rotations = db.Levels()[0].NumTables / 2 // a start has better things to do
	err = s.wal.opened(s)
	if err == nil {
		err = s.replay()
	}
	if err != nil {
		return errors.Join(err, s.closeDB())
	}
	return nil
}

// replay reads the snapshot and the events behind it.
func (s *Store) replay() error {
	s.opts.Faults.Point("replay")
	failpoint.Hit(failpoint.RecoverReplay)
	if err := s.dropIncomplete(); err != nil {
		return err
	}
	if err := s.db.View(s.read); err != nil {
		return err
	}
	s.visible = s.lastSeq
	return nil
}

func (s *Store) read(txn *badger.Txn) error {
	for _, step := range []func(*badger.Txn) error{s.readMeta, s.readSnapshot, s.readBounds, s.readTail} {
		if err := step(txn); err != nil {
			return err
		}
	}
	return nil
}

// each calls fn with every item whose key has a prefix, from start on.
func each(txn *badger.Txn, prefix byte, start []byte, fn func(item *badger.Item) error) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefix}})
	defer it.Close()
	if start == nil {
		start = []byte{prefix}
	}
	for it.Seek(start); it.Valid(); it.Next() {
		if err := fn(it.Item()); err != nil {
			return err
		}
	}
	return nil
}

// valueOf decodes an item's value into m.
func valueOf[M proto.Message](item *badger.Item, m M) (M, error) {
	err := item.Value(func(b []byte) error {
		_, err := decode(b, m)
		return err
	})
	return m, err
}

// meta reads a meta key; false if it isn't there.
func meta[M proto.Message](txn *badger.Txn, key []byte, m M) (bool, error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = valueOf(item, m)
	return err == nil, err
}

// dropIncomplete deletes the events of a batch that was not completed.
func (s *Store) dropIncomplete() error {
	mark := new(journalpb.Mark)
	var found bool
	var drop []entry
	err := s.db.View(func(txn *badger.Txn) (err error) {
		if found, err = meta(txn, metaBatch, mark); err != nil || !found {
			return err
		}
		return each(txn, eventPrefix, seqKey(mark.Seq), func(item *badger.Item) error {
			drop = append(drop, entry{key: item.KeyCopy(nil), del: true})
			return nil
		})
	})
	if err != nil || !found {
		return err
	}
	s.openBatch = true // the mark is there, and must go last
	return s.commit(drop, 0)
}

func (s *Store) readMeta(txn *badger.Txn) error {
	snap := new(journalpb.Mark)
	if _, err := meta(txn, metaSnapshot, snap); err != nil {
		return err
	}
	s.snapSeq = snap.Seq
	s.lastSeq = snap.Seq
	base := new(journalpb.Mark)
	if _, err := meta(txn, metaBase, base); err != nil {
		return err
	}
	s.baseSeq = base.Seq
	_, err := meta(txn, metaManager, s.manager)
	return err
}

// readSnapshot reads the names and every daemon's state.
func (s *Store) readSnapshot(txn *badger.Txn) error {
	byID := make(map[daemonID]string)
	err := each(txn, namePrefix, nil, func(item *badger.Item) error {
		id, ok := parseDaemonKey(item.Key())
		if !ok {
			return nil
		}
		p, err := valueOf(item, new(journalpb.Name))
		if err != nil {
			return err
		}
		byID[id] = p.Name
		s.names[p.Name] = name{id: id, removed: p.RemovedSeq}
		s.ids[p.Name] = id
		s.nextID = max(s.nextID, id+1)
		return nil
	})
	if err != nil {
		return err
	}
	err = each(txn, snapPrefix, nil, func(item *badger.Item) error {
		id, ok := parseDaemonKey(item.Key())
		if !ok || byID[id] == "" {
			return nil
		}
		p, err := valueOf(item, new(journalpb.State))
		if err != nil {
			return err
		}
		s.daemons[byID[id]] = &daemon{id: id, seq: p.Seq, time: timeFromPB(p.Time), rec: recordFromPB(p.Record)}
		return nil
	})
	if err != nil {
		return err
	}
	return each(txn, snapRegPrefix, nil, func(item *badger.Item) error {
		id, ok := parseDaemonKey(item.Key())
		d := s.daemons[byID[id]]
		if !ok || d == nil {
			return nil
		}
		p, err := valueOf(item, new(journalpb.Registration))
		if err != nil {
			return err
		}
		d.reg, err = registrationFromPB(p)
		return err
	})
}

// readBounds finds the oldest and the newest event.
func (s *Store) readBounds(txn *badger.Txn) error {
	s.firstSeq = s.lastSeq + 1
	for _, reverse := range []bool{false, true} {
		it := txn.NewIterator(badger.IteratorOptions{Reverse: reverse})
		start := []byte{eventPrefix}
		if reverse {
			start = []byte{eventPrefix + 1}
		}
		it.Seek(start)
		if it.Valid() && reverse && it.Item().Key()[0] > eventPrefix {
			it.Next()
		}
		if it.Valid() {
			if k, ok := parseEventKey(it.Item().Key()); ok {
				if reverse {
					s.lastSeq = max(s.lastSeq, k.seq)
				} else {
					s.firstSeq = k.seq
				}
			}
		}
		it.Close()
	}
	if s.lastSeq >= s.firstSeq {
		s.kept = int(min(s.lastSeq-s.firstSeq+1, math.MaxInt32))
	}
	if s.kept < s.opts.MaxEvents+2*trimChunk {
		return nil
	}
	// More than it should be: numbers were left out.
	s.kept = 0
	return each(txn, eventPrefix, nil, func(*badger.Item) error {
		s.kept++
		return nil
	})
}

// readTail replays what came after the snapshot.
func (s *Store) readTail(txn *badger.Txn) error {
	last := s.lastSeq
	next := s.snapSeq + 1
	note := func(from, to uint64) { // [from, to)
		if to > from {
			s.gaps = append(s.gaps, fmt.Sprintf("%d to %d", from, to-1))
		}
	}
	note(s.baseSeq+1, s.firstSeq)
	err := each(txn, eventPrefix, seqKey(next), func(item *badger.Item) error {
		p, err := valueOf(item, new(journalpb.Event))
		if err != nil {
			return err
		}
		ev, err := eventFromPB(p)
		if err != nil {
			return err
		}
		if ev.Seq > s.firstSeq {
			note(next, ev.Seq)
		}
		next = ev.Seq + 1
		k, ok := parseEventKey(item.Key())
		if _, known := s.names[ev.Daemon]; ok && !known && ev.Daemon != "" {
			// Its name was in a table that is lost.
			s.names[ev.Daemon] = name{id: k.daemon}
			s.ids[ev.Daemon] = k.daemon
			s.nextID = max(s.nextID, k.daemon+1)
		}
		if ev.Daemon == "" {
			s.lastSeq = ev.Seq
			s.applyManager(p)
			return nil
		}
		s.applyOne(&ev)
		return nil
	})
	s.lastSeq = max(s.lastSeq, last)
	return err
}

func (s *Store) notice(format string, args ...any) {
	msg := s.remark(format, args...)
	s.recovery.Damage = append(s.recovery.Damage, msg)
}

// remark notices what passes by itself.
func (s *Store) remark(format string, args ...any) string {
	msg := fmt.Sprintf(format, args...)
	s.recovery.Notices = append(s.recovery.Notices, msg)
	s.log.Warn(msg)
	return msg
}

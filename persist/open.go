package persist

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"google.golang.org/protobuf/proto"

	"github.com/cyber-boost/syspulse/persist/journalpb"
)

// open opens the journal and replays it, or finds the state in another way.
func (s *Store) open() error {
	s.copies = newCopies(s)
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
	err := s.openDB()
	if err != nil && isEnvironment(err) {
		return s.openInMemory(err)
	}
	damaged := err != nil
	if damaged {
		if err := s.setAside(err); err != nil {
			return err
		}
	}
	if err := s.reconcile(damaged); err != nil {
		return errors.Join(err, s.closeDB())
	}
	s.recovered()
	if s.wal.rotations >= flattenAt {
		s.tidy()
	}
	return nil
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
	s.wal.rotations = db.Levels()[0].NumTables
	err = s.wal.opened(s)
	if err == nil {
		err = s.replay()
	}
	if err != nil {
		return errors.Join(err, s.closeDB())
	}
	return nil
}

// setAside renames a damaged journal and begins a new one.
func (s *Store) setAside(why error) error {
	aside := fmt.Sprintf("%s.damaged-%s", s.stateDir, s.opts.Now().UTC().Format("20060102T150405.000Z"))
	if err := os.Rename(s.stateDir, aside); err != nil {
		return fmt.Errorf("%w; and it can't be set aside: %w", why, err)
	}
	s.notice("%v; it was set aside as %s and a new one was begun from the plain copies of the registrations", why, aside)
	s.reset()
	if err := s.checkFormat(true); err != nil {
		return err
	}
	return s.openDB()
}

// replay reads the snapshot and the events behind it.
func (s *Store) replay() error {
	s.opts.Faults.Point("replay")
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
	return nil
}

// readTail replays what came after the snapshot.
func (s *Store) readTail(txn *badger.Txn) error {
	last := s.lastSeq
	next := s.snapSeq + 1
	var missing []string
	note := func(from, to uint64) { // [from, to)
		if to > from {
			missing = append(missing, fmt.Sprintf("%d to %d", from, to-1))
		}
	}
	err := each(txn, eventPrefix, seqKey(next), func(item *badger.Item) error {
		p, err := valueOf(item, new(journalpb.Event))
		if err != nil {
			return err
		}
		ev, err := eventFromPB(p)
		if err != nil {
			return err
		}
		note(next, ev.Seq)
		next = ev.Seq + 1
		if ev.Daemon == "" {
			s.lastSeq = ev.Seq
			s.applyManager(p)
			return nil
		}
		s.applyOne(&ev)
		return nil
	})
	s.lastSeq = max(s.lastSeq, last)
	if len(missing) > 0 {
		s.notice("the journal has lost the events %s; the states of the daemons may be older ones", strings.Join(missing, ", "))
	}
	return err
}

func (s *Store) notice(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	s.recovery.Notices = append(s.recovery.Notices, msg)
	s.log.Warn(msg)
}

package persist

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/cyber-boost/syspulse/persist/journalpb"
	"github.com/cyber-boost/syspulse/supervision"
)

// HistoryQuery selects events; a zero selects all.
type HistoryQuery struct {
	Daemon    string    // of this daemon; empty: of all, the manager's own included
	Limit     int       // the newest so many of those selected
	Since     time.Time // not before
	Until     time.Time // before
	AfterSeq  uint64    // numbered higher
	BeforeSeq uint64    // numbered lower
}

func (q *HistoryQuery) wants(seq uint64, nanos int64) bool {
	return seq > q.AfterSeq && (q.BeforeSeq == 0 || seq < q.BeforeSeq) &&
		(q.Since.IsZero() || nanos >= clampNanos(q.Since)) &&
		(q.Until.IsZero() || nanos < clampNanos(q.Until))
}

// History returns the selected events, oldest first. Those of a daemon that
// was removed are kept as long as the others.
func (s *Store) History(ctx context.Context, q HistoryQuery) ([]supervision.Event, error) {
	s.rmu.RLock()
	id, known := s.ids[q.Daemon]
	pending := s.unwritten()
	s.rmu.RUnlock()
	if q.Daemon != "" && !known {
		return nil, nil
	}
	limit := q.Limit
	if limit <= 0 {
		limit = math.MaxInt
	}

	var newest []supervision.Event // newest first
	for _, ev := range slices.Backward(pending) {
		if len(newest) == limit {
			break
		}
		if (q.Daemon == "" || q.Daemon == ev.Daemon) && q.wants(ev.Seq, clampNanos(ev.Time)) {
			newest = append(newest, ev)
		}
	}
	err := s.view(ctx, func(txn *badger.Txn, visible uint64) error {
		it := txn.NewIterator(badger.IteratorOptions{Reverse: true})
		defer it.Close()
		from := visible
		if q.BeforeSeq != 0 {
			from = min(from, q.BeforeSeq-1)
		}
		n := 0
		for it.Seek(seqKey(from + 1)); it.Valid() && len(newest) < limit; it.Next() {
			item := it.Item()
			k, ok := parseEventKey(item.Key())
			if !ok {
				if item.Key()[0] < eventPrefix {
					break
				}
				continue
			}
			if k.seq <= q.AfterSeq {
				break
			}
			if n++; n%1024 == 0 {
				if err := ctx.Err(); err != nil {
					return err
				}
			}
			if q.Daemon != "" && k.daemon != id || !q.wants(k.seq, k.nanos) {
				continue
			}
			p, err := valueOf(item, new(journalpb.Event))
			if err != nil {
				return err
			}
			ev, err := eventFromPB(p)
			if err != nil {
				return err
			}
			newest = append(newest, ev)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("the history can't be read: %w", err)
	}
	slices.Reverse(newest)
	return newest, nil
}

// BeforeError is returned by At for a time before the oldest state kept.
type BeforeError struct{ Oldest time.Time }

func (e *BeforeError) Error() string {
	return fmt.Sprintf("the journal goes back to %s only", e.Oldest.Format(time.RFC3339))
}

// At returns every daemon's state at t, sorted by name: what the events of
// that time and before left. It fails with a *BeforeError if events of that
// time are deleted already.
func (s *Store) At(ctx context.Context, t time.Time) ([]Daemon, error) {
	s.rmu.RLock()
	pending := s.unwritten()
	s.rmu.RUnlock()
	nanos := clampNanos(t)
	out := make(map[string]*Daemon)
	err := s.view(ctx, func(txn *badger.Txn, visible uint64) error {
		return stateAt(ctx, txn, visible, nanos, out)
	})
	if err != nil {
		return nil, err
	}
	for i := range pending {
		ev := &pending[i]
		if ev.Daemon == "" || clampNanos(ev.Time) > nanos {
			continue
		}
		if ev.Kind == supervision.EventRemoved {
			delete(out, ev.Daemon)
			continue
		}
		if ev.Record == nil && ev.Spec == nil {
			continue
		}
		d := out[ev.Daemon]
		if d == nil {
			d = &Daemon{Name: ev.Daemon}
			out[ev.Daemon] = d
		}
		d.take(ev)
	}
	list := make([]Daemon, 0, len(out))
	for _, d := range out {
		list = append(list, *d)
	}
	slices.SortFunc(list, func(a, b Daemon) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (d *Daemon) take(ev *supervision.Event) {
	d.Seq, d.Time = ev.Seq, ev.Time
	if ev.Record != nil {
		d.Record = *ev.Record
	}
	if ev.Spec != nil {
		d.Registration = ev.Spec
	}
}

// stateAt builds the state from the base and the events. Keys say which event
// of each daemon counts; only those are read.
func stateAt(ctx context.Context, txn *badger.Txn, visible uint64, nanos int64, out map[string]*Daemon) error {
	base := new(journalpb.Mark)
	trimmed, err := meta(txn, metaBase, base)
	if err != nil {
		return err
	}
	if trimmed && nanos < clampNanos(timeFromPB(base.Time)) {
		return &BeforeError{timeFromPB(base.Time)}
	}
	names := make(map[daemonID]string)
	err = each(txn, namePrefix, nil, func(item *badger.Item) error {
		p, err := valueOf(item, new(journalpb.Name))
		if id, ok := parseDaemonKey(item.Key()); ok {
			names[id] = p.Name
		}
		return err
	})
	if err != nil {
		return err
	}

	type sources struct{ rec, reg []byte } // keys
	last := make(map[daemonID]*sources)
	of := func(id daemonID) *sources {
		src := last[id]
		if src == nil {
			src = new(sources)
			last[id] = src
		}
		return src
	}
	for _, prefix := range []byte{basePrefix, baseRegPrefix} {
		err := each(txn, prefix, nil, func(item *badger.Item) error {
			id, ok := parseDaemonKey(item.Key())
			if !ok {
				return nil
			}
			if prefix == basePrefix {
				of(id).rec = item.KeyCopy(nil)
			} else {
				of(id).reg = item.KeyCopy(nil)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	n := 0
	err = each(txn, eventPrefix, nil, func(item *badger.Item) error {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		k, ok := parseEventKey(item.Key())
		if !ok || k.daemon == 0 || k.nanos > nanos || k.seq > visible {
			return nil
		}
		switch {
		case k.contents&isRemoval != 0:
			delete(last, k.daemon)
		case k.contents&(hasRecord|hasRegistration) != 0:
			src := of(k.daemon)
			if k.contents&hasRecord != 0 {
				src.rec = item.KeyCopy(src.rec)
			}
			if k.contents&hasRegistration != 0 {
				src.reg = item.KeyCopy(src.reg)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id, src := range last {
		d := &Daemon{Name: names[id]}
		if d.Name == "" {
			continue
		}
		for _, key := range [][]byte{src.reg, src.rec} {
			if err := d.read(txn, key); err != nil {
				return err
			}
		}
		out[d.Name] = d
	}
	return nil
}

// read takes what is behind a key of an event or of the base.
func (d *Daemon) read(txn *badger.Txn, key []byte) error {
	if key == nil {
		return nil
	}
	item, err := txn.Get(key)
	if err != nil {
		return err
	}
	switch key[0] {
	case basePrefix:
		p, err := valueOf(item, new(journalpb.State))
		if err != nil {
			return err
		}
		d.Seq, d.Time = p.Seq, timeFromPB(p.Time)
		if r := recordFromPB(p.Record); r != nil {
			d.Record = *r
		}
	case baseRegPrefix:
		p, err := valueOf(item, new(journalpb.Registration))
		if err != nil {
			return err
		}
		d.Registration, err = registrationFromPB(p)
		return err
	default:
		p, err := valueOf(item, new(journalpb.Event))
		if err != nil {
			return err
		}
		ev, err := eventFromPB(p)
		if err != nil {
			return err
		}
		if seq := d.Seq; seq > ev.Seq {
			d.take(&ev)
			d.Seq = seq
		} else {
			d.take(&ev)
		}
	}
	return nil
}

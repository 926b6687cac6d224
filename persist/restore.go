package persist

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cyber-boost/syspulse/supervision"
)

// reconcile compares the journal with the plain copies. Normally the copies
// are a little behind and are brought up to date. They are ahead, or know more,
// only if the journal has lost something: then it is restored from them.
func (s *Store) reconcile(damaged bool) error {
	c := s.copies
	files, err := c.names()
	if err != nil {
		s.notice("the plain copies of the registrations can't be read: %v", err)
	}
	upTo := c.upTo()
	incomplete := damaged || upTo > s.lastSeq
	for _, d := range s.daemons {
		incomplete = incomplete || d.reg == nil
	}
	if incomplete {
		if err := s.restore(damaged, upTo); err != nil {
			return err
		}
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	for name, d := range s.daemons {
		if d.reg == nil {
			continue
		}
		c.known[name] = d.wish()
		file := fileName(name) + ".json"
		if d.seq > upTo || !files[file] {
			c.dirty[name] = newCopyFile(d)
		}
		delete(files, file)
	}
	for file := range files { // of daemons that were removed
		name := strings.TrimSuffix(file, ".json")
		if fileName(name) == name {
			c.dirty[name] = nil
		}
	}
	c.seq = s.lastSeq
	if len(c.dirty) > 0 {
		c.plan()
	}
	return nil
}

// restore takes from the plain copies what the journal has lost.
func (s *Store) restore(damaged bool, upTo uint64) error {
	all, bad, err := s.copies.readAll()
	if err != nil {
		return nil // reconcile has told it
	}
	for _, b := range bad {
		s.notice("%s", b)
	}
	end := s.lastSeq
	if upTo > end {
		if end > 0 || !damaged {
			s.notice("the journal ends with event %d, but the plain copies of the registrations are of event %d: its last part is lost", end, upTo)
		}
		s.lastSeq = upTo // no number is used twice
	}
	var events []supervision.Event
	var names []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f := all[name]
		d := s.daemons[name]
		ev := supervision.Event{Daemon: name, Detail: "restored from its plain copy",
			Spec: &supervision.Registration{Spec: f.Spec, Source: f.Source}}
		rec := supervision.Record{State: supervision.Stopped, Wanted: f.Wanted, Ended: f.Ended, Health: supervision.HealthUnknown}
		switch {
		case d == nil && (damaged || f.Seq > end):
			ev.Kind = supervision.EventRegistered
		case d != nil && (d.reg == nil || f.Seq > end):
			ev.Kind = supervision.EventChanged
			if d.rec != nil {
				rec = *d.rec
				rec.Wanted, rec.Ended = f.Wanted, f.Ended
			}
		default:
			continue
		}
		ev.Record = &rec
		events = append(events, ev)
		names = append(names, name)
	}
	for name, d := range s.daemons {
		if d.reg == nil && all[name] == nil {
			s.notice("the registration of %q is lost: the journal has none, and there is no plain copy", name)
			events = append(events, supervision.Event{Daemon: name, Kind: supervision.EventRemoved, Detail: "its registration is lost"})
		}
	}
	if len(names) > 0 {
		s.notice("restored from the plain copies: %s", shortList(names))
	}
	if len(events) > 0 {
		entries, err := s.encode(events)
		if err != nil {
			return err
		}
		if s.Degraded() == "" {
			if err := s.commit(entries, len(events)); err != nil {
				return err
			}
		}
		s.apply(events)
		s.publish(events)
	}
	if s.Degraded() != "" {
		return nil
	}
	// Numbers may have been left out; behind a snapshot nobody looks for them.
	s.lost = true
	return s.snapshot()
}

func shortList(names []string) string {
	const most = 20
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

package persist

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/cyber-boost/syspulse/persist/journalpb"
	"github.com/cyber-boost/syspulse/supervision"
)

// reconcile compares the journal with the plain copies. Normally the copies
// are a little behind and are brought up to date. They are ahead, or know more,
// only if the journal has lost something: then it is restored from them.
func (s *Store) reconcile(lossy bool) error {
	c, found := s.copies, s.found()
	if found.err != nil {
		s.notice("the plain copies of the registrations can't be read: %v", found.err)
	}
	for _, d := range found.damaged {
		if aside, err := c.setAside(d.file, s.opts.Now()); err != nil {
			s.notice("%s is damaged (%v) and can't be set aside: %v", d.file, d.why, err)
		} else {
			s.notice("%s was damaged (%v) and was set aside as %s", d.file, d.why, aside)
		}
	}
	upTo := found.upTo
	if lossy {
		if err := s.restore(); err != nil {
			return err
		}
	}
	files := found.files

	c.mu.Lock()
	missing := false
	for name, d := range s.daemons {
		if d.reg == nil {
			continue
		}
		c.wish(name, d)
		file := fileName(name) + ".json"
		missing = missing || !files[file]
		if d.seq > upTo || !files[file] {
			c.dirty[name] = newCopyFile(d)
		}
		delete(files, file)
	}
	for file := range files {
		name := strings.TrimSuffix(file, ".json")
		if group, ok := strings.CutPrefix(name, fileName(supervision.GroupKey(""))); ok {
			name = supervision.GroupKey(group)
		}
		if fileName(name)+".json" != file {
			continue
		}
		if s.names[name].removed > 0 {
			c.dirty[name] = nil
			continue
		}
		// The journal has no word of it, not even of its end.
		if aside, err := c.setAside(file, s.opts.Now()); err == nil {
			s.notice("the journal knows nothing of %s; it was set aside as %s", file, aside)
		}
	}
	c.seq = s.lastSeq
	if (c.wished || len(c.dirty) > 0) && !missing {
		c.plan()
	}
	c.mu.Unlock()
	if missing {
		// At once: a manager that is killed again and again, too soon for
		// the delay, must not go without them for ever.
		c.write()
	}
	return nil
}

// restore takes from the plain copies what the journal has lost.
func (s *Store) restore() error {
	if len(s.gaps) > 0 {
		s.notice("the journal has lost the events %s; states may be older than they were", strings.Join(s.gaps, ", "))
	}
	end := s.lastSeq
	if had := max(s.found().upTo, s.readMark()); had > end {
		s.notice("the journal ends with event %d and had reached event %d: its last part is lost", end, had)
		s.lastSeq = had // no number is used twice
		if s.kept == 0 {
			s.firstSeq = had + 1
		}
	}
	all := s.found().all
	var events []supervision.Event
	var names []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f := all[name]
		d := s.daemons[name]
		ev := supervision.Event{Daemon: name, Detail: "restored from its plain copy",
			Spec: &supervision.Registration{Spec: f.Spec, Group: f.Group, Source: f.Source}}
		rec := supervision.Record{State: supervision.Stopped, Wanted: f.Wanted, Ended: f.Ended, Health: supervision.HealthUnknown}
		if f.Group != nil {
			rec = supervision.Record{}
		}
		switch {
		case d == nil && s.names[name].removed > f.Seq:
			continue // its copy was to be deleted
		case d == nil:
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
			s.kept += len(events)
		}
		s.apply(events)
		s.publish(events)
		for _, name := range names {
			s.daemons[name].copied = all[name].wished
		}
	}
	if s.Degraded() != "" {
		return nil
	}
	if len(s.gaps) > 0 || s.firstSeq > s.baseSeq+1 {
		// What the state was before now is not known for sure.
		if err := s.forgetPast(); err != nil {
			return err
		}
	}
	// Numbers may have been left out; behind a snapshot nobody looks for them.
	s.lost = true
	return s.snapshot()
}

// forgetPast lets At answer from here on only.
func (s *Store) forgetPast() error {
	b, err := proto.Marshal(&journalpb.Mark{Seq: s.firstSeq - 1, Time: timeToPB(s.opts.Now())})
	if err != nil {
		return err
	}
	if end := s.firstSeq - 1; end > s.baseSeq {
		s.baseSeq = end
	}
	return s.commit([]entry{{key: metaBase, val: b}}, 0)
}

func shortList(names []string) string {
	const most = 20
	more := len(names) - most
	names = slices.Clone(names[:min(len(names), most)])
	for i, name := range names {
		if group, ok := supervision.IsGroup(name); ok {
			names[i] = "group " + group
		}
	}
	list := strings.Join(names, ", ")
	if more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

package actors

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cyber-boost/syspulse/platform"
	"github.com/cyber-boost/syspulse/supervision"
)

// marks makes the ids of incarnations. An id says which data directory and
// which daemon it is of, so that a process that carries it is known for what it
// is even if the journal has lost every word about it.
type marks struct{ dir string }

// newMarks is for the data directory that dir names: by what it is, not by its
// path, which another one may have in a container.
func newMarks(dir string) marks { return marks{digest(directoryID(dir))} }

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}

// of is how all ids of a daemon begin.
func (m marks) of(daemon string) string { return m.dir + "-" + digest(m.dir+daemon) + "-" }

// next makes an id that no other incarnation on any machine has. It is a name in
// the keeper's store, too, and no longer than [keeper.MaxName].
func (m marks) next(daemon string) string {
	var b [8]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return m.of(daemon) + hex.EncodeToString(b[:])
}

// checks is how the ids of all checks' commands begin. It is no beginning of a
// daemon's: digests hold no such letters.
func (m marks) checks() string { return m.dir + "-check-" }

// nextCheck makes the id of a command that checks a daemon.
func (m marks) nextCheck(daemon string) string {
	return m.checks() + strings.TrimPrefix(m.next(daemon), m.dir+"-")
}

// check says whether an id is of such a command.
func (m marks) check(id string) bool { return strings.HasPrefix(id, m.checks()) }

// mine says whether an id is of this data directory.
func (m marks) mine(id string) bool { return strings.HasPrefix(id, m.dir+"-") }

// reclaim corrects records by what really runs. The journal may have lost its
// last part, or all of it: what it has as stopped may run, and would run twice
// once it is started. It returns what there is to say about that.
func reclaim(host Host, marks marks, current map[string]entry, found []platform.Survivor) (notices []string) {
	daemonOf := make(map[string]string, len(current)) // by how the ids of each begin
	for name := range current {
		daemonOf[marks.of(name)] = name
	}
	prefix := len(marks.of(""))
	running := make(map[string][]platform.Survivor)
	for _, s := range found {
		if marks.check(s.Incarnation) { // it has nobody left to tell its result
			if _, err := host.EndLeftovers(s.Incarnation, s.Main); err != nil {
				notices = append(notices, fmt.Sprintf("a check of an earlier manager could not be ended: %v", err))
			}
			continue
		}
		name := s.Output
		if s.Incarnation != "" {
			name = daemonOf[s.Incarnation[:min(len(s.Incarnation), prefix)]]
		}
		if _, ok := current[name]; ok {
			running[name] = append(running[name], s)
		} else if s.Main.PID != 0 {
			notices = append(notices, fmt.Sprintf("process %d is of a daemon whose registration is lost; it is left alone", s.Main.PID))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(running)) {
		e := current[name]
		keep := choose(&e.rec, running[name])
		for i := range running[name] {
			s := &running[name][i]
			if s == keep || s.Incarnation == "" || keep == nil && expected(&e.rec, s) {
				continue
			}
			n, err := host.EndLeftovers(s.Incarnation, supervision.Identity{})
			if err != nil {
				notices = append(notices, fmt.Sprintf("%s: what an unknown incarnation of it left could not be ended: %v", name, err))
			} else if n > 0 {
				notices = append(notices, fmt.Sprintf("%s: what an unknown incarnation of it left was ended (%d processes)", name, n))
			}
		}
		if keep == nil || expected(&e.rec, keep) {
			continue
		}
		if keep.Incarnation == "" {
			keep.Incarnation = marks.next(name)
		}
		resume(&e, keep, host.Uptime())
		current[name] = e
		notices = append(notices, fmt.Sprintf("%s: process %d runs, which the state does not know of; it is taken over", name, keep.Main.PID))
	}
	return notices
}

// expected says whether a survivor is what the record says, so that its own
// recovery deals with it.
func expected(rec *supervision.Record, s *platform.Survivor) bool {
	return hasProcess(rec) && (s.Incarnation == rec.Incarnation || s.Main != (supervision.Identity{}) && s.Main == rec.Process)
}

func hasProcess(rec *supervision.Record) bool {
	if rec.Waiting {
		return false // if one is there, it is not known of
	}
	switch rec.State {
	case supervision.Starting, supervision.Running, supervision.Stopping:
		return true
	}
	return false
}

// choose is what a daemon goes on with; nil if none of it lives. What only an
// output tells of counts for nothing beside a record or a mark: it may be a
// child that outlived its parent.
func choose(rec *supervision.Record, found []platform.Survivor) (keep *platform.Survivor) {
	for i := range found {
		s := &found[i]
		switch {
		case s.Main == (supervision.Identity{}):
		case expected(rec, s):
			return s
		case s.Incarnation == "" && (hasProcess(rec) || keep != nil):
		case keep == nil || keep.Incarnation == "" || s.Age < keep.Age:
			keep = s
		}
	}
	return keep
}

// resume makes the record of a daemon what it must have been with a process.
func resume(e *entry, s *platform.Survivor, uptime time.Duration) {
	rec := &e.rec
	switch {
	case rec.State == supervision.Stopping:
	case e.wish && rec.Wanted == supervision.WantStopped:
		rec.State, rec.After = supervision.Stopping, supervision.AfterNone // a stop was under way
	default: // nothing runs that was not wanted
		rec.State, rec.After = supervision.Running, supervision.AfterNone
		rec.Wanted, rec.Ended = supervision.WantRunning, false
	}
	rec.Incarnation, rec.Process, rec.Leftovers = s.Incarnation, s.Main, false
	rec.StartedAt, rec.UpSince = wallNow().Add(-s.Age), uptime-s.Age
	rec.Reason, rec.NextRestartAt = "", time.Time{}
	rec.Waiting, rec.Completed, rec.Cause = false, false, ""
}

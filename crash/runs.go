//go:build linux

package main

import (
	"slices"
	"strings"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/supervision"
)

// away notes that from now on there may be no manager for a while.
func (s *suite) away(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aways = append(s.aways, at)
}

// wasAway says whether there may have been no manager at a time, as one that began
// since the last one says.
func (s *suite) wasAway(at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var begun time.Time // the manager that should have been there
	if n := len(s.history.begun); n > 0 {
		begun = s.history.begun[n-1]
	}
	return begun.IsZero() || slices.ContainsFunc(s.aways, func(away time.Time) bool {
		return away.After(begun.Add(-behind)) && away.Before(at.Add(behind))
	})
}

// takeRun looks at an event of a daemon: no start before the end of the process
// before; no run is missed while a manager is there, nor put off while nothing runs.
func (s *suite) takeRun(e api.Event, p *past) {
	if e.Event == supervision.EventStarting && p.pid != 0 {
		s.violation("started beside another", "%s, by event %d: %s; of process %d the history knows no end", *e.Daemon, e.Seq, says(e), p.pid)
	}
	if e.Detail == nil {
		return
	}
	_, about, ok := strings.Cut(*e.Detail, "the run of ")
	if !ok {
		return
	}
	stamp, what, _ := strings.Cut(about, " ")
	at, err := time.Parse(time.RFC3339, strings.TrimSuffix(stamp, ","))
	if err != nil {
		s.violation("the suite failed", "event %d: %s: %v", e.Seq, says(e), err)
		return
	}
	atRest := *e.State == supervision.Scheduled || *e.State == supervision.Stopped || *e.State == supervision.Failed
	switch {
	case strings.Contains(what, "no manager ran"):
		if !s.wasAway(at) {
			s.violation("a run was missed", "%s, by event %d: %s; a manager was there", *e.Daemon, e.Seq, says(e))
		}
	case strings.HasPrefix(what, "is skipped"), strings.HasPrefix(what, "waits"):
		if atRest {
			s.violation("a run was put off", "%s, by event %d: %s; nothing ran", *e.Daemon, e.Seq, says(e))
		}
	}
}

// lookAtArmed says what is wrong with one that is armed; "" if nothing is.
func lookAtArmed(st *api.Daemon) string {
	switch {
	case st.State == supervision.Stopped || st.State == supervision.Failed:
		return "it is armed, and not scheduled"
	case st.NextRunAt == nil:
		return "it is armed, and has no next run"
	case time.Since(*st.NextRunAt) > behind:
		return "its next run is overdue since " + st.NextRunAt.Format("15:04:05")
	}
	return ""
}

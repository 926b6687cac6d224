//go:build linux

package main

import (
	"strings"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// standing is how a daemon of a stack stands, as far as the history goes.
type standing struct {
	state     supervision.State
	wanted    supervision.Wanted
	process   bool   // there is one
	waits     bool   // state starting: it waits, nothing was forked
	completed bool   // it exited by itself and with success, and was not started since
	forked    uint64 // its newest start intent
	asked     uint64 // when a user last had it running, as far as an event says so

	met time.Time // when all that it needs was last there

	backoff   uint64    // when it came into the backoff that it is in; 0: it isn't
	uncounted bool      // that is not in its group's count
	left      time.Time // when a command had it leave such a one: the count may be on its way
}

// live says whether there is a process, or is about to be.
func (st *standing) live() bool {
	switch st.state {
	case supervision.Running, supervision.Stopping:
		return true
	case supervision.Starting:
		return !st.waits
	}
	return false
}

// is says whether a condition is met by it.
func (st *standing) is(c spec.Condition) bool {
	up := st.process && (st.state == supervision.Starting || st.state == supervision.Running)
	switch c {
	case spec.ConditionCompleted:
		return st.completed
	case spec.ConditionHealthy:
		return up && st.state == supervision.Running
	}
	return up || st.completed
}

// underWay is how long a start may be under way: decided on by what was there, and
// not in the history while that went away.
const underWay = 3 * time.Second

// inStack is a daemon of a stack; nil for any other.
func (s *suite) inStack(name string) *daemon {
	for _, st := range s.stacks {
		for _, d := range st.daemons {
			if d.name == name {
				return d
			}
		}
	}
	return nil
}

// isServed says whether all is there that d needs at any comment.
func (s *suite) isServed(d *daemon) bool {
	for _, n := range d.kind.needs {
		if !s.history.of(d.stack.daemons[n.kind].name).is(n.condition) {
			return false
		}
	}
	return true
}

// noteServed notes whom nothing keeps from starting at a time.
func (s *suite) noteServed(st *stack, at time.Time) {
	for _, d := range st.daemons {
		if s.isServed(d) {
			s.history.of(d.name).met = at
		}
	}
}

// takeOrder looks at an event of a daemon in a stack: nothing starts before what it
// depends on.
func (s *suite) takeOrder(e api.Event, d *daemon, p *past) {
	s.noteServed(d.stack, e.Time) // before it
	left := p.backoff
	if e.Wanted != nil && *e.Wanted == supervision.WantRunning && (p.wanted != *e.Wanted || e.Event == supervision.EventWanted) {
		p.asked = e.Seq
	}
	if e.State == nil { // removed
		p.standing = standing{met: p.met}
	} else {
		p.state, p.wanted, p.process = *e.State, *e.Wanted, e.PID != nil
	}
	switch e.Event {
	case supervision.EventWaiting:
		p.waits, p.completed = true, false
	case supervision.EventStarting:
		if len(d.kind.needs) > 0 {
			s.history.ordered++
		}
		if d.kind.schedule != "" {
			s.history.runs++
		}
		if !s.isServed(d) && e.Time.Sub(p.met) > underWay {
			s.violation("started before what it depends on", "%s, by event %d: %s", d.name, e.Seq, says(e))
		}
		p.waits, p.completed, p.forked = false, false, e.Seq
	case supervision.EventExited:
		p.completed = p.state != supervision.Stopping && e.ExitCode != nil && *e.ExitCode == 0 && e.Signal == nil
	}
	if p.state != supervision.Starting {
		p.waits = false
	}
	s.noteServed(d.stack, e.Time) // after it
	if p.state != supervision.Backoff {
		if p.backoff = 0; left > 0 && e.Detail != nil && strings.HasPrefix(*e.Detail, "restart: ") {
			s.takeLeave(e, d, p, left)
		}
		if left > 0 && p.state == supervision.Failed {
			s.takeEndOfGroup(e, d, left)
		}
		if left > 0 && p.uncounted {
			p.left = e.Time
		}
		p.uncounted = false
	} else if e.Event == supervision.EventBackoff {
		p.backoff, p.uncounted = e.Seq, true
	}
}

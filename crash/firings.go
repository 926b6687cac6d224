//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/supervision"
)

// firings is what the history has said of a group.
type firings struct {
	strategy string
	declared uint64      // when, the last time
	at       []time.Time // what counts
	failed   uint64      // when it failed; 0: it hasn't, or something was counted since
}

// takeFiring looks at an event of a group: each restart of a member is counted
// once, and the one past the intensity, and no other, fails it.
func (s *suite) takeFiring(e api.Event) {
	f := s.history.groups[*e.Group]
	if f == nil {
		f = new(firings)
		s.history.groups[*e.Group] = f
	}
	var g *groupOf
	for _, st := range s.stacks {
		for _, other := range st.groups {
			if other.name == *e.Group {
				g = other
			}
		}
	}
	if g == nil {
		return
	}
	switch e.Event {
	case supervision.EventRegistered, supervision.EventChanged:
		f.strategy, f.declared = *e.Detail, e.Seq
		return
	case supervision.EventGroupRestart, supervision.EventGroupFailed:
	default:
		return
	}
	if f.failed > 0 {
		f.at, f.failed = nil, 0
	}
	f.at = append(f.at, e.Time)
	// The manager counts by another clock, which is read a little earlier.
	within := func(window time.Duration) (n int) {
		for _, at := range f.at {
			if e.Time.Sub(at) < window {
				n++
			}
		}
		return n
	}
	least, most := within(fewWithin*time.Second-coarse), within(fewWithin*time.Second+coarse)
	if e.Event == supervision.EventGroupFailed {
		f.failed = e.Seq
		s.history.failed++
		if g.maxRestarts == 0 || most <= g.maxRestarts {
			s.violation("a group failed too early", "%s, by event %d: %s; at most %d restarts counted", g.name, e.Seq, says(e), most)
		}
		if !slices.ContainsFunc(g.members, func(d *daemon) bool {
			p := s.history.of(d.name)
			return p.uncounted || e.Time.Sub(p.left) <= underWay
		}) {
			s.violation("a restart was counted twice", "%s, by event %d: %s", g.name, e.Seq, says(e))
		}
		return
	}
	s.history.fired++
	name, _, _ := strings.Cut(*e.Detail, " is restarted")
	if p := s.history.of(name); p.uncounted {
		p.uncounted = false
	} else if p.backoff > 0 {
		s.violation("a restart was counted twice", "%s, by event %d: %s", g.name, e.Seq, says(e))
	}
	if g.maxRestarts == 0 {
		return
	}
	_, count, _ := strings.Cut(*e.Detail, "; ")
	k := 0
	if _, err := fmt.Sscanf(count, "%d of", &k); err != nil || k < least || k > most {
		s.violation("restarts are counted wrong", "%s, by event %d: %s; there are %d to %d", g.name, e.Seq, says(e), least, most)
	}
	if least > g.maxRestarts {
		s.violation("a group did not fail", "%s, by event %d: %s; %d restarts counted", g.name, e.Seq, says(e), least)
	}
}

// takeLeave looks at the end of a backoff by a restart: it was counted, and nobody
// runs on who starts again with it.
func (s *suite) takeLeave(e api.Event, d *daemon, p *past, backoff uint64) {
	g := d.group()
	if g == nil {
		return
	}
	f := s.history.groups[g.name]
	if f == nil || f.declared > backoff || f.strategy == "one_for_one" && g.maxRestarts == 0 {
		return
	}
	if p.uncounted {
		s.violation("a restart was not counted", "%s, by event %d: %s", d.name, e.Seq, says(e))
	}
	for _, other := range g.members {
		q := s.history.of(other.name)
		if other == d || f.strategy == "one_for_one" || f.strategy == "rest_for_one" && !other.dependsOn(d) {
			continue
		}
		if q.live() && q.forked < backoff {
			s.violation("one that goes along ran on", "%s (%s, since event %d), while %s was restarted (%s), by event %d: %s",
				other.name, q.state, q.forked, d.name, f.strategy, e.Seq, says(e))
		}
	}
}

// dependsOn says whether d always depends on another, directly or through others.
func (d *daemon) dependsOn(other *daemon) bool {
	for _, n := range d.kind.needs {
		if on := d.stack.daemons[n.kind]; on == other || on.dependsOn(other) {
			return true
		}
	}
	return false
}

// takeEndOfGroup looks at a member that fails in its backoff: if it does so because
// that was past the intensity, it is the last of its group.
func (s *suite) takeEndOfGroup(e api.Event, d *daemon, backoff uint64) {
	g := d.group()
	if g == nil {
		return
	}
	f := s.history.groups[g.name]
	if f == nil || f.failed < backoff || !strings.HasPrefix(*e.Detail, "its group ") {
		return
	}
	for _, other := range g.members {
		q := s.history.of(other.name)
		if other != d && q.wanted == supervision.WantRunning && q.asked < f.failed {
			s.violation("a group failed, and one of it goes on", "%s is %s, when %s is failed, by event %d: %s", other.name, q.state, d.name, e.Seq, says(e))
		}
	}
}

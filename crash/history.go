//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/supervision"
)

// history is what the journal has said so far.
type history struct {
	last     uint64 // number of the newest event
	lastTime time.Time
	known    map[uint64]string // what each event says
	daemons  map[string]*past
	begun    []time.Time // when managers had taken over what was there
	groups   map[string]*firings

	ordered, fired, failed, runs int // for the report

	mu   sync.Mutex
	live map[uint64]string // what a follower was told, not yet compared
}

// past is a daemon's part of it.
type past struct {
	restarts  int64
	pid       int     // of the incarnation that runs, as far as the history goes
	touched   []touch // what managers have started and adopted
	standing          // of one in a stack: see order.go and firings.go
	lastStart time.Time
	exits     []exitEvent // not yet accounted for
}

// touch is that a manager has started or adopted a process.
type touch struct {
	pid int
	at  time.Time
}

type exitEvent struct {
	pid int
	api.Event
	again bool // it was looked at before, and belonged to nobody
}

func (h *history) init() {
	h.known, h.live = make(map[uint64]string), make(map[uint64]string)
	h.daemons, h.groups = make(map[string]*past), make(map[string]*firings)
}

func (h *history) of(name string) *past {
	p := h.daemons[name]
	if p == nil {
		p = new(past)
		h.daemons[name] = p
	}
	return p
}

// says is what an event says, in one line.
func says(e api.Event) string {
	text := fmt.Sprintf("%s %s", e.Time.Format("15:04:05.000000"), e.Event)
	if e.Daemon != nil {
		text += " of " + *e.Daemon
	}
	if e.Group != nil {
		text += " of group " + *e.Group
	}
	if e.Detail != nil {
		text += ": " + *e.Detail
	}
	if e.State != nil {
		text += fmt.Sprintf(" (%s, wanted %s, %d restarts)", *e.State, *e.Wanted, *e.RestartCount)
	}
	return text
}

// follow collects what a follower is told as it happens, across managers.
func (s *suite) follow(ctx context.Context) {
	for ctx.Err() == nil {
		if events, err := s.api.Events(ctx, api.EventQuery{Follow: true}); err == nil {
			for e, err := range events {
				if err != nil {
					break
				}
				s.history.mu.Lock()
				s.history.live[e.Seq] = says(e)
				s.history.mu.Unlock()
			}
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
		}
	}
}

// readHistory reads what is new, and compares what was read or told before.
func (s *suite) readHistory() {
	h := &s.history
	h.mu.Lock()
	live := h.live
	h.live = make(map[uint64]string)
	h.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	q := api.EventQuery{Limit: -1}
	if h.last > 0 {
		// Times may be a little out of order.
		since := h.lastTime.Add(-5 * time.Second)
		q.Since = &since
	}
	events, err := s.api.Events(ctx, q)
	if err != nil {
		s.violation("the history can't be read", "%v", err)
		return
	}
	first := h.last == 0
	for e, err := range events {
		if err != nil {
			s.violation("the history can't be read", "%v", err)
			return
		}
		text := says(e)
		if told, ok := live[e.Seq]; ok && told != text {
			s.violation("an event changed", "%d was told as %q and is %q now", e.Seq, told, text)
		}
		delete(live, e.Seq)
		if e.Seq <= h.last {
			if was, ok := h.known[e.Seq]; ok && was != text {
				s.violation("an event changed", "%d was %q and is %q now", e.Seq, was, text)
			}
			continue
		}
		if e.Seq != h.last+1 && !first {
			s.violation("the history has a hole", "%d follows %d", e.Seq, h.last)
		}
		first = false
		h.last, h.lastTime = e.Seq, e.Time
		h.known[e.Seq] = text
		s.take(e)
	}
	for seq, text := range live {
		if seq > h.last {
			s.violation("an event is lost", "%d was told as %q; the history ends with %d", seq, text, h.last)
		}
	}
	for seq := range h.known {
		if seq+40_000 < h.last {
			delete(h.known, seq)
		}
	}
}

// take looks at one new event.
func (s *suite) take(e api.Event) {
	h := &s.history
	if e.Group != nil {
		s.takeFiring(e)
		return
	}
	if e.Daemon == nil {
		switch e.Event {
		case supervision.EventManagerStart:
			h.begun = append(h.begun, e.Time)
		case supervision.EventManagerNotice:
			if !strings.Contains(says(e), "the new binary of an upgrade was killed by signal 9") { // which is so
				s.violation("a manager found something wrong", "%s", says(e))
			}
		}
		return
	}
	p := h.of(*e.Daemon)
	if e.Event == supervision.EventRegistered {
		p.restarts = 0
	}
	if e.RestartCount != nil {
		n := *e.RestartCount
		switch {
		case n < p.restarts:
			s.violation("restart_count went back", "from %d: %s", p.restarts, says(e))
		case n > p.restarts+1, n > p.restarts && e.Event != supervision.EventStarting && e.Event != supervision.EventWaiting:
			s.violation("restart_count leapt", "from %d: %s", p.restarts, says(e))
		}
		begins := e.Event == supervision.EventWaiting || e.Event == supervision.EventStarting
		restarted := begins && e.Detail != nil && (strings.HasPrefix(*e.Detail, "restart: ") || strings.HasPrefix(*e.Detail, "restarted along with "))
		if restarted != (n > p.restarts) {
			s.violation("restart_count is wrong", "%s, by event %d, from %d: %s", *e.Daemon, e.Seq, p.restarts, says(e))
		}
		p.restarts = n
	}
	s.takeRun(e, p)
	if d := s.inStack(*e.Daemon); d != nil {
		s.takeOrder(e, d, p)
	}
	switch e.Event {
	case supervision.EventStarted, supervision.EventStartFailed:
		p.lastStart = e.Time
	}
	switch e.Event {
	case supervision.EventStarted, supervision.EventAdopted:
		p.pid = *e.PID
		p.touched = append(p.touched, touch{p.pid, e.Time})
	case supervision.EventExited:
		p.exits = append(p.exits, exitEvent{pid: p.pid, Event: e})
		p.pid = 0
	}
}

// A manager's death is known to some milliseconds, since file systems have
// coarse clocks; the next one needs longer to begin. It looks after its daemons
// one after the other.
const (
	coarse = 20 * time.Millisecond
	behind = time.Second
)

// interrupted says whether a manager died between two times.
func (s *suite) interrupted(from, to time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.deaths, func(d death) bool {
		return d.who == theManager && d.at.After(from.Add(-coarse)) && d.at.Before(to.Add(coarse))
	})
}

// unattended says whether an incarnation may have ended while nobody looked
// after it: a manager was killed after one last started or adopted it, and
// before its end was noticed at the latest. What it left in its pipes is gone
// then, and its exit code, unless the next manager was there at its last sign
// of life.
func (s *suite) unattended(touched, sign, ended time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, killed := range s.gaps {
		if killed.Before(touched.Add(-coarse)) || killed.After(ended.Add(coarse)) {
			continue
		}
		i, _ := slices.BinarySearchFunc(s.history.begun, killed.Add(coarse), time.Time.Compare)
		if i == len(s.history.begun) || !sign.After(s.history.begun[i].Add(behind)) {
			return true
		}
	}
	return false
}

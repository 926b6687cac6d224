package supervision

import (
	"fmt"
	"slices"
	"time"

	"github.com/cyber-boost/syspulse/spec"
)

// A member of a group whose policy restarts it asks for leave once its backoff is
// over: until then its group may stop others, which start again with it. Who keeps
// the order among daemons knows them all and gives it; a member in backoff is what
// tells that the group is being restarted, for the next manager too.

type (
	// AskLeave: the backoff of an incarnation is over. Proceed gives leave.
	AskLeave struct{ Incarnation string }

	// GiveUp: its group fails. What is wanted running is ended and failed, under
	// any policy.
	GiveUp struct {
		Incarnation string // only if it is this one; empty: any
		Reason      string
	}
)

func (AskLeave) effect() {}

func (m *Machine) isGrouped() bool { return m.Reg.Spec.Group != "" }

func (m *Machine) askLeave() {
	m.due = true
	m.do(AskLeave{m.Rec.Incarnation})
}

// goesAlong says whether it stops along with another member, and if so notes that it
// starts again with that one. What waits goes on waiting; what has a schedule has
// its own time.
func (m *Machine) goesAlong(with string) bool {
	if m.Rec.Wanted != WantRunning || m.isScheduled() || m.Rec.Waiting {
		return false
	}
	switch m.Rec.State {
	case Stopping:
		// What isn't about to start again rests already, or is to.
		if m.Rec.After != AfterStart && !(m.Rec.After == AfterPolicy && m.restarts()) {
			return false
		}
	case Starting, Running, Backoff:
	default:
		return false
	}
	m.Rec.Along = with
	return true
}

// alongReason is why it is stopped, if that is because of its group.
func (m *Machine) alongReason() string {
	if m.Rec.Along == "" {
		return ""
	}
	return "it starts again along with " + m.Rec.Along
}

func (m *Machine) forgetAlong() {
	if m.Rec.Along != "" {
		m.Rec.Along = ""
		if m.Rec.State == Stopped {
			m.Rec.Reason = ""
		}
	}
}

func (in GiveUp) apply(m *Machine) {
	if m.Rec.Wanted != WantRunning || in.Incarnation != "" && in.Incarnation != m.Rec.Incarnation {
		return
	}
	if m.Rec.State == Stopping && m.Rec.After == AfterRemove {
		return
	}
	m.Rec.Wanted, m.Rec.Along = WantStopped, ""
	m.disarmRuns()
	switch {
	case m.Rec.State == Stopping:
		m.Rec.After, m.Rec.Cause = AfterFail, in.Reason
		m.event(EventStopping, "%s", in.Reason)
	case m.Rec.State == Backoff:
		m.disarm()
		m.fails(m.Rec.Reason + "; " + in.Reason)
	case m.Rec.State == Starting && !m.Rec.Waiting, m.Rec.State == Running:
		m.Rec.Cause, m.Rec.Reason = in.Reason, in.Reason
		m.stop(AfterFail, in.Reason, false, nil)
	default:
		m.fails(in.Reason)
	}
}

// fails is the end of what its group fails.
func (m *Machine) fails(reason string) {
	m.rest(Failed, reason)
	m.event(EventFailed, "%s", reason)
	m.do(Retire{})
}

// Firings are the restarts of members that count against max_restarts of their
// group, oldest first. They are not changed once they are in a [Record].
type Firings struct{ List []Firing }

// Firing is one of them.
type Firing struct {
	Incarnation string        // whose end its policy answered
	BootID      string        // the boot that Up is of
	Up          time.Duration // when, on the boot clock: steps of the wall clock don't touch it
}

// Has says whether the end of an incarnation was counted.
func (f *Firings) Has(incarnation string) bool {
	return f != nil && slices.ContainsFunc(f.List, func(x Firing) bool { return x.Incarnation == incarnation })
}

// counts says whether a firing counts against max_restarts at the time of another.
func (f Firing) counts(g *spec.Group, now Firing) bool {
	return g.MaxRestarts != nil && f.BootID == now.BootID && (g.Window == 0 || now.Up-f.Up <= g.Window.Duration())
}

// Counted is how many restarts count against max_restarts of a group; none of those
// before it failed.
func Counted(rec Record, g *spec.Group, now Firing) (n int) {
	if rec.Firings == nil || rec.State == Failed {
		return 0
	}
	for _, f := range rec.Firings.List {
		if f.counts(g, now) {
			n++
		}
	}
	return n
}

// Fire counts a restart of a member in the record of its group, which may be of one
// that nobody declared. The state of what results is failed if it is past the
// group's intensity (max_restarts within window_secs; without a window all count
// since the group was started). A group that had failed, and whose members were
// started again, begins anew.
// What is underWay, a member still being in backoff after that incarnation, is kept
// however long ago it was, so that another manager doesn't count it again.
func Fire(rec Record, g *spec.Group, member string, f Firing, underWay func(incarnation string) bool) (Record, Event) {
	counted := Counted(rec, g, f) + 1
	var kept []Firing
	if rec.Firings != nil && rec.State != Failed {
		for _, x := range rec.Firings.List {
			if x.counts(g, f) || underWay(x.Incarnation) {
				kept = append(kept, x)
			}
		}
	}
	out := Record{Firings: &Firings{append(kept, f)}}
	ev := Event{Daemon: GroupKey(g.Name), Kind: EventGroupRestart, Detail: member + " is restarted"}
	if g.Strategy != "one_for_one" {
		ev.Detail += ", " + g.Strategy
	}
	switch {
	case g.MaxRestarts == nil:
	case counted > *g.MaxRestarts:
		out.State = Failed
		why := fmt.Sprintf("more than max_restarts (%d)", *g.MaxRestarts)
		if g.Window > 0 {
			why += fmt.Sprintf(" within %s", g.Window.Duration())
		}
		out.Reason = fmt.Sprintf("its group %s has failed: %s, the last was of %s", g.Name, why, member)
		ev.Kind, ev.Detail = EventGroupFailed, why+", the last was of "+member
	default:
		ev.Detail += fmt.Sprintf("; %d of %d", counted, *g.MaxRestarts)
		if g.Window > 0 {
			ev.Detail += fmt.Sprintf(" within %s", g.Window.Duration())
		}
	}
	ev.Record = &out
	return out, ev
}

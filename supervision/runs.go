package supervision

import (
	"errors"
	"fmt"
	"time"

	"github.com/cyber-boost/syspulse/spec"
)

// A daemon with a schedule is armed while it is wanted running. Between its runs it
// is scheduled; a run is the states starting to backoff, as for any other daemon.

// Inputs and effects of schedules.
type (
	// Run runs it now, armed or not.
	Run struct{ By string }
	// Due: the time of a run has come.
	Due struct{ Run time.Time }
	// ClockSet: somebody has set the clock, so that any run may be due, or may
	// be another one now.
	ClockSet struct{}

	// ArmRun asks for a Due at a time of day. It replaces an earlier one.
	ArmRun struct{ Run, At time.Time }
	// DisarmRun drops it.
	DisarmRun struct{}
)

func (ArmRun) effect()    {}
func (DisarmRun) effect() {}

// ErrNoSchedule is the answer to Run where there is none.
var ErrNoSchedule = errors.New("it has no schedule; start it instead")

func (m *Machine) isScheduled() bool { return m.Reg.Spec != nil && m.Reg.Spec.Schedule != "" }

func (m *Machine) isArmed() bool { return m.isScheduled() && m.Rec.Wanted == WantRunning }

// policy is the restart policy. Within a run `always` means `on_failure`.
func (m *Machine) policy() spec.RestartPolicy {
	p := m.Reg.Spec.RestartPolicy
	if m.isScheduled() && p.Policy == spec.RestartAlways {
		p.Policy = spec.RestartOnFailure
	}
	return p
}

// schedulePolicy is the table of that name, with its defaults.
func (m *Machine) schedulePolicy() spec.SchedulePolicy {
	if p := m.Reg.Spec.SchedulePolicy; p != nil {
		return *p
	}
	return spec.SchedulePolicy{Overlap: "skip"}
}

// next is the first run after a time; zero if there is none.
func (m *Machine) next(after time.Time) time.Time {
	if m.schedule == nil {
		s, err := ParseSchedule(m.Reg.Spec.Schedule, m.schedulePolicy().Timezone)
		if err != nil {
			return time.Time{} // not in a registration that was checked, but for a zone that is gone
		}
		m.schedule = s
	}
	return m.schedule.Next(after).UTC()
}

// plan sets the next run after a time.
func (m *Machine) plan(after time.Time) {
	m.Rec.NextRunAt = m.next(after)
	m.armRun()
}

func (m *Machine) armRun() {
	if m.Rec.NextRunAt.IsZero() {
		m.do(DisarmRun{})
		return
	}
	jitter := time.Duration(m.env.Jitter * float64(m.schedulePolicy().Jitter.Duration()))
	m.do(ArmRun{Run: m.Rec.NextRunAt, At: m.Rec.NextRunAt.Add(jitter)})
}

func (m *Machine) disarmRuns() {
	if m.isScheduled() && !m.Rec.NextRunAt.IsZero() {
		m.Rec.NextRunAt, m.Rec.Queued = time.Time{}, false
		m.do(DisarmRun{})
	}
}

// startSchedule arms it. Nothing runs because of that.
func (m *Machine) startSchedule(by string) {
	if m.Rec.State == Stopping && m.Rec.After == AfterRemove {
		m.out.Err = ErrRemoving
		return
	}
	armed := m.isArmed() && !m.Rec.NextRunAt.IsZero()
	if !armed {
		m.plan(m.env.Now)
	}
	if m.Rec.After == AfterFail {
		m.Rec.After = AfterNone
	}
	m.want(WantRunning, false, by)
	switch m.Rec.State {
	case Stopped, Failed:
		m.rest(Scheduled, "")
		m.event(EventScheduled, "%s", by)
	default:
		if armed {
			m.out.Note = "already " + string(m.Rec.State)
		}
	}
}

func (in Run) apply(m *Machine) {
	switch {
	case !m.isScheduled():
		m.out.Err = ErrNoSchedule
	case m.Rec.State == Stopping && m.Rec.After == AfterRemove:
		m.out.Err = ErrRemoving
	case m.Rec.State == Stopped || m.Rec.State == Scheduled || m.Rec.State == Failed:
		m.Rec.Attempt = 0
		m.begin(in.By)
	default:
		m.out.Note = "already " + string(m.Rec.State)
	}
}

func (in Due) apply(m *Machine) {
	if !m.isArmed() || !in.Run.Equal(m.Rec.NextRunAt) || m.env.Ending { // the next manager sees that it was missed
		return
	}
	after := m.env.Now
	if after.Before(in.Run) {
		after = in.Run // the clock was set back a little meanwhile
	}
	m.plan(after)
	switch m.Rec.State {
	case Scheduled, Stopped:
		m.Rec.Attempt = 0
		m.begin("schedule")
		return
	}
	switch m.schedulePolicy().Overlap {
	case "queue":
		m.Rec.Queued = true
		m.event(EventScheduled, "the run of %s waits for the one before", stamp(in.Run))
	case "replace":
		switch {
		case m.Rec.Waiting:
			m.event(EventScheduled, "the run of %s takes the place of the one that waits", stamp(in.Run))
		case m.Rec.State == Backoff:
			m.disarm()
			m.Rec.Attempt = 0
			m.begin("schedule")
		case m.Rec.State == Stopping:
			if m.Rec.After != AfterRemove {
				m.Rec.After = AfterStart
			}
			m.event(EventStopping, "the run of %s follows", stamp(in.Run))
		default:
			m.Rec.Attempt = 0
			m.stop(AfterStart, "replaced by the run of "+stamp(in.Run), false, nil)
		}
	default:
		m.event(EventScheduled, "the run of %s is skipped: the one before goes on", stamp(in.Run))
	}
}

func stamp(t time.Time) string { return t.Local().Format(time.RFC3339) }

func (in ClockSet) apply(m *Machine) {
	switch {
	case !m.isArmed():
	case !m.Rec.NextRunAt.IsZero() && !m.env.Now.Before(m.Rec.NextRunAt):
		Due{Run: m.Rec.NextRunAt}.apply(m)
	default:
		m.replan("the clock was set")
	}
}

// replan looks for the next run again.
func (m *Machine) replan(why string) {
	before := m.Rec.NextRunAt
	if m.plan(m.env.Now); !m.Rec.NextRunAt.Equal(before) {
		m.event(EventScheduled, "%s", why)
	}
}

// rearm takes over another registration, whose schedule may be new, another one or
// gone. The event that follows carries the record.
func (m *Machine) rearm(before *spec.Daemon) {
	m.schedule = nil
	now := m.Reg.Spec
	switch {
	case now.Schedule == "" && before.Schedule == "":
	case now.Schedule == "":
		m.Rec.NextRunAt, m.Rec.Queued = time.Time{}, false
		m.do(DisarmRun{})
		if m.Rec.State == Scheduled { // it has nothing to run for
			m.Rec.State, m.Rec.Reason, m.Rec.Wanted = Stopped, "", WantStopped
		}
	default:
		atRest := m.Rec.State == Stopped || m.Rec.State == Failed
		if before.Schedule == "" && atRest && !m.Rec.Ended {
			m.Rec.Wanted = WantRunning
		}
		if m.Rec.Wanted != WantRunning {
			return
		}
		m.plan(m.env.Now)
		if atRest {
			m.rest(Scheduled, "")
		}
	}
}

// recoverRuns arms it anew, after the recovery of what may run.
func (m *Machine) recoverRuns(in Recover) {
	if m.removed || in.Ending || m.Rec.Wanted != WantRunning {
		return
	}
	before := m.Rec.NextRunAt
	missed := !before.IsZero() && !m.env.Now.Before(before)
	rests := m.Rec.State == Stopped || m.Rec.State == Scheduled
	arm := m.Rec.State == Stopped
	if rests {
		m.Rec.State = Scheduled
	}
	m.plan(m.env.Now)
	switch {
	case missed && rests && m.schedulePolicy().CatchUp:
		m.Rec.Attempt = 0
		m.begin(fmt.Sprintf("schedule: makes up for the run of %s, when no manager ran", stamp(before)))
	case missed:
		m.event(EventScheduled, "the run of %s was missed: no manager ran", stamp(before))
	case arm || !m.Rec.NextRunAt.Equal(before):
		m.event(EventScheduled, "armed")
	}
}

package supervision

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/cyber-boost/syspulse/spec"
)

// Machine is the state machine of one daemon: a [Record], what it was
// registered with, and [Machine.Step], which answers an input with the events
// that record it and the effects to perform once those events are in the
// journal. DESIGN.md has the diagram.
//
// A Machine is not safe for concurrent use.
type Machine struct {
	Name string
	Reg  Registration
	Rec  Record

	// Forced is set while a stop is to kill at once, also when the process
	// to be killed is still being forked.
	forced bool
	// killAfter is the stop timeout of the stop under way.
	killAfter time.Duration
	timer     uint64 // generation of the armed timer; an older one that fires is ignored
	removed   bool   // it was taken out; nothing happens to it any more
	probed    bool   // its process is probed
	early     *BecameReady
	due       bool // its backoff is over, and it awaits leave to restart

	schedule *Schedule // of Reg, once it is asked for

	out Outcome
	env Env
}

// Env is the outside world at the moment of a step.
type Env struct {
	Now    time.Time
	Boot   time.Duration // boot clock: not touched by steps of the wall clock
	Jitter float64       // random, in [0, 1)
	NewID  func() string // makes incarnation ids
	Ending bool          // the manager ends its daemons: no run of a schedule is due any more
}

// Outcome is the answer to an input.
type Outcome struct {
	Events  []Event  // to be committed, in order; empty if nothing changed
	Effects []Effect // to be performed after that, in order
	Err     error    // the input was refused; then nothing else is set
	Note    string   // for the answer to a command: what is worth saying about a success
}

// Step applies one input. The record changes at once; effects must wait until
// the events are committed, and be performed in order.
func (m *Machine) Step(in Input, env Env) Outcome {
	m.out, m.env = Outcome{}, env
	if m.removed {
		m.out.Err = ErrRemoved
		return m.out
	}
	in.apply(m)
	return m.out
}

// Input is something that happens to a daemon.
type Input interface{ apply(*Machine) }

// Commands.
type (
	// Start wants it running.
	Start struct {
		By string // for the history, such as "start" or "autostart"
		Go bool   // whoever keeps the order has seen that it has nobody to wait for
	}
	// Stop ends it.
	Stop struct {
		By       string
		Force    bool           // kill at once
		Timeout  *time.Duration // instead of stop_timeout_secs
		Shutdown bool           // the manager stops it, or it is stopped along with another: what is wanted does not change
		Along    string         // with Shutdown: the member of its group that it starts again with
	}
	// Restart stops it, if it runs, and starts it.
	Restart struct {
		By    string
		Force bool
	}
	// Remove takes it out of the manager. Without Force it is refused unless
	// it is stopped, failed or scheduled.
	Remove struct{ Force bool }
	// Change replaces its registration. If Restart is set and it runs, it is
	// restarted.
	Change struct {
		Reg     Registration
		Restart bool
	}
)

// Observations. Each but Recover names the incarnation it is about and is
// ignored when that is no longer the current one.
type (
	// Forked: exec succeeded.
	Forked struct {
		Incarnation string
		Process     Identity
		At          time.Time
		Boot        time.Duration
	}
	// Attached: a process of an earlier manager was found alive and is ours.
	Attached struct {
		Incarnation string
		Process     Identity
		At          time.Time     // when it was started, if the record doesn't have that
		Boot        time.Duration // the same on the boot clock
	}
	// NotFound: an incarnation whose pid was never recorded left no process.
	NotFound struct{ Incarnation string }
	// StartFailed: it could not be started.
	StartFailed struct {
		Incarnation string
		Reason      string
	}
	// Exited: its main process is dead. Empty tells that nothing else of its
	// tree is left.
	Exited struct {
		Incarnation string
		Exit        Exit
		At          time.Time
		Boot        time.Duration
		Empty       bool
	}
	// TreeEmpty: the main process was dead before, now all is gone. An Exited
	// with Empty says the same to whoever knows of the death already.
	TreeEmpty struct{ Incarnation string }
	// LeftBehind: its main process isn't there or is being ended, and others
	// of its tree can't be ended for now. Who tells this tries on, and tells
	// the end. Nothing starts beside them.
	LeftBehind struct {
		Incarnation string
		Reason      string
	}
	// TimerFired: the timer armed with Gen is due.
	TimerFired struct{ Gen uint64 }
	// Recover: a manager begins to look after it (a new one, or this one
	// after a fault of its own).
	Recover struct {
		// Fresh is set for the first manager after a clean shutdown or on
		// another boot: what is wanted is started, and what another boot
		// left isn't looked for.
		Fresh bool
		// BootID is this boot's; with Fresh.
		BootID string
		// Ending tells that the manager is shutting down: nothing that rests
		// is started.
		Ending bool
	}
)

// Effect is something to be done outside.
type Effect interface{ effect() }

// The effects.
type (
	// Fork starts an incarnation.
	Fork struct{ Incarnation string }
	// Attach looks for the process of an incarnation: by identity, or by the
	// incarnation's mark where Process is zero.
	Attach struct {
		Incarnation string
		Process     Identity
	}
	// Signal sends the stop signal.
	Signal struct {
		Incarnation string
		Signal      string
		Mode        spec.KillMode
	}
	// Kill ends everything that is left of an incarnation.
	Kill struct{ Incarnation string }
	// Sweep ends what a dead main process of an earlier manager left behind.
	// TreeEmpty is the answer.
	Sweep struct{ Incarnation string }
	// Arm sets the daemon's one timer; a timer armed before is replaced.
	Arm struct {
		Gen   uint64
		After time.Duration
	}
	// Disarm drops the timer.
	Disarm struct{}
	// Retire: the incarnation is over and no other follows for now.
	Retire struct{}
	// Gone: the daemon was removed.
	Gone struct{}
	// Probe begins to look at an incarnation's health, and at its readiness
	// unless Ready; or goes on with other settings.
	Probe struct {
		Incarnation string
		Ready       bool
	}
	// Unprobe ends that.
	Unprobe struct{}
)

func (Fork) effect()   {}
func (Attach) effect() {}
func (Signal) effect() {}
func (Kill) effect()   {}
func (Sweep) effect()  {}
func (Arm) effect()    {}
func (Disarm) effect() {}
func (Retire) effect() {}
func (Gone) effect()   {}

func (Probe) effect()   {}
func (Unprobe) effect() {}

// Errors of commands.
var (
	ErrNotAtRest = errors.New("it is not at rest; stop it first, or use --force")
	ErrRemoving  = errors.New("it is being removed")
	ErrRemoved   = errors.New("it was removed")
)

// event records what happened; the record is copied, so that it stays as it
// is from here on.
func (m *Machine) event(k Kind, format string, args ...any) {
	rec := m.Rec
	m.out.Events = append(m.out.Events, Event{
		Time: m.env.Now, Daemon: m.Name, Kind: k, Detail: fmt.Sprintf(format, args...), Record: &rec,
	})
}

func (m *Machine) do(e ...Effect) { m.out.Effects = append(m.out.Effects, e...) }

func (m *Machine) arm(after time.Duration) {
	m.timer++
	m.do(Arm{Gen: m.timer, After: max(after, 0)})
}

func (m *Machine) disarm() {
	m.timer++
	m.do(Disarm{})
}

// want records what a command asks for.
func (m *Machine) want(w Wanted, ended bool, by string) {
	before := m.Rec
	m.Rec.Wanted, m.Rec.Ended = w, ended
	m.forgetAlong()
	if w == WantRunning {
		m.Rec.Attempt = 0
	} else {
		m.disarmRuns()
	}
	if m.Rec != before {
		m.event(EventWanted, "%s: wanted %s", by, w)
	}
}

// begin starts a new incarnation, at once if there is nobody whom it might have to
// wait for.
func (m *Machine) begin(why string) { m.beginAs(why, m.isOrdered()) }

// isOrdered says whether there may be somebody whom it has to wait for.
func (m *Machine) isOrdered() bool { return len(m.Reg.Spec.DependsOn) > 0 || m.isGrouped() }

func (m *Machine) beginAs(why string, waits bool) {
	m.forced, m.due, m.early = false, false, nil
	if m.Rec.Along != "" {
		why = "restarted along with " + m.Rec.Along
		m.Rec.RestartCount++
		m.Rec.Along = ""
	}
	m.Rec.State, m.Rec.After, m.Rec.Reason, m.Rec.Cause = Starting, AfterNone, "", ""
	m.Rec.Incarnation, m.Rec.Process, m.Rec.Leftovers = m.env.NewID(), Identity{}, false
	m.Rec.Ready, m.Rec.Adopted, m.Rec.Completed, m.Rec.UpSince = false, false, false, 0
	m.Rec.NextRestartAt = time.Time{}
	m.Rec.Health = firstHealth(m.Reg.Spec)
	if m.Rec.Waiting = waits; m.Rec.Waiting {
		m.event(EventWaiting, "%s", why)
		return
	}
	m.fork(why)
}

// fork has the process started. The intent is committed before.
func (m *Machine) fork(why string) {
	m.Rec.Waiting = false
	m.event(EventStarting, "%s", why)
	m.do(Fork{m.Rec.Incarnation})
}

// firstHealth is what is known of the health of what was just started.
func firstHealth(d *spec.Daemon) Health {
	if d.HealthCheck == nil {
		return HealthNotConfigured
	}
	return HealthUnknown
}

func (in Start) apply(m *Machine) {
	if m.isScheduled() {
		m.startSchedule(in.By)
		return
	}
	switch m.Rec.State {
	case Stopping:
		if m.Rec.After == AfterRemove {
			m.out.Err = ErrRemoving
			return
		}
		m.Rec.After = AfterStart
		m.want(WantRunning, false, in.By)
		if len(m.out.Events) == 0 {
			m.event(EventWanted, "%s: starts again once it has stopped", in.By)
		}
	case Starting, Running:
		m.want(WantRunning, false, in.By)
		m.out.Note = "already " + string(m.Rec.State)
	case Backoff:
		m.want(WantRunning, false, in.By)
		m.disarm()
		m.beginAs(in.By, m.isOrdered() && !in.Go)
	default:
		m.want(WantRunning, false, in.By)
		m.beginAs(in.By, m.isOrdered() && !in.Go)
	}
}

func (in Stop) apply(m *Machine) {
	if in.Along != "" && !m.goesAlong(in.Along) {
		m.out.Note = "it isn't taken along"
		return
	}
	if !in.Shutdown {
		m.want(WantStopped, true, in.By)
	}
	if m.Rec.Queued { // or the stop would begin it
		m.Rec.Queued = false
		m.event(EventScheduled, "%s: the run that waited for this one is dropped", in.By)
	}
	switch m.Rec.State {
	case Stopped:
		m.out.Note = "already stopped"
	case Failed, Scheduled:
		if !in.Shutdown {
			m.rest(Stopped, "")
			m.event(EventStopped, "%s", in.By)
		}
	case Backoff:
		m.disarm()
		m.ends(Stopped, "", in.By+" while waiting for a restart")
	case Starting, Running:
		if m.Rec.Waiting {
			m.ends(Stopped, "", in.By+" while it waited")
			return
		}
		m.stop(AfterNone, in.By, in.Force, in.Timeout)
	case Stopping:
		switch {
		case m.Rec.After == AfterPolicy && in.Shutdown && !m.restarts():
			// The end came before the shutdown, and its policy has the last
			// word on what is wanted.
		case m.Rec.After == AfterStart || m.Rec.After == AfterPolicy || m.Rec.After == AfterFail && !in.Shutdown:
			m.Rec.After = AfterNone
			m.event(EventStopping, "%s", in.By)
		}
		m.hurry(in.Force, in.Timeout)
	}
}

func (in Restart) apply(m *Machine) {
	if m.isScheduled() {
		m.startSchedule(in.By)
		if m.Rec.State == Starting || m.Rec.State == Running {
			m.out.Note = ""
			stop := Stop{By: in.By, Force: in.Force, Shutdown: true} // it stays armed
			stop.apply(m)
		}
		return
	}
	switch m.Rec.State {
	case Starting, Running:
		if m.Rec.Waiting {
			Start{By: in.By}.apply(m)
			return
		}
		m.want(WantRunning, false, in.By)
		m.stop(AfterStart, in.By, in.Force, nil)
	case Stopping:
		Start{By: in.By}.apply(m)
		if m.out.Err == nil {
			m.hurry(in.Force, nil)
		}
	default:
		Start{By: in.By}.apply(m)
	}
}

func (in Remove) apply(m *Machine) {
	switch m.Rec.State {
	case Stopped, Failed, Scheduled:
		m.remove()
	case Backoff:
		if !in.Force {
			m.out.Err = ErrNotAtRest
			return
		}
		m.disarm()
		m.do(Retire{})
		m.remove()
	default:
		if !in.Force {
			m.out.Err = ErrNotAtRest
			return
		}
		m.want(WantStopped, true, "remove")
		if m.Rec.Waiting {
			m.do(Retire{})
			m.remove()
			return
		}
		if m.Rec.State == Stopping {
			m.Rec.After = AfterRemove
			m.event(EventStopping, "remove")
			return
		}
		m.stop(AfterRemove, "remove", false, nil)
	}
}

func (in Change) apply(m *Machine) {
	if m.Rec.State == Stopping && m.Rec.After == AfterRemove {
		m.out.Err = ErrRemoving
		return
	}
	before := m.Reg.Spec
	m.Reg = in.Reg
	m.Rec.Attempt = 0
	m.rearm(before)
	if (before.HealthCheck == nil) != (in.Reg.Spec.HealthCheck == nil) {
		m.Rec.Health = firstHealth(in.Reg.Spec)
	}
	m.event(EventChanged, "")
	m.out.Events[len(m.out.Events)-1].Spec = &in.Reg
	if m.Rec.Waiting {
		return // it starts with the new one
	}
	if !in.Restart {
		m.reprobe(before)
		return
	}
	switch m.Rec.State {
	case Starting, Running:
		m.stop(AfterStart, "changed", false, nil)
	case Backoff:
		m.disarm()
		m.begin("changed")
	}
}

// stop begins to end the current incarnation.
func (m *Machine) stop(after After, by string, force bool, timeout *time.Duration) {
	m.unprobe()
	if m.Rec.State == Starting && m.Rec.Process != (Identity{}) {
		m.disarm() // the wait for its readiness
	}
	m.Rec.State, m.Rec.After, m.Rec.Ready = Stopping, after, false
	m.forced = force
	m.killAfter = m.Reg.Spec.StopTimeout.Duration()
	if timeout != nil {
		m.killAfter = *timeout
	}
	m.event(EventStopping, "%s", by)
	if m.Rec.Process != (Identity{}) {
		m.end(m.Reg.Spec.KillMode)
	} // else the fork is under way, and Forked goes on from here
}

// condemn ends an incarnation for a fault that the manager has found in it. Its
// end is a failure, and its policy answers.
func (m *Machine) condemn(cause string) {
	m.Rec.Cause, m.Rec.Reason = cause, cause
	m.stop(AfterPolicy, cause, false, nil)
}

// hurry applies --force or --timeout of another command to a stop under way.
func (m *Machine) hurry(force bool, timeout *time.Duration) {
	if timeout != nil {
		m.killAfter = *timeout
		m.arm(m.killAfter)
	}
	if force && !m.forced {
		m.forced = true
		m.do(Kill{m.Rec.Incarnation})
	}
}

// end sends what ends the current incarnation, and arms what follows if that
// doesn't.
func (m *Machine) end(mode spec.KillMode) {
	if m.forced {
		m.do(Kill{m.Rec.Incarnation})
		return
	}
	m.do(Signal{m.Rec.Incarnation, m.Reg.Spec.StopSignal, mode})
	m.arm(m.killAfter)
}

// rest puts the machine into a state in which nothing goes on.
func (m *Machine) rest(s State, reason string) {
	m.forced, m.due = false, false
	m.Rec.State, m.Rec.Reason, m.Rec.After, m.Rec.Cause = s, reason, AfterNone, ""
	m.Rec.Process, m.Rec.Leftovers, m.Rec.Waiting = Identity{}, false, false
	m.Rec.Ready, m.Rec.NextRestartAt = false, time.Time{}
	if m.Reg.Spec != nil { // its last health says nothing of what isn't there
		m.Rec.Health = firstHealth(m.Reg.Spec)
	}
}

func (m *Machine) remove() {
	m.rest(Stopped, "")
	m.removed = true
	m.event(EventRemoved, "")
	m.out.Events[len(m.out.Events)-1].Record = nil
	m.do(Gone{})
}

func (in Forked) apply(m *Machine) {
	if in.Incarnation != m.Rec.Incarnation || m.Rec.Process != (Identity{}) || m.Rec.Leftovers {
		return
	}
	switch m.Rec.State {
	case Starting, Stopping:
	default:
		return // its end was told before its start
	}
	m.Rec.Process, m.Rec.StartedAt, m.Rec.UpSince = in.Process, in.At, in.Boot
	if m.Rec.State == Starting {
		m.runs(EventStarted)
		return
	}
	m.event(EventStarted, "pid %d, while it is being stopped", in.Process.PID)
	m.end(m.Reg.Spec.KillMode)
}

func (in Attached) apply(m *Machine) {
	if in.Incarnation != m.Rec.Incarnation {
		return
	}
	if m.Rec.Process == (Identity{}) {
		m.Rec.StartedAt, m.Rec.UpSince = in.At, in.Boot
	}
	m.Rec.Process, m.Rec.Adopted = in.Process, true
	switch m.Rec.State {
	case Starting, Running:
		m.runs(EventAdopted)
	case Stopping:
		m.event(EventAdopted, "pid %d, while it is being stopped", in.Process.PID)
		m.killAfter = m.Reg.Spec.StopTimeout.Duration()
		m.end(m.Reg.Spec.KillMode)
	}
}

// runs goes on with a process that is there: exec has succeeded.
func (m *Machine) runs(k Kind) {
	r := m.Reg.Spec.Ready
	if r == nil || m.Rec.State == Running {
		m.Rec.State, m.Rec.Ready = Running, true
	}
	m.event(k, "pid %d", m.Rec.Process.PID)
	if early := m.early; early != nil && !m.Rec.Ready {
		m.early = nil
		m.becomeReady(early.How)
	}
	m.probe()
	if !m.Rec.Ready && r.Timeout > 0 {
		m.arm(r.Timeout.Duration() - (m.env.Boot - m.Rec.UpSince))
	}
}

func (in NotFound) apply(m *Machine) {
	if in.Incarnation != m.Rec.Incarnation {
		return
	}
	switch m.Rec.State {
	case Starting:
		m.begin("the start was interrupted before the fork")
	case Stopping:
		m.disarm()
		m.gone()
	}
}

func (in LeftBehind) apply(m *Machine) {
	if in.Incarnation != m.Rec.Incarnation {
		return
	}
	switch m.Rec.State {
	case Starting: // the start was interrupted; it is made good once they are gone
		m.Rec.State, m.Rec.After, m.Rec.Leftovers = Stopping, AfterStart, true
	case Stopping:
		if m.Rec.Reason == in.Reason {
			return
		}
	default:
		return
	}
	m.Rec.Reason = in.Reason
	m.event(EventStopping, "%s", in.Reason)
}

func (in StartFailed) apply(m *Machine) {
	if in.Incarnation != m.Rec.Incarnation {
		return
	}
	m.Rec.StoppedAt, m.Rec.Process = m.env.Now, Identity{}
	m.Rec.Reason = in.Reason
	switch m.Rec.State {
	case Starting:
		m.event(EventStartFailed, "%s", in.Reason)
		m.answer(true, in.Reason)
	case Stopping:
		m.event(EventStartFailed, "%s", in.Reason)
		m.disarm()
		m.gone()
	}
}

func (in Exited) apply(m *Machine) {
	if in.Incarnation != m.Rec.Incarnation {
		return
	}
	switch m.Rec.State {
	case Starting, Running, Stopping:
	default:
		return
	}
	if m.Rec.Leftovers { // its death is on record
		if in.Empty {
			TreeEmpty{in.Incarnation}.apply(m)
		}
		return
	}
	m.unprobe()
	if m.Rec.UpSince > 0 {
		m.Rec.Attempt = m.Rec.AttemptAfter(in.Boot-m.Rec.UpSince, m.Reg.Spec.RestartPolicy)
	}
	m.Rec.Exited, m.Rec.LastExit = true, in.Exit
	m.Rec.StoppedAt, m.Rec.Process, m.Rec.Ready = in.At, Identity{}, false
	text := in.Exit.String()
	if m.isScheduled() && m.Rec.UpSince > 0 {
		text += fmt.Sprintf(" after %s", (in.Boot - m.Rec.UpSince).Round(time.Millisecond))
	}
	stopping := m.Rec.State == Stopping
	m.Rec.Completed = !stopping && !Failure(m.Reg.Spec.RestartPolicy, in.Exit)
	if m.Rec.State == Starting {
		m.disarm() // the wait for its readiness
	}
	switch {
	case in.Empty && stopping:
		m.event(EventExited, "%s", text)
		m.disarm()
		m.gone()
	case in.Empty:
		m.event(EventExited, "%s", text)
		m.answer(Failure(m.Reg.Spec.RestartPolicy, in.Exit), in.Exit.String())
	case stopping:
		m.Rec.Leftovers = true
		m.event(EventExited, "%s, others of its tree are left", text)
	default:
		// What it left behind is ended before anything else happens.
		m.Rec.State, m.Rec.After, m.Rec.Leftovers = Stopping, AfterPolicy, true
		m.Rec.Reason = in.Exit.String() + "; ending what it left behind"
		m.event(EventExited, "%s, others of its tree are left", text)
		m.killAfter = m.Reg.Spec.StopTimeout.Duration()
		m.end(spec.KillAll)
	}
}

func (in TreeEmpty) apply(m *Machine) {
	if in.Incarnation != m.Rec.Incarnation || m.Rec.State != Stopping {
		return
	}
	m.disarm()
	m.gone()
}

// gone goes on from a stop that is complete.
func (m *Machine) gone() {
	switch m.Rec.After {
	case AfterStart:
		m.begin("start after stop")
	case AfterRemove:
		m.do(Retire{})
		m.remove()
	case AfterPolicy:
		m.answer(m.failure(), cmp.Or(m.Rec.Cause, m.Rec.LastExit.String()))
	case AfterFail:
		m.fails(m.Rec.Cause)
	default:
		m.ends(Stopped, m.alongReason(), "")
	}
}

// ends puts a machine with nothing to do into the state that follows: that one, or,
// with a schedule, the wait for its next run.
func (m *Machine) ends(s State, reason, detail string) {
	kind := map[State]Kind{Stopped: EventStopped, Failed: EventFailed}[s]
	if m.isScheduled() {
		if m.Rec.Queued && m.Rec.Wanted == WantRunning {
			m.Rec.Queued, m.Rec.Attempt = false, 0
			m.begin("the run that waited for the one before")
			return
		}
		s, kind = Stopped, EventStopped
		if m.Rec.Wanted == WantRunning {
			s, kind = Scheduled, EventScheduled
		}
		m.Rec.Queued = false
	}
	m.rest(s, reason)
	m.event(kind, "%s", detail)
	m.do(Retire{})
}

// restarts says whether the restart policy answers the last exit with a
// restart.
func (m *Machine) restarts() bool {
	p := m.policy()
	return Decide(p, Ending{Failure: m.failure(), Attempt: m.Rec.Attempt}, 0).Restart
}

// failure says whether the last exit counts as one.
func (m *Machine) failure() bool {
	return m.Rec.Cause != "" || Failure(m.Reg.Spec.RestartPolicy, m.Rec.LastExit)
}

// answer asks the restart policy what follows the end of an incarnation.
func (m *Machine) answer(failure bool, reason string) {
	p := m.policy()
	d := Decide(p, Ending{Failure: failure, Attempt: m.Rec.Attempt}, m.env.Jitter)
	switch {
	case d.Restart && d.Delay == 0 && !m.isGrouped():
		m.restart(reason)
	case d.Restart:
		m.rest(Backoff, reason)
		m.Rec.NextRestartAt = m.env.Now.Add(d.Delay)
		m.event(EventBackoff, "%s; attempt %d in %s", reason, m.Rec.Attempt+1, d.Delay.Round(time.Millisecond))
		if d.Delay == 0 {
			m.askLeave()
			return
		}
		m.arm(d.Delay)
	case failure || d.Spent:
		if d.Spent {
			reason = fmt.Sprintf("%s; max_retries (%d) spent", reason, *p.MaxRetries)
		}
		m.unwant()
		m.ends(Failed, reason, reason)
	default:
		m.unwant()
		m.ends(Stopped, "", reason)
	}
}

// unwant is what an end does that its policy doesn't answer. A schedule goes on.
func (m *Machine) unwant() {
	if !m.isScheduled() {
		m.Rec.Wanted = WantStopped
	}
}

// restart is an automatic restart: the only thing that counts as one.
func (m *Machine) restart(reason string) {
	m.Rec.RestartCount++
	m.Rec.Attempt++
	m.beginAs("restart: "+reason, len(m.Reg.Spec.DependsOn) > 0)
}

func (in TimerFired) apply(m *Machine) {
	if in.Gen != m.timer {
		return
	}
	switch m.Rec.State {
	case Backoff:
		if m.isGrouped() {
			m.askLeave()
			return
		}
		m.restart(m.Rec.Reason)
	case Starting:
		if r := m.Reg.Spec.Ready; r != nil && m.Rec.Process != (Identity{}) {
			m.condemn(fmt.Sprintf("it was not ready within %s", r.Timeout.Duration()))
		}
	case Stopping:
		m.forced = true
		m.event(EventStopping, "still there after %s: killed", m.killAfter)
		m.do(Kill{m.Rec.Incarnation})
	}
}

func (in Recover) apply(m *Machine) {
	if m.isScheduled() {
		defer m.recoverRuns(in)
	}
	if in.Fresh && !m.begun(in.BootID) {
		in.fresh(m)
		return
	}
	switch m.Rec.State {
	case Starting, Running, Stopping:
		if m.Rec.Waiting {
			return // whoever keeps the order tells it to go on
		}
		if m.Rec.Leftovers {
			m.do(Sweep{m.Rec.Incarnation})
			return
		}
		m.do(Attach{m.Rec.Incarnation, m.Rec.Process})
	case Backoff:
		// The clock may have been set back since, by years.
		longest := BackoffDelay(m.Reg.Spec.RestartPolicy, m.Rec.Attempt, 1)
		m.arm(min(m.Rec.NextRestartAt.Sub(m.env.Now), longest))
	case Stopped:
		// The manager before died between a command and its start, or in the
		// middle of a shutdown.
		if m.Rec.Wanted == WantRunning && !in.Ending && !m.isScheduled() {
			m.begin("wanted running")
		}
	}
}

// begun reports whether a fresh start was made on this boot already, by a
// manager that was killed before all of its daemons had begun: then the daemon
// is looked for like any other.
func (m *Machine) begun(bootID string) bool {
	switch m.Rec.State {
	case Starting:
		return !m.Rec.Waiting && (m.Rec.Process == (Identity{}) || m.Rec.Process.BootID == bootID)
	case Running, Stopping:
		return m.Rec.Process.BootID == bootID
	}
	return false
}

// fresh starts what is to be started by the first manager after a clean
// shutdown or on another boot.
func (in Recover) fresh(m *Machine) {
	m.forgetAlong()
	switch m.Rec.State {
	case Starting, Running, Stopping, Backoff:
		switch m.Rec.After {
		case AfterRemove:
			m.remove()
			return
		case AfterFail:
			m.fails(m.Rec.Cause)
			return
		}
		if m.Rec.After == AfterPolicy && !m.restarts() {
			m.unwant()
		}
		if m.Rec.Process != (Identity{}) {
			m.Rec.Exited, m.Rec.LastExit, m.Rec.StoppedAt = true, Exit{}, m.env.Now
		}
		m.Rec.Queued = false // the run that it was to follow is long over
		m.rest(Stopped, "")
		m.event(EventStopped, "the machine was started anew")
	}
	switch {
	case m.isScheduled():
	case m.Rec.Wanted == WantRunning:
		m.begin("wanted running")
	case m.Reg.Spec.Autostart && !m.Rec.Ended:
		m.Rec.Wanted = WantRunning
		m.begin("autostart")
	}
}

package supervision

import (
	"reflect"

	"github.com/cyber-boost/syspulse/spec"
)

// What is found out about an incarnation that runs. Each is ignored when it is
// about another one, or about one that is being stopped.
type (
	// BecameReady: it said so itself, or the check of `ready` did.
	BecameReady struct {
		Incarnation string
		How         string // for the history
	}
	// Probed: its health is another one now. Whoever tells has counted the
	// retries.
	Probed struct {
		Incarnation string
		Healthy     bool
		Reason      string // of what is unhealthy
	}
	// MainChanged: another process of its tree is the main one from now on
	// (MAINPID=). Nothing else changes: it is the same incarnation.
	MainChanged struct {
		Incarnation string
		Process     Identity
	}
	// Faulted: it has to be ended, under any policy, because of something it did
	// or didn't do: its watchdog, a limit.
	Faulted struct {
		Incarnation string
		Cause       string
	}
)

// isUp says whether an incarnation is the current one and runs, ready or not.
func (m *Machine) isUp(incarnation string) bool {
	return incarnation == m.Rec.Incarnation && m.Rec.Process != (Identity{}) && (m.Rec.State == Starting || m.Rec.State == Running)
}

func (in BecameReady) apply(m *Machine) {
	switch {
	case m.isUp(in.Incarnation) && !m.Rec.Ready:
		m.becomeReady(in.How)
	case m.Rec.State == Starting && !m.Rec.Waiting && in.Incarnation == m.Rec.Incarnation:
		m.early = &in // its output may be read before its pid is known
	}
}

func (m *Machine) becomeReady(how string) {
	m.disarm()
	m.Rec.State, m.Rec.Ready = Running, true
	m.event(EventReady, "%s", how)
}

func (in Probed) apply(m *Machine) {
	h := m.Reg.Spec.HealthCheck
	if h == nil || !m.isUp(in.Incarnation) {
		return
	}
	before := m.Rec
	m.Rec.Health, m.Rec.Reason = HealthHealthy, ""
	if in.Healthy {
		if m.Rec != before {
			m.event(EventHealth, "healthy")
		}
		return
	}
	m.Rec.Health, m.Rec.Reason = HealthUnhealthy, "unhealthy: "+in.Reason
	if m.Rec != before {
		m.event(EventHealth, "%s", m.Rec.Reason)
	}
	if h.OnUnhealthy == "restart" && m.Reg.Spec.RestartPolicy.Policy != spec.RestartNever {
		m.condemn(m.Rec.Reason)
	}
}

func (in MainChanged) apply(m *Machine) {
	if in.Incarnation != m.Rec.Incarnation || m.Rec.Process == (Identity{}) || m.Rec.Leftovers {
		return
	}
	m.Rec.Process = in.Process
	m.event(EventMain, "pid %d", in.Process.PID)
}

func (in Faulted) apply(m *Machine) {
	if m.isUp(in.Incarnation) {
		m.condemn(in.Cause)
	}
}

// probe begins to look at what runs, if it is to be looked at.
func (m *Machine) probe() {
	if d := m.Reg.Spec; d.HealthCheck != nil || d.Ready != nil || d.Watchdog > 0 {
		m.probed = true
		m.do(Probe{m.Rec.Incarnation, m.Rec.Ready})
	}
}

func (m *Machine) unprobe() {
	if m.probed {
		m.probed = false
		m.do(Unprobe{})
	}
}

// reprobe goes on with what runs under another registration.
func (m *Machine) reprobe(before *spec.Daemon) {
	now := m.Reg.Spec
	if !m.isUp(m.Rec.Incarnation) || reflect.DeepEqual(before.HealthCheck, now.HealthCheck) && reflect.DeepEqual(before.Ready, now.Ready) {
		return
	}
	if !m.Rec.Ready {
		switch {
		case now.Ready == nil:
			m.becomeReady("nothing else is asked of it any more")
		case now.Ready.Timeout > 0:
			m.arm(now.Ready.Timeout.Duration() - (m.env.Boot - m.Rec.UpSince))
		default:
			m.disarm()
		}
	}
	m.unprobe()
	m.probe()
}

// What keeps the order among daemons says. It is about an incarnation that
// waits, and ignored when that is another one or does no longer.
type (
	// Proceed: what it depends on is there; or, in backoff, nothing of its group
	// is in the way of its restart.
	Proceed struct{ Incarnation string }
	// DependencyFailed: that has failed for good.
	DependencyFailed struct {
		Incarnation string
		Reason      string
	}
	// Rest: that is wanted stopped. It stays wanted, and is resumed.
	Rest struct {
		Incarnation string
		For         string // what it waits for
	}
	// Resume starts what rests.
	Resume struct{}
)

func (m *Machine) waits(incarnation string) bool {
	return m.Rec.State == Starting && m.Rec.Waiting && m.Rec.Incarnation == incarnation
}

func (in Proceed) apply(m *Machine) {
	switch {
	case m.waits(in.Incarnation):
		m.fork("what it waited for is there")
	case m.Rec.State == Backoff && m.due && m.Rec.Incarnation == in.Incarnation:
		m.restart(m.Rec.Reason)
	}
}

func (in DependencyFailed) apply(m *Machine) {
	if m.waits(in.Incarnation) {
		m.ends(Failed, in.Reason, in.Reason)
	}
}

func (in Rest) apply(m *Machine) {
	if m.waits(in.Incarnation) && !m.isScheduled() { // a run waits for as long as it takes
		m.ends(Stopped, "", "until "+in.For+" is wanted running")
	}
}

func (in Resume) apply(m *Machine) {
	if m.Rec.State == Stopped && m.Rec.Wanted == WantRunning && !m.isScheduled() {
		m.begin("what it depends on is back")
	}
}

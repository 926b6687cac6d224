package supervision

import (
	"math"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// Why these exist next to protoactor's own strategies: its exponential one
// grows linearly and without a cap, its one-for-one has no delay, and its root
// strategy gives up after ten failures in ten seconds.

// The delays between restarts of an actor that keeps failing.
const (
	FaultBackoffBase = 10 * time.Millisecond
	FaultBackoffMax  = 30 * time.Second
	// FaultWindow is how long a failure counts.
	FaultWindow = time.Minute
)

// FaultDelay is the delay before an actor that failed is restarted, where
// failures is how often it did so within [FaultWindow], this one included. The
// first failure is answered at once.
func FaultDelay(failures int) time.Duration {
	if failures <= 1 {
		return 0
	}
	d := math.Ldexp(float64(FaultBackoffBase), failures-2)
	return time.Duration(math.Min(d, float64(FaultBackoffMax)))
}

// Incarnate is the failure reason of an actor whose failure is the end of what
// it stands for, not a fault in it: the process actor fails with one when its
// process ends.
type Incarnate interface{ EndOfIncarnation() }

// OneForOne restarts the failed child alone, after an exponential backoff, and
// never gives up. The end of an incarnation is handed to Ended, which decides
// by the daemon's restart policy; the child stays suspended until it is
// restarted or stopped.
//
// It implements protoactor's SupervisorStrategy; HandleFailure runs in the
// supervisor's own turn.
type OneForOne struct {
	// Ended decides about an [Incarnate] failure. Nil treats it as a fault.
	Ended func(child *actor.PID, reason Incarnate)
	// Fault is told of each fault and the delay until the restart. May be nil.
	Fault func(child *actor.PID, reason any, delay time.Duration)
	// After calls f after d, from any goroutine.
	After func(d time.Duration, f func())
}

// HandleFailure implements [actor.SupervisorStrategy].
func (s *OneForOne) HandleFailure(_ *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID, rs *actor.RestartStatistics, reason, _ any) {
	if end, ok := reason.(Incarnate); ok && s.Ended != nil {
		s.Ended(child, end)
		return
	}
	if rs.NumberOfFailures(FaultWindow) == 0 {
		rs.Reset() // it never forgets by itself
	}
	rs.Fail()
	delay := FaultDelay(rs.NumberOfFailures(FaultWindow))
	if s.Fault != nil {
		s.Fault(child, reason, delay)
	}
	if delay == 0 {
		supervisor.RestartChildren(child)
		return
	}
	s.After(delay, func() { supervisor.RestartChildren(child) })
}

// Root supervises the root actor: it is restarted with the same backoff, and
// given up once it failed more than MaxFailures times within Window.
type Root struct {
	MaxFailures int
	Window      time.Duration
	OneForOne
	// GiveUp is called when the root is given up. The actor stays suspended.
	GiveUp func(reason any)
}

// HandleFailure implements [actor.SupervisorStrategy].
func (s *Root) HandleFailure(system *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID, rs *actor.RestartStatistics, reason, message any) {
	if rs.NumberOfFailures(s.Window) >= s.MaxFailures {
		s.GiveUp(reason)
		return
	}
	s.OneForOne.HandleFailure(system, supervisor, child, rs, reason, message)
}

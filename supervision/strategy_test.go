package supervision

import (
	"errors"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// recorder is a supervisor that notes what a strategy tells it.
type recorder struct{ restarted, stopped []*actor.PID }

func (r *recorder) Children() []*actor.PID             { return nil }
func (r *recorder) EscalateFailure(_, _ any)           { panic("escalated") }
func (r *recorder) RestartChildren(pids ...*actor.PID) { r.restarted = append(r.restarted, pids...) }
func (r *recorder) StopChildren(pids ...*actor.PID)    { r.stopped = append(r.stopped, pids...) }
func (r *recorder) ResumeChildren(...*actor.PID)       { panic("resumed") }

type over struct{}

func (over) EndOfIncarnation() {}

func TestOneForOneRestartsFaultsWithBackoff(t *testing.T) {
	var sup recorder
	var delays []time.Duration
	s := OneForOne{
		Ended: func(*actor.PID, Incarnate) { t.Error("a fault was taken for an end") },
		Fault: func(_ *actor.PID, _ any, d time.Duration) { delays = append(delays, d) },
		After: func(_ time.Duration, f func()) { f() },
	}
	child, rs := actor.NewPID("here", "child"), actor.NewRestartStatistics()
	for range 4 {
		s.HandleFailure(nil, &sup, child, rs, errors.New("a fault"), nil)
	}
	want := []time.Duration{0, 10 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond}
	if len(sup.restarted) != 4 || len(delays) != 4 || [4]time.Duration(delays) != [4]time.Duration(want) {
		t.Errorf("%d restarts after %v", len(sup.restarted), delays)
	}
}

func TestOneForOneHandsOverEnds(t *testing.T) {
	var sup recorder
	ends := 0
	s := OneForOne{Ended: func(*actor.PID, Incarnate) { ends++ }}
	rs := actor.NewRestartStatistics()
	s.HandleFailure(nil, &sup, actor.NewPID("here", "child"), rs, over{}, nil)
	if ends != 1 || len(sup.restarted) != 0 || rs.FailureCount() != 0 {
		t.Errorf("%d ends, %d restarts, %d faults", ends, len(sup.restarted), rs.FailureCount())
	}
}

func TestRootIsGivenUp(t *testing.T) {
	var sup recorder
	given := 0
	s := Root{
		MaxFailures: 3, Window: time.Minute,
		OneForOne: OneForOne{After: func(_ time.Duration, f func()) { f() }},
		GiveUp:    func(any) { given++ },
	}
	rs := actor.NewRestartStatistics()
	for range 4 {
		s.HandleFailure(nil, &sup, actor.NewPID("here", "root"), rs, errors.New("a fault"), nil)
	}
	if len(sup.restarted) != 3 || given != 1 {
		t.Errorf("restarted %d times, given up %d times", len(sup.restarted), given)
	}
}

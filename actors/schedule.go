package actors

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/cyber-boost/syspulse/supervision"
)

// Messages to a schedule actor, and its own.
type (
	// armRun has the daemon told when the time has come.
	armRun struct {
		Run time.Time // which one it is, without jitter
		At  time.Time
	}
	disarmRun struct{}
	// rang: the alarm of a run rang, or the clock was set before.
	rang struct {
		Run     time.Time
		Stepped bool
	}
)

// schedule waits for the next run of one daemon. What a run is, and when the next
// one comes, the daemon decides. It has no state of its own to lose: the alarm
// outlives a fault.
type schedule struct {
	wall  *wallClock
	alarm *wallAlarm
	tree  *tree
}

func newSchedule(t *tree) func() actor.Actor {
	s := &schedule{wall: t.wall, alarm: new(wallAlarm), tree: t}
	return func() actor.Actor { return s }
}

func (s *schedule) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case armRun:
		system, self := ctx.ActorSystem(), ctx.Self()
		s.wall.set(s.alarm, msg.At, func(stepped bool) { system.Root.Send(self, rang{msg.Run, stepped}) })
	case disarmRun, *actor.Stopping:
		s.wall.clear(s.alarm)
	case rang:
		switch {
		case s.tree.ending.Load(): // nothing begins any more
		case msg.Stepped:
			ctx.Send(ctx.Parent(), observed{Input: supervision.ClockSet{}})
		default:
			ctx.Send(ctx.Parent(), observed{Input: supervision.Due{Run: msg.Run}})
		}
	}
}

package actors

import (
	"log/slog"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/cyber-boost/syspulse/keeper"
	"github.com/cyber-boost/syspulse/notify"
	"github.com/cyber-boost/syspulse/supervision"
)

// tree is what the actors share: the world outside, and where they find each
// other. It does not change once the root runs.
type tree struct {
	host    Host
	keep    *keeper.Store
	output  Output
	ledger  *ledger
	alarms  *alarms
	wall    *wallClock // for schedules
	quiet   alarm      // rings when a burst is over
	log     *slog.Logger
	version string
	marks   marks
	found   found
	notes   notes // of the daemons' outputs
	checks  *checks
	starts  launches
	probes  probes // what checks have shown
	says    sayings
	notify  *notify.Receiver
	outputs outputs

	journal *actor.PID
	batches atomic.Uint64
	ending  atomic.Bool // the daemons are being stopped because the manager ends
}

// found is what the manager found when it began.
type found struct {
	Recover supervision.Recover
	Notices []string
	Damage  []string // those that ping tells for as long as the manager runs
}

// nextBatch numbers appends over all actors and their incarnations.
func (t *tree) nextBatch() uint64 { return t.batches.Add(1) }

// spawn makes a child. It panics if the name is taken, which is a bug.
func (t *tree) spawn(ctx actor.Context, name string, producer func() actor.Actor) *actor.PID {
	pid, err := ctx.SpawnNamed(props(producer), name)
	if err != nil {
		panic(err)
	}
	return pid
}

func props(producer func() actor.Actor, opts ...actor.PropsOption) *actor.Props {
	return actor.PropsFromProducer(producer, append(opts, actor.WithReceiverMiddleware(guard))...)
}

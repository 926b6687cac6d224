package actors

import (
	"cmp"
	"errors"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/platform"
	"github.com/cyber-boost/syspulse/supervision"
)

// Messages to a daemon actor.
type (
	// command is an input from a user. Reply is called once, from any
	// goroutine, and must not block.
	command struct {
		Input supervision.Input
		Until until
		Purge bool // remove: the logs too
		Reply func(outcome)
		// Recorded is called once it is in the record, or never will be; may be
		// nil. It must not block, and may be called from any goroutine.
		Recorded func()
		Forks    bool // a start that has nothing to wait for
	}
	// recoverDaemon begins to look after a daemon that was there before. Done
	// is called once what follows from that is committed.
	recoverDaemon struct {
		supervision.Recover
		Done     func()
		Attached func() // called once it is known what became of its process
	}
	// timerFired is the daemon's alarm.
	timerFired struct{ Gen uint64 }
	// userSignal is any signal, to the main process.
	userSignal struct {
		Signal string
		Reply  func(outcome)
	}
	// farewell tells the root that a removed daemon needs no actor any more.
	// The root, from which all commands come, stops it behind those that it
	// has sent already, so that they are answered.
	farewell struct{ daemon *actor.PID }
)

func (m command) fail(err error) {
	m.recorded()
	m.Reply(outcome{err: err})
}

func (m command) recorded() {
	if m.Recorded != nil {
		m.Recorded()
	}
}

func (m observed) fail(error) {
	if m.Noted != nil {
		m.Noted(false)
	}
}
func (m userSignal) fail(err error) { m.Reply(outcome{err: err}) }
func (m recoverDaemon) fail(error) { // whoever replaces the actor recovers
	m.Done()
	m.Attached()
}

// outcome is the reply to a command.
type outcome struct {
	state   supervision.State
	changed bool // false: it was already so
	err     error
}

// daemon is the actor of one daemon. It runs the state machine, commits its
// events and performs its effects in order. What can fail is its children; it
// answers whatever they do.
type daemon struct {
	*tree
	name  string
	again bool // it replaces an actor that failed

	ctx        actor.Context
	process    *actor.PID
	prober     *actor.PID // once there is something to check
	schedule   *actor.PID // once there is a run to wait for
	logger     *actor.PID
	supervisor actor.Supervisor // of the children; known from their first failure on

	loaded bool
	early  []any // what came before the state was there

	machine supervision.Machine
	queue   []step // sent to the journal and not yet committed, oldest first
	waiters []*waiter
	alarm   alarm

	readyLog      *readyLog // while a line of its output is waited for
	watchdog      alarm
	watchdogOf    string // the incarnation that watchdogEvery is of
	watchdogEvery time.Duration
	unheard       []notified // said before the process is known; as many as a socket lets through

	attached func() // told of what became of a process that was looked for
	kept     string // the incarnation that a successor would ask after
	purge    bool
	removed  bool
	farewell []*waiter // of a removal: told when all is gone
}

// step is what waits for one commit.
type step struct {
	batch   uint64
	events  []supervision.Event
	then    []func(error) // called with why, if this actor ends before the commit is known
	effects []supervision.Effect
}

// HandleFailure implements [actor.SupervisorStrategy]; protoactor asks the
// actor itself for the strategy of its children.
func (d *daemon) HandleFailure(system *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID, rs *actor.RestartStatistics, reason, message any) {
	d.supervisor = supervisor
	strategy := supervision.OneForOne{
		Ended: func(_ *actor.PID, reason supervision.Incarnate) { d.ended(reason.(ended)) },
		Fault: func(child *actor.PID, reason any, delay time.Duration) {
			logFault(d.log, child, reason, "restart in "+delay.String())
		},
		After: d.alarms.after,
	}
	strategy.HandleFailure(system, supervisor, child, rs, reason, message)
}

func (d *daemon) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		d.start(ctx)
	case *actor.Restarting:
		d.rest()
		d.dismiss(api.NewError(api.CodeInternal, "internal error; the manager's log has the details"))
	case *actor.Stopping:
		d.rest()
		d.dismiss(api.ShuttingDown())
	case *actor.Stopped:
		d.stopped()
	case *actor.Terminated:
	case recalled:
		d.recalled(msg)
	default:
		if !d.loaded {
			d.early = append(d.early, msg)
			return
		}
		d.handle(msg)
	}
}

// rest lets go of what would go on without this actor.
func (d *daemon) rest() {
	d.alarms.clear(&d.alarm)
	d.alarms.clear(&d.watchdog)
	d.endReadyLog()
}

func (d *daemon) endReadyLog() {
	if d.readyLog != nil {
		d.readyLog.end()
		d.readyLog = nil
	}
}

func (d *daemon) start(ctx actor.Context) {
	d.ctx = ctx
	r := new(recorder)
	d.logger = d.spawn(ctx, "log", func() actor.Actor {
		return &logger{name: d.name, output: d.output, log: d.log, alarms: d.alarms, notes: &d.notes, recorder: r}
	})
	c := &cell{name: d.name, host: d.host, starts: &d.starts, log: d.log, after: d.alarms.after}
	d.process = d.spawn(ctx, "process", func() actor.Actor { return &process{c} })
	ctx.Send(d.journal, recall{d.name, ctx.Self()})
}

// recalled takes over the state as the journal has it.
func (d *daemon) recalled(msg recalled) {
	if d.loaded {
		return
	}
	d.loaded = true
	early := d.early
	d.early = nil
	if !msg.Known { // its actor failed in the middle of a removal
		d.machine = supervision.Machine{Name: d.name, Rec: supervision.Record{State: supervision.Stopped}}
		d.machine.Step(supervision.Remove{}, d.env())
		d.removed = true
		for _, m := range early {
			d.handle(m)
		}
		d.ctx.Send(d.ctx.Parent(), farewell{d.ctx.Self()})
		return
	}
	d.machine = supervision.Machine{Name: d.name, Reg: msg.Entry.reg, Rec: msg.Entry.rec}
	if d.again {
		d.apply(supervision.Recover{Ending: d.ending.Load()}, nil)
	}
	for _, m := range early {
		d.handle(m)
	}
}

func (d *daemon) handle(msg any) {
	switch msg := msg.(type) {
	case command:
		d.command(msg)
	case userSignal:
		d.signal(msg)
	case recoverDaemon:
		d.apply(msg.Recover, func(out supervision.Outcome, _ *supervision.Record, _ error) {
			msg.Done()
			if attaches(out.Effects) {
				d.attached = msg.Attached
			} else {
				msg.Attached()
			}
		})
	case observed:
		if d.leaves(msg.Input) {
			return
		}
		d.apply(msg.Input, d.noted(msg.Noted))
		d.hear()
	case timerFired:
		d.apply(supervision.TimerFired{Gen: msg.Gen}, nil)
	case readyLogOpen:
		d.readyLogOpen(msg)
	case notified:
		d.notified(msg)
	case watchdogRang:
		d.watchdogRang(msg)
	case appended:
		d.appended(msg)
	}
}

// ended is the failure of the process actor: an incarnation is over.
func (d *daemon) ended(e ended) {
	// At once, so that what was sent meanwhile is answered: the next start may
	// be minutes away.
	d.supervisor.RestartChildren(d.process)
	if e.Forked != nil {
		d.apply(*e.Forked, nil) // a failure overtakes the messages sent before it
	}
	d.apply(e.Input, d.noted(nil))
	d.hear()
}

// noted is what follows once an observation is in the journal. Only then is it told
// that it is known what became of a process: who hears that looks at the records.
func (d *daemon) noted(f func(changed bool)) func(supervision.Outcome, *supervision.Record, error) {
	if f == nil && d.attached == nil {
		return nil
	}
	return func(out supervision.Outcome, _ *supervision.Record, err error) {
		if f != nil {
			f(err == nil && len(out.Events) > 0)
		}
		d.nowAttached()
	}
}

// attaches reports whether a process is being looked for.
func attaches(effects []supervision.Effect) bool {
	return slices.ContainsFunc(effects, func(e supervision.Effect) bool {
		switch e.(type) {
		case supervision.Attach, supervision.Sweep:
			return true
		}
		return false
	})
}

func (d *daemon) nowAttached() {
	if d.attached != nil {
		d.attached()
		d.attached = nil
	}
}

func (d *daemon) command(msg command) {
	before, incarnation := d.machine.Rec.State, d.machine.Rec.Incarnation
	healthy := d.machine.Reg.Spec != nil && d.machine.Reg.Spec.Ready == nil && d.machine.Reg.Spec.HealthCheck != nil
	d.apply(msg.Input, func(out supervision.Outcome, rec *supervision.Record, err error) {
		msg.recorded()
		if errors.Is(out.Err, supervision.ErrRemoved) {
			out.Err, before = api.NotFound(d.name), ""
		}
		if err = cmp.Or(out.Err, err); err != nil {
			msg.Reply(outcome{state: before, err: err})
			return
		}
		d.purge = d.purge || msg.Purge
		w := newWaiter(msg.Until, rec, out.Note == "", msg.Reply)
		w.healthy, w.forks = healthy, msg.Forks
		if msg.Until == untilGone {
			w.incarnation = incarnation // another one may have begun already
			switch in := msg.Input.(type) {
			case supervision.Change:
				if rec.State != supervision.Stopping {
					w.until = untilRecorded // it waits still, and starts with the new one
				}
			case supervision.Stop:
				if in.Along != "" && rec.State != supervision.Stopping {
					w.until = untilRecorded // it has no process by now, and waits still
				}
			}
		}
		switch {
		case d.removed:
			d.farewell = append(d.farewell, w)
		case !w.settle("", rec):
			d.waiters = append(d.waiters, w)
		}
	})
}

func (d *daemon) signal(msg userSignal) {
	rec := d.machine.Rec
	if d.removed {
		msg.Reply(outcome{err: api.NotFound(d.name)})
		return
	}
	if rec.Process.PID == 0 {
		msg.Reply(outcome{state: rec.State, err: api.Conflict(d.name, "%s is %s: there is no process to signal", d.name, rec.State)})
		return
	}
	d.ctx.Send(d.process, sendSignal{
		Incarnation: rec.Incarnation, Signal: msg.Signal, Mode: "main",
		Reply: func(err error) { msg.Reply(outcome{state: rec.State, changed: true, err: err}) },
	})
}

// apply makes one step of the machine. then is called with its outcome once
// that is committed, and before its effects; or with an error, if this actor
// ends before.
func (d *daemon) apply(in supervision.Input, then func(supervision.Outcome, *supervision.Record, error)) {
	out := d.machine.Step(in, d.env())
	s := step{events: out.Events, effects: out.Effects}
	if then != nil {
		rec := d.machine.Rec
		s.then = []func(error){func(err error) { then(out, &rec, err) }}
	}
	switch {
	case len(out.Events) > 0:
		s.batch = d.nextBatch()
		d.queue = append(d.queue, s)
		d.ctx.Send(d.journal, appendEvents{Events: out.Events, From: d.ctx.Self(), Batch: s.batch})
	case len(d.queue) > 0:
		last := &d.queue[len(d.queue)-1]
		last.then = append(last.then, s.then...)
		last.effects = append(last.effects, s.effects...)
	default:
		d.finish(s)
	}
}

// appended goes on after a commit.
func (d *daemon) appended(msg appended) {
	if len(d.queue) == 0 || d.queue[0].batch != msg.Batch {
		return // asked for by an actor that this one replaces
	}
	s := d.queue[0]
	d.queue = d.queue[1:]
	if len(d.queue) == 0 {
		d.queue = nil
	}
	d.finish(s)
}

func (d *daemon) finish(s step) {
	defer func() {
		d.watch()
		d.tendReadyLog()
	}()
	for i := range s.events {
		d.tell(s.events[i].Kind, s.events[i].Record)
	}
	for _, f := range s.then {
		f(nil)
	}
	for _, e := range s.effects {
		d.perform(e)
	}
}

// tell lets the waiters look at an event and its record.
func (d *daemon) tell(k supervision.Kind, rec *supervision.Record) {
	if k == supervision.EventRemoved {
		d.removed = true
		d.farewell, d.waiters = d.waiters, nil
		return
	}
	waiting := d.waiters[:0]
	for _, w := range d.waiters {
		if !w.settle(k, rec) {
			waiting = append(waiting, w)
		}
	}
	clear(d.waiters[len(waiting):])
	d.waiters = waiting
}

// dismiss answers everybody who waits, because this actor ends.
func (d *daemon) dismiss(err error) {
	for _, w := range d.waiters {
		w.reply(outcome{state: d.machine.Rec.State, err: err})
	}
	d.waiters = nil
	d.nowAttached()
	for _, msg := range d.unheard {
		msg.Done()
	}
	d.unheard = nil
	for _, s := range d.queue {
		for _, f := range s.then {
			f(err)
		}
	}
	d.queue = nil
	for _, m := range d.early {
		if r, ok := m.(request); ok {
			r.fail(err)
		}
	}
	d.early = nil
}

// stopped is the actor's end; its children have ended before.
func (d *daemon) stopped() {
	if !d.removed {
		return
	}
	d.notify.Unlisten(d.name)
	d.says.clear(d.name)
	err := errors.Join(d.outputs.forget(d.name), d.output.Remove(d.name, d.purge))
	for _, w := range d.farewell {
		w.reply(outcome{changed: true, err: err})
	}
}

func (d *daemon) perform(e supervision.Effect) {
	switch e := e.(type) {
	case supervision.Fork:
		d.forget(e.Incarnation)
		d.endReadyLog()
		reg := d.machine.Reg.Spec
		d.ctx.Send(d.logger, open{User: reg.User, Process: d.process, System: d.ctx.ActorSystem(), Then: func(c Capture, a *platform.Account, err error) any {
			var addr string
			if err == nil {
				addr, err = d.listen(reg, e.Incarnation, a, true)
			}
			if err == nil {
				err = d.openReadyLog(reg, e.Incarnation, false)
			}
			return launch{Incarnation: e.Incarnation, Spec: reg, Account: a, Capture: c, Notify: addr, Heard: d.heard(reg), Err: err}
		}})
	case supervision.Attach:
		d.kept = e.Incarnation
		reg, ready := d.machine.Reg.Spec, d.machine.Rec.Ready
		d.ctx.Send(d.logger, open{User: reg.User, Process: d.process, System: d.ctx.ActorSystem(), Running: e.Incarnation, Then: func(c Capture, a *platform.Account, err error) any {
			if err != nil {
				d.log.Error("the output of a running daemon can't be captured", "daemon", d.name, "error", err)
			}
			if _, err := d.listen(reg, e.Incarnation, a, false); err != nil {
				d.log.Error("a running daemon can't be listened to", "daemon", d.name, "error", err)
			}
			if !ready {
				if err := d.openReadyLog(reg, e.Incarnation, true); err != nil {
					d.log.Error("the output of a running daemon can't be looked at", "daemon", d.name, "error", err)
				}
			}
			return attach{Incarnation: e.Incarnation, Process: e.Process, Capture: c, Heard: d.heard(reg)}
		}})
	case supervision.Sweep:
		d.kept = e.Incarnation
		// With its output open before: what is in the pipes would vanish with
		// the last of those that are ended.
		d.ctx.Send(d.logger, open{User: d.machine.Reg.Spec.User, Process: d.process, System: d.ctx.ActorSystem(), Then: func(c Capture, _ *platform.Account, err error) any {
			if err != nil {
				d.log.Error("the output of what a daemon left behind can't be captured", "daemon", d.name, "error", err)
			}
			return sweep{Incarnation: e.Incarnation, Capture: c}
		}})
	case supervision.Signal:
		d.ctx.Send(d.process, sendSignal{Incarnation: e.Incarnation, Signal: e.Signal, Mode: e.Mode})
	case supervision.Kill:
		d.ctx.Send(d.process, killTree{e.Incarnation})
	case supervision.Arm:
		system, self := d.ctx.ActorSystem(), d.ctx.Self()
		d.alarms.set(&d.alarm, e.After, func() { system.Root.Send(self, timerFired{e.Gen}) })
	case supervision.Disarm:
		d.alarms.clear(&d.alarm)
	case supervision.Probe:
		d.probe(e)
	case supervision.Unprobe:
		d.endReadyLog()
		if d.prober != nil {
			d.ctx.Send(d.prober, endProbe{})
		}
	case supervision.ArmRun:
		if d.schedule == nil {
			d.schedule = d.spawn(d.ctx, "schedule", newSchedule(d.tree))
		}
		d.ctx.Send(d.schedule, armRun{e.Run, e.At})
	case supervision.DisarmRun:
		if d.schedule != nil {
			d.ctx.Send(d.schedule, disarmRun{})
		}
	case supervision.AskLeave:
		d.ctx.Send(d.ctx.Parent(), awaitsLeave{d.name, e.Incarnation})
	case supervision.Retire:
		d.forget("")
		d.ctx.Send(d.logger, idle{})
	case supervision.Gone:
		d.forget("")
		d.ctx.Send(d.ctx.Parent(), farewell{d.ctx.Self()})
	}
}

// probe begins to check what runs.
func (d *daemon) probe(e supervision.Probe) {
	reg := d.machine.Reg.Spec
	if reg.HealthCheck == nil && (reg.Ready == nil || e.Ready) {
		return
	}
	if !e.Ready && reg.Ready != nil && reg.Ready.Type == "log" && d.readyLog == nil {
		go func() { // off the actor: it opens files
			if err := d.openReadyLog(reg, e.Incarnation, true); err != nil {
				d.log.Error("the output of a running daemon can't be looked at", "daemon", d.name, "error", err)
			}
		}()
	}
	if d.prober == nil {
		d.prober = d.spawn(d.ctx, "probe", newProber(d.tree, d.name))
	}
	d.ctx.Send(d.prober, beginProbe{
		Incarnation: e.Incarnation, Spec: reg, Ready: e.Ready, Up: d.host.Uptime() - d.machine.Rec.UpSince,
	})
}

// forget lets go of what was kept of the incarnation before next: how it ended
// is in the journal.
func (d *daemon) forget(next string) {
	if d.kept != "" && d.kept != next {
		d.host.Forget(d.kept)
	}
	d.kept = next
}

func (d *daemon) env() supervision.Env {
	return supervision.Env{Now: wallNow(), Boot: d.host.Uptime(), Jitter: mathrand.Float64(), NewID: d.newIncarnation, Ending: d.ending.Load()}
}

func (d *daemon) newIncarnation() string { return d.marks.next(d.name) }

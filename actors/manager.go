package actors

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// Requests to the root actor.
type (
	// selectDaemons asks for what is known of some daemons.
	selectDaemons struct {
		api.Selector
		answer[selection]
	}
	// dispatch sends a message of Make's to each selected daemon. The replies
	// come through the selection's channel.
	dispatch struct {
		api.Selector
		order
		Make func(reply func(outcome)) any // a command if there is an order
		answer[selection]
	}
	// register adds daemons, all or none.
	register struct {
		Daemons []supervision.Registration
		Groups  []spec.Group
		Running []string // those that are to be started (autostart comes on top)
		answer[[]api.Result]
	}
	// reconcile adds and changes daemons, all or none, and removes what came from
	// the files Prune and isn't among them.
	reconcile struct {
		Daemons []supervision.Registration
		Groups  []spec.Group
		Files   files
		Prune   []string // as Files tells them
		DryRun  bool
		answer[[]api.Change]
	}
	// endManager ends all daemons, or leaves them, and answers when that is
	// done and in the journal.
	endManager struct {
		Keep, Force bool
		answer[struct{}]
	}
	// notice puts something that the manager found into the journal.
	notice struct{ Detail string }
)

// selection is the answer to a selector.
type selection struct {
	daemons []selected
	unknown []*api.Error // for each name that is not registered
	replies chan reply
	groups  []groupState // all, sorted; if everything is selected
}

type selected struct {
	name string
	entry
	pulledIn   bool     // not asked for, but needed by what was
	waitingFor []string // of its dependencies
}

type reply struct {
	name string
	outcome
}

// manager is the root actor. Every command arrives here. It keeps the
// projection that status is answered from, and never asks a daemon for it.
type manager struct {
	*tree
	again bool // it replaces a root that failed

	ctx      actor.Context
	daemons  map[string]*managed
	keys     map[string]string        // spec.NameKey → name
	pending  map[uint64]pendingCommit // appends of its own
	dying    map[string][]func()      // removed, its actor not yet gone: what waits for that
	closing  []answer[struct{}]       // shutdowns that wait
	stopping bool
	asked    *asked

	settled bool                // it is known which processes of the daemons live
	reverse map[string][]string // by dependency, who depends on it; nil: to be made anew
	plans   []*plan             // stops under way
	groups  map[string]*group   // those that are declared or have members
}

type managed struct {
	entry
	pid   *actor.PID // nil until the registration is committed
	early []any      // messages from before that
	named uint64     // the last reconcile that named it

	pending int // commands that are not in its record yet
	held    int // plans that it is part of: it isn't resumed

	group *group // nil if it has none
	due   string // the incarnation whose backoff is over
}

type pendingCommit struct {
	then func()
	fail func(error)
}

func (m *manager) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		m.start(ctx)
	case *actor.Restarting:
		m.dismiss(api.NewError(api.CodeInternal, "internal error; the manager's log has the details"))
	case *actor.Stopping:
		m.dismiss(api.ShuttingDown())
	case *actor.Terminated:
		m.terminated(msg.Who)
	case recoveredAll:
		m.begun()
	case allAttached:
		m.settled = true
		m.lookAtAll()
	case recorded:
		m.recorded(msg)
	case planned:
		m.planned(msg)
	case awaitsLeave:
		m.awaitsLeave(msg)
	case committed:
		m.project(msg.Events)
	case appended:
		if p, ok := m.pending[msg.Batch]; ok {
			p.then()
			delete(m.pending, msg.Batch) // after it, so that a fault in it is answered
		}
	case selectDaemons:
		msg.give(m.pick(msg.Selector), nil)
	case dispatch:
		m.dispatch(msg)
	case register:
		m.register(msg)
	case reconcile:
		m.reconcile(msg)
	case prune:
		m.prune(msg)
	case notice:
		m.append([]supervision.Event{{Time: wallNow(), Kind: supervision.EventManagerNotice, Detail: msg.Detail}}, nil, nil)
	case endManager:
		m.end(msg)
	case stopAgain:
		if m.asked.isOver() {
			return
		}
		sel := m.pick(api.Selector{Names: msg.names})
		m.stopInOrder(&sel, stopForShutdown(false), planOptions{})
		m.awaitEnds(sel)
	case farewell:
		ctx.Poison(msg.daemon)
	case allGone:
		failpoint.Hit(failpoint.ShutdownGone)
		m.append([]supervision.Event{{Time: wallNow(), Kind: supervision.EventManagerStop, Detail: "shutdown"}}, func() {
			failpoint.Hit(failpoint.ShutdownRecorded)
			for _, a := range m.closing {
				a.give(struct{}{}, nil)
			}
			m.closing = nil
		}, func(error) {})
	}
}

// dismiss answers everybody who waits, because this actor ends, and those of the
// daemons with it.
func (m *manager) dismiss(err error) {
	for _, p := range m.pending {
		p.fail(err)
	}
	for _, a := range m.closing {
		a.fail(err)
	}
	m.asked.fail(err)
}

// HandleFailure implements [actor.SupervisorStrategy].
func (m *manager) HandleFailure(system *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID, rs *actor.RestartStatistics, reason, message any) {
	strategy := supervision.OneForOne{
		Fault: func(child *actor.PID, reason any, delay time.Duration) {
			logFault(m.log, child, reason, "restart in "+delay.String())
		},
		After: m.alarms.after,
	}
	strategy.HandleFailure(system, supervisor, child, rs, reason, message)
}

func (m *manager) start(ctx actor.Context) {
	m.ctx = ctx
	m.ending.Store(false)
	m.asked = &asked{open: make(map[*reply]func(error))}
	m.daemons = make(map[string]*managed)
	m.keys = make(map[string]string)
	m.pending = make(map[uint64]pendingCommit)
	m.dying = make(map[string][]func())
	m.groups = make(map[string]*group)
	j := &journal{ledger: m.ledger, subscriber: ctx.Self(), settle: m.settle, alarms: m.alarms}
	m.spawn(ctx, "journal", func() actor.Actor { return j })

	for name, e := range m.ledger.snapshot() {
		if group, ok := supervision.IsGroup(name); ok {
			m.takeGroup(group, &supervision.Event{Spec: &e.reg, Record: &e.rec})
			continue
		}
		m.adopt(name, e)
	}
	if m.again {
		m.settled = true
		m.lookAtAll()
		return // each daemon recovers by itself
	}
	// Only when all that follows from the recovery is in the journal does it
	// say that a manager has begun on this boot: one that is killed before
	// leaves the next one to be the first.
	var left atomic.Int64
	left.Store(int64(len(m.daemons)) + 1)
	system, self := ctx.ActorSystem(), ctx.Self()
	done := func() {
		if left.Add(-1) == 0 {
			system.Root.Send(self, recoveredAll{})
		}
	}
	// What was kept for a daemon that nobody asked after is of no use any more.
	var looked atomic.Int64
	looked.Store(int64(len(m.daemons)) + 1)
	attached := func() {
		if looked.Add(-1) == 0 {
			m.keep.Settle()
			system.Root.Send(self, allAttached{})
		}
	}
	for _, d := range m.daemons {
		ctx.Send(d.pid, recoverDaemon{m.found.Recover, sync.OnceFunc(done), sync.OnceFunc(attached)})
	}
	done()
	attached()
}

// recoveredAll: every daemon that was there before is looked after.
type recoveredAll struct{}

// allAttached: of each process that may live it is known whether it does.
type allAttached struct{}

// begun records that the manager has begun, and what it found.
func (m *manager) begun() {
	events := []supervision.Event{{
		Time: wallNow(), Kind: supervision.EventManagerStart,
		Detail: fmt.Sprintf("version %s, pid %d", m.version, os.Getpid()),
	}}
	for _, n := range m.found.Notices {
		events = append(events, supervision.Event{Time: wallNow(), Kind: supervision.EventManagerNotice, Detail: n})
	}
	failpoint.Hit(failpoint.RecoverAll)
	m.append(events, func() { failpoint.Hit(failpoint.RecoverDone) }, func(error) {})
}

// adopt makes the actor of a registered daemon.
func (m *manager) adopt(name string, e entry) {
	again := m.again
	pid := m.spawn(m.ctx, "daemon/"+name, func() actor.Actor {
		d := &daemon{tree: m.tree, name: name, again: again}
		again = true // whatever is made later replaces one that failed
		return d
	})
	d := m.daemons[name]
	if d == nil {
		d = new(managed)
		m.daemons[name], m.reverse = d, nil
	}
	early := d.early
	d.entry, d.pid, d.early = e, pid, nil
	m.enroll(name, d)
	m.keys[spec.NameKey(name)] = name
	for _, msg := range early {
		m.ctx.Send(pid, msg)
	}
}

// project applies commits to the projection.
func (m *manager) project(events []supervision.Event) {
	touched, failed := make(map[string]bool, len(events)), make(map[string]bool)
	moved := make(map[*group]bool)
	for i := range events {
		ev := &events[i]
		if group, ok := supervision.IsGroup(ev.Daemon); ok {
			m.takeGroup(group, ev)
			if g := m.groups[group]; g != nil && (ev.Spec != nil || ev.Kind == supervision.EventRemoved) {
				moved[g] = true
			}
			continue
		}
		d := m.daemons[ev.Daemon]
		if d == nil {
			continue
		}
		touched[ev.Daemon] = true
		switch ev.Kind {
		case supervision.EventRemoved:
			if d.group != nil && len(d.group.leaders) > 0 {
				moved[d.group] = true // one of them may be it, or wait for its end
			}
			m.discharge(ev.Daemon, d)
			delete(m.daemons, ev.Daemon)
			delete(m.keys, spec.NameKey(ev.Daemon))
			m.dying[ev.Daemon] = nil
			m.reverse = nil
			continue
		case supervision.EventChanged, supervision.EventRegistered:
			m.reverse = nil
		}
		d.take(ev)
		was := d.group
		if m.enroll(ev.Daemon, d) {
			moved[d.group], moved[was] = true, true
		}
		if ev.Kind == supervision.EventChanged && d.group != was && d.group != nil {
			d.group.spare()
		}
		if d.rec.State == supervision.Failed {
			failed[ev.Daemon] = true
		} else {
			delete(failed, ev.Daemon)
		}
	}
	delete(moved, nil)
	for g := range moved {
		m.lookAtGroup(g, failed)
	}
	m.lookAround(touched, failed)
}

// append commits events; then is called once they are.
func (m *manager) append(events []supervision.Event, then func(), fail func(error)) {
	batch := m.nextBatch()
	if then != nil {
		m.pending[batch] = pendingCommit{then, fail}
	}
	m.ctx.Send(m.journal, appendEvents{Events: events, From: m.ctx.Self(), Batch: batch})
}

// terminated goes on with a name whose actor is gone.
func (m *manager) terminated(who *actor.PID) {
	name := strings.TrimPrefix(who.Id, m.ctx.Self().Id+"/daemon/")
	waiting := m.dying[name]
	delete(m.dying, name)
	for _, f := range waiting {
		f()
	}
}

// pick resolves a selector. A zero one is everything.
func (m *manager) pick(s api.Selector) selection {
	var out selection
	seen := make(map[string]bool)
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			d := m.daemons[name]
			out.daemons = append(out.daemons, selected{name: name, entry: d.entry, waitingFor: m.waitingFor(&d.entry)})
		}
	}
	for _, asked := range s.Names {
		name := spec.CanonicalName(asked)
		if m.daemons[name] == nil {
			out.unknown = append(out.unknown, api.NotFound(asked, slices.Sorted(maps.Keys(m.daemons))...))
			continue
		}
		add(name)
	}
	if s.IsZero() || s.All || len(s.Tags) > 0 || len(s.Groups) > 0 {
		var names []string
		for name, d := range m.daemons {
			if s.IsZero() || s.All || slices.ContainsFunc(s.Tags, func(t string) bool {
				return slices.Contains(d.reg.Spec.Tags, t)
			}) || d.reg.Spec.Group != "" && slices.Contains(s.Groups, d.reg.Spec.Group) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			add(name)
		}
	}
	if s.All {
		for _, name := range slices.Sorted(maps.Keys(m.groups)) {
			out.groups = append(out.groups, m.groups[name].state(m))
		}
	}
	return out
}

func (m *manager) dispatch(msg dispatch) {
	if m.stopping {
		msg.fail(api.ShuttingDown())
		return
	}
	sel := m.pick(msg.Selector)
	command := func(reply func(outcome)) command { return msg.Make(reply).(command) }
	switch {
	case msg.Pull != nil:
		m.startWithNeeds(&sel, command, msg.Pull)
	case msg.DependentsFirst:
		m.stopInOrder(&sel, command, planOptions{force: msg.Force})
	case msg.Removal:
		m.remove(&sel, msg.Force, command)
	default:
		m.send(&sel, msg.Make)
	}
	msg.give(sel, nil)
}

// order says in which order a command reaches daemons of which some depend on
// others, and who else it is for.
type order struct {
	Pull            func(reply func(outcome)) command // starts what is needed, too
	DependentsFirst bool                              // they are stopped before, and come back
	Removal         bool
	Force           bool
}

// send gives each daemon of sel a message, whose reply goes to sel.replies.
func (m *manager) send(sel *selection, message func(reply func(outcome)) any) {
	replies := make(chan reply, len(sel.daemons))
	sel.replies = replies
	for _, d := range sel.daemons {
		m.tell(m.daemons[d.name], message(m.asked.once(d.name, replies)))
	}
}

// asked is what daemons were asked and have not answered. It sees to it that
// each question has one answer. Safe for concurrent use.
type asked struct {
	mu   sync.Mutex
	open map[*reply]func(error)
	over error // what is asked from here on is answered with; nil while the actors live
}

// once gives a function whose first call sends a reply of name to replies.
func (a *asked) once(name string, replies chan<- reply) func(outcome) {
	key := &reply{name: name}
	answer := func(o outcome) {
		a.mu.Lock()
		_, first := a.open[key]
		delete(a.open, key)
		a.mu.Unlock()
		if first {
			replies <- reply{name, o}
		}
	}
	a.mu.Lock()
	a.open[key] = func(err error) { answer(outcome{err: err}) }
	over := a.over
	a.mu.Unlock()
	if over != nil {
		answer(outcome{err: over})
	}
	return answer
}

func (a *asked) isOver() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.over != nil
}

// fail answers what is open, and what is asked later.
func (a *asked) fail(err error) {
	a.mu.Lock()
	a.over = err
	all := slices.Collect(maps.Values(a.open))
	a.mu.Unlock()
	for _, f := range all {
		f(err)
	}
}

func (m *manager) tell(d *managed, msg any) {
	if d.pid == nil {
		d.early = append(d.early, msg)
		return
	}
	m.ctx.Send(d.pid, msg)
}

// clash finds the registered daemon that a new name stands for. It fails if
// that one is being removed, or differs by case.
func (m *manager) clash(name string) (other *managed, err error) {
	known, ok := m.keys[spec.NameKey(name)]
	switch {
	case !ok:
		return nil, nil
	case known != name:
		return nil, api.Conflict(name, "the name %q differs only by case from %q, which is registered; choose another", name, known)
	}
	d := m.daemons[known]
	if d.rec.State == supervision.Stopping && d.rec.After == supervision.AfterRemove {
		// Whatever is made of its registration would go with it.
		return nil, api.Conflict(name, "%s is being removed; try again when it is gone", name)
	}
	return d, nil
}

func (m *manager) register(msg register) {
	if m.stopping {
		msg.fail(api.ShuttingDown())
		return
	}
	var results []api.Result
	var fresh []supervision.Registration
	var conflicts []string
	for _, r := range msg.Daemons {
		name := r.Spec.Name
		d, err := m.clash(name)
		switch {
		case err != nil:
			conflicts = append(conflicts, err.Error())
		case d == nil:
			fresh = append(fresh, r)
			state := supervision.Stopped
			switch {
			case r.Spec.Schedule != "":
				state = supervision.Scheduled
			case r.Spec.Autostart || slices.Contains(msg.Running, name):
				state = supervision.Starting
			}
			results = append(results, api.Done(name, state, true))
		case d.reg.Spec.Equal(r.Spec):
			results = append(results, api.Done(name, d.rec.State, false))
		default:
			conflicts = append(conflicts, fmt.Sprintf(
				"%s is registered already and differs in %s; `syspulse apply FILE` changes it, or `syspulse remove --force %s` and add it again",
				name, strings.Join(spec.Diff(d.reg.Spec, r.Spec), ", "), name))
		}
	}
	conflicts = append(conflicts, m.declaredOtherwise(msg.Groups)...)
	if len(conflicts) > 0 {
		e := api.NewError(api.CodeConflict, "nothing was registered: %s", strings.Join(conflicts, "; "))
		e.Problems = conflicts
		msg.fail(e)
		return
	}
	if err := cmp.Or(m.entangled(fresh, nil), m.groupClash(fresh, msg.Groups)); err != nil {
		msg.fail(err)
		return
	}
	m.add(fresh, msg.Groups, func(name string) bool { return slices.Contains(msg.Running, name) },
		func() { msg.give(results, nil) }, msg.fail)
}

// add registers new daemons, and groups, in one commit and starts those that are to
// be running.
func (m *manager) add(fresh []supervision.Registration, groups []spec.Group, running func(string) bool, then func(), fail func(error)) {
	events := m.declarations(groups)
	if len(events) == 0 && len(fresh) == 0 {
		then()
		return
	}
	for i := range fresh {
		rec := supervision.Record{State: supervision.Stopped, Wanted: supervision.WantStopped, Health: supervision.HealthNotConfigured}
		if fresh[i].Spec.HealthCheck != nil {
			rec.Health = supervision.HealthUnknown
		}
		name := fresh[i].Spec.Name
		if fresh[i].Spec.Autostart || fresh[i].Spec.Schedule != "" || running(name) {
			rec.Wanted = supervision.WantRunning
		}
		// The name is taken from here on, so that nobody else takes it.
		m.daemons[name] = &managed{entry: entry{reg: fresh[i], rec: rec}}
		m.reverse = nil
		m.keys[spec.NameKey(name)] = name
		events = append(events, supervision.Event{
			Time: wallNow(), Daemon: name, Kind: supervision.EventRegistered, Detail: fresh[i].Source,
			Record: &rec, Spec: &fresh[i],
		})
	}
	m.append(events, func() {
		for _, r := range fresh {
			m.enliven(r)
		}
		then()
	}, fail)
}

// enliven makes the actor of a daemon that was just registered; after the
// former one of that name is gone.
func (m *manager) enliven(r supervision.Registration) {
	name := r.Spec.Name
	if _, ok := m.dying[name]; ok {
		m.dying[name] = append(m.dying[name], func() { m.enliven(r) })
		return
	}
	d := m.daemons[name]
	if d == nil || d.pid != nil {
		return
	}
	m.adopt(name, d.entry)
	by := "wanted running"
	switch {
	case r.Spec.Schedule != "":
		by = "armed"
	case r.Spec.Autostart:
		by = "autostart"
	}
	if d.rec.Wanted == supervision.WantRunning && !m.stopping {
		m.commanded(m.daemons[name], command{Input: supervision.Start{By: by}, Reply: func(outcome) {}})
	}
}

func (m *manager) reconcile(msg reconcile) {
	if m.stopping {
		msg.fail(api.ShuttingDown())
		return
	}
	var changes []api.Change
	var fresh, changed []supervision.Registration
	for _, r := range msg.Daemons {
		d, err := m.clash(r.Spec.Name)
		if err != nil {
			msg.fail(err)
			return
		}
		c := api.Change{Kind: api.KindDaemon, Name: r.Spec.Name, Change: api.ChangeUnchanged, Keys: []string{}, Warnings: []string{}}
		switch {
		case d == nil:
			c.Change = api.ChangeAdded
			fresh = append(fresh, r)
		default:
			if keys := spec.Diff(d.reg.Spec, r.Spec); len(keys) > 0 || msg.Files.of(d.reg.Source) != msg.Files.of(r.Source) {
				changed = append(changed, r)
				if len(keys) > 0 {
					c.Change, c.Keys = api.ChangeChanged, keys
					c.Restart = spec.NeedsRestart(keys) && isLive(d.rec.State)
				}
			}
		}
		changes = append(changes, c)
	}
	out := m.outdated(msg)
	if err := cmp.Or(m.entangled(slices.Concat(fresh, changed), out), m.groupClash(slices.Concat(fresh, changed), msg.Groups)); err != nil {
		msg.fail(err)
		return
	}
	for i := range msg.Groups {
		kind, keys := m.declaration(&msg.Groups[i])
		changes = append(changes, api.Change{Kind: api.KindGroup, Name: msg.Groups[i].Name, Change: kind, Keys: keys, Warnings: []string{}})
	}
	for _, name := range out {
		changes = append(changes, api.Change{Kind: api.KindDaemon, Name: name, Change: api.ChangeRemoved, Keys: []string{}, Warnings: []string{}})
	}
	undeclared := m.undeclared(msg, out)
	for _, name := range undeclared {
		changes = append(changes, api.Change{Kind: api.KindGroup, Name: name, Change: api.ChangeRemoved, Keys: []string{}, Warnings: []string{}})
	}
	if msg.DryRun {
		msg.give(changes, nil)
		return
	}
	turn := m.nextBatch()
	system, self := m.ctx.ActorSystem(), m.ctx.Self()
	m.add(fresh, msg.Groups, func(string) bool { return false }, func() {
		m.undeclare(undeclared)
		done := m.change(changed)
		go func() {
			var failed error
			for range changed {
				failed = cmp.Or(failed, (<-done).err)
			}
			if failed != nil || len(out) == 0 {
				msg.give(changes, failed)
				return
			}
			system.Root.Send(self, prune{out, turn, changes, msg})
		}()
	}, msg.fail)
	for _, r := range msg.Daemons {
		m.daemons[r.Spec.Name].named = turn
	}
}

// change gives daemons another registration, and restarts what has to be for that.
// Of several that are restarted and depend on each other, those that depend stop
// before, and start after: until then what they depend on keeps its old one.
func (m *manager) change(changed []supervision.Registration) <-chan reply {
	inputs := make(map[string]supervision.Input)
	var atOnce, inOrder selection
	for _, r := range changed {
		name := r.Spec.Name
		d := m.daemons[name]
		if d == nil { // removed meanwhile
			atOnce.daemons = append(atOnce.daemons, selected{name: name})
			continue
		}
		restart := spec.NeedsRestart(spec.Diff(d.reg.Spec, r.Spec))
		inputs[name] = supervision.Change{Reg: r, Restart: restart}
		to := &atOnce
		if restart && isLive(d.rec.State) && !d.rec.Waiting {
			to = &inOrder
		}
		to.daemons = append(to.daemons, selected{name: name, entry: d.entry})
	}
	m.stopInOrder(&inOrder, func(reply func(outcome)) command { return command{Until: untilGone, Reply: reply} }, planOptions{
		alone: true, input: func(name string) supervision.Input { return inputs[name] },
	})
	all := make(chan reply, len(changed))
	for _, s := range atOnce.daemons {
		answer := m.asked.once(s.name, all)
		if d := m.daemons[s.name]; d != nil {
			m.tell(d, command{Input: inputs[s.name], Reply: answer})
		} else {
			answer(outcome{})
		}
	}
	go func() {
		for range inOrder.daemons {
			all <- <-inOrder.replies
		}
	}()
	return all
}

func isLive(s supervision.State) bool {
	return s == supervision.Starting || s == supervision.Running || s == supervision.Stopping || s == supervision.Backoff
}

// end stops everything, in as many steps as there are shutdown requests: one
// with Force hurries the ones before.
func (m *manager) end(msg endManager) {
	first := !m.stopping
	m.stopping = true
	m.ending.Store(true)
	if msg.Keep {
		m.append([]supervision.Event{{
			Time: wallNow(), Kind: supervision.EventManagerNotice, Detail: "the manager ends and keeps its daemons",
		}}, func() { msg.give(struct{}{}, nil) }, msg.fail)
		return
	}
	m.closing = append(m.closing, msg.answer)
	if !first && !msg.Force {
		return
	}
	failpoint.Hit(failpoint.ShutdownBegin)
	sel := m.pick(api.Selector{})
	if first {
		m.stopInOrder(&sel, stopForShutdown(msg.Force), planOptions{force: msg.Force})
		m.awaitEnds(sel)
		return
	}
	m.send(&sel, func(reply func(outcome)) any { return stopForShutdown(true)(reply) })
}

func stopForShutdown(force bool) func(func(outcome)) command {
	return func(reply func(outcome)) command {
		return command{
			Input: supervision.Stop{By: "shutdown", Shutdown: true, Force: force}, Until: untilGone, Reply: reply,
		}
	}
}

// awaitEnds waits for the answers to the stops of a shutdown. One whose actor
// failed meanwhile is stopped again: as long as its process may live, the end
// is no clean one.
func (m *manager) awaitEnds(sel selection) {
	system, self := m.ctx.ActorSystem(), m.ctx.Self()
	go func() {
		var again stopAgain
		for range sel.daemons {
			if r := <-sel.replies; r.err != nil {
				again.names = append(again.names, r.name)
			}
		}
		if len(again.names) > 0 {
			system.Root.Send(self, again)
			return
		}
		system.Root.Send(self, allGone{})
	}()
}

// stopAgain: these have not been stopped by a shutdown.
type stopAgain struct{ names []string }

// allGone: a shutdown has ended every daemon.
type allGone struct{}

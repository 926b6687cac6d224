package actors

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// The root keeps the order among daemons. A daemon that depends on others waits
// before its fork, and the root, whose projection shows them all, tells it to go
// on, to rest or that it has failed. Nothing of that is kept: it follows from the
// records, so that another manager comes to the same.

// isMet says whether a dependency is as it has to be.
func isMet(dep spec.Dependency, on *entry) bool {
	rec, d := &on.rec, on.reg.Spec
	up := rec.Process.PID != 0 && (rec.State == supervision.Starting || rec.State == supervision.Running)
	switch condition(dep, d) {
	case spec.ConditionCompleted:
		return rec.Completed
	case spec.ConditionHealthy:
		return up && rec.Ready && (d.HealthCheck == nil || rec.Health == supervision.HealthHealthy)
	default:
		return up || rec.Completed // what has completed was started
	}
}

// condition is what is asked of a dependency, the default filled in.
func condition(dep spec.Dependency, on *spec.Daemon) spec.Condition {
	switch {
	case dep.Condition != "":
		return dep.Condition
	case on.Ready != nil || on.HealthCheck != nil:
		return spec.ConditionHealthy
	}
	return spec.ConditionStarted
}

// verdict is what follows for a daemon from those that it depends on.
type verdict int

const (
	proceed verdict = iota // all is as it has to be
	wait                   // it will be, maybe
	rest                   // not before somebody wants something running
	fail                   // something that it waits for has just failed for good
)

// judge looks at what d depends on. failed are the daemons that have just failed
// for good. about says whom the verdict is for.
func (m *manager) judge(d *managed, failed map[string]bool) (v verdict, about string) {
	worst := func(now verdict, name string) {
		if now > v {
			v, about = now, name
		}
	}
	if failpoint.Sabotaged(failpoint.NoOrder) {
		return proceed, ""
	}
	for _, dep := range d.reg.Spec.DependsOn {
		on := m.daemons[dep.Name]
		switch {
		case on == nil:
			worst(rest, dep.Name)
		case on.pending > 0 || m.stopAhead(dep.Name): // its record doesn't tell of what was commanded
			worst(wait, dep.Name)
		case isMet(dep, &on.entry):
		case failed[dep.Name]:
			worst(fail, dep.Name)
		case m.startsAgain(dep.Name, d.reg.Spec.Name, make(map[string]bool)):
			worst(wait, dep.Name)
		case on.rec.State == supervision.Failed, on.rec.State == supervision.Stopped, on.rec.Wanted == supervision.WantStopped:
			worst(rest, dep.Name)
		default:
			worst(wait, dep.Name)
		}
	}
	return v, about
}

// look tells a daemon that waits or rests what follows for it.
func (m *manager) look(name string, failed map[string]bool) {
	d := m.daemons[name]
	if d == nil || d.pid == nil || m.stopping || !m.settled {
		return
	}
	rec := &d.rec
	held := m.heldBy(name, d)
	switch {
	case rec.State == supervision.Backoff:
		m.lookAtLeader(name, d)
	case held != "":
		m.lookAtLeader(held, m.daemons[held]) // it takes along all of them in order
	case rec.State == supervision.Starting && rec.Waiting:
		if m.isLed(name) {
			return // those that it takes along are being stopped
		}
		switch v, on := m.judge(d, failed); v {
		case proceed:
			m.advise(d, supervision.Proceed{Incarnation: rec.Incarnation})
		case rest:
			m.advise(d, supervision.Rest{Incarnation: rec.Incarnation, For: on})
		case fail:
			reason := fmt.Sprintf("it depends on %s, which has failed", on)
			if why := m.daemons[on].rec.Reason; why != "" {
				reason += ": " + why
			}
			m.advise(d, supervision.DependencyFailed{Incarnation: rec.Incarnation, Reason: reason})
		}
	case isResting(rec) && d.held == 0 && d.pending == 0:
		if v, _ := m.judge(d, nil); v == proceed || v == wait {
			m.advise(d, supervision.Resume{})
		}
	}
}

func isResting(rec *supervision.Record) bool {
	return rec.State == supervision.Stopped && rec.Wanted == supervision.WantRunning
}

func (m *manager) advise(d *managed, in supervision.Input) { m.ctx.Send(d.pid, observed{Input: in}) }

// lookAround goes on from what has happened to some daemons.
func (m *manager) lookAround(touched, failed map[string]bool) {
	for name := range touched {
		m.look(name, failed)
		for _, other := range m.dependents(name) {
			m.look(other, failed)
		}
		if d := m.daemons[name]; d != nil && d.group != nil {
			for leader := range d.group.leaders {
				m.look(leader, failed)
			}
		}
	}
}

// lookAtAll is for when much may have changed.
func (m *manager) lookAtAll() {
	for name := range m.daemons {
		m.look(name, nil)
	}
}

// dependents are the registered daemons that depend on one, sorted.
func (m *manager) dependents(name string) []string {
	if m.reverse == nil {
		m.reverse = make(map[string][]string)
		for other, d := range m.daemons {
			for _, dep := range d.reg.Spec.DependsOn {
				m.reverse[dep.Name] = append(m.reverse[dep.Name], other)
			}
		}
		for _, others := range m.reverse {
			slices.Sort(others)
		}
	}
	return m.reverse[name]
}

// waitingFor are the daemons that keep one from running: of its dependencies, and of
// its group.
func (m *manager) waitingFor(e *entry) []string {
	out := []string{}
	if d := m.daemons[e.reg.Spec.Name]; e.rec.State == supervision.Backoff && d != nil && d.due == e.rec.Incarnation && d.group != nil {
		for _, other := range m.along(d.group, e.reg.Spec.Name) { // only its delay is over
			if m.daemons[other].rec.State == supervision.Stopping {
				out = append(out, other)
			}
		}
		return out
	}
	if !(e.rec.State == supervision.Starting && e.rec.Waiting) && !isResting(&e.rec) {
		return out
	}
	for _, dep := range e.reg.Spec.DependsOn {
		if on := m.daemons[dep.Name]; on == nil || !isMet(dep, &on.entry) || on.pending > 0 || m.stopAhead(dep.Name) {
			out = append(out, dep.Name)
		}
	}
	if d := m.daemons[e.reg.Spec.Name]; d != nil {
		if held := m.heldBy(e.reg.Spec.Name, d); held != "" && !slices.Contains(out, held) {
			out = append(out, held)
		}
	}
	for _, p := range m.plans { // those that it takes along stop before it starts
		if p.leader != e.reg.Spec.Name {
			continue
		}
		for _, other := range slices.Sorted(maps.Keys(p.members)) {
			if m.isBusy(other) && !slices.Contains(out, other) {
				out = append(out, other)
			}
		}
	}
	return out
}

// commanded sends a daemon a command that changes what is wanted of it. Until
// that is in its record, nobody judges by the record.
func (m *manager) commanded(d *managed, c command) {
	d.pending++
	system, self := m.ctx.ActorSystem(), m.ctx.Self()
	c.Recorded = sync.OnceFunc(func() { system.Root.Send(self, recorded{d}) })
	m.tell(d, c)
}

// recorded: a command is in the record of its daemon.
type recorded struct{ d *managed }

func (m *manager) recorded(msg recorded) {
	msg.d.pending--
	name := msg.d.reg.Spec.Name
	if m.daemons[name] == msg.d {
		m.lookAround(map[string]bool{name: true}, nil)
	}
}

// startWithNeeds dispatches a command that wants daemons running, and starts what they
// need and isn't on its way.
func (m *manager) startWithNeeds(sel *selection, message, pull func(reply func(outcome)) command) {
	asked := make(map[string]bool, len(sel.daemons))
	for _, d := range sel.daemons {
		asked[d.name] = true
	}
	// A refused one moves nothing else.
	refused := make(map[string]error)
	var check func(name string) error
	check = func(name string) error {
		if err, ok := refused[name]; ok {
			return err
		}
		refused[name] = nil
		for _, dep := range m.daemons[name].reg.Spec.DependsOn {
			err := error(nil)
			if m.daemons[dep.Name] == nil {
				err = api.Conflict(name, "%s depends on %s, which is not registered; add that, or take it out of depends_on", name, dep.Name)
			} else {
				err = check(dep.Name)
			}
			if err != nil && refused[name] == nil {
				refused[name] = err
			}
		}
		return refused[name]
	}
	seen := make(map[string]bool)
	var visit func(name string)
	visit = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		m.unplan(name)
		for _, dep := range m.daemons[name].reg.Spec.DependsOn {
			on := m.daemons[dep.Name]
			visit(dep.Name)
			met := isMet(dep, &on.entry)
			if asked[dep.Name] || met && on.rec.Completed {
				continue
			}
			// One with a command on its way may be on the way down.
			if on.pending > 0 || !met && !onItsWay(&on.rec) {
				asked[dep.Name] = true
				sel.daemons = append(sel.daemons, selected{name: dep.Name, entry: on.entry, pulledIn: true})
			}
		}
	}
	for _, d := range slices.Clone(sel.daemons) {
		if check(d.name) == nil {
			visit(d.name)
		}
	}
	replies := make(chan reply, len(sel.daemons))
	sel.replies = replies
	for _, s := range slices.Backward(sel.daemons) { // those that were pulled in first
		answer := m.asked.once(s.name, replies)
		if err := refused[s.name]; err != nil {
			answer(outcome{state: s.rec.State, err: err})
			continue
		}
		d, make := m.daemons[s.name], message
		if s.pulledIn {
			make = pull
		}
		c := make(answer)
		v, _ := m.judge(d, nil)
		c.Forks = v == proceed && m.heldBy(s.name, d) == "" && !m.isLed(s.name)
		if start, ok := c.Input.(supervision.Start); ok {
			start.Go = c.Forks
			c.Input = start
		}
		m.commanded(d, c)
	}
}

// onItsWay says whether a daemon that is wanted running needs no command for
// that.
func onItsWay(rec *supervision.Record) bool {
	switch rec.State {
	case supervision.Starting, supervision.Running:
		return rec.Wanted == supervision.WantRunning
	}
	return false
}

// plan is a stop of several daemons of which some depend on others: each is
// stopped once nothing is left of those that depend on it. What isn't wanted
// stopped itself stays wanted, and is held meanwhile.
type plan struct {
	left    int            // steps that are not done
	out     int            // those of them that are under way
	waits   map[string]int // how many others must be gone before
	steps   map[string]func()
	answers map[string]func(outcome)
	members map[string]*managed
	needs   map[string][]string // whom among them each depends on
	then    func()              // called in the end; may be nil
	leader  string              // the member of a group with which they start again
}

// planOptions say what is particular about a plan.
type planOptions struct {
	force bool                                // what is stopped along is killed at once
	alone bool                                // what depends on them is not stopped along
	then  func()                              // called in the end
	input func(name string) supervision.Input // in the place of the message's
}

// planned: a step of a plan is done.
type planned struct {
	p    *plan
	name string
}

// stopInOrder sends the selected daemons what message makes, and stops what runs
// and depends on them before that.
func (m *manager) stopInOrder(sel *selection, message func(reply func(outcome)) command, o planOptions) *plan {
	p := &plan{then: o.then, waits: make(map[string]int), steps: make(map[string]func()), answers: make(map[string]func(outcome)), members: make(map[string]*managed), needs: make(map[string][]string)}
	replies := make(chan reply, len(sel.daemons))
	sel.replies = replies
	system, self := m.ctx.ActorSystem(), m.ctx.Self()
	join := func(name string, answer func(outcome), message func(reply func(outcome)) command) {
		d := m.daemons[name]
		p.members[name] = d
		d.held++
		done := sync.OnceFunc(func() { system.Root.Send(self, planned{p, name}) })
		p.answers[name] = func(o outcome) {
			answer(o)
			done()
		}
		p.steps[name] = func() {
			if m.daemons[name] != d { // removed meanwhile
				p.answers[name](outcome{err: api.NotFound(name)})
				return
			}
			c := message(p.answers[name])
			if o.input != nil {
				c.Input = o.input(name)
			}
			m.commanded(d, c)
		}
	}
	var names []string
	for _, s := range sel.daemons {
		join(s.name, m.asked.once(s.name, replies), message)
		names = append(names, s.name)
	}
	for i := 0; i < len(names) && !o.alone; i++ { // it grows
		name := names[i]
		for _, other := range m.dependents(name) {
			if p.members[other] == nil && isLive(m.daemons[other].rec.State) {
				join(other, func(outcome) {}, func(reply func(outcome)) command {
					return command{
						Input: supervision.Stop{By: name + " is stopped", Shutdown: true, Force: o.force}, Until: untilGone, Reply: reply,
					}
				})
				names = append(names, other)
			}
		}
	}
	if p.left = len(names); p.left == 0 {
		return p
	}
	for _, name := range names {
		for _, dep := range m.daemons[name].reg.Spec.DependsOn {
			if p.members[dep.Name] != nil {
				p.needs[name] = append(p.needs[name], dep.Name)
				p.waits[dep.Name]++
			}
		}
	}
	m.plans = append(m.plans, p)
	for _, name := range names {
		if p.waits[name] == 0 {
			p.step(name)
		}
	}
	p.unstick()
	return p
}

func (p *plan) step(name string) {
	if f := p.steps[name]; f != nil {
		delete(p.steps, name)
		p.out++
		f()
	}
}

// unstick takes all steps that are left if nothing is under way that they could
// wait for: an old journal may hold daemons that depend on each other in a circle.
func (p *plan) unstick() {
	if p.out > 0 {
		return
	}
	for name := range p.steps {
		p.step(name)
	}
}

// stopAhead says whether a plan is yet to stop a daemon.
func (m *manager) stopAhead(name string) bool {
	return slices.ContainsFunc(m.plans, func(p *plan) bool { return p.steps[name] != nil })
}

// isLed says whether a plan stops those that start again with a daemon.
func (m *manager) isLed(name string) bool {
	return slices.ContainsFunc(m.plans, func(p *plan) bool { return p.leader == name })
}

// planned goes on with those that had to wait.
func (m *manager) planned(msg planned) {
	p := msg.p
	if !slices.Contains(m.plans, p) {
		return // of a root before this one
	}
	p.left--
	p.out--
	for _, on := range p.needs[msg.name] {
		if p.waits[on]--; p.waits[on] == 0 {
			p.step(on)
		}
	}
	if p.left > 0 {
		p.unstick()
		return
	}
	m.plans = slices.DeleteFunc(m.plans, func(q *plan) bool { return q == p })
	touched := make(map[string]bool)
	for name, d := range p.members {
		d.held--
		touched[name] = true
	}
	if p.leader != "" {
		touched[p.leader] = true
	}
	if p.then != nil {
		p.then()
	}
	m.lookAround(touched, nil)
}

// unplan takes a daemon that is needed now out of the stops that wait.
func (m *manager) unplan(name string) {
	for _, p := range m.plans {
		if p.steps[name] != nil {
			delete(p.steps, name)
			p.out++
			p.answers[name](outcome{state: m.daemons[name].rec.State, err: api.Conflict(name, "%s was started again before it was stopped", name)})
		}
	}
}

// remove takes daemons out, and what depends on them stops before. It is refused
// without force where something does.
func (m *manager) remove(sel *selection, force bool, message func(reply func(outcome)) command) {
	if force {
		m.stopInOrder(sel, message, planOptions{})
		return
	}
	// Who goes, too, keeps nobody; who is refused does.
	going := make(map[string]bool, len(sel.daemons))
	for _, d := range sel.daemons {
		going[d.name] = !isLive(d.rec.State)
	}
	keepers := func(name string) []string {
		return slices.DeleteFunc(slices.Clone(m.dependents(name)), func(other string) bool { return going[other] })
	}
	for again := true; again; {
		again = false
		for name := range going {
			if going[name] && len(keepers(name)) > 0 {
				going[name], again = false, true
			}
		}
	}
	replies := make(chan reply, len(sel.daemons))
	sel.replies = replies
	for _, s := range sel.daemons {
		answer := m.asked.once(s.name, replies)
		if others := keepers(s.name); len(others) > 0 {
			answer(outcome{state: s.rec.State, err: api.Conflict(s.name,
				"%s %s; remove that, too, or use --force, which leaves it registered and waiting", dependOn(others), s.name)})
			continue
		}
		m.tell(m.daemons[s.name], message(answer))
	}
}

// dependOn begins a sentence about those that depend on something.
func dependOn(names []string) string {
	last := len(names) - 1
	if last == 0 {
		return names[0] + " depends on"
	}
	return strings.Join(names[:last], ", ") + " and " + names[last] + " depend on"
}

// entangled says what is wrong with the dependencies of daemons that are about to
// be registered or changed while others are removed; nil if nothing is.
func (m *manager) entangled(news []supervision.Registration, gone []string) error {
	if len(news) == 0 && len(gone) == 0 {
		return nil
	}
	var daemons, others []*spec.Daemon
	named := make(map[string]bool, len(news))
	for _, r := range news {
		named[r.Spec.Name] = true
		daemons = append(daemons, r.Spec)
	}
	for name, d := range m.daemons {
		if !named[name] && !slices.Contains(gone, name) {
			others = append(others, d.reg.Spec)
		}
	}
	problems := spec.CheckGraph(daemons, others)
	for _, name := range gone {
		for _, other := range m.dependents(name) {
			if !named[other] && !slices.Contains(gone, other) {
				problems = append(problems, spec.Problem{
					Daemon: other, Key: "depends_on",
					Message: fmt.Sprintf("%q would be removed, and %s depends on it", name, other),
					Hint:    "give the file of " + other + ", too, or remove that first",
				})
			}
		}
	}
	// A condition of what is registered already may have become impossible.
	for _, r := range news {
		for _, other := range m.dependents(r.Spec.Name) {
			if named[other] {
				continue
			}
			for i, dep := range m.daemons[other].reg.Spec.DependsOn {
				if dep.Name == r.Spec.Name && dep.Condition == spec.ConditionHealthy && r.Spec.Ready == nil && r.Spec.HealthCheck == nil {
					problems = append(problems, spec.Problem{
						Daemon: other, Key: fmt.Sprintf("depends_on[%d]", i),
						Message: fmt.Sprintf("%q would never be healthy: it has neither ready nor health_check any more", dep.Name),
						Hint:    fmt.Sprintf("%s -> %s is registered with that condition; change it, too", other, dep.Name),
					})
				}
				if dep.Name == r.Spec.Name && dep.Condition == spec.ConditionCompleted && r.Spec.NeverCompletes() {
					problems = append(problems, spec.Problem{
						Daemon: other, Key: fmt.Sprintf("depends_on[%d]", i),
						Message: fmt.Sprintf("%q would never stay completed: its policy is \"always\" now", dep.Name),
						Hint:    fmt.Sprintf("%s -> %s is registered with that condition; change it, too", other, dep.Name),
					})
				}
			}
		}
	}
	if len(problems) == 0 {
		return nil
	}
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.String()
	}
	return api.Invalid("nothing was changed: "+problems.Error(), lines...)
}

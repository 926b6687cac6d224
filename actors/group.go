package actors

import (
	"fmt"
	"slices"

	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// group is a service group: what was declared of it, and its members. It has no
// actor of its own: what it decides follows from the records of its members and
// from the order among daemons, and the root has both. What must outlive a manager
// is in the journal: the declaration, the restarts that count, and that a member is
// in backoff, which it leaves only when those that go along have stopped.
type group struct {
	spec     spec.Group // the default, if it was never declared
	declared bool
	rec      supervision.Record

	members map[string]bool
	leaders map[string]bool   // those of them in backoff: whoever goes along is held
	fired   map[string]string // by leader, the incarnation whose end is counted, or plain
}

// groupState is what is told of a group.
type groupState struct {
	spec     spec.Group
	declared bool
	restarts int
	failed   bool
}

func (g *group) state(m *manager) groupState {
	now := supervision.Firing{BootID: m.found.Recover.BootID, Up: m.host.Uptime()}
	return groupState{g.spec, g.declared, supervision.Counted(g.rec, &g.spec, now), g.rec.State == supervision.Failed}
}

// isPlain says whether the group leaves its members to themselves.
func (g *group) isPlain() bool { return g.spec.Strategy == "one_for_one" && g.spec.MaxRestarts == nil }

// group is that of a name; it is made if there is none yet.
func (m *manager) group(name string) *group {
	g := m.groups[name]
	if g == nil {
		g = &group{
			spec:    spec.Group{Name: name, Strategy: "one_for_one"},
			members: make(map[string]bool), leaders: make(map[string]bool), fired: make(map[string]string),
		}
		m.groups[name] = g
	}
	return g
}

// groupOf is the group of a daemon; nil if it has none.
func (m *manager) groupOf(d *managed) *group {
	if d.reg.Spec.Group == "" {
		return nil
	}
	return m.group(d.reg.Spec.Group)
}

// enroll puts a daemon into its group, in which it may be in another way than
// before. It reports whether another member waits for that, or does no more.
func (m *manager) enroll(name string, d *managed) (moved bool) {
	if was := d.group; was != nil && was != m.groupOf(d) {
		moved = len(was.leaders) > 0 // one of them may be it, or wait for its end
		m.discharge(name, d)
	}
	g := m.groupOf(d)
	if d.group = g; g == nil {
		return moved
	}
	g.members[name] = true
	leads := d.rec.State == supervision.Backoff
	moved = moved || leads != g.leaders[name]
	if leads {
		g.leaders[name] = true
	} else {
		delete(g.leaders, name)
		delete(g.fired, name)
		d.due = ""
	}
	return moved
}

// discharge takes a daemon out of its group. One that nobody declared goes with its
// last member.
func (m *manager) discharge(name string, d *managed) {
	g := d.group
	if g == nil {
		return
	}
	d.group = nil
	delete(g.members, name)
	delete(g.leaders, name)
	delete(g.fired, name)
	if len(g.members) == 0 && !g.declared {
		delete(m.groups, g.spec.Name)
	}
}

// takeGroup applies an event of a group.
func (m *manager) takeGroup(name string, ev *supervision.Event) {
	if ev.Kind == supervision.EventRemoved {
		if g := m.groups[name]; g != nil {
			g.declared, g.rec = false, supervision.Record{}
			g.spec = spec.Group{Name: name, Strategy: "one_for_one"}
			if len(g.members) == 0 {
				delete(m.groups, name)
			}
		}
		return
	}
	g := m.group(name)
	if ev.Spec != nil {
		g.spec, g.declared = *ev.Spec.Group, true
	}
	if ev.Record != nil {
		g.rec = *ev.Record
	}
}

// goesAlong says whether a restart of the member leader takes another one along.
func (m *manager) goesAlong(g *group, leader, other string) bool {
	d := m.daemons[other]
	if leader == other || d.reg.Spec.Schedule != "" {
		return false
	}
	switch g.spec.Strategy {
	case "one_for_all":
		return true
	case "rest_for_one":
		return m.reaches(other, leader)
	}
	return false
}

// reaches says whether a daemon depends on another, directly or through others.
func (m *manager) reaches(from, to string) bool {
	seen := make(map[string]bool)
	var visit func(name string) bool
	visit = func(name string) bool {
		d := m.daemons[name]
		if d == nil || seen[name] {
			return false
		}
		seen[name] = true
		return slices.ContainsFunc(d.reg.Spec.DependsOn, func(dep spec.Dependency) bool {
			return dep.Name == to || visit(dep.Name)
		})
	}
	return visit(from)
}

// along are the members that a restart of leader takes along, sorted.
func (m *manager) along(g *group, leader string) []string {
	var names []string
	for name := range g.members {
		if m.goesAlong(g, leader, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// startsAgain says whether a member that rests starts again along with leader: whether
// nothing that it depends on keeps it from that. seen are those that were looked at.
func (m *manager) startsAgain(name, leader string, seen map[string]bool) bool {
	d := m.daemons[name]
	if !isResting(&d.rec) || d.rec.Along != leader {
		return false
	}
	seen[name] = true
	for _, dep := range d.reg.Spec.DependsOn {
		on := m.daemons[dep.Name]
		switch {
		case seen[dep.Name]:
		case on == nil:
			return false
		case isMet(dep, &on.entry) || m.startsAgain(dep.Name, leader, seen):
		case on.rec.State == supervision.Failed, on.rec.State == supervision.Stopped, on.rec.Wanted == supervision.WantStopped:
			return false
		}
	}
	return true
}

// heldBy is the member with whose restart a daemon starts again; "" if there is
// none.
func (m *manager) heldBy(name string, d *managed) string {
	g := d.group
	if g == nil || len(g.leaders) == 0 || g.isPlain() {
		return ""
	}
	least := ""
	for leader := range g.leaders {
		if g.fired[leader] != spared && m.goesAlong(g, leader, name) && !m.leads(g, name, leader) && (least == "" || leader < least) {
			least = leader
		}
	}
	return least
}

// leads says which of two that are in backoff, and of which each takes the other
// along, does so: the one that was counted.
func (m *manager) leads(g *group, name, other string) bool {
	if !g.leaders[name] || !m.goesAlong(g, name, other) {
		return false
	}
	if a, b := g.fired[name] != "", g.fired[other] != ""; a != b {
		return a
	}
	return name < other
}

// lookAtGroup goes on from a member that was restarted by its policy, or has
// stopped.
func (m *manager) lookAtGroup(g *group, failed map[string]bool) {
	for name := range g.members {
		m.look(name, failed)
	}
}

// awaitsLeave: the backoff of a member is over.
type awaitsLeave struct{ name, incarnation string }

func (m *manager) awaitsLeave(msg awaitsLeave) {
	if d := m.daemons[msg.name]; d != nil {
		d.due = msg.incarnation
		m.look(msg.name, nil)
	}
}

// lookAtLeader goes on with a member in backoff: it is counted, or goes along with
// another one; what goes along with it is stopped; and once it is due and nothing
// of that is left, it has leave to restart.
func (m *manager) lookAtLeader(name string, d *managed) {
	g := d.group
	if g == nil { // it was in one when it asked
		m.leave(d)
		return
	}
	if g.isPlain() {
		m.leave(d)
		return
	}
	if failing := m.failing(g); failing != "" {
		if failing == name && g.fired[name] == "" {
			m.fire(g, name, d)
		}
		return
	}
	if other := m.heldBy(name, d); other != "" {
		m.stopAlong(g, other, []string{name})
		return
	}
	switch g.fired[name] {
	case spared:
		m.leave(d)
	case "":
		m.fire(g, name, d)
	case d.rec.Incarnation:
		names := m.along(g, name)
		if failpoint.Sabotaged(failpoint.NoAlong) {
			names = nil
		}
		m.stopAlong(g, name, names)
		if !slices.ContainsFunc(names, m.isBusy) {
			m.leave(d)
		}
	}
}

// failing is the member in backoff for which its group is being given up; "" if it
// isn't.
func (m *manager) failing(g *group) string {
	if g.rec.State != supervision.Failed || g.rec.Firings == nil {
		return ""
	}
	last := g.rec.Firings.List[len(g.rec.Firings.List)-1]
	for name := range g.leaders {
		if m.daemons[name].rec.Incarnation == last.Incarnation {
			return name
		}
	}
	return ""
}

// leave lets a member restart, if it has asked.
func (m *manager) leave(d *managed) {
	if d.due == d.rec.Incarnation && d.due != "" {
		m.advise(d, supervision.Proceed{Incarnation: d.due})
	}
}

// isBusy says whether there is a process of a daemon, or may be one soon.
func (m *manager) isBusy(name string) bool {
	d := m.daemons[name]
	return d != nil && (d.pending > 0 || m.stopAhead(name) || isLive(d.rec.State) && !d.rec.Waiting && d.rec.State != supervision.Backoff)
}

// counting is what g.fired has while a restart is not in the journal yet.
const counting = "counting"

// spared is what it has where a member was in backoff already when the group, or its
// strategy, became another one: a change of that alone stops nobody.
const spared = "spared"

// spare lets the backoffs that are under way be what they were.
func (g *group) spare() {
	for name := range g.leaders {
		if g.fired[name] == "" {
			g.fired[name] = spared
		}
	}
}

// fire counts the restart of a member, and has what follows done once that is in the
// journal. It may be there already, from a manager before.
func (m *manager) fire(g *group, name string, d *managed) {
	incarnation := d.rec.Incarnation
	goOn := func() {
		if g.leaders[name] {
			g.fired[name] = incarnation
			if g.rec.State == supervision.Failed {
				m.giveUp(g, name, incarnation)
				return
			}
			m.lookAtGroup(g, nil)
		}
	}
	if g.rec.Firings.Has(incarnation) && !failpoint.Sabotaged(failpoint.CountAgain) {
		goOn()
		return
	}
	g.fired[name] = counting
	var ev supervision.Event
	g.rec, ev = supervision.Fire(g.rec, &g.spec, name, supervision.Firing{
		Incarnation: incarnation, BootID: m.found.Recover.BootID, Up: m.host.Uptime(),
	}, func(incarnation string) bool {
		for leader := range g.leaders {
			if m.daemons[leader].rec.Incarnation == incarnation {
				return true
			}
		}
		return false
	})
	ev.Time = wallNow()
	m.append([]supervision.Event{ev}, goOn, func(error) {})
}

// stopAlong stops those of a group that run and start again with another.
func (m *manager) stopAlong(g *group, leader string, names []string) {
	var sel selection
	for _, name := range names {
		d := m.daemons[name]
		if d.pid == nil || d.held > 0 || d.pending > 0 || d.rec.Wanted != supervision.WantRunning || d.rec.Waiting ||
			!isLive(d.rec.State) || d.rec.State == supervision.Stopping && d.rec.After == supervision.AfterNone {
			continue
		}
		sel.daemons = append(sel.daemons, selected{name: name, entry: d.entry})
	}
	if len(sel.daemons) == 0 {
		return
	}
	by := fmt.Sprintf("%s is restarted (group %s, %s)", leader, g.spec.Name, g.spec.Strategy)
	p := m.stopInOrder(&sel, func(reply func(outcome)) command {
		return command{Input: supervision.Stop{By: by, Shutdown: true, Along: leader}, Until: untilGone, Reply: reply}
	}, planOptions{alone: true})
	p.leader = leader
}

// giveUp fails a group: its members in reverse order, and last the one whose restart
// was one too many. As long as that is in backoff, another manager does the same.
func (m *manager) giveUp(g *group, name, incarnation string) {
	message := func(incarnation string) func(reply func(outcome)) command {
		return func(reply func(outcome)) command {
			return command{Input: supervision.GiveUp{Incarnation: incarnation, Reason: g.rec.Reason}, Until: untilGone, Reply: reply}
		}
	}
	last := func() {
		if d := m.daemons[name]; d != nil && d.pid != nil {
			m.commanded(d, message(incarnation)(func(outcome) {}))
		}
	}
	var sel selection
	for other := range g.members {
		if d := m.daemons[other]; other != name && d.pid != nil && d.rec.Wanted == supervision.WantRunning {
			sel.daemons = append(sel.daemons, selected{name: other, entry: d.entry})
		}
	}
	if len(sel.daemons) == 0 {
		last()
		return
	}
	m.stopInOrder(&sel, message(""), planOptions{alone: true, then: last})
}

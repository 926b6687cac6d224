//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/cyber-boost/syspulse/spec"
)

// A stack is daemons that have to do with each other: by what they depend on, by
// the groups that they are in, and by the times at which they run. One client
// commands all of it, so that what it was told holds.
type stack struct {
	number  int
	daemons map[string]*daemon // by the name of their kind
	groups  []*groupOf
}

// stackKind is what a daemon of a stack has besides.
type stackKind struct {
	behaviour string
	needs     []need // what it always depends on
	may       []need // what it depends on at every other comment
	ready     string // that table
	group     string
	schedule  string
	overlap   string
	leaf      bool // nothing ever depends on it: it may be removed
}

// need is a dependency, by the name of the other's kind.
type need struct {
	kind      string
	condition spec.Condition
}

// waits says whether a start of it may be put off.
func (k *kind) waits() bool { return len(k.needs) > 0 || k.group != "" || k.schedule != "" }

var stackKinds = []kind{
	// A chain, with every condition in it.
	{name: "base", steady: true, policy: `{"policy":"always","backoff_base_secs":0}`, stackKind: stackKind{behaviour: "writer"}},
	{name: "server", steady: true, policy: `{"policy":"always","backoff_base_secs":0.02}`, stackKind: stackKind{behaviour: "notifier",
		ready: `{"type":"notify"}`, needs: []need{{"base", spec.ConditionStarted}}}},
	{name: "warm", steady: true, policy: `{"policy":"always","backoff_base_secs":0}`, stackKind: stackKind{behaviour: "plain",
		ready: `{"type":"delay", "secs":0.1}`, may: []need{{"base", spec.ConditionStarted}}}},
	{name: "asked", steady: true, policy: `{"policy":"always","backoff_base_secs":0.05}`, stackKind: stackKind{behaviour: "plain",
		ready: `{"type":"command", "target":"true"}`, needs: []need{{"warm", spec.ConditionHealthy}}}},
	{name: "migration", mayEnd: true, policy: `{"policy":"never"}`, stackKind: stackKind{
		needs: []need{{"server", spec.ConditionHealthy}}}},
	{name: "app", steady: true, policy: `{"policy":"always","backoff_base_secs":0}`, stackKind: stackKind{behaviour: "writer",
		needs: []need{{"migration", spec.ConditionCompleted}, {"server", spec.ConditionHealthy}}, may: []need{{"asked", spec.ConditionHealthy}}}},
	{name: "worker", policy: `{"policy":"always","backoff_base_secs":0.05,"backoff_max_secs":0.5}`, stackKind: stackKind{behaviour: "crasher", leaf: true,
		needs: []need{{"app", spec.ConditionStarted}}, may: []need{{"warm", spec.ConditionStarted}}}},

	// A group of which all restart together, one of them with a daemon outside of it.
	{name: "all-lead", policy: `{"policy":"always","backoff_base_secs":0.05}`, stackKind: stackKind{behaviour: "frail", group: "all", leaf: true}},
	{name: "all-first", steady: true, policy: `{"policy":"always","backoff_base_secs":0}`, stackKind: stackKind{behaviour: "writer", group: "all"}},
	{name: "all-second", steady: true, policy: `{"policy":"always","backoff_base_secs":0}`, stackKind: stackKind{behaviour: "notifier", group: "all",
		ready: `{"type":"notify"}`, needs: []need{{"all-first", spec.ConditionStarted}}}},
	{name: "all-outward", steady: true, policy: `{"policy":"never"}`, mayEnd: true, stackKind: stackKind{behaviour: "writer", group: "all", leaf: true,
		needs: []need{{"base", spec.ConditionStarted}}, may: []need{{"all-second", spec.ConditionHealthy}}}},

	// A group of which those behind restart, one of them behind a stranger.
	{name: "rest-lead", policy: `{"policy":"always","backoff_base_secs":0}`, stackKind: stackKind{behaviour: "frail", group: "rest"}},
	{name: "rest-other", policy: `{"policy":"always","backoff_base_secs":0.3}`, stackKind: stackKind{behaviour: "frail", group: "rest", leaf: true}},
	{name: "rest-first", steady: true, policy: `{"policy":"always","backoff_base_secs":0}`, stackKind: stackKind{behaviour: "forker", group: "rest",
		needs: []need{{"rest-lead", spec.ConditionStarted}}}},
	{name: "stranger", steady: true, policy: `{"policy":"always","backoff_base_secs":0}`, stackKind: stackKind{behaviour: "plain",
		needs: []need{{"rest-first", spec.ConditionStarted}}}},
	{name: "rest-second", steady: true, policy: `{"policy":"always","backoff_base_secs":0}`, stackKind: stackKind{behaviour: "stubborn", group: "rest", leaf: true,
		needs: []need{{"stranger", spec.ConditionStarted}}}},

	// A group that fails now and then, and one that needs it.
	{name: "few-lead", mayEnd: true, policy: `{"policy":"always","backoff_base_secs":0.02}`, stackKind: stackKind{behaviour: "frail", group: "few", leaf: true}},
	{name: "few-other", mayEnd: true, policy: `{"policy":"on_failure","backoff_base_secs":0.1}`, stackKind: stackKind{behaviour: "frail", group: "few", leaf: true}},
	{name: "few-first", mayEnd: true, steady: true, policy: `{"policy":"always","backoff_base_secs":0}`, stackKind: stackKind{behaviour: "writer", group: "few"}},
	{name: "customer", steady: true, policy: `{"policy":"always","backoff_base_secs":0.02}`, stackKind: stackKind{behaviour: "writer", leaf: true,
		needs: []need{{"few-first", spec.ConditionStarted}}}},

	// Schedules.
	{name: "skips", policy: `{"policy":"never"}`, stackKind: stackKind{behaviour: "job", schedule: "* * * * * *", overlap: "skip", leaf: true}},
	{name: "queues", policy: `{"policy":"never"}`, stackKind: stackKind{behaviour: "job", schedule: "* * * * * *", overlap: "queue", leaf: true}},
	{name: "replaces", policy: `{"policy":"never"}`, stackKind: stackKind{behaviour: "job", schedule: "* * * * * *", overlap: "replace", leaf: true}},
	{name: "retries", policy: `{"policy":"always","max_retries":2,"backoff_base_secs":0.05}`, stackKind: stackKind{behaviour: "short-job",
		schedule: "* * * * * *", overlap: "skip", leaf: true}},
	{name: "needs-base", policy: `{"policy":"never"}`, stackKind: stackKind{behaviour: "short-job", schedule: "* * * * * *", overlap: "queue", leaf: true,
		needs: []need{{"base", spec.ConditionStarted}}}},
}

// A groupOf is a group of a stack, and which strategies it may have: more than one
// while a command is not answered, or was not acknowledged.
type groupOf struct {
	name        string
	strategies  []string // that it is given
	maxRestarts int      // 0: as many as there are
	maybe       map[string]bool
	members     []*daemon
}

// fewWithin is the window of the group that fails now and then, in seconds.
const fewWithin = 6

// addStacks adds n stacks, each for one client.
func (s *suite) addStacks(n, clients int) {
	for i := range n {
		st := &stack{number: i, daemons: make(map[string]*daemon)}
		for _, g := range []groupOf{
			{name: "all", strategies: []string{"one_for_all", "one_for_all", "one_for_one"}},
			{name: "rest", strategies: []string{"rest_for_one", "rest_for_one", "one_for_all"}},
			{name: "few", strategies: []string{"one_for_all", "one_for_one"}, maxRestarts: 2},
		} {
			g.maybe = map[string]bool{g.strategies[0]: true}
			for j := range stackKinds {
				k := &stackKinds[j]
				if k.group == g.name {
					g.members = append(g.members, st.add(k, i%clients))
				}
			}
			g.name = fmt.Sprintf("%s-%d", g.name, i)
			st.groups = append(st.groups, &g)
		}
		for j := range stackKinds {
			s.daemons = append(s.daemons, st.add(&stackKinds[j], i%clients))
		}
		s.stacks = append(s.stacks, st)
	}
}

func (st *stack) add(k *kind, owner int) *daemon {
	d := st.daemons[k.name]
	if d == nil {
		d = &daemon{name: fmt.Sprintf("%s-%d", k.name, st.number), kind: k, owner: owner, stack: st, maybe: map[fact]bool{{}: true}}
		st.daemons[k.name] = d
	}
	return d
}

// group is the one that d is in; nil if there is none.
func (d *daemon) group() *groupOf {
	if d.stack == nil {
		return nil
	}
	for _, g := range d.stack.groups {
		if slices.Contains(g.members, d) {
			return g
		}
	}
	return nil
}

// spec is the declaration with a strategy.
func (g *groupOf) spec(strategy string) spec.Group {
	out := spec.Group{Name: g.name, Strategy: strategy}
	if g.maxRestarts > 0 {
		out.MaxRestarts, out.Window = &g.maxRestarts, fewWithin
	}
	return out
}

// needsAt is what it depends on at a comment.
func (d *daemon) needsAt(comment int) []need {
	if comment%2 == 1 {
		return slices.Concat(d.kind.needs, d.kind.may)
	}
	return d.kind.needs
}

// stackSpec is the part of a registration that daemons of a stack have, as JSON.
func (d *daemon) stackSpec(comment int) string {
	if d.stack == nil {
		return ""
	}
	text := ""
	add := func(key string, value any) {
		b, err := json.Marshal(value)
		if err != nil {
			panic(err)
		}
		text += fmt.Sprintf(", %q:%s", key, b)
	}
	var on []spec.Dependency
	for _, n := range d.needsAt(comment) {
		on = append(on, spec.Dependency{Name: d.stack.daemons[n.kind].name, Condition: n.condition})
	}
	if len(on) > 0 {
		add("depends_on", on)
	}
	if d.kind.ready != "" {
		add("ready", json.RawMessage(d.kind.ready))
	}
	if d.kind.schedule != "" {
		add("schedule", d.kind.schedule)
		add("schedule_policy", map[string]any{"overlap": d.kind.overlap, "catch_up": d.kind.overlap == "queue"})
	}
	if g := d.group(); g != nil {
		add("group", g.name)
	}
	return text
}

// withNeeds are these and everything that they may depend on: a start of them may
// start that, too.
func withNeeds(ds []*daemon) []*daemon {
	out := slices.Clone(ds)
	for i := 0; i < len(out); i++ { // it grows
		d := out[i]
		if d.stack == nil {
			continue
		}
		for _, n := range slices.Concat(d.kind.needs, d.kind.may) {
			if on := d.stack.daemons[n.kind]; !slices.Contains(out, on) {
				out = append(out, on)
			}
		}
	}
	return out
}

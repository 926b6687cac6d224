package actors

import (
	"cmp"
	"context"
	"slices"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
)

// Graph implements [api.Manager].
func (s *System) Graph(ctx context.Context, q api.GraphQuery) (api.Graph, error) {
	all, err := s.selected(ctx, api.Selector{All: true}, nil)
	if err != nil {
		return api.Graph{}, err
	}
	// One look at everything, so that the edges fit the nodes.
	then := manager{daemons: make(map[string]*managed, len(all.daemons))}
	specs := make([]*spec.Daemon, len(all.daemons))
	waitingFor := make(map[string][]string, len(all.daemons))
	for i, d := range all.daemons {
		then.daemons[d.name] = &managed{entry: d.entry}
		waitingFor[d.name] = d.waitingFor
		specs[i] = d.reg.Spec
	}
	shown := func(string) bool { return true }
	if !q.IsZero() {
		sel := then.pick(q.Selector)
		near := then.kin(sel)
		for _, unknown := range sel.unknown {
			if !near[spec.CanonicalName(unknown.Daemon)] { // nobody has it, and nobody asks for it
				return api.Graph{}, unknown
			}
		}
		shown = func(name string) bool { return near[name] }
	}
	out := api.Graph{Daemons: []api.GraphDaemon{}, Groups: []api.GraphGroup{}}
	groups := make(map[string]bool)
	for name, step := range spec.Steps(specs) {
		if shown(name) {
			out.Daemons = append(out.Daemons, then.node(name, step, waitingFor[name]))
			if d := then.daemons[name]; d != nil {
				groups[d.reg.Spec.Group] = true
			}
		}
	}
	for _, g := range all.groups {
		if !groups[g.spec.Name] {
			continue
		}
		shown := api.GraphGroup{Name: g.spec.Name, Strategy: g.spec.Strategy, MaxRestarts: g.spec.MaxRestarts, Restarts: g.restarts, Failed: g.failed}
		if g.spec.Window > 0 {
			shown.WindowSecs = new(float64(g.spec.Window))
		}
		out.Groups = append(out.Groups, shown)
	}
	slices.SortFunc(out.Daemons, func(a, b api.GraphDaemon) int {
		return cmp.Or(cmp.Compare(a.Step, b.Step), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

// node is a daemon, or a name that nobody has, as Graph shows it.
func (m *manager) node(name string, step int, waitingFor []string) api.GraphDaemon {
	out := api.GraphDaemon{Name: name, Step: step, WaitingFor: []string{}, DependsOn: []api.GraphDependency{}}
	d := m.daemons[name]
	if d == nil {
		return out
	}
	out.Registered = true
	out.State, out.Wanted = &d.rec.State, &d.rec.Wanted
	out.Group = optional(d.reg.Spec.Group)
	out.WaitingFor = waitingFor
	for _, dep := range d.reg.Spec.DependsOn {
		edge := api.GraphDependency{Name: dep.Name, Condition: optional(string(dep.Condition))}
		if on := m.daemons[dep.Name]; on != nil {
			edge.Registered = true
			edge.Condition = optional(string(condition(dep, on.reg.Spec)))
			edge.Met = isMet(dep, &on.entry)
		}
		out.DependsOn = append(out.DependsOn, edge)
	}
	return out
}

// kin are the selected daemons, what they need and what needs them, directly or
// through others. Names that nobody has are among them if they are needed.
func (m *manager) kin(sel selection) map[string]bool {
	needs := func(name string) (out []string) {
		if d := m.daemons[name]; d != nil {
			for _, dep := range d.reg.Spec.DependsOn {
				out = append(out, dep.Name)
			}
		}
		return out
	}
	kin := make(map[string]bool)
	reach := func(from []string, next func(string) []string) {
		seen := make(map[string]bool)
		for len(from) > 0 {
			name := from[len(from)-1]
			from = from[:len(from)-1]
			if !seen[name] {
				seen[name], kin[name] = true, true
				from = append(from, next(name)...)
			}
		}
	}
	var roots []string
	for _, d := range sel.daemons {
		roots = append(roots, d.name)
	}
	for _, unknown := range sel.unknown {
		if name := spec.CanonicalName(unknown.Daemon); len(m.dependents(name)) > 0 {
			roots = append(roots, name)
		}
	}
	reach(slices.Clone(roots), needs)
	reach(slices.Clone(roots), m.dependents)
	return kin
}

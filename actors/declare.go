package actors

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// checkedGroups validates what a client handed over, as checked does.
func checkedGroups(groups []spec.Group) ([]spec.Group, error) {
	out := make([]spec.Group, 0, len(groups))
	for _, g := range groups {
		ok, err := g.Checked()
		if err != nil {
			return nil, api.Invalid("nothing was registered: " + err.Error())
		}
		i := slices.IndexFunc(out, func(other spec.Group) bool { return other.Name == ok.Name })
		switch {
		case i < 0:
			out = append(out, *ok)
		case !out[i].Equal(ok):
			return nil, api.Invalid(fmt.Sprintf("nothing was registered: the group %q is declared twice, and differently; declare it once", ok.Name))
		}
	}
	return out, nil
}

// groupClash finds names of groups that differ only by case: among those of a
// request, and from those that are known. nil if there are none.
func (m *manager) groupClash(regs []supervision.Registration, groups []spec.Group) error {
	names := make(map[string]string)
	for name := range m.groups {
		names[spec.NameKey(name)] = name
	}
	check := func(daemon, name string) error {
		other, ok := names[spec.NameKey(name)]
		if ok && other != name {
			return api.Conflict(daemon, "the group %q differs only by case from %q; write both alike, or choose another name", name, other)
		}
		names[spec.NameKey(name)] = name
		return nil
	}
	for _, g := range groups {
		if err := check("", g.Name); err != nil {
			return err
		}
	}
	for _, r := range regs {
		if r.Spec.Group == "" {
			continue
		}
		if err := check(r.Spec.Name, r.Spec.Group); err != nil {
			return err
		}
	}
	return nil
}

// declaration compares a group with what is known of it.
func (m *manager) declaration(g *spec.Group) (change api.ChangeKind, keys []string) {
	known := m.groups[g.Name]
	switch {
	case known == nil || !known.declared:
		return api.ChangeAdded, []string{}
	case known.spec.Equal(g):
		return api.ChangeUnchanged, []string{}
	}
	return api.ChangeChanged, spec.DiffGroups(&known.spec, g)
}

// declarations are the events of groups that are declared for the first time, or
// in another way. They hold from now on.
func (m *manager) declarations(groups []spec.Group) []supervision.Event {
	var events []supervision.Event
	for i := range groups {
		kind := supervision.EventRegistered
		switch change, _ := m.declaration(&groups[i]); change {
		case api.ChangeUnchanged:
			continue
		case api.ChangeChanged:
			kind = supervision.EventChanged
		}
		rec := m.group(groups[i].Name).rec
		ev := supervision.Event{
			Time: wallNow(), Daemon: supervision.GroupKey(groups[i].Name), Kind: kind, Detail: groups[i].Strategy,
			Record: &rec, Spec: &supervision.Registration{Group: &groups[i]},
		}
		m.takeGroup(groups[i].Name, &ev)
		m.group(groups[i].Name).spare()
		events = append(events, ev)
	}
	return events
}

// declaredOtherwise says which groups of a request are declared in another way and
// have members that live by that.
func (m *manager) declaredOtherwise(groups []spec.Group) (conflicts []string) {
	for i := range groups {
		if change, keys := m.declaration(&groups[i]); change == api.ChangeChanged && len(m.groups[groups[i].Name].members) > 0 {
			conflicts = append(conflicts, fmt.Sprintf(
				"the group %s is declared already and differs in %s; `syspulse apply FILE` changes it", groups[i].Name, strings.Join(keys, ", ")))
		}
	}
	return conflicts
}

// undeclared are the groups whose declaration goes with a prune, sorted: the request
// doesn't declare them, and has all daemons that stay in them.
func (m *manager) undeclared(msg reconcile, gone []string) []string {
	if len(msg.Prune) == 0 {
		return nil
	}
	stays := make(map[string]bool)
	for _, g := range msg.Groups {
		stays[g.Name] = true
	}
	named := make(map[string]bool)
	for _, r := range msg.Daemons {
		named[r.Spec.Name] = true
	}
	for name, d := range m.daemons {
		if !named[name] && !slices.Contains(gone, name) {
			stays[d.reg.Spec.Group] = true
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m.groups)) {
		if m.groups[name].declared && !stays[name] {
			out = append(out, name)
		}
	}
	return out
}

// undeclare has groups that nobody declares any more be the default.
func (m *manager) undeclare(names []string) {
	var events []supervision.Event
	for _, name := range names {
		if g := m.groups[name]; g != nil && g.declared {
			events = append(events, supervision.Event{Time: wallNow(), Daemon: supervision.GroupKey(name), Kind: supervision.EventRemoved})
		}
	}
	if len(events) > 0 {
		m.append(events, nil, nil)
	}
}

package spec

import (
	"fmt"
	"slices"
	"strings"
)

// CheckGraph checks the dependencies of daemons that are about to be
// registered beside others: cycles, names that neither has, conditions that
// can't be met. A daemon replaces a registered one of its name. Problems are
// in the order of daemons and have no place in a file.
func CheckGraph(daemons, registered []*Daemon) Problems {
	return checkGraph(daemons, registered, true)
}

// NeverCompletes says whether d is started again whenever it has completed.
func (d *Daemon) NeverCompletes() bool {
	return d.RestartPolicy.Policy == RestartAlways && d.RestartPolicy.MaxRetries == nil && d.Schedule == ""
}

// checkGraph leaves unknown names alone unless complete is set.
func checkGraph(daemons, registered []*Daemon, complete bool) Problems {
	var ps Problems
	all := map[string]*Daemon{}
	names := []string{}
	for _, d := range slices.Concat(registered, daemons) {
		if all[d.Name] == nil {
			names = append(names, d.Name)
		}
		all[d.Name] = d
	}
	for _, d := range daemons {
		for i, dep := range d.DependsOn {
			key := fmt.Sprintf("depends_on[%d]", i)
			on := all[dep.Name]
			switch {
			case on == nil && complete:
				hint := "give its file, too, or take it out"
				if near := Nearest(dep.Name, names); near != "" {
					hint = fmt.Sprintf("did you mean %q?", near)
				}
				ps = append(ps, Problem{Daemon: d.Name, Key: key, Message: fmt.Sprintf("there is no daemon %s (%s -> %s)", quote(dep.Name), d.Name, dep.Name), Hint: hint})
			case on != nil && dep.Condition == ConditionHealthy && on.Ready == nil && on.HealthCheck == nil:
				ps = append(ps, Problem{
					Daemon: d.Name, Key: key,
					Message: fmt.Sprintf("%s can't become healthy (%s -> %s): it has neither ready nor health_check", quote(dep.Name), d.Name, dep.Name),
					Hint:    `give it one of them, or write condition = "started"`,
				})
			case on != nil && dep.Condition == ConditionCompleted && on.NeverCompletes():
				ps = append(ps, Problem{
					Daemon: d.Name, Key: key,
					Message: fmt.Sprintf("%s never stays completed (%s -> %s): its policy is \"always\", which starts it again after every exit", quote(dep.Name), d.Name, dep.Name),
					Hint:    `write policy = "on_failure" for it, or condition = "started" here`,
				})
			}
		}
	}
	return append(ps, cycles(daemons, all)...)
}

// cycles reports one cycle for each set of daemons that are entangled, as the
// path along it.
func cycles(daemons []*Daemon, all map[string]*Daemon) Problems {
	const (
		fresh = iota
		open
		done
	)
	var ps Problems
	state := map[string]int{}
	told := map[string]bool{}
	var path []string
	var visit func(d *Daemon)
	visit = func(d *Daemon) {
		state[d.Name] = open
		path = append(path, d.Name)
		for i, dep := range d.DependsOn {
			on := all[dep.Name]
			if on == nil {
				continue
			}
			switch state[on.Name] {
			case fresh:
				visit(on)
			case open:
				loop := path[slices.Index(path, on.Name):]
				if slices.ContainsFunc(loop, func(n string) bool { return told[n] }) {
					continue
				}
				for _, n := range loop {
					told[n] = true
				}
				ps = append(ps, Problem{
					Daemon: d.Name, Key: fmt.Sprintf("depends_on[%d]", i),
					Message: "the dependencies go in a circle: " + circle(loop),
					Hint:    "take one of them out",
				})
			}
		}
		path = path[:len(path)-1]
		state[d.Name] = done
	}
	for _, d := range daemons {
		if d := all[d.Name]; state[d.Name] == fresh {
			visit(d)
		}
	}
	return ps
}

func circle(loop []string) string {
	names := slices.Clone(loop)
	if len(names) > 20 {
		names = slices.Concat(names[:10], []string{"…"}, names[len(names)-9:])
	}
	return strings.Join(append(names, loop[0]), " -> ")
}

// Steps says in which step of a start from nothing each daemon begins: in the
// first if it depends on nothing, else in the one behind the last of those that
// it depends on. Names that are depended on and that nobody has are there, too,
// in the first. Of a circle, which CheckGraph refuses, the entry that closes it is
// passed over.
func Steps(daemons []*Daemon) map[string]int {
	all := make(map[string]*Daemon, len(daemons))
	for _, d := range daemons {
		all[d.Name] = d
	}
	steps := make(map[string]int, len(daemons))
	var visit func(name string) int
	visit = func(name string) int {
		if step, ok := steps[name]; ok {
			return step // 0 while it is being looked at
		}
		steps[name] = 0
		step := 1
		if d := all[name]; d != nil {
			for _, dep := range d.DependsOn {
				step = max(step, visit(dep.Name)+1)
			}
		}
		steps[name] = step
		return step
	}
	for _, d := range daemons {
		visit(d.Name)
	}
	return steps
}

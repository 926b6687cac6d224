package spec

import (
	"fmt"
	"maps"
	"testing"
)

func TestSteps(t *testing.T) {
	daemon := func(name string, needs ...string) *Daemon {
		d := &Daemon{Name: name}
		for _, n := range needs {
			d.DependsOn = append(d.DependsOn, Dependency{Name: n})
		}
		return d
	}
	for _, c := range []struct {
		name    string
		daemons []*Daemon
		want    map[string]int
	}{
		{"nothing", nil, map[string]int{}},
		{"apart", []*Daemon{daemon("a"), daemon("b")}, map[string]int{"a": 1, "b": 1}},
		{"diamond", []*Daemon{daemon("d", "b", "c"), daemon("c", "a"), daemon("b", "a"), daemon("a")}, map[string]int{"a": 1, "b": 2, "c": 2, "d": 3}},
		{"the longest way counts", []*Daemon{daemon("d", "a", "c"), daemon("c", "b"), daemon("b", "a"), daemon("a")}, map[string]int{"a": 1, "b": 2, "c": 3, "d": 4}},
		{"missing", []*Daemon{daemon("b", "gone"), daemon("c", "b", "gone")}, map[string]int{"gone": 1, "b": 2, "c": 3}},
		{"a circle", []*Daemon{daemon("a", "c"), daemon("b", "a"), daemon("c", "b"), daemon("d", "a")}, map[string]int{"a": 3, "b": 1, "c": 2, "d": 4}},
	} {
		if got := Steps(c.daemons); !maps.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}

	const n = 10_000
	deep, wide := []*Daemon{daemon("0")}, []*Daemon{daemon("all")}
	for i := 1; i < n; i++ {
		deep = append(deep, daemon(fmt.Sprint(i), fmt.Sprint(i-1)))
		wide = append(wide, daemon(fmt.Sprint(i)))
		wide[0].DependsOn = append(wide[0].DependsOn, Dependency{Name: fmt.Sprint(i)})
	}
	if got := Steps(deep)[fmt.Sprint(n-1)]; got != n {
		t.Errorf("the last of a chain of %d is in step %d", n, got)
	}
	if got := Steps(wide)["all"]; got != 2 {
		t.Errorf("what needs %d that need nothing is in step %d", n-1, got)
	}
}

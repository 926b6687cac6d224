//go:build unix

package platform

import (
	"cmp"
	"slices"
	"time"
)

// survivors tells of living members what is to be told of their incarnations.
func survivors(found map[Survivor][]stat, bootID string, age func(Identity) time.Duration) []Survivor {
	out := make([]Survivor, 0, len(found))
	for who, members := range found {
		if first := firstOf(members); first != nil {
			who.Main = Identity{BootID: bootID, PID: first.pid, StartTime: first.start}
			who.Age = age(who.Main)
		}
		out = append(out, who)
	}
	slices.SortFunc(out, func(a, b Survivor) int {
		return cmp.Or(cmp.Compare(a.Incarnation, b.Incarnation), cmp.Compare(a.Output, b.Output))
	})
	return out
}

// firstOf is the first process of an incarnation among its members; nil if it is
// not there. It leads a session, and its parent is no member. A child that
// outlived it may look the same: the older one is it.
func firstOf(members []stat) (first *stat) {
	in := make(map[int]bool, len(members))
	for _, m := range members {
		in[m.pid] = true
	}
	for i := range members {
		m := &members[i]
		if m.session == m.pid && !in[m.ppid] && (first == nil || m.start < first.start) {
			first = m
		}
	}
	return first
}

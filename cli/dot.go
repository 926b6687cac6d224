package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/supervision"
)

// dotColors are X11's names, by state.
var dotColors = map[supervision.State]string{
	supervision.Running:   "palegreen",
	supervision.Failed:    "lightcoral",
	supervision.Starting:  "khaki",
	supervision.Stopping:  "khaki",
	supervision.Backoff:   "khaki",
	supervision.Scheduled: "lightblue",
	supervision.Stopped:   "gray90",
}

// dotGraph is g in Graphviz's language (graphviz.org/doc/info/lang.html). What
// starts first is on the left, and arrows point at what is needed. A condition
// that isn't met is a dashed line, a name that nobody has a dashed red box, and a
// group a frame. What is needed by a daemon of g without being in g is dotted.
func dotGraph(g api.Graph) string {
	var b strings.Builder
	b.WriteString("digraph syspulse {\n\trankdir=RL\n\tnode [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"sans-serif\"]\n\tedge [fontname=\"sans-serif\", fontsize=10]\n")
	groups := map[string][]api.GraphDaemon{}
	known := map[string]bool{}
	for _, d := range g.Daemons {
		groups[value(d.Group)] = append(groups[value(d.Group)], d)
		known[d.Name] = true
	}
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		indent := "\t"
		if group != "" {
			indent = "\t\t"
			fmt.Fprintf(&b, "\tsubgraph %s {\n\t\tlabel=%s\n", quoted("cluster_"+group), quoted(group))
		}
		for _, d := range groups[group] {
			if d.Registered {
				fmt.Fprintf(&b, "%s%s [label=%s, fillcolor=%s]\n", indent, quoted(d.Name), quoted(d.Name, string(*d.State)), or(dotColors[*d.State], "white"))
			} else {
				fmt.Fprintf(&b, "%s%s [label=%s, style=dashed, color=red]\n", indent, quoted(d.Name), quoted(d.Name, notRegistered))
			}
		}
		if group != "" {
			b.WriteString("\t}\n")
		}
	}
	for _, d := range g.Daemons {
		for _, dep := range d.DependsOn {
			if !known[dep.Name] {
				known[dep.Name] = true
				fmt.Fprintf(&b, "\t%s [style=dotted]\n", quoted(dep.Name))
			}
			looks := ""
			if dep.Condition != nil {
				looks = "label=" + quoted(*dep.Condition)
			}
			if !dep.Met {
				looks = strings.TrimPrefix(looks+", style=dashed", ", ")
			}
			fmt.Fprintf(&b, "\t%s -> %s [%s]\n", quoted(d.Name), quoted(dep.Name), looks)
		}
	}
	b.WriteString("}\n")
	return b.String()
}

// quoted is a DOT string of some lines. In a name any text may stand there; in a
// label a backslash begins an escape, so that one stands for itself only twice.
func quoted(lines ...string) string {
	for i, l := range lines {
		lines[i] = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(clean(l))
	}
	return `"` + strings.Join(lines, `\n`) + `"`
}

package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
)

func (a *app) cmdGraph() *cobra.Command {
	var (
		sel selection
		dot bool
	)
	cmd := &cobra.Command{
		Use:   "graph [NAME...] [flags]",
		Short: "Show the order in which daemons start",
		Long: `Show the order in which daemons start, and what each depends on. What is in
step 1 starts at once. Everything else waits for what it depends on to be started,
healthy or completed, and for nothing else of the steps before. They stop in
reverse.

With a NAME: only that daemon, what it needs and what needs it, directly or through
others.`,
		Example: `  syspulse graph
  syspulse graph db
  syspulse graph --dot | dot -Tsvg > daemons.svg`,
		ValidArgsFunction: a.names(false),
		RunE: func(cmd *cobra.Command, names []string) error {
			if dot && a.json {
				return usage("--dot and --json are two formats; give one of them")
			}
			m, err := a.manager()
			if err != nil {
				return err
			}
			g, err := m.Graph(cmd.Context(), api.GraphQuery{Selector: sel.with(names)})
			if err != nil {
				return err
			}
			switch {
			case a.json:
				return a.printJSON(g)
			case dot:
				_, err := io.WriteString(a.stdout, dotGraph(g))
				return err
			case len(g.Daemons) == 0:
				a.none(sel.with(nil))
				return nil
			}
			a.graphTable(g)
			return nil
		},
	}
	cmd.Flags().BoolVar(&dot, "dot", false, "in the language of Graphviz, from which dot draws a picture")
	sel.flags(cmd, false)
	a.completeSelection(cmd)
	return cmd
}

// notRegistered stands for the state of a name that nobody has.
const notRegistered = "not registered"

func (a *app) graphTable(g api.Graph) {
	grouped := slices.ContainsFunc(g.Daemons, func(d api.GraphDaemon) bool { return d.Group != nil })
	head := []string{"STEP", "NAME", "STATE"}
	if grouped {
		head = append(head, "GROUP")
	}
	head = append(head, "DEPENDS ON")
	var table [][]cell
	last := 0
	for _, d := range g.Daemons {
		step := cell{fmt.Sprint(d.Step), dim}
		if d.Step != last {
			step.color, last = bold, d.Step
		}
		state := cell{notRegistered, red}
		if d.Registered {
			state = cell{string(*d.State), stateColor(*d.State)}
		}
		row := []cell{step, {d.Name, ""}, state}
		if grouped {
			row = append(row, cell{or(value(d.Group), "-"), ""})
		}
		table = append(table, append(row, dependencies(d)))
	}
	a.table(head, table)
	for i, grp := range g.Groups {
		if i == 0 {
			a.say("")
		}
		text := fmt.Sprintf("group %s: %s", clean(grp.Name), grp.Strategy)
		if grp.MaxRestarts != nil {
			text += fmt.Sprintf(", at most %s", count(*grp.MaxRestarts, "restart", "restarts"))
			if grp.WindowSecs != nil {
				text += fmt.Sprintf(" within %s", spec.Seconds(*grp.WindowSecs).Duration())
			}
			text += fmt.Sprintf(" (%d now)", grp.Restarts)
		}
		color := ""
		if grp.Failed {
			text, color = text+"; it has failed", red
		}
		a.say("%s", a.paint(color, text))
	}
}

// dependencies is what a daemon depends on, and under which condition. What it
// waits for now is marked; that a condition isn't met matters to nobody while
// the daemon isn't wanted.
func dependencies(d api.GraphDaemon) cell {
	out := cell{"-", dim}
	var parts []string
	for _, dep := range d.DependsOn {
		how := value(dep.Condition)
		switch {
		case !dep.Registered:
			how = strings.TrimPrefix(how+", "+notRegistered, ", ")
			out.color = red
		case slices.Contains(d.WaitingFor, dep.Name):
			how += ", not yet"
			if out.color != red {
				out.color = yellow
			}
		}
		parts = append(parts, fmt.Sprintf("%s (%s)", dep.Name, how))
	}
	if len(parts) == 0 {
		return out
	}
	out.text = strings.Join(parts, ", ")
	if out.color == dim {
		out.color = ""
	}
	return out
}

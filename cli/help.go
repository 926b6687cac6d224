package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// help is a command's page. The reference in docs/CLI.md is made of the same
// parts.
func (a *app) help(cmd *cobra.Command) string {
	var b strings.Builder
	b.WriteString(about(cmd) + "\n\n")
	fmt.Fprintf(&b, "%s %s\n", a.paint(bold, "Usage:"), useLine(cmd))
	if cmd.Example != "" {
		fmt.Fprintf(&b, "\n%s\n%s\n", a.paint(bold, "Examples:"), cmd.Example)
	}
	for _, g := range commandGroups(cmd) {
		fmt.Fprintf(&b, "\n%s\n", a.paint(bold, g.title))
		for _, c := range g.commands {
			fmt.Fprintf(&b, "  %s  %s\n", pad(c.Name(), 10), c.Short)
		}
	}
	for _, part := range []struct {
		title string
		rows  [][2]string
	}{{"Flags:", flagRows(cmd.LocalNonPersistentFlags())}, {"Global flags:", flagRows(cmd.Root().PersistentFlags())}} {
		if len(part.rows) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s\n", a.paint(bold, part.title))
		wide := 0
		for _, r := range part.rows {
			wide = max(wide, len(r[0]))
		}
		for _, r := range part.rows {
			fmt.Fprintf(&b, "  %s  %s\n", pad(r[0], wide), r[1])
		}
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n`%s COMMAND --help` says more about a command.\n", cmd.CommandPath())
	}
	return b.String()
}

func about(cmd *cobra.Command) string {
	if cmd.Long != "" {
		return cmd.Long
	}
	return cmd.Short + "."
}

func useLine(cmd *cobra.Command) string {
	if cmd.HasParent() {
		return cmd.Parent().CommandPath() + " " + cmd.Use
	}
	return cmd.Use + " COMMAND [flags]"
}

type commandGroup struct {
	title    string
	commands []*cobra.Command
}

// commandGroups are the commands below cmd in their own order.
func commandGroups(cmd *cobra.Command) []commandGroup {
	var out []commandGroup
	titles := map[string]string{}
	for _, g := range cmd.Groups() {
		titles[g.ID] = g.Title
		out = append(out, commandGroup{title: g.Title})
	}
	if len(out) == 0 && cmd.HasAvailableSubCommands() {
		out = []commandGroup{{title: "Commands:"}}
		titles[""] = "Commands:"
	}
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() {
			continue
		}
		for i := range out {
			if out[i].title == titles[c.GroupID] {
				out[i].commands = append(out[i].commands, c)
			}
		}
	}
	return out
}

// flagRows are flags as they are written, and what they do.
func flagRows(flags *pflag.FlagSet) [][2]string {
	var rows [][2]string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		arg, text := pflag.UnquoteUsage(f)
		name := "    --" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", --" + f.Name
		}
		if f.Value.Type() != "bool" {
			name += " " + arg
		}
		if f.Value.Type() != "bool" && !strings.HasSuffix(f.Value.Type(), "Array") && f.DefValue != "" && f.DefValue != "0" {
			text += " (default " + f.DefValue + ")"
		}
		rows = append(rows, [2]string{name, text})
	})
	return rows
}

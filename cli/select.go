package cli

import (
	"context"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
)

// selection is the flags that pick daemons beside their names.
type selection struct {
	tags   []string
	groups []string
	all    bool
}

func (s *selection) flags(cmd *cobra.Command, all bool) {
	cmd.Flags().StringArrayVar(&s.tags, "tag", nil, "those with this `TAG` (repeatable)")
	cmd.Flags().StringArrayVar(&s.groups, "group", nil, "those of this `GROUP` (repeatable)")
	if all {
		cmd.Flags().BoolVar(&s.all, "all", false, "all daemons")
	}
}

// picks says whether a flag picks any.
func (s *selection) picks() bool { return s.all || len(s.tags) > 0 || len(s.groups) > 0 }

// with is what names and flags pick together.
func (s *selection) with(names []string) api.Selector {
	sel := api.Selector{Tags: s.tags, All: s.all}
	for _, name := range names {
		sel.Names = append(sel.Names, spec.CanonicalName(name))
	}
	for _, name := range s.groups {
		sel.Groups = append(sel.Groups, spec.CanonicalName(name))
	}
	return sel
}

// selector is what names and flags pick together; picking nothing is an error.
func (s *selection) selector(cmd *cobra.Command, names []string) (api.Selector, error) {
	sel := s.with(names)
	if sel.IsZero() {
		return sel, &usageError{message: "which daemon? Name one or several, or give --tag TAG, --group GROUP or --all", command: commandPath(cmd)}
	}
	return sel, nil
}

// unpicked says that no daemon is as the flags say; "" if there are no flags.
func unpicked(s api.Selector, has string) string {
	var parts []string
	if len(s.Tags) > 0 {
		parts = append(parts, has+" the tag "+strings.Join(s.Tags, " or "))
	}
	if len(s.Groups) > 0 {
		parts = append(parts, map[string]string{"has": "is", "had": "was"}[has]+" of the group "+strings.Join(s.Groups, " or "))
	}
	if len(parts) == 0 {
		return ""
	}
	return "no daemon " + strings.Join(parts, " or ")
}

// nothing is the end of a command whose selector picked no daemon.
func (a *app) nothing(s api.Selector) error {
	if a.json {
		if err := a.printJSON([]any{}); err != nil {
			return err
		}
	}
	if s.All {
		a.say("no daemons are registered; `syspulse add --file FILE` registers some")
		return nil
	}
	return &codeError{exitNotFound, api.NewError(api.CodeNotFound, "%s", unpicked(s, "has"))}
}

// timeoutFlag is --timeout, in seconds.
type timeoutFlag struct{ secs float64 }

func (t *timeoutFlag) flag(cmd *cobra.Command, help string) {
	cmd.Flags().Float64Var(&t.secs, "timeout", 0, help)
}

func (t *timeoutFlag) value(cmd *cobra.Command) (*spec.Seconds, error) {
	if !cmd.Flags().Changed("timeout") {
		return nil, nil
	}
	if !(t.secs >= 0) || math.IsInf(t.secs, 0) {
		return nil, &usageError{message: "--timeout is a number of seconds, 0 or more", command: commandPath(cmd)}
	}
	return new(spec.Seconds(t.secs)), nil
}

// completionTimeout is how long a shell waits for the names of daemons.
const completionTimeout = 2 * time.Second

// names completes the names of daemons; once is for commands that take one.
func (a *app) names(once bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, have []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if once && len(have) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []cobra.Completion
		for _, d := range a.complete() {
			if !contains(have, d.Name) {
				out = append(out, cobra.CompletionWithDesc(d.Name, string(d.State)))
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) complete() []api.Daemon {
	m, err := a.managerWithin(0)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
	defer cancel()
	list, err := m.Status(ctx, api.StatusQuery{})
	if err != nil {
		return nil
	}
	return list
}

// completeSelection completes --tag and --group.
func (a *app) completeSelection(cmd *cobra.Command) {
	cmd.RegisterFlagCompletionFunc("group", func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var out []cobra.Completion
		for _, d := range a.complete() {
			if d.Group != nil && !contains(out, *d.Group) {
				out = append(out, *d.Group)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	})
	cmd.RegisterFlagCompletionFunc("tag", func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var out []cobra.Completion
		for _, d := range a.complete() {
			for _, t := range d.Tags {
				if !contains(out, t) {
					out = append(out, t)
				}
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	})
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// sysFiles completes the names of .sys files.
func sysFiles(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return []cobra.Completion{"sys", "toml"}, cobra.ShellCompDirectiveFilterFileExt
}

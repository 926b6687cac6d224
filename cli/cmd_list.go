package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
)

func (a *app) cmdList() *cobra.Command {
	var sel selection
	cmd := &cobra.Command{
		Use:               "list [flags]",
		Short:             "List the registered daemons",
		Example:           "  syspulse list --tag batch",
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := a.manager()
			if err != nil {
				return err
			}
			list, err := m.Status(cmd.Context(), api.StatusQuery{Selector: sel.with(nil)})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(rows(list))
			}
			defer a.managerTrouble(cmd.Context(), m)
			if len(list) == 0 {
				a.none(sel.with(nil))
				return nil
			}
			table := make([][]cell, len(list))
			for i, d := range list {
				table[i] = []cell{
					{d.Name, ""}, {string(d.State), stateColor(d.State)}, {string(d.Wanted), ""},
					{or(strings.Join(d.Tags, ","), "-"), ""}, {or(value(d.Schedule), "-"), ""}, {value(d.Description), dim},
				}
			}
			a.table([]string{"NAME", "STATE", "WANTED", "TAGS", "SCHEDULE", "DESCRIPTION"}, table)
			return nil
		},
	}
	sel.flags(cmd, false)
	a.completeSelection(cmd)
	return cmd
}

// none says that there is nothing to show.
func (a *app) none(s api.Selector) {
	if what := unpicked(s, "has"); what != "" {
		a.say("%s", clean(what))
		return
	}
	a.say("no daemons are registered; `syspulse add --file FILE` registers some")
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

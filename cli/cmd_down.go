package cli

import (
	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
)

func (a *app) cmdDown() *cobra.Command {
	return &cobra.Command{
		Use:   "down FILE...",
		Short: "Stop a file's daemons",
		Long: `Stop a file's daemons, as stop does. They stay registered. What isn't registered
is said, and an error only if none of them is.`,
		Example:           "  syspulse down syspulse.sys",
		Args:              args(1, -1, "which file? Give one or several"),
		ValidArgsFunction: sysFiles,
		RunE: func(cmd *cobra.Command, paths []string) error {
			set, err := spec.Load(paths...)
			if err != nil {
				return err
			}
			sel := api.Selector{Names: namesOf(set)}
			m, err := a.manager()
			if err != nil {
				return err
			}
			if len(sel.Names) == 0 {
				if a.json {
					return a.printJSON([]any{})
				}
				a.say("no daemon is in there")
				return nil
			}
			var list []api.Result
			if err := a.whileWaiting(cmd.Context(), m, progress{what: stopping, selector: sel}, func() (err error) {
				list, err = m.Stop(cmd.Context(), api.ActionRequest{Selector: sel})
				return err
			}); err != nil {
				return err
			}
			absent := 0
			for _, r := range list {
				if r.Code == api.CodeNotFound {
					absent++
				}
			}
			if absent == len(list) {
				return a.results(list, stopped)
			}
			for i, r := range list {
				if r.Code == api.CodeNotFound { // it is as down as it can be
					list[i] = api.Result{Name: r.Name, OK: true, Code: api.CodeNotFound}
				}
			}
			return a.results(list, func(r api.Result) string {
				if r.Code == api.CodeNotFound {
					return r.Name + " is not registered"
				}
				return stopped(r)
			})
		},
	}
}

package cli

import (
	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
)

func (a *app) cmdRun() *cobra.Command {
	var sel selection
	cmd := &cobra.Command{
		Use:   "run NAME... [flags]",
		Short: "Run what has a schedule now",
		Long: `Run daemons that have a schedule now, whether they are armed or not. Their next
run stays as it is. What runs already is left alone.

It returns when the run has begun. History has how it ended.`,
		Example:           "  syspulse run nightly-backup",
		ValidArgsFunction: a.names(false),
		RunE: func(cmd *cobra.Command, names []string) error {
			s, err := sel.selector(cmd, names)
			if err != nil {
				return err
			}
			m, err := a.manager()
			if err != nil {
				return err
			}
			list, err := m.Run(cmd.Context(), api.RunRequest{Selector: s})
			if err != nil {
				return err
			}
			if len(list) == 0 {
				return a.nothing(s)
			}
			return a.results(list, func(r api.Result) string {
				if !r.Changed {
					return r.Name + " runs already"
				}
				return "began a run of " + r.Name
			})
		},
	}
	sel.flags(cmd, true)
	a.completeSelection(cmd)
	return cmd
}

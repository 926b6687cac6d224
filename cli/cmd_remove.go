package cli

import (
	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
)

func (a *app) cmdRemove() *cobra.Command {
	var (
		sel          selection
		force, purge bool
	)
	cmd := &cobra.Command{
		Use:   "remove NAME... [flags]",
		Short: "Take daemons out of the manager",
		Long: `Take daemons out of the manager. What isn't stopped, failed or scheduled is
refused, and so is what others depend on. Their logs stay.`,
		Example:           "  syspulse remove web\n  syspulse remove web --force --purge",
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
			var list []api.Result
			if err := a.whileWaiting(cmd.Context(), m, s, func() (err error) {
				list, err = m.Remove(cmd.Context(), api.RemoveRequest{Selector: s, Force: force, Purge: purge})
				return err
			}); err != nil {
				return err
			}
			if len(list) == 0 {
				return a.nothing(s)
			}
			return a.results(list, func(r api.Result) string { return "removed " + r.Name })
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "stop them first, and what depends on them; that stays registered")
	cmd.Flags().BoolVar(&purge, "purge", false, "delete their logs too")
	sel.flags(cmd, true)
	a.completeTags(cmd)
	return cmd
}

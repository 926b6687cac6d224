package cli

import (
	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
)

func (a *app) cmdShutdown() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "shutdown [flags]",
		Short: "Stop the daemons, and end the manager",
		Long: `Stop the daemons, in reverse order of their dependencies, and end the manager.
What was wanted running is started by the next one.`,
		Example:           "  syspulse shutdown\n  syspulse shutdown --keep-daemons",
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := a.manager()
			if err != nil {
				return err
			}
			if err := a.whileWaiting(cmd.Context(), m, progress{what: stopping, selector: api.Selector{All: true}}, func() error {
				return m.Shutdown(cmd.Context(), api.ShutdownRequest{KeepDaemons: keep})
			}); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]bool{"ok": true})
			}
			if keep {
				a.say("the manager has ended; its daemons run on")
			} else {
				a.say("the manager and its daemons have ended")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&keep, "keep-daemons", false, "let the daemons run on; the next manager takes them over")
	return cmd
}

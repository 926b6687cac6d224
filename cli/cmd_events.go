package cli

import "github.com/spf13/cobra"

func (a *app) cmdEvents() *cobra.Command {
	var j journalFlags
	cmd := &cobra.Command{
		Use:               "events [flags]",
		Short:             "Show what happened to all, the manager too",
		Long:              "Show what happened to all, the manager too, from the journal, oldest first.\nWith -f it goes on, across restarts of the manager too.",
		Example:           "  syspulse events -f\n  syspulse events -f --json",
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.journal(cmd, j, nil)
		},
	}
	j.flags(cmd)
	return cmd
}

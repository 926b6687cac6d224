package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) cmdPing() *cobra.Command {
	return &cobra.Command{
		Use:               "ping",
		Short:             "Ask whether a manager runs",
		Long:              "Ask whether a manager runs, and which. The exit code is 3 if none does.",
		Example:           "  syspulse ping --json",
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := a.managerWithin(0)
			if err != nil {
				return err
			}
			p, err := m.Ping(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(p)
			}
			keeper := ""
			if p.KeeperPID != nil {
				keeper = fmt.Sprintf(" (its keeper: %d)", *p.KeeperPID)
			}
			a.say("a manager runs: pid %d%s, version %s, since %s", p.PID, keeper, clean(p.Version), moment(p.StartedAt, time.Now()))
			a.trouble(p)
			return nil
		},
	}
}

package cli

import (
	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/supervision"
)

func (a *app) cmdRestart() *cobra.Command {
	var (
		sel         selection
		force, wait bool
		timeout     timeoutFlag
	)
	cmd := &cobra.Command{
		Use:               "restart NAME... [flags]",
		Short:             "Stop daemons and start them again",
		Long:              "Stop daemons and start them again. What is stopped is started. What depends on them goes on.",
		Example:           "  syspulse restart web --wait",
		ValidArgsFunction: a.names(false),
		RunE: func(cmd *cobra.Command, names []string) error {
			s, err := sel.selector(cmd, names)
			if err != nil {
				return err
			}
			limit, err := timeout.value(cmd)
			if err != nil {
				return err
			}
			if limit != nil && !wait {
				return &usageError{message: "--timeout limits --wait; give both", command: "restart"}
			}
			return a.act(cmd.Context(), restarting, api.ActionRequest{Selector: s, Force: force, Wait: wait, Timeout: limit}, api.Manager.Restart, restarted)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "kill at once instead of asking them to end")
	cmd.Flags().BoolVar(&wait, "wait", false, "until they are ready; a first exit before that is a failure")
	timeout.flag(cmd, "give up --wait after so many `SECS` (exit code 5)")
	sel.flags(cmd, true)
	a.completeSelection(cmd)
	return cmd
}

func restarted(r api.Result) string {
	if r.Changed && r.State != nil && *r.State == supervision.Running && !r.PulledIn {
		return "restarted " + r.Name
	}
	return started(r)
}

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/supervision"
)

func (a *app) cmdStop() *cobra.Command {
	var (
		sel     selection
		force   bool
		timeout timeoutFlag
	)
	cmd := &cobra.Command{
		Use:   "stop NAME... [flags]",
		Short: "Stop daemons",
		Long: `Stop daemons. It returns when nothing of them is left: what doesn't end by its
stop signal is killed after its stop_timeout_secs.

What depends on a daemon stops before it, and comes back with it.`,
		Example:           "  syspulse stop web\n  syspulse stop --tag batch --timeout 5",
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
			return a.act(cmd.Context(), stopping, api.ActionRequest{Selector: s, Force: force, Timeout: limit}, api.Manager.Stop, stopped)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "kill at once")
	timeout.flag(cmd, "kill after so many `SECS` instead of stop_timeout_secs")
	sel.flags(cmd, true)
	a.completeSelection(cmd)
	return cmd
}

// stopped says what became of a stop.
func stopped(r api.Result) string {
	switch {
	case !r.Changed:
		return r.Name + " is stopped already"
	case r.State != nil && *r.State != supervision.Stopped:
		return fmt.Sprintf("%s is %s", r.Name, *r.State)
	}
	return "stopped " + r.Name
}

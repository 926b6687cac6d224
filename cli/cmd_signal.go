package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
)

func (a *app) cmdSignal() *cobra.Command {
	return &cobra.Command{
		Use:     "signal NAME SIG",
		Short:   "Send a signal to a daemon",
		Long:    "Send a signal to a daemon's first process. SIG is a name, with or without SIG, or a number.",
		Example: "  syspulse signal web HUP",
		Args:    args(2, 2, "which daemon, and which signal?"),
		ValidArgsFunction: func(cmd *cobra.Command, have []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(have) == 1 {
				return []cobra.Completion{"SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGSTOP", "SIGCONT", "SIGWINCH"}, cobra.ShellCompDirectiveNoFileComp
			}
			return a.names(true)(cmd, have, word)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			name, sig := args[0], args[1]
			if _, err := strconv.Atoi(sig); err != nil {
				if sig, err = spec.CanonicalSignal(sig); err != nil {
					return &usageError{message: err.Error(), command: "signal"}
				}
			}
			m, err := a.manager()
			if err != nil {
				return err
			}
			list, err := m.Signal(cmd.Context(), api.SignalRequest{Selector: api.Selector{Names: []string{spec.CanonicalName(name)}}, Signal: sig})
			if err != nil {
				return err
			}
			return a.results(list, func(r api.Result) string { return fmt.Sprintf("sent %s to %s", sig, r.Name) })
		},
	}
}

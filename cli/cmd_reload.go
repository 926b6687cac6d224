package cli

import (
	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
)

func (a *app) cmdReload() *cobra.Command {
	var sel selection
	cmd := &cobra.Command{
		Use:   "reload NAME... [flags]",
		Short: "Have daemons read their configuration again",
		Long: `Have daemons read their configuration again, by their reload_command or
reload_signal. A daemon that has neither, or isn't running, is an error.

It returns when the command has ended, or the signal is sent. A command that
fails, or takes longer than 90 seconds and is killed, is an error; the last
lines of its output are shown.`,
		Example:           "  syspulse reload web",
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
			list, err := m.Reload(cmd.Context(), api.ReloadRequest{Selector: s})
			if err != nil {
				return err
			}
			if len(list) == 0 {
				return a.nothing(s)
			}
			return a.results(list, func(r api.Result) string { return "reloaded " + r.Name })
		},
	}
	sel.flags(cmd, true)
	a.completeSelection(cmd)
	return cmd
}

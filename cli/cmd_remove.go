package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

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
refused, and so is what others depend on. Their logs stay, unless --purge.`,
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
			var logs map[string]string
			if !purge {
				logs = logDirs(cmd.Context(), m, s)
			}
			var list []api.Result
			if err := a.whileWaiting(cmd.Context(), m, progress{what: removing, selector: s}, func() (err error) {
				list, err = m.Remove(cmd.Context(), api.RemoveRequest{Selector: s, Force: force, Purge: purge})
				return err
			}); err != nil {
				return err
			}
			if len(list) == 0 {
				return a.nothing(s)
			}
			return a.results(list, func(r api.Result) string {
				if dir := logs[r.Name]; dir != "" {
					return fmt.Sprintf("removed %s; its logs stay in %s (delete that, or use --purge next time)", r.Name, dir)
				}
				return "removed " + r.Name
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "stop them first, and what depends on them; that stays registered")
	cmd.Flags().BoolVar(&purge, "purge", false, "delete their logs too")
	sel.flags(cmd, true)
	a.completeSelection(cmd)
	return cmd
}

// logDirs are where the logs of daemons are, by name, for those that have any.
func logDirs(ctx context.Context, m api.Manager, s api.Selector) map[string]string {
	list, err := m.Status(ctx, api.StatusQuery{Selector: api.Selector{All: true}})
	if err != nil {
		return nil // the removal will say
	}
	dirs := make(map[string]string)
	for _, d := range list {
		if !picks(s, d) {
			continue
		}
		dir := filepath.Dir(d.StdoutLog)
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
			dirs[d.Name] = dir
		}
	}
	return dirs
}

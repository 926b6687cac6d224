package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
)

// journalFlags are those of history and events.
type journalFlags struct {
	lines  lineCount
	follow bool
	since  string
}

func (j *journalFlags) flags(cmd *cobra.Command) {
	j.lines = 50
	cmd.Flags().VarP(&j.lines, "lines", "n", "the last `N` events, or all")
	cmd.Flags().BoolVarP(&j.follow, "follow", "f", false, "go on with what comes")
	cmd.Flags().StringVar(&j.since, "since", "", "not older than this `TIME`: 2006-01-02T15:04:05Z, \"2006-01-02 15:04\", 15:04, or 10m (ago)")
}

func (a *app) cmdHistory() *cobra.Command {
	var j journalFlags
	cmd := &cobra.Command{
		Use:               "history [NAME] [flags]",
		Short:             "Show what happened to a daemon",
		Long:              "Show what happened to a daemon, or to all of them, from the journal, oldest first.\nWith -f it goes on, across restarts of the manager too.",
		Example:           "  syspulse history web\n  syspulse history web --since 1h",
		Args:              args(0, 1, ""),
		ValidArgsFunction: a.names(true),
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.journal(cmd, j, names)
		},
	}
	j.flags(cmd)
	return cmd
}

// journal prints events.
func (a *app) journal(cmd *cobra.Command, j journalFlags, names []string) error {
	q := api.EventQuery{Limit: int(j.lines), Follow: j.follow}
	for _, name := range names {
		q.Names = append(q.Names, spec.CanonicalName(name))
	}
	if j.since != "" {
		t, err := parseTime(j.since, time.Now())
		if err != nil {
			return err
		}
		q.Since = &t
		if !cmd.Flags().Changed("lines") {
			q.Limit = -1
		}
	}
	m, err := a.manager()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	seq, err := m.Events(ctx, q)
	if err != nil {
		return err
	}
	wide := 0
	for e, err := range seq {
		if err != nil {
			return ended(cmd.Context(), err)
		}
		if a.json {
			if err := a.writeJSON(a.stdout, e); err != nil {
				return err
			}
			continue
		}
		name := "manager"
		switch {
		case e.Daemon != nil:
			name = clean(*e.Daemon)
		case e.Group != nil:
			name = "group " + clean(*e.Group)
		}
		wide = max(wide, columns(name), 8)
		line := fmt.Sprintf("%s  %s  %s", a.paint(dim, e.Time.Local().Format("2006-01-02 15:04:05.000")), pad(name, wide), pad(string(e.Event), 13))
		if e.Detail != nil {
			line += "  " + clean(*e.Detail)
		}
		if _, err := fmt.Fprintln(a.stdout, trimRight(line)); err != nil {
			return fmt.Errorf("can't write: %w", err)
		}
	}
	return nil
}

func trimRight(s string) string {
	for len(s) > 0 && s[len(s)-1] == ' ' {
		s = s[:len(s)-1]
	}
	return s
}

package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

func (a *app) cmdStatus() *cobra.Command {
	var (
		sel selection
		at  string
		env bool
	)
	cmd := &cobra.Command{
		Use:   "status [NAME] [flags]",
		Short: "Show how daemons do; with a NAME, the details",
		Example: `  syspulse status
  syspulse status web
  syspulse status --at 10m        as it was ten minutes ago`,
		ValidArgsFunction: a.names(false),
		RunE: func(cmd *cobra.Command, names []string) error {
			var when *time.Time
			if at != "" {
				t, err := parseTime(at, time.Now())
				if err != nil {
					return err
				}
				when = &t
			}
			m, err := a.manager()
			if err != nil {
				return err
			}
			for i := range names {
				names[i] = spec.CanonicalName(names[i])
			}
			if len(names) == 1 && !sel.picks() {
				d, err := m.Get(cmd.Context(), api.GetQuery{Name: names[0], At: when, Env: env})
				if when != nil && errors.Is(err, api.ErrNotFound) {
					return api.NewError(api.CodeNotFound, "at that time (%s) no daemon was called %q", clock(*when), names[0])
				}
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(detailsJSON(d))
				}
				a.details(d, now(when))
				if when == nil {
					a.managerTrouble(cmd.Context(), m)
				}
				return nil
			}
			list, err := m.Status(cmd.Context(), api.StatusQuery{Selector: sel.with(names), At: when})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(rows(list))
			}
			if when == nil {
				defer a.managerTrouble(cmd.Context(), m)
			}
			if len(list) == 0 && when != nil {
				what := "no daemons were registered"
				if by := unpicked(sel.with(nil), "had"); by != "" {
					what = by
				}
				a.say("at that time (%s) %s", clock(*when), clean(what))
				return nil
			}
			if len(list) == 0 {
				a.none(sel.with(nil))
				return nil
			}
			a.statusTable(list, now(when))
			return nil
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "as it was at this `TIME`, from the journal: 2006-01-02T15:04:05Z, \"2006-01-02 15:04\", 15:04, or 10m (ago)")
	cmd.Flags().BoolVar(&env, "env", false, "with a NAME: show the values of its environment")
	sel.flags(cmd, false)
	a.completeSelection(cmd)
	return cmd
}

func now(at *time.Time) time.Time {
	if at != nil {
		return *at
	}
	return time.Now()
}

// rows is [] where there is nothing.
func rows(list []api.Daemon) []api.Daemon {
	if list == nil {
		return []api.Daemon{}
	}
	return list
}

// detailsJSON is the one object of `status NAME`: env is there if asked for.
func detailsJSON(d api.Details) any {
	return struct {
		api.Details
		Env map[string]string `json:"env,omitempty"` // hides that of Details
	}{d, d.Env}
}

func (a *app) statusTable(list []api.Daemon, now time.Time) {
	table := make([][]cell, len(list))
	var notes []string
	ignored := map[string][]string{}
	for i, d := range list {
		pid, up := "-", "-"
		if d.PID != nil {
			pid = fmt.Sprint(*d.PID)
		}
		if d.UptimeSecs != nil {
			up = duration(seconds(*d.UptimeSecs))
		}
		table[i] = []cell{
			{d.Name, ""}, {string(d.State), stateColor(d.State)}, {pid, ""}, {up, ""},
			{string(d.Health), healthColor(d.Health)}, {fmt.Sprint(d.RestartCount), ""},
		}
		if note := note(d, now); note != "" {
			notes = append(notes, clean(d.Name+": "+note))
		}
		for _, w := range d.Warnings {
			key, _, _ := strings.Cut(w, ":")
			ignored[key] = append(ignored[key], d.Name)
		}
	}
	a.table([]string{"NAME", "STATE", "PID", "UPTIME", "HEALTH", "RESTARTS"}, table)
	if a.quiet {
		return
	}
	for _, n := range notes {
		fmt.Fprintln(a.stderr, n)
	}
	if len(ignored) > 0 {
		var keys []string
		for key := range ignored {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		fmt.Fprintf(a.stderr, "warning: this build doesn't act on %s yet; `syspulse status NAME` says of whom\n", clean(strings.Join(keys, ", ")))
	}
}

// note is what the table leaves out of a daemon that isn't as it should be.
func note(d api.Daemon, now time.Time) string {
	var parts []string
	switch d.State {
	case supervision.Backoff, supervision.Failed, supervision.Starting, supervision.Stopping:
		parts = append(parts, value(d.Reason))
	case supervision.Stopped:
		if d.Wanted == supervision.WantRunning {
			parts = append(parts, value(d.Reason))
		}
	}
	if len(d.WaitingFor) > 0 {
		parts = append(parts, "waits for "+strings.Join(d.WaitingFor, ", "))
	}
	switch {
	case d.NextRestartAt == nil:
	case len(d.WaitingFor) > 0 && !d.NextRestartAt.After(now):
		parts = append(parts, "its next attempt is due")
	default:
		parts = append(parts, "next attempt in "+soon(d.NextRestartAt.Sub(now)))
	}
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	return strings.Join(parts, "; ")
}

func (a *app) details(d api.Details, now time.Time) {
	var b strings.Builder
	row := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s  %s\n", a.paint(dim, pad(key, 14)), value)
		}
	}
	text := func(key, v string) { row(key, clean(v)) }
	at := func(key string, t *time.Time) {
		if t != nil {
			row(key, moment(*t, now))
		}
	}
	text("name", d.Name)
	text("description", value(d.Description))
	state := a.paint(stateColor(d.State), string(d.State))
	if d.State == supervision.Running && !d.Ready {
		state += ", not ready yet"
	}
	if s := value(d.NotifyState); s != "" && s != string(d.State) {
		state += ", says that it is " + clean(s)
	}
	if d.Adopted {
		state += ", taken over from an earlier manager"
	}
	row("state", state)
	row("wanted", string(d.Wanted))
	text("reason", value(d.Reason))
	text("says", value(d.StatusText))
	text("waiting for", strings.Join(d.WaitingFor, ", "))
	if d.PID != nil {
		row("pid", fmt.Sprint(*d.PID))
	}
	at("started", d.StartedAt)
	if d.UptimeSecs != nil {
		row("uptime", duration(seconds(*d.UptimeSecs)))
	}
	if d.PID != nil {
		at("last stopped", d.StoppedAt)
	} else {
		at("stopped", d.StoppedAt)
	}
	row("last exit", lastExit(d.Daemon))
	at("next run", d.NextRunAt)
	at("next attempt", d.NextRestartAt)
	row("health", a.paint(healthColor(d.Health), string(d.Health)))
	if h := d.HealthCheck; h != nil {
		text("health check", fmt.Sprintf("%s %s, every %s", h.Type, h.Target, seconds(h.IntervalSecs)))
		if h.Failures > 0 {
			row("failures", fmt.Sprintf("%d in a row", h.Failures))
		}
		for i, r := range h.Results {
			key := ""
			if i == 0 {
				key = "last checks"
			}
			what := a.paint(green, "ok")
			if !r.OK {
				what = a.paint(red, clean(value(r.Error)))
			}
			row(key, fmt.Sprintf("%s  %s, took %s", clock(r.At), what, brief(seconds(r.TookSecs))))
		}
	}
	row("restarts", fmt.Sprint(d.RestartCount))
	if d.Attempt > 0 {
		row("attempt", fmt.Sprint(d.Attempt))
	}
	text("schedule", value(d.Schedule))
	text("tags", strings.Join(d.Tags, ", "))
	text("group", value(d.Group))
	text("depends on", strings.Join(d.DependsOn, ", "))
	text("command", shellWords(d.Command))
	text("directory", value(d.WorkingDir))
	text("user", value(d.User))
	if d.Env != nil {
		for _, k := range d.EnvKeys {
			text("env", k+"="+d.Env[k])
		}
	} else if len(d.EnvKeys) > 0 {
		text("env", strings.Join(d.EnvKeys, ", ")+" (--env shows the values)")
	}
	text("from", value(d.Source))
	text("stdout", d.StdoutLog)
	text("stderr", d.StderrLog)
	for _, w := range d.Warnings {
		row("warning", a.paint(yellow, clean(w)))
	}
	io.WriteString(a.stdout, b.String())
}

// brief is a duration with no more digits than it is worth reading.
func brief(d time.Duration) string {
	unit := time.Microsecond
	for unit < d/1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}

func lastExit(d api.Daemon) string {
	switch {
	case d.ExitKnown == nil:
		return ""
	case !*d.ExitKnown:
		return "unknown: it ended while nobody could watch"
	case d.Signal != nil:
		return "killed by " + clean(*d.Signal)
	case d.ExitCode != nil:
		return fmt.Sprintf("exited with code %d", *d.ExitCode)
	}
	return ""
}

// shellWords is a command as one would type it.
func shellWords(argv []string) string {
	out := make([]string, len(argv))
	for i, s := range argv {
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || strings.ContainsRune("'\"\\$`*?[]{}()<>|&;#~!", r) }) {
			s = "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
		out[i] = s
	}
	return strings.Join(out, " ")
}

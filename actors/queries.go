package actors

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/logs"
	"github.com/cyber-boost/syspulse/persist"
	"github.com/cyber-boost/syspulse/spec"
)

// Status implements [api.Manager].
func (s *System) Status(ctx context.Context, q api.StatusQuery) ([]api.Daemon, error) {
	sel, err := s.selected(ctx, q.Selector, q.At)
	if err != nil {
		return nil, err
	}
	if len(sel.unknown) > 0 {
		return nil, sel.unknown[0]
	}
	slices.SortFunc(sel.daemons, func(a, b selected) int { return strings.Compare(a.name, b.name) })
	out := make([]api.Daemon, len(sel.daemons))
	for i, d := range sel.daemons {
		out[i] = s.row(d, q.At)
	}
	return out, nil
}

// Get implements [api.Manager].
func (s *System) Get(ctx context.Context, q api.GetQuery) (api.Details, error) {
	sel, err := s.selected(ctx, api.Selector{Names: []string{q.Name}}, q.At)
	if err != nil {
		return api.Details{}, err
	}
	if len(sel.unknown) > 0 {
		return api.Details{}, sel.unknown[0]
	}
	e := sel.daemons[0].entry
	d := e.reg.Spec
	out := api.Details{
		Daemon: s.row(sel.daemons[0], q.At), Command: d.Command, DependsOn: []string{},
		EnvKeys: slices.AppendSeq([]string{}, maps.Keys(d.Env)),
	}
	slices.Sort(out.EnvKeys)
	for _, dep := range d.DependsOn {
		out.DependsOn = append(out.DependsOn, dep.Name)
	}
	out.WorkingDir, out.User = optional(d.WorkingDir), optional(d.User)
	out.Source, out.Incarnation = optional(e.reg.Source), optional(e.rec.Incarnation)
	out.HealthCheck = s.healthCheck(d, q.At)
	if q.At == nil {
		said := s.says.of(d.Name, e.rec.Incarnation)
		out.StatusText = optional(said.status)
		if e.rec.Process.PID != 0 {
			out.NotifyState = optional(said.state)
		}
	}
	if q.Env {
		out.Env = d.Env
		if out.Env == nil {
			out.Env = map[string]string{}
		}
	}
	return out, nil
}

// healthCheck is nil without one. What the checks have shown is known of now
// alone.
func (s *System) healthCheck(d *spec.Daemon, at *time.Time) *api.HealthCheck {
	if d.HealthCheck == nil {
		return nil
	}
	out := &api.HealthCheck{
		Type: d.HealthCheck.Type, Target: d.HealthCheck.Target, IntervalSecs: float64(d.HealthCheck.Interval),
		Results: []api.CheckResult{},
	}
	if at != nil {
		return out
	}
	shown := s.probes.of(d.Name)
	out.Failures = shown.failures
	for _, r := range shown.results {
		out.Results = append(out.Results, api.CheckResult{At: r.At, TookSecs: r.Took.Seconds(), OK: r.OK, Error: optional(r.Error)})
	}
	return out
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// selected picks from the projection, or from the journal as of a moment.
func (s *System) selected(ctx context.Context, sel api.Selector, at *time.Time) (selection, error) {
	if at == nil {
		msg := selectDaemons{Selector: sel, answer: newAnswer[selection]()}
		return ask(ctx, s, msg, msg.answer)
	}
	then, err := s.store.At(ctx, *at)
	if err != nil {
		return selection{}, api.Invalid(err.Error())
	}
	past := manager{daemons: make(map[string]*managed, len(then))}
	for _, d := range then {
		if d.Registration == nil || d.Registration.Group != nil {
			continue
		}
		past.daemons[d.Name] = &managed{entry: newEntry(d)}
	}
	return past.pick(sel), nil
}

// row is a daemon's line in status, as of at or now.
func (s *System) row(picked selected, at *time.Time) api.Daemon {
	e := picked.entry
	d := api.NewDaemon(&e.reg, &e.rec)
	d.StdoutLog = logs.Path(s.capture.DataDir(), d.Name, logs.Stdout)
	d.StderrLog = logs.Path(s.capture.DataDir(), d.Name, logs.Stderr)
	d.Warnings, d.WaitingFor = e.warnings, picked.waitingFor
	if e.rec.Process.PID == 0 {
		return d
	}
	up := s.host.Uptime() - e.rec.UpSince
	if at != nil {
		up = at.Sub(e.rec.StartedAt)
	}
	secs := max(up.Seconds(), 0)
	d.UptimeSecs = &secs
	d.Attempt = e.rec.AttemptAfter(up, e.reg.Spec.RestartPolicy)
	return d
}

func newEntry(d persist.Daemon) entry {
	e := entry{reg: *d.Registration, rec: d.Record, wish: d.WantedCopied}
	if d.Registration.Spec != nil {
		e.warnings = warnings(d.Registration.Spec)
	}
	return e
}

// warnings are the keys of d that this build doesn't act on.
func warnings(d *spec.Daemon) []string {
	out := []string{}
	for _, w := range spec.NotActedOn(d) {
		out = append(out, w.Key+": "+w.Message)
	}
	return out
}

// Export implements [api.Manager].
func (s *System) Export(ctx context.Context) (api.State, error) {
	sel, err := s.selected(ctx, api.Selector{All: true}, nil)
	if err != nil {
		return api.State{}, err
	}
	out := api.State{Version: api.StateVersion, Daemons: []api.ExportedState{}, Groups: []spec.Group{}}
	for _, d := range sel.daemons {
		out.Daemons = append(out.Daemons, api.ExportedState{
			Registration: api.Registration{Spec: d.reg.Spec, Source: d.reg.Source}, Wanted: d.rec.Wanted,
		})
	}
	for _, g := range sel.groups {
		if g.declared {
			out.Groups = append(out.Groups, g.spec)
		}
	}
	return out, nil
}

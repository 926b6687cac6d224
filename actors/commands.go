package actors

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/platform"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// Add implements [api.Manager].
func (s *System) Add(ctx context.Context, req api.AddRequest) ([]api.Result, error) {
	return s.register(ctx, req.Daemons, req.Groups, nil)
}

func (s *System) register(ctx context.Context, daemons []api.Registration, declared []spec.Group, running []string) ([]api.Result, error) {
	regs, err := checked(daemons)
	if err != nil {
		return nil, err
	}
	groups, err := checkedGroups(declared)
	if err != nil {
		return nil, err
	}
	msg := register{Daemons: regs, Groups: groups, Running: running, answer: newAnswer[[]api.Result]()}
	results, err := ask(ctx, s, msg, msg.answer)
	if err != nil {
		return nil, err
	}
	for i := range results {
		results[i].Warnings = warnings(regs[i].Spec)
	}
	return results, s.sync(ctx)
}

// maxSource is how long the path of the file may be that a daemon came from
// (PATH_MAX of Linux).
const maxSource = 4096

// checked validates what a client handed over: nothing of it is taken if
// anything is wrong.
func checked(daemons []api.Registration) ([]supervision.Registration, error) {
	var regs []supervision.Registration
	var problems spec.Problems
	byKey := make(map[string]string)
	for _, r := range daemons {
		if r.Spec == nil {
			problems = append(problems, spec.Problem{Message: "a daemon without a spec"})
			continue
		}
		d, err := r.Spec.Checked()
		if err != nil {
			var ps spec.Problems
			if !errors.As(err, &ps) {
				ps = spec.Problems{{Daemon: r.Spec.Name, Message: err.Error()}}
			}
			problems = append(problems, ps...)
			continue
		}
		if len(r.Source) > maxSource {
			problems = append(problems, spec.Problem{Daemon: d.Name, Key: "source", Message: fmt.Sprintf("has %d bytes, %d are the most", len(r.Source), maxSource)})
		}
		if other, ok := byKey[spec.NameKey(d.Name)]; ok {
			problems = append(problems, spec.Problem{Daemon: d.Name, Key: "name", Message: "the name is there twice, the other is " + other})
		}
		byKey[spec.NameKey(d.Name)] = d.Name
		regs = append(regs, supervision.Registration{Spec: d, Source: r.Source})
	}
	if len(problems) == 0 {
		return regs, nil
	}
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.String()
	}
	return nil, api.Invalid("nothing was registered: "+problems.Error(), lines...)
}

// Apply implements [api.Manager].
func (s *System) Apply(ctx context.Context, req api.ApplyRequest) ([]api.Change, error) {
	for _, path := range req.Prune {
		if !filepath.IsAbs(path) {
			return nil, api.Invalid(fmt.Sprintf("prune: %q is no absolute path; nothing was changed", path))
		}
	}
	regs, err := checked(req.Daemons)
	if err != nil {
		return nil, err
	}
	groups, err := checkedGroups(req.Groups)
	if err != nil {
		return nil, err
	}
	files, err := s.spellings(ctx, regs, req.Prune)
	if err != nil {
		return nil, err
	}
	msg := reconcile{Daemons: regs, Groups: groups, Files: files, DryRun: req.DryRun, answer: newAnswer[[]api.Change]()}
	for _, path := range req.Prune {
		msg.Prune = append(msg.Prune, files.of(path))
	}
	changes, err := ask(ctx, s, msg, msg.answer)
	if err != nil {
		return nil, err
	}
	for i := range regs { // those behind them are removed
		changes[i].Warnings = warnings(regs[i].Spec)
	}
	if req.DryRun {
		return changes, nil
	}
	return changes, s.sync(ctx)
}

// Start implements [api.Manager].
func (s *System) Start(ctx context.Context, req api.ActionRequest) ([]api.Result, error) {
	return s.begin(ctx, req, supervision.Start{By: "start"})
}

// Restart implements [api.Manager].
func (s *System) Restart(ctx context.Context, req api.ActionRequest) ([]api.Result, error) {
	return s.begin(ctx, req, supervision.Restart{By: "restart", Force: req.Force})
}

// begin is an action after which daemons run. Results of a wait that failed
// hold what the daemon wrote to stderr meanwhile.
func (s *System) begin(ctx context.Context, req api.ActionRequest, in supervision.Input) ([]api.Result, error) {
	var before map[string]int64
	if req.Wait && !req.Selector.IsZero() {
		sel, err := s.selected(ctx, req.Selector, nil)
		if err != nil {
			return nil, err
		}
		before = make(map[string]int64, len(sel.daemons))
		for _, d := range sel.daemons {
			before[d.name] = s.stderrSize(d.name)
		}
	}
	results, err := s.action(ctx, req, in, startUntil(req), order{Pull: func(reply func(outcome)) command {
		return command{Input: supervision.Start{By: "start, because it is needed"}, Until: startUntil(req), Reply: reply}
	}})
	for i := range results {
		r := &results[i]
		if from, ok := before[r.Name]; ok && !r.OK {
			r.Stderr = lastLines(s.stderrPath(r.Name), from)
		}
	}
	return results, err
}

func startUntil(req api.ActionRequest) until {
	if req.Wait {
		return untilReady
	}
	return untilExec
}

// Run implements [api.Manager].
func (s *System) Run(ctx context.Context, req api.RunRequest) ([]api.Result, error) {
	results, err := s.bulk(ctx, req.Selector, 0, order{}, func(reply func(outcome)) any {
		return command{Input: supervision.Run{By: "run"}, Until: untilExec, Reply: reply}
	})
	for i, r := range results {
		if r.Error != nil && *r.Error == supervision.ErrNoSchedule.Error() {
			results[i] = api.Failed(r.Name, *r.State, api.Conflict(r.Name, "%s has no schedule; `syspulse start %s` starts it", r.Name, r.Name))
		}
	}
	return results, err
}

// Stop implements [api.Manager].
func (s *System) Stop(ctx context.Context, req api.ActionRequest) ([]api.Result, error) {
	in := supervision.Stop{By: "stop", Force: req.Force}
	if req.Timeout != nil {
		d := req.Timeout.Duration()
		in.Timeout = &d
		req.Timeout = nil
	}
	return s.action(ctx, req, in, untilGone, order{DependentsFirst: true, Force: req.Force})
}

// Remove implements [api.Manager].
func (s *System) Remove(ctx context.Context, req api.RemoveRequest) ([]api.Result, error) {
	return s.bulk(ctx, req.Selector, 0, order{Removal: true, Force: req.Force}, func(reply func(outcome)) any {
		return command{Input: supervision.Remove{Force: req.Force}, Until: untilGone, Purge: req.Purge, Reply: reply}
	})
}

// Signal implements [api.Manager].
func (s *System) Signal(ctx context.Context, req api.SignalRequest) ([]api.Result, error) {
	sig := req.Signal
	if _, err := strconv.Atoi(sig); err != nil { // files have names only
		if sig, err = spec.CanonicalSignal(sig); err != nil {
			return nil, api.Invalid(err.Error())
		}
	}
	if _, err := platform.ParseSignal(sig); err != nil {
		return nil, api.Invalid(err.Error())
	}
	return s.bulk(ctx, req.Selector, 0, order{}, func(reply func(outcome)) any {
		return userSignal{Signal: sig, Reply: reply}
	})
}

// leastWait is how long even a wait of 0 seconds is: what needs no waiting is
// answered within.
const leastWait = 50 * time.Millisecond

func (s *System) action(ctx context.Context, req api.ActionRequest, in supervision.Input, u until, o order) ([]api.Result, error) {
	var limit time.Duration
	if req.Timeout != nil {
		limit = max(req.Timeout.Duration(), leastWait)
	}
	return s.bulk(ctx, req.Selector, limit, o, func(reply func(outcome)) any {
		return command{Input: in, Until: u, Reply: reply}
	})
}

// bulk sends each selected daemon a message and collects the replies, in the
// order of the selection. limit 0 is none. What was done is durable when it
// returns.
func (s *System) bulk(ctx context.Context, sel api.Selector, limit time.Duration, o order, message func(reply func(outcome)) any) ([]api.Result, error) {
	if sel.IsZero() {
		return nil, api.Invalid("no daemon is selected; name some, or ask for all")
	}
	msg := dispatch{Selector: sel, order: o, Make: message, answer: newAnswer[selection]()}
	picked, err := ask(ctx, s, msg, msg.answer)
	if err != nil {
		return nil, err
	}
	got := make(map[string]outcome, len(picked.daemons))
	var expired <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		expired = t.C
	}
	for timedOut := false; len(got) < len(picked.daemons) && !timedOut; {
		select {
		case r := <-picked.replies:
			got[r.name] = r.outcome
		case <-expired:
			timedOut = true
			for len(picked.replies) > 0 { // what is there already counts
				r := <-picked.replies
				got[r.name] = r.outcome
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.done:
			return nil, s.ended()
		}
	}
	results := make([]api.Result, 0, len(picked.daemons)+len(picked.unknown))
	var late []string
	for _, d := range picked.daemons {
		o, ok := got[d.name]
		if !ok {
			late = append(late, d.name)
		}
		results = append(results, resultOf(d, o, ok))
	}
	for _, err := range picked.unknown {
		results = append(results, api.Failed(err.Daemon, "", err))
	}
	if len(late) > 0 {
		s.explainLate(ctx, late, results, limit)
	}
	return results, s.sync(ctx)
}

func resultOf(d selected, o outcome, ok bool) api.Result {
	switch {
	case !ok:
		return api.Result{Name: d.name}
	case errors.Is(o.err, supervision.ErrNotAtRest):
		return api.Failed(d.name, o.state, api.Conflict(d.name, "%s is %s; stop it first, or use --force", d.name, o.state))
	case o.err != nil:
		return api.Failed(d.name, o.state, o.err)
	}
	r := api.Done(d.name, o.state, o.changed)
	r.PulledIn = d.pulledIn
	if o.state == "" { // it was removed
		r.State = nil
	}
	return r
}

// explainLate fills in the results of those that a wait gave up on.
func (s *System) explainLate(ctx context.Context, names []string, results []api.Result, limit time.Duration) {
	states := make(map[string]supervision.State)
	msg := selectDaemons{Selector: api.Selector{Names: names}, answer: newAnswer[selection]()}
	if sel, err := ask(ctx, s, msg, msg.answer); err == nil {
		for _, d := range sel.daemons {
			states[d.name] = d.rec.State
		}
	}
	for i, r := range results {
		if !r.OK && r.Error == nil {
			st := states[r.Name]
			results[i] = api.Failed(r.Name, st, api.Timeout(r.Name, "%s is still %s after %s", r.Name, st, limit))
		}
	}
}

// Shutdown implements [api.Manager].
func (s *System) Shutdown(ctx context.Context, req api.ShutdownRequest) error {
	done := make(chan error, 1)
	go func() { // it goes on when whoever asked for it hangs up
		ctx := context.WithoutCancel(ctx)
		msg := endManager{Keep: req.KeepDaemons, Force: req.Force, answer: newAnswer[struct{}]()}
		_, err := ask(ctx, s, msg, msg.answer)
		if err == nil {
			err = s.sync(ctx)
			s.end(nil)
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Import implements [api.Manager].
func (s *System) Import(ctx context.Context, state api.State) ([]api.Result, error) {
	if state.Version != api.StateVersion {
		return nil, api.Invalid("this build reads exports of version 1 only; export again with the same version of syspulse")
	}
	var regs []api.Registration
	var running []string
	for _, d := range state.Daemons {
		regs = append(regs, d.Registration)
		if d.Wanted == supervision.WantRunning && d.Spec != nil {
			running = append(running, spec.CanonicalName(d.Spec.Name))
		}
	}
	return s.register(ctx, regs, state.Groups, running)
}

package server

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// The requests that carry daemons, as they arrive: each daemon is read by
// package spec, which fills defaults and trusts nothing.
type (
	wireRegistration struct {
		Spec   json.RawMessage `json:"spec"`
		Source string          `json:"source"`
	}
	wireAdd struct {
		Daemons []wireRegistration `json:"daemons"`
		Groups  []json.RawMessage  `json:"groups"`
	}
	wireApply struct {
		Daemons []wireRegistration `json:"daemons"`
		Groups  []json.RawMessage  `json:"groups"`
		DryRun  bool               `json:"dry_run"`
		Prune   []string           `json:"prune"`
	}
	wireState struct {
		Version int `json:"version"`
		Daemons []struct {
			wireRegistration
			Wanted supervision.Wanted `json:"wanted"`
		} `json:"daemons"`
		Groups []json.RawMessage `json:"groups"`
	}
)

// checker collects what is wrong with a request's daemons.
type checker struct {
	problems []string
}

func (c *checker) add(where string, err error) {
	var ps spec.Problems
	if !errors.As(err, &ps) {
		c.problems = append(c.problems, where+": "+err.Error())
		return
	}
	for _, p := range ps {
		c.problems = append(c.problems, where+": "+p.String())
	}
}

func (c *checker) err() error {
	switch len(c.problems) {
	case 0:
		return nil
	case 1:
		return api.Invalid(c.problems[0], c.problems...)
	}
	return api.Invalid(fmt.Sprintf("the request has %d problems, the first: %s", len(c.problems), c.problems[0]), c.problems...)
}

func (c *checker) registration(i int, w wireRegistration) api.Registration {
	where := fmt.Sprintf("daemons[%d]", i)
	if len(w.Spec) == 0 {
		c.problems = append(c.problems, where+": spec is missing")
		return api.Registration{}
	}
	d, err := spec.DecodeDaemon(w.Spec)
	if err != nil {
		c.add(where, err)
	}
	return api.Registration{Spec: d, Source: w.Source}
}

func (c *checker) registrations(ws []wireRegistration) []api.Registration {
	out := make([]api.Registration, len(ws))
	seen := map[string]int{}
	for i, w := range ws {
		out[i] = c.registration(i, w)
		if out[i].Spec == nil {
			continue
		}
		key := spec.NameKey(out[i].Spec.Name)
		if first, ok := seen[key]; ok {
			c.problems = append(c.problems, fmt.Sprintf("daemons[%d]: its name is that of daemons[%d]", i, first))
		}
		seen[key] = i
	}
	return out
}

func (c *checker) groups(ws []json.RawMessage) []spec.Group {
	var out []spec.Group
	for i, w := range ws {
		g, err := spec.DecodeGroup(w)
		if err != nil {
			c.add(fmt.Sprintf("groups[%d]", i), err)
			continue
		}
		out = append(out, *g)
	}
	return out
}

func checkAdd(w *wireAdd) (api.AddRequest, error) {
	var c checker
	req := api.AddRequest{Daemons: c.registrations(w.Daemons), Groups: c.groups(w.Groups)}
	return req, c.err()
}

func checkApply(w *wireApply) (api.ApplyRequest, error) {
	var c checker
	req := api.ApplyRequest{Daemons: c.registrations(w.Daemons), Groups: c.groups(w.Groups), DryRun: w.DryRun, Prune: w.Prune}
	return req, c.err()
}

func checkState(w *wireState) (api.State, error) {
	switch {
	case w.Version == 0:
		return api.State{}, api.Invalid("version is missing; this is not what `syspulse state export` writes")
	case w.Version > api.StateVersion:
		return api.State{}, api.Invalid(fmt.Sprintf("version %d was written by a newer syspulse; this one reads up to %d", w.Version, api.StateVersion))
	}
	var c checker
	plain := make([]wireRegistration, len(w.Daemons))
	for i, d := range w.Daemons {
		plain[i] = d.wireRegistration
		if d.Wanted != supervision.WantRunning && d.Wanted != supervision.WantStopped {
			c.problems = append(c.problems, fmt.Sprintf("daemons[%d]: wanted must be running or stopped, not %q", i, d.Wanted))
		}
	}
	st := api.State{Version: w.Version, Groups: c.groups(w.Groups)}
	for i, reg := range c.registrations(plain) {
		st.Daemons = append(st.Daemons, api.ExportedState{Registration: reg, Wanted: w.Daemons[i].Wanted})
	}
	return st, c.err()
}

// checkSelector refuses one that picks nothing, and brings names to the form
// they are registered in.
func checkSelector(s *api.Selector) error {
	if s.IsZero() {
		return api.Invalid("which daemons? Give names, tags, groups or all")
	}
	canonical(s.Names)
	canonical(s.Groups)
	return nil
}

func canonical(names []string) {
	for i, name := range names {
		names[i] = spec.CanonicalName(name)
	}
}

func checkAction(r *api.ActionRequest) (api.ActionRequest, error) {
	if r.Timeout != nil && !(*r.Timeout >= 0) {
		return *r, api.Invalid(fmt.Sprintf("timeout_secs must be 0 or more, not %v", *r.Timeout))
	}
	err := checkSelector(&r.Selector)
	return *r, err
}

func checkRemove(r *api.RemoveRequest) (api.RemoveRequest, error) {
	err := checkSelector(&r.Selector)
	return *r, err
}

func checkRun(r *api.RunRequest) (api.RunRequest, error) {
	err := checkSelector(&r.Selector)
	return *r, err
}

func checkReload(r *api.ReloadRequest) (api.ReloadRequest, error) {
	err := checkSelector(&r.Selector)
	return *r, err
}

func checkSignal(r *api.SignalRequest) (api.SignalRequest, error) {
	if r.Signal == "" {
		return *r, api.Invalid("which signal? Give a name such as SIGHUP, or a number")
	}
	err := checkSelector(&r.Selector)
	return *r, err
}

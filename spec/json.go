package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// DecodeDaemon decodes a daemon that a client sent, and trusts nothing: fields
// it lacks get their defaults, unknown ones are refused, and all is checked as
// in a file. The keys are those of the file format. env_file paths must be
// absolute. The error is a [Problems].
func DecodeDaemon(data []byte) (*Daemon, error) {
	return decodeDaemon(data, time.Now())
}

func decodeDaemon(data []byte, now time.Time) (*Daemon, error) {
	m, err := jsonObject(data, "a daemon")
	if err != nil {
		return nil, err
	}
	rep := &report{}
	d := reader{now: now}.daemon(&table{rep: rep, vals: m})
	if err := rep.problems.sorted().limited().Err(); err != nil {
		return nil, err
	}
	return d, nil
}

// DecodeGroup is [DecodeDaemon] for a group.
func DecodeGroup(data []byte) (*Group, error) {
	m, err := jsonObject(data, "a group")
	if err != nil {
		return nil, err
	}
	rep := &report{}
	g := reader{}.group(&table{rep: rep, vals: m})
	if err := rep.problems.sorted().limited().Err(); err != nil {
		return nil, err
	}
	return g, nil
}

// Checked is [Daemon.Checked] for a group.
func (g *Group) Checked() (*Group, error) {
	if msg, hint := checkText(g.Name); msg != "" {
		return nil, Problems{{Group: g.Name, Message: fmt.Sprintf("%s %s", quote(g.Name), msg), Hint: hint}}
	}
	data, err := json.Marshal(g)
	if err != nil { // a number that is none
		return nil, Problems{{Group: g.Name, Message: err.Error()}}
	}
	return DecodeGroup(data)
}

func jsonObject(data []byte, what string) (map[string]any, error) {
	v, err := fromJSON(data)
	if err != nil {
		return nil, Problems{{Message: fmt.Sprintf("%s can't be read: %v", what, err), Hint: "send one JSON object"}}
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, Problems{{Message: fmt.Sprintf("%s is %s, must be a JSON object", what, describe(v))}}
	}
	return m, nil
}

// Checked is d as [DecodeDaemon] would read it: a copy with names and signals
// in their canonical form, or what is wrong with it, a [Problems]. It is for
// daemons that were built in code; of d's fields those that have no zero value
// of their own must be set (see [New]).
func (d *Daemon) Checked() (*Daemon, error) {
	// JSON can't hold text that isn't UTF-8: it would be replaced, unnoticed.
	for i, s := range d.Command {
		if msg, hint := checkText(s); msg != "" {
			return nil, Problems{{Daemon: d.Name, Key: fmt.Sprintf("command[%d]", i), Message: msg, Hint: hint}}
		}
	}
	for _, s := range []string{d.Name, d.WorkingDir, d.User} {
		if msg, hint := checkText(s); msg != "" {
			return nil, Problems{{Daemon: d.Name, Message: fmt.Sprintf("%s %s", quote(s), msg), Hint: hint}}
		}
	}
	data, err := json.Marshal(d)
	if err != nil { // a number that is none
		return nil, Problems{{Daemon: d.Name, Message: err.Error()}}
	}
	return DecodeDaemon(data)
}

// DecodeStored decodes a daemon that was checked when it was stored, perhaps
// by another version: fields it lacks get their defaults, unknown ones are
// ignored, and nothing is refused that has merely become wrong since (a
// schedule whose year is over).
func DecodeStored(data []byte) (*Daemon, error) {
	d := new(Daemon)
	if err := json.Unmarshal(data, d); err != nil {
		return nil, fmt.Errorf("stored daemon: %w", err)
	}
	return d, nil
}

// UnmarshalJSON is what [DecodeStored] does. It doesn't check: use
// [DecodeDaemon] or [Daemon.Checked] for what comes from outside.
func (d *Daemon) UnmarshalJSON(data []byte) error {
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) {
		return nil
	}
	type plain Daemon // without this method
	full := plain(*defaults())
	if err := json.Unmarshal(data, &full); err != nil {
		return err
	}
	if full.RestartPolicy.SuccessExitCodes == nil {
		full.RestartPolicy.SuccessExitCodes = []int{0}
	}
	// A zero is no legal value of these, so it is one that is missing.
	if h := full.HealthCheck; h != nil {
		orDefault(&h.Interval, DefaultInterval)
		orDefault(&h.Timeout, DefaultTimeout)
		orDefault(&h.Retries, DefaultRetries)
		orDefault(&h.OnUnhealthy, "restart")
	}
	if p := full.SchedulePolicy; p != nil {
		orDefault(&p.Overlap, "skip")
	}
	*d = Daemon(full)
	return nil
}

// UnmarshalJSON fills the defaults and doesn't check; see [DecodeGroup].
func (g *Group) UnmarshalJSON(data []byte) error {
	type plain Group
	full := plain{}
	if err := json.Unmarshal(data, &full); err != nil {
		return err
	}
	orDefault(&full.Strategy, "one_for_one")
	*g = Group(full)
	return nil
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

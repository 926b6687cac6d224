package spec

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// Equal reports whether d and other are the same specification: whether their
// JSON is.
func (d *Daemon) Equal(other *Daemon) bool {
	if d == nil || other == nil {
		return d == other
	}
	a, errA := json.Marshal(d)
	b, errB := json.Marshal(other)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// Equal reports whether g and other declare the same.
func (g *Group) Equal(other *Group) bool { return reflect.DeepEqual(g, other) }

// DiffGroups is [Diff] for groups.
func DiffGroups(a, b *Group) []string {
	var keys []string
	diff(&keys, "", object(a), object(b))
	slices.Sort(keys)
	return keys
}

// Diff lists the keys in which two daemons differ, sorted, by their dotted
// path: "tags", "restart_policy.policy", "env.PORT". A table that only one of
// them has is one key.
func Diff(a, b *Daemon) []string {
	var keys []string
	diff(&keys, "", object(a), object(b))
	slices.Sort(keys)
	return keys
}

func object(d any) map[string]any {
	data, err := json.Marshal(d)
	if err != nil {
		return nil
	}
	v, err := fromJSON(data)
	if err != nil {
		return nil
	}
	m, _ := v.(map[string]any)
	return m
}

func diff(keys *[]string, path string, a, b map[string]any) {
	for k, va := range a {
		vb, ok := b[k]
		ma, isA := va.(map[string]any)
		mb, isB := vb.(map[string]any)
		switch {
		case ok && isA && isB:
			diff(keys, path+k+".", ma, mb)
		case !ok || !reflect.DeepEqual(va, vb):
			*keys = append(*keys, path+k)
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			*keys = append(*keys, path+k)
		}
	}
}

// live are the keys whose change takes hold without a restart, because the
// manager alone looks at them. Everything else is given to a process when it
// starts.
var live = []string{
	"autostart", "depends_on", "description", "group", "health_check", "kill_mode", "log_config", "ready", "reload_command",
	"reload_signal", "restart_policy", "schedule", "schedule_policy", "stop_signal", "stop_timeout_secs", "tags",
}

// NeedsRestart reports whether a running daemon has to be restarted for a
// change of these keys, as [Diff] lists them, to take hold.
func NeedsRestart(changed []string) bool {
	return slices.ContainsFunc(changed, func(path string) bool {
		key, _, _ := strings.Cut(path, ".")
		return !slices.Contains(live, key)
	})
}

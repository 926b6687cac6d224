package spec

import (
	"fmt"
	"reflect"
	"strings"
)

// notYet are the keys that are read and checked but that nothing acts on in
// this build, each with what is missing. Take a line out when it is built.
var notYet = []struct {
	key, what string
	field     func(*Daemon) any // what the key sets
}{
	{"resource_limits", "no limits are enforced", func(d *Daemon) any { return d.ResourceLimits }},
	{"nice", "the manager's value is inherited", func(d *Daemon) any { return d.Nice }},
	{"oom_score_adj", "the manager's value is inherited", func(d *Daemon) any { return d.OOMScoreAdj }},
	{"log_config.max_size_bytes", "logs are not rotated", func(d *Daemon) any { return d.LogConfig.MaxSizeBytes }},
	{"log_config.retain_count", "logs are not rotated", func(d *Daemon) any { return d.LogConfig.RetainCount }},
	{"log_config.compress_rotated", "logs are not rotated", func(d *Daemon) any { return d.LogConfig.CompressRotated }},
	{"log_config.retain_days", "logs are not rotated", func(d *Daemon) any { return d.LogConfig.RetainDays }},
	{"log_config.on_full", "nothing is done about a full disk", func(d *Daemon) any { return d.LogConfig.OnFull }},
}

var theDefaults = defaults()

func notYetWarning(key, what string) Warning {
	return Warning{Key: key, Message: "this build doesn't act on it yet: " + what}
}

// NotActedOn warns of each key that has another value than the default and
// that this build doesn't act on. It needs nothing but the daemon, so that a
// manager can tell for what it was sent. [File.Warnings] knows which keys were
// written, too, and where.
func NotActedOn(d *Daemon) []Warning {
	var ws []Warning
	for _, n := range notYet {
		v, def := reflect.ValueOf(n.field(d)), reflect.ValueOf(n.field(theDefaults))
		switch v.Kind() {
		case reflect.Slice, reflect.Map:
			if v.Len() == 0 && def.Len() == 0 {
				continue
			}
		}
		if reflect.DeepEqual(v.Interface(), def.Interface()) {
			continue
		}
		w := notYetWarning(n.key, n.what)
		w.Daemon = d.Name
		ws = append(ws, w)
	}
	return ws
}

// Doubtful warns of what is legal and may still not be what was meant.
func Doubtful(d *Daemon) []Warning {
	var ws []Warning
	warn := func(key, hint, format string, args ...any) {
		ws = append(ws, Warning{Daemon: d.Name, Key: key, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	if len(d.Command) > 0 {
		doubtCommand(d.Command, warn)
	}
	if strings.HasPrefix(d.WorkingDir, "~") {
		warn("working_dir", "write the path in full", "%s: the tilde is not resolved", quote(d.WorkingDir))
	}
	switch d.StopSignal {
	case "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT", "SIGCHLD", "SIGURG", "SIGWINCH":
		// php-fpm and Apache do end on SIGWINCH.
		if d.StopSignal != "SIGWINCH" {
			warn("stop_signal", `"SIGTERM" is usual`, "%s doesn't end a program: it would be killed after the timeout", d.StopSignal)
		}
	}
	p, def := d.RestartPolicy, defaults().RestartPolicy
	if p.Policy == RestartNever && (p.MaxRetries != nil || p.BackoffBase != def.BackoffBase || p.BackoffMax != def.BackoffMax || p.Cooldown != def.Cooldown) {
		warn("restart_policy", `write policy = "on_failure" or "always"`, `the policy is "never", so nothing else in here matters`)
	}
	if p.BackoffMax < p.BackoffBase {
		warn("restart_policy.backoff_max_secs", "", "is less than backoff_base_secs, so every delay is this long")
	}
	if d.SchedulePolicy != nil && d.Schedule == "" {
		warn("schedule_policy", `write schedule = "@daily" or the like`, "there is no schedule that it could be about")
	}
	return ws
}

func doubtCommand(argv []string, warn func(key, hint, format string, args ...any)) {
	program := argv[0]
	windowsPath := len(program) > 2 && program[1] == ':'
	if len(argv) == 1 && strings.ContainsAny(strings.TrimSpace(program), " \t") && !windowsPath {
		words := strings.Fields(program)
		for i := range words {
			words[i] = quote(words[i])
		}
		warn("command", "if the blanks part arguments, write ["+strings.Join(words, ", ")+"]", "%s is taken as the name of one program, blanks and all: there is no shell that would split it", quote(program))
	}
	if strings.HasPrefix(program, "~") {
		warn("command", "write the path in full", "%s: the tilde is not resolved", quote(program))
	}
	for _, arg := range argv[1:] {
		switch arg {
		case "|", "||", "&&", "&", ">", ">>", "<", "2>", "2>&1", "&>":
			warn("command", `for a shell's syntax write ["sh", "-c", "..."]`, "%s is given to the program as it is: there is no shell", quote(arg))
			return
		}
	}
}

// doubtGroup is Doubtful for a group.
func doubtGroup(g *Group) []Warning {
	if g.MaxRestarts == nil && g.Window > 0 {
		return []Warning{{Group: g.Name, Key: "window_secs", Message: "does nothing without max_restarts", Hint: "write max_restarts = 5 or the like"}}
	}
	return nil
}

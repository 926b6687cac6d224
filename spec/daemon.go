package spec

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// The defaults of the file format.
const (
	DefaultStopTimeout = Seconds(30)
	DefaultStopSignal  = "SIGTERM"

	DefaultBackoffBase = Seconds(1)
	DefaultBackoffMax  = Seconds(300)
	DefaultCooldown    = Seconds(60)

	DefaultInterval = Seconds(30)
	DefaultTimeout  = Seconds(5)
	DefaultRetries  = 3

	DefaultMaxSizeBytes = 52428800
	DefaultRetainCount  = 5
)

// defaults is a daemon of which nothing was said.
func defaults() *Daemon {
	return &Daemon{
		StopTimeout: DefaultStopTimeout,
		KillMode:    KillGroup,
		StopSignal:  DefaultStopSignal,
		RestartPolicy: RestartPolicy{
			Policy:           RestartNever,
			BackoffBase:      DefaultBackoffBase,
			BackoffMax:       DefaultBackoffMax,
			Cooldown:         DefaultCooldown,
			SuccessExitCodes: []int{0},
		},
		LogConfig: LogConfig{
			MaxSizeBytes: DefaultMaxSizeBytes,
			RetainCount:  DefaultRetainCount,
			OnFull:       "drop",
		},
	}
}

// New is a daemon with nothing but a name and a command, checked as one from a
// file is. The error is a [Problems].
func New(name string, command []string) (*Daemon, error) {
	d := defaults()
	d.Name, d.Command = name, slices.Clone(command)
	return d.Checked()
}

// daemonKeys are the keys of a daemon's own table.
var daemonKeys = []string{
	"name", "command", "description", "working_dir", "env", "env_file", "user", "tags", "stop_timeout_secs", "schedule",
	"autostart", "group", "kill_mode", "stop_signal", "watchdog_secs", "reload_signal", "reload_command", "umask", "nice",
	"oom_score_adj", "depends_on", "health_check", "ready", "restart_policy", "resource_limits", "log_config", "schedule_policy",
}

// reader decodes daemons and groups.
type reader struct {
	dir string    // relative env_file paths are below it; empty: there must be none
	now time.Time // schedules must fire after it
}

// daemon reads one daemon table. What is wrong is in t.rep.
func (r reader) daemon(t *table) *Daemon {
	d := defaults()
	if name, ok := t.vals["name"].(string); ok {
		t.daemon = CanonicalName(shorten(name, 300)) // for the problems, good or not
	}
	r.nameAndCommand(t, d)
	d.Description, _ = t.text("description")
	d.WorkingDir, _ = t.word("working_dir", "leave it out for the manager's current directory")
	d.Env = readEnv(t)
	d.EnvFile = r.envFiles(t)
	d.User = readUser(t)
	d.Tags = readTags(t)
	d.StopTimeout = t.seconds("stop_timeout_secs", DefaultStopTimeout, false)
	d.Autostart = t.flag("autostart")
	d.Group = readName(t, "group", "")
	d.KillMode = KillMode(t.choice("kill_mode", string(KillGroup), string(KillGroup), string(KillMain), string(KillAll)))
	d.StopSignal = readSignal(t, "stop_signal", DefaultStopSignal)
	d.ReloadSignal = readSignal(t, "reload_signal", "")
	d.ReloadCommand, _ = readCommand(t, "reload_command")
	d.Watchdog = t.seconds("watchdog_secs", 0, true)
	d.Umask = readUmask(t)
	d.Nice = t.intPtr("nice", -20, 19)
	d.OOMScoreAdj = t.intPtr("oom_score_adj", -1000, 1000)
	d.DependsOn = readDependencies(t, d.Name)
	d.HealthCheck = readHealthCheck(t)
	d.Ready = readReady(t)
	readRestartPolicy(t, &d.RestartPolicy)
	readResourceLimits(t, &d.ResourceLimits)
	readLogConfig(t, &d.LogConfig)
	r.schedule(t, d)
	t.done()
	checkSize(t, d)
	return d
}

// MaxDaemonSize is how many bytes all of a daemon's keys may have as JSON. The
// manager's journal takes no larger ones, with room for what it notes beside them.
const MaxDaemonSize = 192 << 10

// checkSize refuses a daemon that a manager can't keep, at its largest key.
func checkSize(t *table, d *Daemon) {
	total, largest, largestKey := 0, 0, ""
	for key, v := range t.vals {
		n := roughSize(v)
		total += n
		if n > largest || n == largest && key < largestKey {
			largest, largestKey = n, key
		}
	}
	if total < MaxDaemonSize/8 {
		return // a byte has at most six in JSON
	}
	if b, err := json.Marshal(d); err == nil && len(b) > MaxDaemonSize {
		t.fail(largestKey, "keep it short: large values go into an env_file, or a file that the program reads",
			"makes the daemon too large: it has %d KiB in all, and %d are the most", (len(b)+1023)>>10, MaxDaemonSize>>10)
	}
}

// roughSize is how much text a value holds.
func roughSize(v any) int {
	const each = 4 // quotes, a comma, a colon
	n := each
	switch v := v.(type) {
	case string:
		n += len(v)
	case []any:
		for _, e := range v {
			n += roughSize(e)
		}
	case []map[string]any:
		for _, e := range v {
			n += roughSize(e)
		}
	case map[string]any:
		for key, e := range v {
			n += len(key) + roughSize(e)
		}
	default:
		n += 16
	}
	return n
}

func (r reader) nameAndCommand(t *table, d *Daemon) {
	d.Name = readName(t, "name", `write name = "my-daemon"`)
	if !t.has("command") {
		t.missing("command", `write command = ["program", "argument"]`)
		return
	}
	d.Command, _ = readCommand(t, "command")
}

// readName reads a name. It must be there if missing says what to write.
func readName(t *table, key, missing string) string {
	v, ok := t.get(key)
	if !ok {
		if missing != "" {
			t.missing(key, missing)
		}
		return ""
	}
	s, ok := v.(string)
	if !ok {
		t.text(key) // says so
		return ""
	}
	if msg, hint := checkName(s); msg != "" {
		if key == "name" && s != "" && t.path == "" {
			t.fail(key, hint, "%s", msg) // which one is said in front of it
		} else {
			t.fail(key, hint, "%s %s", quote(s), msg)
		}
		return ""
	}
	return CanonicalName(s)
}

func readCommand(t *table, key string) ([]string, bool) {
	argv, ok := t.texts(key, func(v any) string {
		s, ok := v.(string)
		if !ok {
			return `write ["program", "argument"]`
		}
		if words := strings.Fields(s); len(words) > 0 && len(s) <= 200 && !strings.ContainsAny(s, "'\"\\$|&;<>()`*") {
			for i := range words {
				words[i] = strconv.Quote(words[i])
			}
			return fmt.Sprintf("write %s = [%s]", key, strings.Join(words, ", "))
		}
		return `write the program and each argument in quotes of their own: ["program", "argument"]; for a shell's syntax, ["sh", "-c", "..."]`
	})
	if !ok {
		return nil, false
	}
	if len(argv) == 0 {
		t.fail(key, `write ["program", "argument"]`, "is empty")
		return nil, false
	}
	if strings.TrimSpace(argv[0]) == "" {
		t.failElem(key, 0, "the first element is the program to run", "is empty")
		return nil, false
	}
	return argv, true
}

func readEnv(t *table) map[string]string {
	e := t.sub("env", func(any) string { return `write [daemon.env] and below it KEY = "value"` })
	if e == nil || len(e.vals) == 0 {
		return nil
	}
	env := make(map[string]string, len(e.vals))
	for _, k := range sortedKeys(e.vals) {
		if msg, hint := checkEnvKey(k); msg != "" {
			e.problem(e.at.get(k).keyAt(), e.path+k, hint, "%s", msg)
			continue
		}
		if s, ok := e.text(k); ok {
			env[k] = s
		}
	}
	return env
}

// checkEnvKey finds what the name of an environment variable can't have.
func checkEnvKey(k string) (msg, hint string) {
	switch {
	case k == "":
		return "is an environment variable without a name", "give it one"
	case strings.ContainsRune(k, '='):
		return `has a "=" in its name`, `write NAME = "value"`
	}
	return checkText(k)
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}

func (r reader) envFiles(t *table) []string {
	var files []string
	v, _ := t.get("env_file")
	if s, ok := v.(string); ok {
		if msg, hint := checkText(s); msg != "" {
			t.fail("env_file", hint, "%s", msg)
			return nil
		}
		files = []string{s}
	} else {
		var ok bool
		if files, ok = t.texts("env_file", func(any) string { return `write env_file = "path", or an array of paths` }); !ok {
			return nil
		}
	}
	for i, f := range files {
		switch {
		case strings.TrimSpace(f) == "":
			t.failElem("env_file", i, "write the path of a file", "is empty")
		case filepath.IsAbs(f):
			files[i] = filepath.Clean(f)
		case r.dir == "":
			t.failElem("env_file", i, "write an absolute path: there is no file here that it could be relative to", "%s is a relative path", quote(f))
		default:
			files[i] = filepath.Join(r.dir, f)
		}
	}
	if len(files) == 0 {
		return nil
	}
	return files
}

func readUser(t *table) string {
	const want = `write "user" or "user:group"`
	s, ok := t.word("user", want)
	if !ok {
		return ""
	}
	user, group, colon := strings.Cut(s, ":")
	bad := func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == ':' || r == '/' }
	switch {
	case user == "":
		t.fail("user", want, "%s has no user before the colon", quote(s))
	case colon && group == "":
		t.fail("user", want, "%s has no group after the colon", quote(s))
	case strings.IndexFunc(user, bad) >= 0 || strings.IndexFunc(group, bad) >= 0:
		t.fail("user", want, "%s is not an account name", quote(s))
	default:
		return s
	}
	return ""
}

func readTags(t *table) []string {
	tags, ok := t.texts("tags", func(v any) string {
		if s, ok := v.(string); ok {
			return fmt.Sprintf("write tags = [%s]", quote(s))
		}
		return `write tags = ["tag"]`
	})
	if !ok || len(tags) == 0 {
		return nil
	}
	for i, tag := range tags {
		switch {
		case strings.TrimSpace(tag) == "":
			t.failElem("tags", i, "take it out, or write a word", "is empty")
		case strings.ContainsFunc(tag, func(r rune) bool { return !unicode.IsPrint(r) }):
			t.failElem("tags", i, "write printable characters", "%s holds a control character", quote(tag))
		}
	}
	return tags
}

func readSignal(t *table, key, def string) string {
	v, _ := t.get(key)
	if n, ok := v.(int64); ok {
		_, hint := canonicalSignal(strconv.FormatInt(n, 10))
		t.mistyped(key, n, "a string", hint)
		return def
	}
	s, ok := t.text(key)
	if !ok {
		return def
	}
	sig, hint := canonicalSignal(s)
	if sig == "" {
		t.fail(key, hint, "%s is no signal", quote(s))
		return def
	}
	return sig
}

func readUmask(t *table) string {
	v, _ := t.get("umask")
	if n, ok := v.(int64); ok {
		hint := `write octal digits in quotes: "022"`
		if n >= 0 && n <= 0o777 {
			hint = fmt.Sprintf(`%d is %03o in octal: write umask = "%03o" if that is meant`, n, n, n)
		}
		t.mistyped("umask", n, "a string of octal digits", hint)
		return ""
	}
	s, ok := t.text("umask")
	if !ok {
		return ""
	}
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o777 || len(s) > 4 {
		t.fail("umask", `write one from "000" to "777"`, "%s is no octal umask", quote(s))
		return ""
	}
	return fmt.Sprintf("%03o", n)
}

func readDependencies(t *table, self string) []Dependency {
	const want = `write depends_on = ["name"], or tables such as { name = "db", condition = "healthy" }`
	v, ok := t.get("depends_on")
	if !ok {
		return nil
	}
	elems, ok := list(v)
	if !ok {
		hint := want
		if s, isText := v.(string); isText {
			hint = fmt.Sprintf("write depends_on = [%s]", quote(s))
		}
		t.mistyped("depends_on", v, "an array", hint)
		return nil
	}
	// What is wrong keeps its place, so that the graph's problems find theirs.
	deps := make([]Dependency, len(elems))
	seen := map[string]bool{}
	for i, e := range elems {
		at := t.at.get("depends_on")
		here := fmt.Sprintf("depends_on[%d]", i)
		var dep Dependency
		switch e := e.(type) {
		case string:
			if msg, hint := checkName(e); msg != "" {
				t.failElem("depends_on", i, hint, "%s %s", quote(e), msg)
				continue
			}
			dep.Name = CanonicalName(e)
		case map[string]any:
			s := t.below(e, at.elem(i), here)
			if s.at.keyAt() < 0 {
				s.at = at
			}
			dep.Name = readName(s, "name", `write { name = "db" }`)
			dep.Condition = Condition(s.choice("condition", "", string(ConditionStarted), string(ConditionHealthy), string(ConditionCompleted)))
			s.done()
			if dep.Name == "" {
				continue
			}
		default:
			t.failElem("depends_on", i, want, "is %s, must be a name or a table", describe(e))
			continue
		}
		switch key := NameKey(dep.Name); {
		case self != "" && dep.Name == self:
			t.failElem("depends_on", i, "take it out", "%s can't depend on itself", quote(self))
		case seen[key]:
			t.failElem("depends_on", i, "take one of them out", "%s is there twice", quote(dep.Name))
		default:
			seen[key] = true
			deps[i] = dep
		}
	}
	return deps
}

func readHealthCheck(t *table) *HealthCheck {
	h := t.sub("health_check", func(any) string {
		return `write [daemon.health_check] and below it type = "http" and target = "http://..."`
	})
	if h == nil && t.has("health_check") {
		return &HealthCheck{} // one was meant: nobody needs to be told that it is missing
	}
	if h == nil {
		return nil
	}
	kind, target := readTarget(h, []string{"http", "tcp", "command"})
	hc := &HealthCheck{
		Type:        kind,
		Target:      target,
		Interval:    h.seconds("interval_secs", DefaultInterval, true),
		Timeout:     h.seconds("timeout_secs", DefaultTimeout, true),
		Retries:     int(h.integerOr("retries", DefaultRetries, 1, math.MaxInt64)),
		StartPeriod: h.seconds("start_period_secs", 0, false),
		OnUnhealthy: h.choice("on_unhealthy", "restart", "restart", "none"),
	}
	h.done()
	return hc
}

// readTarget reads type and target. The target is only looked at where the
// type is one that has a target.
func readTarget(t *table, kinds []string) (kind, target string) {
	if !t.has("type") {
		t.missing("type", "write "+oneOf(kinds))
	}
	kind = t.choice("type", "", kinds...)
	check, needed := targetChecks[kind]
	there := t.has("target")
	switch {
	case kind == "":
	case there && !needed:
		t.fail("target", "take it out", "doesn't go with type %s", quote(kind))
	case there:
		var ok bool
		if target, ok = t.text("target"); !ok {
			break
		}
		if msg, hint := check.check(target); msg != "" {
			if hint == "" {
				hint = check.want
			}
			t.fail("target", hint, "%s %s", quote(target), msg)
		}
	case needed:
		t.missing("target", check.want)
	}
	return kind, target
}

func readReady(t *table) *Ready {
	r := t.sub("ready", func(v any) string {
		if v == "notify" {
			return `write ready = { type = "notify" }`
		}
		return `write [daemon.ready] and below it type = "notify"`
	})
	if r == nil && t.has("ready") {
		return &Ready{} // as in readHealthCheck
	}
	if r == nil {
		return nil
	}
	ready := &Ready{}
	ready.Type, ready.Target = readTarget(r, []string{"notify", "log", "delay", "http", "tcp", "command"})
	ready.Timeout = r.seconds("timeout_secs", 0, true)

	there := r.has("pattern")
	switch {
	case ready.Type == "log" && !there:
		r.missing("pattern", `write the regular expression that a line of its output matches, such as pattern = "listening on"`)
	case ready.Type == "log":
		var ok bool
		if ready.Pattern, ok = r.word("pattern", "write a regular expression"); ok {
			if _, err := regexp.Compile(ready.Pattern); err != nil {
				r.fail("pattern", "see https://pkg.go.dev/regexp/syntax", "%s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
			}
		}
	case there && ready.Type != "":
		r.fail("pattern", `take it out, or write type = "log"`, "doesn't go with type %s", quote(ready.Type))
	}

	there = r.has("secs")
	switch {
	case ready.Type == "delay" && !there:
		r.missing("secs", "write after how many seconds it counts as ready, such as secs = 5")
	case ready.Type == "delay":
		ready.Delay = r.seconds("secs", 0, true)
	case there && ready.Type != "":
		r.fail("secs", `take it out, or write type = "delay"`, "doesn't go with type %s", quote(ready.Type))
	}
	r.done()
	return ready
}

// maxExitCode is Windows's; elsewhere codes end at 255.
const maxExitCode = math.MaxUint32

func readRestartPolicy(t *table, p *RestartPolicy) {
	policies := []string{string(RestartNever), string(RestartAlways), string(RestartOnFailure)}
	r := t.sub("restart_policy", func(v any) string {
		s, _ := v.(string)
		if near := Nearest(s, policies); near != "" {
			return fmt.Sprintf(`write restart_policy = { policy = "%s" }`, near)
		}
		return `write [daemon.restart_policy] and below it policy = "on_failure"`
	})
	if r == nil {
		return
	}
	p.Policy = Policy(r.choice("policy", string(p.Policy), policies...))
	p.MaxRetries = r.intPtr("max_retries", 0, math.MaxInt64)
	p.BackoffBase = r.seconds("backoff_base_secs", p.BackoffBase, false)
	p.BackoffMax = r.seconds("backoff_max_secs", p.BackoffMax, false)
	p.Cooldown = r.seconds("cooldown_secs", p.Cooldown, false)
	if v, ok := r.get("success_exit_codes"); ok {
		elems, isList := list(v)
		if !isList {
			hint := "write success_exit_codes = [0]"
			if n, isInt := v.(int64); isInt {
				hint = fmt.Sprintf("write success_exit_codes = [%d]", n)
			}
			r.mistyped("success_exit_codes", v, "an array of integers", hint)
		} else {
			p.SuccessExitCodes = make([]int, 0, len(elems))
		}
		for i, e := range elems {
			n, isInt := e.(int64)
			switch {
			case !isInt:
				r.failElem("success_exit_codes", i, hintNumber("", e, true), "is %s, must be an integer", describe(e))
			case n < 0 || n > maxExitCode:
				r.failElem("success_exit_codes", i, "", "is %d, must be from 0 to 255 (on Windows to %d)", n, int64(maxExitCode))
			default:
				p.SuccessExitCodes = append(p.SuccessExitCodes, int(n))
			}
		}
	}
	r.done()
}

func readResourceLimits(t *table, l *ResourceLimits) {
	r := t.sub("resource_limits", func(any) string { return "write [daemon.resource_limits] and below it max_memory_bytes = 536870912" })
	if r == nil {
		return
	}
	l.MaxMemoryBytes = r.integer("max_memory_bytes", 1, math.MaxInt64)
	if f, ok := r.number("max_cpu_percent", true); ok {
		l.MaxCPUPercent = &f
	}
	l.MaxOpenFiles = r.integer("max_open_files", 1, math.MaxInt64)
	l.MaxProcesses = r.integer("max_processes", 1, math.MaxInt64)
	r.done()
}

func readLogConfig(t *table, c *LogConfig) {
	l := t.sub("log_config", func(any) string { return "write [daemon.log_config] and below it max_size_bytes = 10485760" })
	if l == nil {
		return
	}
	c.MaxSizeBytes = l.integerOr("max_size_bytes", c.MaxSizeBytes, 1, math.MaxInt64)
	c.RetainCount = int(l.integerOr("retain_count", int64(c.RetainCount), 0, math.MaxInt64))
	c.CompressRotated = l.flag("compress_rotated")
	c.RetainDays = l.intPtr("retain_days", 1, 36500)
	c.OnFull = l.choice("on_full", c.OnFull, "drop", "block")
	l.done()
}

func (r reader) schedule(t *table, d *Daemon) {
	loc := time.Local
	p := t.sub("schedule_policy", func(any) string { return `write [daemon.schedule_policy] and below it overlap = "skip"` })
	if p != nil {
		d.SchedulePolicy = &SchedulePolicy{}
		if tz, ok := p.text("timezone"); ok {
			l, msg, hint := zone(tz)
			if l == nil {
				p.fail("timezone", hint, "%s", msg)
			} else {
				loc, d.SchedulePolicy.Timezone = l, tz
			}
		}
		d.SchedulePolicy.Overlap = p.choice("overlap", "skip", "skip", "queue", "replace")
		d.SchedulePolicy.CatchUp = p.flag("catch_up")
		d.SchedulePolicy.Jitter = p.seconds("jitter_secs", 0, false)
		p.done()
	}
	expr, ok := t.word("schedule", `write five fields, such as "0 3 * * *", or a name such as "@daily"`)
	if !ok {
		return
	}
	msg, hint, syntax := checkSchedule(expr, loc, r.now)
	switch {
	case msg == "":
	case !syntax && r.now.IsZero(): // whether it will fire is not asked
	default:
		t.fail("schedule", hint, "%s", msg)
		return
	}
	d.Schedule = expr
}

// group reads one group table.
func (r reader) group(t *table) *Group {
	g := &Group{}
	if name, ok := t.vals["name"].(string); ok {
		t.group = CanonicalName(shorten(name, 300))
	}
	g.Name = readName(t, "name", `write name = "my-group"`)
	g.Strategy = t.choice("strategy", "one_for_one", "one_for_one", "one_for_all", "rest_for_one")
	g.MaxRestarts = t.intPtr("max_restarts", 0, math.MaxInt64)
	g.Window = t.seconds("window_secs", 0, true)
	t.done()
	return g
}

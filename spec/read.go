package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// report collects what is wrong with one document.
type report struct {
	src      *source // nil without a file
	problems Problems

	at, line, column int // the last place, to count on from
}

func (r *report) add(at int, p Problem) {
	if len(r.problems) > 5*maxProblems { // they could be millions
		return
	}
	p.Message, p.Hint = printable(p.Message), printable(p.Hint) // keys in them may be anything
	if r.src != nil {
		p.File = r.src.file
		p.Line, p.Column = r.place(at)
	}
	r.problems = append(r.problems, p)
}

// place is source.place, quick enough for a line that is as long as the file
// and wrong all along.
func (r *report) place(at int) (line, column int) {
	if at >= 0 && at <= len(r.src.data) && r.line > 0 && r.at <= at && bytes.IndexByte(r.src.data[r.at:at], '\n') < 0 {
		r.column += utf8.RuneCount(r.src.data[r.at:at])
	} else {
		r.line, r.column = r.src.place(at)
	}
	r.at = at
	return r.line, r.column
}

// table reads one table of a decoded document. Every key is asked for whether it
// is there or not, so what was never asked for is unknown.
type table struct {
	rep    *report
	vals   map[string]any
	at     *node
	daemon string
	group  string
	path   string // prefix of its keys: "restart_policy."
	asked  []string
}

// get is a key's value. A null, as JSON has it, is the same as none.
func (t *table) get(key string) (any, bool) {
	if !slices.Contains(t.asked, key) {
		t.asked = append(t.asked, key)
	}
	v, ok := t.vals[key]
	return v, ok && v != nil
}

func (t *table) has(key string) bool {
	_, ok := t.get(key)
	return ok
}

func (t *table) problem(at int, path, hint, format string, args ...any) {
	t.rep.add(at, Problem{Daemon: t.daemon, Group: t.group, Key: path, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// fail reports the value of a key.
func (t *table) fail(key, hint, format string, args ...any) {
	n := t.at.get(key)
	at := n.valueAt()
	if at < 0 {
		at = t.at.keyAt()
	}
	t.problem(at, t.path+key, hint, format, args...)
}

// failElem reports an element of an array.
func (t *table) failElem(key string, i int, hint, format string, args ...any) {
	n := t.at.get(key)
	at := n.elem(i).valueAt()
	if at < 0 {
		at = n.valueAt()
	}
	t.problem(at, fmt.Sprintf("%s%s[%d]", t.path, key, i), hint, format, args...)
}

// missing reports a key that must be there.
func (t *table) missing(key, hint string) {
	t.problem(t.at.keyAt(), t.path+key, hint, "is missing")
}

// mistyped reports a value of the wrong type.
func (t *table) mistyped(key string, v any, want, hint string) {
	t.fail(key, hint, "is %s, must be %s", describe(v), want)
}

func describe(v any) string {
	switch v := v.(type) {
	case string:
		return "the string " + quote(v)
	case int64:
		return fmt.Sprintf("the integer %d", v)
	case float64:
		return "the number " + strconv.FormatFloat(v, 'g', -1, 64)
	case bool:
		return fmt.Sprintf("the boolean %t", v)
	case time.Time:
		return "a date or time"
	case []any, []map[string]any:
		return "an array"
	case map[string]any:
		return "a table"
	case nil:
		return "null"
	}
	return fmt.Sprintf("a %T", v)
}

// list is a value's elements if it is any kind of array.
func list(v any) ([]any, bool) {
	switch v := v.(type) {
	case []any:
		return v, true
	case []map[string]any:
		l := make([]any, len(v))
		for i, e := range v {
			l[i] = e
		}
		return l, true
	}
	return nil, false
}

// checkText finds what no string may hold.
func checkText(s string) (msg, hint string) {
	if strings.ContainsRune(s, 0) {
		return "holds a NUL character", "take it out: no program could be given it"
	}
	if !utf8.ValidString(s) {
		return "is not valid UTF-8", "write it in UTF-8"
	}
	return "", ""
}

// text reads a string, "" if there is none; ok if there is a valid one.
func (t *table) text(key string) (s string, ok bool) {
	v, ok := t.get(key)
	if !ok {
		return "", false
	}
	s, ok = v.(string)
	if !ok {
		hint := `write it in quotes`
		switch v := v.(type) {
		case int64, bool:
			hint = fmt.Sprintf(`write %s = "%v"`, key, v)
		case float64:
			hint = fmt.Sprintf(`write %s = "%s"`, key, strconv.FormatFloat(v, 'g', -1, 64))
		case []any:
			hint = "write one string"
			if len(v) == 1 {
				if one, ok := v[0].(string); ok {
					hint = fmt.Sprintf("write %s = %s", key, quote(one))
				}
			}
		}
		t.mistyped(key, v, "a string", hint)
		return "", false
	}
	if msg, hint := checkText(s); msg != "" {
		t.fail(key, hint, "%s", msg)
		return "", false
	}
	return s, true
}

// word reads a string that must not be empty where it is written.
func (t *table) word(key, hint string) (s string, ok bool) {
	s, ok = t.text(key)
	if ok && strings.TrimSpace(s) == "" {
		t.fail(key, hint, "is empty")
		return "", false
	}
	return s, ok
}

// texts reads an array of strings; ok if there is a valid one.
func (t *table) texts(key string, hint func(v any) string) (l []string, ok bool) {
	v, ok := t.get(key)
	if !ok {
		return nil, false
	}
	elems, ok := list(v)
	if !ok {
		t.mistyped(key, v, "an array of strings", hint(v))
		return nil, false
	}
	l = make([]string, 0, len(elems))
	for i, e := range elems {
		s, isText := e.(string)
		if !isText {
			h := ""
			switch e := e.(type) {
			case int64, bool:
				h = fmt.Sprintf(`write "%v"`, e)
			case float64:
				h = fmt.Sprintf(`write "%s"`, strconv.FormatFloat(e, 'g', -1, 64))
			}
			t.failElem(key, i, h, "is %s, must be a string", describe(e))
			ok = false
		} else if msg, h := checkText(s); msg != "" {
			t.failElem(key, i, h, "%s", msg)
			ok = false
		}
		l = append(l, s)
	}
	return l, ok
}

// flag reads a boolean, false if there is none.
func (t *table) flag(key string) bool {
	v, ok := t.get(key)
	if !ok {
		return false
	}
	b, ok := v.(bool)
	if !ok {
		hint := "write true or false"
		if s, isText := v.(string); isText {
			switch strings.ToLower(s) {
			case "true", "yes", "on":
				hint = "write " + key + " = true"
			case "false", "no", "off":
				hint = "write " + key + " = false"
			}
		}
		t.mistyped(key, v, "true or false", hint)
	}
	return b
}

// integer reads an integer between two bounds; nil if there is none.
func (t *table) integer(key string, low, high int64) *int64 {
	v, ok := t.get(key)
	if !ok {
		return nil
	}
	n, ok := v.(int64)
	if f, isFloat := v.(float64); isFloat && t.rep.src == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		n, ok = int64(f), true // JSON doesn't tell 5.0 from 5
	}
	if !ok {
		t.mistyped(key, v, "an integer", hintNumber(key, v, true))
		return nil
	}
	if n < low || n > high {
		t.fail(key, "", "is %d, must be %s", n, bounds(low, high))
		return nil
	}
	return &n
}

func bounds(low, high int64) string {
	if high >= math.MaxInt32 {
		return fmt.Sprintf("%d or more", low)
	}
	return fmt.Sprintf("from %d to %d", low, high)
}

// integerOr reads an integer that has a default.
func (t *table) integerOr(key string, def, low, high int64) int64 {
	if n := t.integer(key, low, high); n != nil {
		return *n
	}
	return def
}

// intPtr is integer for the fields that are plain ints.
func (t *table) intPtr(key string, low, high int64) *int {
	if n := t.integer(key, low, high); n != nil {
		i := int(*n)
		return &i
	}
	return nil
}

// number reads an integer or a float; ok if there is a valid one. It is at
// least 0, and more than 0 if positive is set.
func (t *table) number(key string, positive bool) (f float64, ok bool) {
	v, ok := t.get(key)
	if !ok {
		return 0, false
	}
	switch n := v.(type) {
	case int64:
		f = float64(n)
	case float64:
		f = n
	default:
		t.mistyped(key, v, "a number", hintNumber(key, v, false))
		return 0, false
	}
	want := "0 or more"
	if positive {
		want = "more than 0"
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		t.fail(key, "write an ordinary number", "is %s, must be a number that is %s", strconv.FormatFloat(f, 'g', -1, 64), want)
		return 0, false
	}
	if f < 0 || positive && f == 0 {
		t.fail(key, "", "is %s, must be %s", strconv.FormatFloat(f, 'g', -1, 64), want)
		return 0, false
	}
	if f == 0 {
		f = 0 // no -0: it would differ from 0 in JSON
	}
	return f, true
}

// seconds reads a number of seconds that has a default.
func (t *table) seconds(key string, def Seconds, positive bool) Seconds {
	if f, ok := t.number(key, positive); ok {
		return Seconds(f)
	}
	return def
}

var byteUnits = map[string]float64{
	"b": 1, "k": 1 << 10, "kb": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "mib": 1 << 20,
	"g": 1 << 30, "gb": 1 << 30, "gib": 1 << 30, "t": 1 << 40, "tb": 1 << 40, "tib": 1 << 40,
}

// assign is what to write before a value; an element of an array has no key.
func assign(key string) string {
	if key == "" {
		return ""
	}
	return key + " = "
}

// hintNumber guesses the number that a value of another type stands for.
func hintNumber(key string, v any, whole bool) string {
	hint := "write a number without quotes"
	if whole {
		hint = "write an integer"
	}
	switch v := v.(type) {
	case float64:
		if r := math.Round(v); math.Abs(r) < 1<<53 {
			return fmt.Sprintf("write %s%d", assign(key), int64(r))
		}
	case string:
		s := strings.TrimSpace(v)
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return fmt.Sprintf("write %s%d", assign(key), n)
		}
		if f, err := strconv.ParseFloat(s, 64); err == nil && !whole && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return fmt.Sprintf("write %s = %s", key, s)
		}
		if d, err := time.ParseDuration(s); err == nil && strings.HasSuffix(key, "_secs") && d > 0 {
			return fmt.Sprintf("write %s = %s", key, strconv.FormatFloat(d.Seconds(), 'g', -1, 64))
		}
		i := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
		if i > 0 && strings.HasSuffix(key, "_bytes") {
			f, err := strconv.ParseFloat(s[:i], 64)
			if unit := byteUnits[strings.ToLower(strings.TrimSpace(s[i:]))]; err == nil && unit > 0 && f*unit < 1<<53 {
				return fmt.Sprintf("write %s = %d", key, int64(f*unit))
			}
		}
		if n, ok := strings.CutSuffix(s, "%"); ok {
			if _, err := strconv.ParseFloat(n, 64); err == nil {
				return fmt.Sprintf("write %s = %s", key, n)
			}
		}
	}
	return hint
}

// choice reads one of several words.
func (t *table) choice(key, def string, choices ...string) string {
	v, ok := t.get(key)
	if !ok {
		return def
	}
	s, ok := v.(string)
	if !ok {
		t.mistyped(key, v, "a string", "write "+oneOf(choices))
		return def
	}
	if !slices.Contains(choices, s) {
		hint := "write " + oneOf(choices)
		if near := Nearest(s, choices); near != "" {
			hint = fmt.Sprintf("did you mean %q? (known: %s)", near, strings.Join(choices, ", "))
		}
		t.fail(key, hint, "%s is not known", quote(s))
		return def
	}
	return s
}

// sub reads a table; nil if there is none. hint is for values of other types.
func (t *table) sub(key string, hint func(v any) string) *table {
	v, ok := t.get(key)
	if !ok {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		h := ""
		if hint != nil {
			h = hint(v)
		}
		t.mistyped(key, v, "a table", h)
		return nil
	}
	return t.below(m, t.at.get(key), key)
}

// below is a table for a nested map.
func (t *table) below(m map[string]any, n *node, key string) *table {
	return &table{rep: t.rep, vals: m, at: n, daemon: t.daemon, group: t.group, path: t.path + key + "."}
}

// done reports the keys that nobody asked for.
func (t *table) done() {
	told := 0
	for _, k := range sortedKeys(t.vals) {
		if !slices.Contains(t.asked, k) && told <= maxProblems { // a hint takes a while to find
			t.unknown(k)
			told++
		}
	}
}

func (t *table) unknown(key string) {
	n := t.at.get(key)
	at := n.keyAt()
	if e := n.elem(0); e != nil && e.key >= 0 { // the first [[key]], not the last
		at = e.key
	}
	t.problem(at, t.path+key, unknownKeyHint(key, t.path, t.asked), "unknown key")
}

// otherWords are what other tools call our keys; of several the first that is
// known in a table is meant.
var otherWords = map[string]string{
	"cwd": "working_dir", "dir": "working_dir", "directory": "working_dir", "workdir": "working_dir", "working_directory": "working_dir",
	"cmd": "command", "exec": "command", "exec_start": "command", "program": "command", "run": "command", "args": "command", "script": "command",
	"environment": "env", "environ": "env", "environment_file": "env_file", "dotenv": "env_file",
	"restart": "restart_policy", "autorestart": "restart_policy",
	"healthcheck": "health_check", "health": "health_check", "probe": "health_check", "liveness": "health_check",
	"readiness": "ready", "limits": "resource_limits", "resources": "resource_limits",
	"log": "log_config", "logs": "log_config", "logging": "log_config", "log_rotation": "log_config",
	"after": "depends_on", "requires": "depends_on", "needs": "depends_on", "depends": "depends_on", "dependencies": "depends_on",
	"cron": "schedule", "timer": "schedule", "enabled": "autostart", "enable": "autostart", "autorun": "autostart",
	"username": "user", "run_as": "user", "uid": "user", "label": "tags", "labels": "tags",
	"kill_signal": "stop_signal", "stopsignal": "stop_signal", "stop_timeout": "stop_timeout_secs", "kill_timeout": "stop_timeout_secs",
	"watchdog": "watchdog_secs", "interval": "interval_secs window_secs", "timeout": "timeout_secs", "start_period": "start_period_secs", "url": "target", "address": "target",
	"max_restarts": "max_retries", "max_retries": "max_restarts", "retries": "max_retries", "backoff": "backoff_base_secs", "backoff_base": "backoff_base_secs", "backoff_max": "backoff_max_secs", "cooldown": "cooldown_secs",
	"memory": "max_memory_bytes", "max_memory": "max_memory_bytes", "memory_limit": "max_memory_bytes", "cpu": "max_cpu_percent", "max_cpu": "max_cpu_percent",
	"nofile": "max_open_files", "max_fds": "max_open_files", "nproc": "max_processes", "max_procs": "max_processes",
	"max_size": "max_size_bytes", "max_files": "retain_count", "retain": "retain_count", "compress": "compress_rotated", "max_age": "retain_days",
	"tz": "timezone", "time_zone": "timezone", "jitter": "jitter_secs", "window": "window_secs", "regex": "pattern",
}

// homes says in which table each key of a sub table lives.
var homes = map[string]string{
	"policy": "restart_policy", "max_retries": "restart_policy", "backoff_base_secs": "restart_policy", "backoff_max_secs": "restart_policy",
	"cooldown_secs": "restart_policy", "success_exit_codes": "restart_policy",
	"interval_secs": "health_check", "retries": "health_check", "start_period_secs": "health_check", "on_unhealthy": "health_check",
	"max_memory_bytes": "resource_limits", "max_cpu_percent": "resource_limits", "max_open_files": "resource_limits", "max_processes": "resource_limits",
	"max_size_bytes": "log_config", "retain_count": "log_config", "compress_rotated": "log_config", "retain_days": "log_config", "on_full": "log_config",
	"timezone": "schedule_policy", "overlap": "schedule_policy", "catch_up": "schedule_policy", "jitter_secs": "schedule_policy",
}

func unknownKeyHint(key, path string, known []string) string {
	word := strings.ToLower(strings.ReplaceAll(key, "-", "_"))
	if slices.Contains(known, word) {
		return fmt.Sprintf("did you mean %q?", word)
	}
	for _, w := range strings.Fields(otherWords[word]) {
		if slices.Contains(known, w) {
			return fmt.Sprintf("did you mean %q?", w)
		}
	}
	if home := homes[word]; home != "" && path == "" && slices.Contains(known, home) {
		return fmt.Sprintf("it belongs in the table %s", home)
	}
	if near := Nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if path == "" {
		if near := Nearest(word, sortedKeys(homes)); near != "" && slices.Contains(known, homes[near]) {
			return fmt.Sprintf("did you mean %q, in the table %s?", near, homes[near])
		}
	}
	if path != "" && slices.Contains(daemonKeys, word) {
		return "it belongs to the daemon itself, above its tables"
	}
	l := slices.Clone(known)
	sort.Strings(l)
	return "known are " + strings.Join(l, ", ")
}

// fromJSON decodes a JSON document into the types that TOML has: integers are
// int64, other numbers float64. A key that comes twice is an error.
func fromJSON(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("the JSON is not valid UTF-8")
	}
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	v, err := jsonValue(d, 0)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errors.New("the JSON ends too early")
	}
	if err != nil {
		return nil, err
	}
	if d.More() {
		return nil, fmt.Errorf("something follows the JSON value")
	}
	if _, err := d.Token(); err == nil {
		return nil, fmt.Errorf("something follows the JSON value")
	}
	return v, nil
}

func jsonValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("the JSON is nested more than %d levels deep", maxDepth)
	}
	tok, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch tok := tok.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(string(tok), 10, 64); err == nil {
			return n, nil
		}
		f, err := strconv.ParseFloat(string(tok), 64)
		if err != nil {
			return nil, fmt.Errorf("the number %s is too large", shorten(string(tok), 40))
		}
		return f, nil
	case json.Delim:
		if tok == '[' {
			l := []any{}
			for d.More() {
				v, err := jsonValue(d, depth+1)
				if err != nil {
					return nil, err
				}
				l = append(l, v)
			}
			_, err := d.Token()
			return l, err
		}
		m := map[string]any{}
		for d.More() {
			k, err := d.Token()
			if err != nil {
				return nil, err
			}
			key, _ := k.(string)
			if _, twice := m[key]; twice {
				return nil, fmt.Errorf("the JSON has the key %s twice", quote(key))
			}
			if m[key], err = jsonValue(d, depth+1); err != nil {
				return nil, err
			}
		}
		_, err := d.Token()
		return m, err
	default:
		return tok, nil
	}
}

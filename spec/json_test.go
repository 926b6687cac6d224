package spec

import (
	"encoding/json"
	"math"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func itoa(n int) string { return strconv.Itoa(n) }

// names are valid and canonical.
var names = rapid.Custom(func(t *rapid.T) string {
	return CanonicalName("n" + rapid.StringOfN(rapid.RuneFrom([]rune("abz09._-éß字")), 0, 40, 120).Draw(t, "name") + "x")
})

func maybe[T any](t *rapid.T, label string, g *rapid.Generator[T]) *T {
	if rapid.Bool().Draw(t, label+"?") {
		v := g.Draw(t, label)
		return &v
	}
	return nil
}

func someOf[T any](t *rapid.T, label string, g *rapid.Generator[T]) (v T) {
	if p := maybe(t, label, g); p != nil {
		v = *p
	}
	return v
}

// daemons are any that are valid.
var daemons = rapid.Custom(func(t *rapid.T) *Daemon {
	text := rapid.StringOf(rapid.Rune().Filter(func(r rune) bool { return r != 0 && r != '\r' }))
	word := rapid.Map(text, func(s string) string { return "w" + s })
	words := rapid.SliceOfN(word, 1, 4)
	positive := rapid.Custom(func(t *rapid.T) Seconds {
		return Seconds(rapid.OneOf(rapid.Float64Range(1e-9, 1e18), rapid.Map(rapid.IntRange(1, 1e6), func(n int) float64 { return float64(n) })).Draw(t, "f"))
	})
	zeroUp := rapid.OneOf(rapid.Just(Seconds(0)), positive)
	count := rapid.OneOf(rapid.Int64Range(1, 100), rapid.Just[int64](math.MaxInt64))

	d := defaults()
	d.Name = names.Draw(t, "name")
	d.Command = append([]string{word.Draw(t, "program")}, rapid.SliceOfN(text, 0, 3).Draw(t, "args")...)
	d.Description = someOf(t, "description", text)
	d.WorkingDir = someOf(t, "working_dir", word)
	env := someOf(t, "env", rapid.MapOfN(rapid.Map(word, func(s string) string { return strings.ReplaceAll(s, "=", "_") }), text, 1, 3))
	if len(env) > 0 {
		d.Env = env
	}
	if rapid.Bool().Draw(t, "env_file") {
		wd, _ := os.Getwd()
		d.EnvFile = []string{wd + string(os.PathSeparator) + "x.env"}
	}
	d.User = someOf(t, "user", rapid.SampledFrom([]string{"a", "a:b", "1000:1000", `DOMAIN\me`}))
	d.Tags = someOf(t, "tags", rapid.SliceOfN(names, 1, 3))
	d.StopTimeout = zeroUp.Draw(t, "stop_timeout")
	d.Autostart = rapid.Bool().Draw(t, "autostart")
	d.Group = someOf(t, "group", names)
	d.KillMode = rapid.SampledFrom([]KillMode{KillAll, KillGroup, KillMain}).Draw(t, "kill_mode")
	d.StopSignal = rapid.SampledFrom(signalNames).Draw(t, "stop_signal")
	d.ReloadSignal = someOf(t, "reload_signal", rapid.SampledFrom(signalNames))
	d.ReloadCommand = someOf(t, "reload_command", words)
	d.Watchdog = someOf(t, "watchdog", positive)
	d.Umask = someOf(t, "umask", rapid.SampledFrom([]string{"000", "022", "777"}))
	d.Nice = maybe(t, "nice", rapid.IntRange(-20, 19))
	d.OOMScoreAdj = maybe(t, "oom", rapid.IntRange(-1000, 1000))
	condition := rapid.SampledFrom([]Condition{"", ConditionStarted, ConditionHealthy, ConditionCompleted})
	for _, n := range rapid.SliceOfNDistinct(names, 0, 3, NameKey).Draw(t, "depends_on") {
		if n != d.Name {
			d.DependsOn = append(d.DependsOn, Dependency{n, condition.Draw(t, "condition")})
		}
	}
	if rapid.Bool().Draw(t, "health_check") {
		d.HealthCheck = &HealthCheck{
			Type: "http", Target: "http://localhost/", Interval: positive.Draw(t, "interval"), Timeout: positive.Draw(t, "timeout"),
			Retries: int(count.Draw(t, "retries")), StartPeriod: zeroUp.Draw(t, "start_period"), OnUnhealthy: rapid.SampledFrom([]string{"none", "restart"}).Draw(t, "on_unhealthy"),
		}
	}
	if rapid.Bool().Draw(t, "ready") {
		d.Ready = rapid.SampledFrom([]*Ready{{Type: "notify"}, {Type: "log", Pattern: "a.*b", Timeout: 3}, {Type: "delay", Delay: 2.5}, {Type: "tcp", Target: "h:1"}}).Draw(t, "ready type")
	}
	d.RestartPolicy = RestartPolicy{
		Policy:      rapid.SampledFrom([]Policy{RestartAlways, RestartNever, RestartOnFailure}).Draw(t, "policy"),
		BackoffBase: zeroUp.Draw(t, "base"), BackoffMax: zeroUp.Draw(t, "max"), Cooldown: zeroUp.Draw(t, "cooldown"),
		SuccessExitCodes: rapid.SliceOf(rapid.IntRange(0, math.MaxUint32)).Draw(t, "codes"),
	}
	d.RestartPolicy.MaxRetries = maybe(t, "max_retries", rapid.IntRange(0, 1e9))
	d.ResourceLimits = ResourceLimits{MaxMemoryBytes: maybe(t, "memory", count), MaxOpenFiles: maybe(t, "files", count), MaxProcesses: maybe(t, "processes", count),
		MaxCPUPercent: maybe(t, "cpu", rapid.Float64Range(0.1, 1e6))}
	d.LogConfig = LogConfig{MaxSizeBytes: count.Draw(t, "size"), RetainCount: rapid.IntRange(0, 1e6).Draw(t, "retain"), CompressRotated: rapid.Bool().Draw(t, "compress"),
		RetainDays: maybe(t, "days", rapid.IntRange(1, 36500)), OnFull: rapid.SampledFrom([]string{"block", "drop"}).Draw(t, "on_full")}
	if rapid.Bool().Draw(t, "schedule") {
		d.Schedule = "*/5 * * * *"
		d.SchedulePolicy = &SchedulePolicy{Timezone: someOf(t, "tz", rapid.Just("UTC")), Overlap: "replace", CatchUp: rapid.Bool().Draw(t, "catch_up"), Jitter: zeroUp.Draw(t, "jitter")}
	}
	return d
})

// A daemon survives every way that it travels.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := daemons.Draw(t, "daemon")
		data, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		strict, err := DecodeDaemon(data)
		if err != nil {
			t.Fatalf("%v\n%s", err, data)
		}
		stored, err := DecodeStored(data)
		if err != nil {
			t.Fatal(err)
		}
		checked, err := d.Checked()
		if err != nil {
			t.Fatal(err)
		}
		var plain Daemon
		if err := json.Unmarshal(data, &plain); err != nil {
			t.Fatal(err)
		}
		file := encodeTOML(t, d)
		f, ps := Parse("t.sys", file)
		if len(ps) > 0 {
			t.Fatalf("%v\n%s", ps, file)
		}
		for way, got := range map[string]*Daemon{"strict": strict, "stored": stored, "checked": checked, "unmarshal": &plain, "file": f.Daemons[0]} {
			if !d.Equal(got) || !got.Equal(d) || len(Diff(d, got)) > 0 {
				again, _ := json.Marshal(got)
				t.Fatalf("%s: differs in %v\n%s\n%s", way, Diff(d, got), data, again)
			}
		}
	})
}

// encodeTOML writes a daemon as a .sys file.
func encodeTOML(t interface{ Fatal(...any) }, d *Daemon) []byte {
	var b strings.Builder
	b.WriteString("daemon = ")
	if err := tomlValue(&b, object(d)); err != nil {
		t.Fatal(err)
	}
	return []byte(b.String())
}

func tomlValue(b *strings.Builder, v any) error {
	switch v := v.(type) {
	case map[string]any:
		b.WriteByte('{')
		for i, k := range sortedKeys(v) {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := tomlValue(b, k); err != nil {
				return err
			}
			b.WriteByte('=')
			if err := tomlValue(b, v[k]); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for _, e := range v {
			if err := tomlValue(b, e); err != nil {
				return err
			}
			b.WriteByte(',')
		}
		b.WriteByte(']')
	case string:
		b.WriteByte('"')
		for _, r := range v {
			if r < ' ' || r == '"' || r == '\\' || r == 0x7f {
				b.WriteString(`\u` + strings.ToUpper(strconv.FormatInt(0x10000+int64(r), 16)[1:]))
			} else {
				b.WriteRune(r)
			}
		}
		b.WriteByte('"')
	case float64:
		b.WriteString(strconv.FormatFloat(v, 'e', -1, 64))
	default:
		return json.NewEncoder(b).Encode(v)
	}
	s := strings.TrimSuffix(b.String(), "\n")
	b.Reset()
	b.WriteString(s)
	return nil
}

func TestDecodeDaemonDefaults(t *testing.T) {
	d, err := DecodeDaemon([]byte(`{"name": "web", "command": ["x"], "health_check": {"type": "tcp", "target": "h:1"}, "schedule_policy": {}, "user": null, "nice": null, "tags": []}`))
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Name, want.Command = "web", []string{"x"}
	want.HealthCheck = &HealthCheck{Type: "tcp", Target: "h:1", Interval: 30, Timeout: 5, Retries: 3, OnUnhealthy: "restart"}
	want.SchedulePolicy = &SchedulePolicy{Overlap: "skip"}
	same(t, d, want)

	made, err := New("web", []string{"x"})
	if err != nil {
		t.Fatal(err)
	}
	if got := Diff(made, d); !slices.Equal(got, []string{"health_check", "schedule_policy"}) {
		t.Errorf("differs in %v", got)
	}
}

func TestDecodeDaemonRefuses(t *testing.T) {
	for in, want := range map[string]string{
		``:                        `a daemon can't be read: the JSON ends too early; send one JSON object`,
		`{`:                       `a daemon can't be read: the JSON ends too early; send one JSON object`,
		`null`:                    `a daemon is null, must be a JSON object`,
		`[]`:                      `a daemon is an array, must be a JSON object`,
		`{} {}`:                   `a daemon can't be read: something follows the JSON value; send one JSON object`,
		`{"name":"a","name":"b"}`: `a daemon can't be read: the JSON has the key "name" twice; send one JSON object`,
		"{\"name\":\"\xff\"}":     `a daemon can't be read: the JSON is not valid UTF-8; send one JSON object`,
		`{"name":"a","command":["x"],"nice":1e999}`: `a daemon can't be read: the number 1e999 is too large; send one JSON object`,
		`{}`:                                     `name: is missing; write name = "my-daemon"` + "\n" + `command: is missing; write command = ["program", "argument"]`,
		`{"name":"a","command":["x"],"Tags":[]}`: `daemon "a": Tags: unknown key; did you mean "tags"?`,
		`{"name":"a","command":["x"],"env_file":["b"]}`:    `daemon "a": env_file[0]: "b" is a relative path; write an absolute path: there is no file here that it could be relative to`,
		`{"name":"a","command":["x"],"nice":1.5}`:          `daemon "a": nice: is the number 1.5, must be an integer; write nice = 2`,
		`{"name":"a","command":["x"],"schedule":"x"}`:      `daemon "a": schedule: has 1 fields; write five (minute hour day month weekday), six (second first, or a four-digit year last) or seven (second first, year last)`,
		`{"name":"a/b","command":["x"],"kill_mode":"All"}`: `daemon "a/b": name: holds "/"; a name has letters, digits, ".", "_" and "-": it names a folder, a path can't be one` + "\n" + `daemon "a/b": kill_mode: "All" is not known; did you mean "all"? (known: group, main, all)`,
		strings.Repeat(`{"a":`, 100):                       `a daemon can't be read: the JSON is nested more than 64 levels deep; send one JSON object`,
	} {
		d, err := DecodeDaemon([]byte(in))
		if err == nil || d != nil || err.Error() != want {
			t.Errorf("%.80s: got\n%v\nwant\n%s", in, err, want)
		}
	}
	if d, err := DecodeDaemon([]byte(`{"name":"a","command":["x"],"nice":5.0}`)); err != nil || *d.Nice != 5 {
		t.Errorf("%v, %v", d, err)
	}
}

func TestDecodeStored(t *testing.T) {
	// What the first version wrote, with a key of a later one, and a schedule
	// that was right then.
	d, err := DecodeStored([]byte(`{"name":"a","command":["x"],"schedule":"0 0 1 1 * 2020","someday":{"x":1},"health_check":{"type":"tcp","target":"h:1"},"restart_policy":{"policy":"always"},"log_config":{"retain_count":2},"schedule_policy":{"catch_up":true}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Name, want.Command, want.Schedule = "a", []string{"x"}, "0 0 1 1 * 2020"
	want.HealthCheck = &HealthCheck{Type: "tcp", Target: "h:1", Interval: 30, Timeout: 5, Retries: 3, OnUnhealthy: "restart"}
	want.RestartPolicy.Policy = RestartAlways
	want.LogConfig.RetainCount = 2
	want.SchedulePolicy = &SchedulePolicy{Overlap: "skip", CatchUp: true}
	same(t, d, want)

	var g Group
	if err := json.Unmarshal([]byte(`{"name":"g"}`), &g); err != nil || g.Strategy != "one_for_one" {
		t.Errorf("%v, %v", g, err)
	}
	for _, bad := range []string{``, `{`, `{"name":3}`, `[]`} {
		if _, err := DecodeStored([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
	var null struct{ D *Daemon }
	if err := json.Unmarshal([]byte(`{"D":null}`), &null); err != nil || null.D != nil {
		t.Errorf("%v, %v", null, err)
	}
}

func TestDecodeGroup(t *testing.T) {
	g, err := DecodeGroup([]byte(`{"name":"cafe\u0301","max_restarts":3,"window_secs":10}`))
	if err != nil {
		t.Fatal(err)
	}
	same(t, g, &Group{Name: "caf\u00e9", Strategy: "one_for_one", MaxRestarts: ptr(3), Window: 10})
	if _, err := DecodeGroup([]byte(`{"name":"g","command":[]}`)); err == nil {
		t.Error("accepted an unknown key")
	}
}

func TestNew(t *testing.T) {
	argv := []string{"sh", "-c", "exit 1"}
	d, err := New("cafe\u0301", argv)
	if err != nil {
		t.Fatal(err)
	}
	argv[0] = "changed"
	if d.Name != "caf\u00e9" || d.Command[0] != "sh" || d.StopTimeout != 30 {
		t.Errorf("%+v", d)
	}
	for _, c := range []struct {
		name    string
		command []string
		want    string
	}{
		{"", []string{"x"}, "name:"}, {"a", nil, "command:"}, {"a", []string{}, "command: is empty"}, {"a", []string{""}, "command[0]: is empty"},
		{"a", []string{"x", "\xff"}, "command[1]: is not valid UTF-8"}, {"a", []string{"\x00"}, "NUL"}, {"\xff", []string{"x"}, "UTF-8"},
	} {
		if _, err := New(c.name, c.command); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %q: %v", c.name, c.command, err)
		}
	}
	d.StopTimeout = Seconds(math.NaN())
	if _, err := d.Checked(); err == nil {
		t.Error("accepted NaN")
	}
}

func TestDiff(t *testing.T) {
	a, _ := New("a", []string{"x"})
	b := *a
	b.Command = []string{"x", "y"}
	b.Env = map[string]string{"A": "1"}
	b.RestartPolicy.Policy = RestartAlways
	b.HealthCheck = &HealthCheck{}
	same(t, Diff(a, &b), []string{"command", "env", "health_check", "restart_policy.policy"})
	same(t, Diff(&b, a), []string{"command", "env", "health_check", "restart_policy.policy"})
	c := b
	c.Env = map[string]string{"A": "2", "B": "3"}
	c.HealthCheck = &HealthCheck{Retries: 1}
	same(t, Diff(&b, &c), []string{"env.A", "env.B", "health_check.retries"})
	if a.Equal(&b) || !b.Equal(&b) || a.Equal(nil) {
		t.Error("Equal is wrong")
	}
}

// Every key has been thought about: does its change need a restart?
func TestNeedsRestart(t *testing.T) {
	restart := []string{"name", "command", "working_dir", "env", "env_file", "user", "umask", "nice", "oom_score_adj", "resource_limits", "watchdog_secs"}
	var keys []string
	typ := reflect.TypeFor[Daemon]()
	for i := range typ.NumField() {
		key, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		keys = append(keys, key)
		if want := slices.Contains(restart, key); NeedsRestart([]string{"tags", key}) != want || NeedsRestart([]string{key + ".x"}) != want {
			t.Errorf("%s: want %t", key, want)
		}
		if !slices.Contains(restart, key) && !slices.Contains(live, key) {
			t.Errorf("%s is in neither list", key)
		}
	}
	slices.Sort(keys)
	known := slices.Sorted(slices.Values(daemonKeys))
	same(t, known, keys)
	if NeedsRestart(nil) || !NeedsRestart([]string{"something_new"}) {
		t.Error("nothing needs none, the unknown does")
	}
}

func TestNotActedOn(t *testing.T) {
	d, _ := New("a", []string{"x"})
	if ws := NotActedOn(d); len(ws) > 0 {
		t.Errorf("warned of defaults: %v", ws)
	}
	d.Umask, d.EnvFile, d.User, d.KillMode, d.StopSignal, d.Tags, d.Autostart = "022", []string{"/x"}, "a", KillAll, "SIGINT", []string{"t"}, true
	d.RestartPolicy.Policy = RestartAlways
	if ws := NotActedOn(d); len(ws) > 0 {
		t.Errorf("warned of what works: %v", ws)
	}
	set, err := Load("testdata/good/full.sys")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, d := range set.Daemons() {
		for _, w := range NotActedOn(d) {
			if w.Daemon != d.Name || w.Message == "" || w.File != "" {
				t.Errorf("%#v", w)
			}
			seen[w.Key] = true
		}
	}
	for _, n := range notYet {
		if !seen[n.key] {
			t.Errorf("%s: the file that has every key got no warning", n.key)
		}
	}
	// The file knows as much, and where.
	fromFile := map[string]bool{}
	for _, w := range set.Warnings() {
		if w.Line == 0 {
			t.Errorf("no place: %v", w)
		}
		fromFile[w.Key] = true
	}
	for key := range seen {
		if !fromFile[key] {
			t.Errorf("%s: no warning from the file", key)
		}
	}
}

func TestDoubtful(t *testing.T) {
	for _, c := range []struct {
		change func(*Daemon)
		want   string
	}{
		{func(d *Daemon) { d.Command = []string{"a b"} }, "command"},
		{func(d *Daemon) { d.Command = []string{`C:\Program Files\x.exe`} }, ""},
		{func(d *Daemon) { d.Command = []string{"a b", "c"} }, ""},
		{func(d *Daemon) { d.Command = []string{"~/x"} }, "command"},
		{func(d *Daemon) { d.Command = []string{"a", "|", "b"} }, "command"},
		{func(d *Daemon) { d.Command = []string{"sh", "-c", "a | b"} }, ""},
		{func(d *Daemon) { d.WorkingDir = "~" }, "working_dir"},
		{func(d *Daemon) { d.StopSignal = "SIGSTOP" }, "stop_signal"},
		{func(d *Daemon) { d.StopSignal = "SIGWINCH" }, ""},
		{func(d *Daemon) { d.RestartPolicy.MaxRetries = ptr(3) }, "restart_policy"},
		{func(d *Daemon) {
			d.RestartPolicy.Policy, d.RestartPolicy.BackoffMax = RestartAlways, 0.5
		}, "restart_policy.backoff_max_secs"},
		{func(d *Daemon) { d.SchedulePolicy = &SchedulePolicy{} }, "schedule_policy"},
		{func(d *Daemon) {}, ""},
	} {
		d, _ := New("a", []string{"x"})
		c.change(d)
		var keys []string
		for _, w := range Doubtful(d) {
			keys = append(keys, w.Key)
		}
		if got := strings.Join(keys, " "); got != c.want {
			t.Errorf("%+v: got %q, want %q", d, got, c.want)
		}
	}
}

func TestCheckGraph(t *testing.T) {
	make := func(name string, deps ...Dependency) *Daemon {
		d, err := New(name, []string{"x"})
		if err != nil {
			t.Fatal(err)
		}
		d.DependsOn = deps
		return d
	}
	on := func(n string) Dependency { return Dependency{Name: n} }
	healthy := func(n string) Dependency { return Dependency{n, ConditionHealthy} }
	probed := make("probed")
	probed.HealthCheck = &HealthCheck{}
	for name, c := range map[string]struct {
		daemons, registered []*Daemon
		want                string
	}{
		"none":            {nil, nil, ""},
		"in order":        {[]*Daemon{make("a"), make("b", on("a"))}, nil, ""},
		"registered":      {[]*Daemon{make("b", on("a"))}, []*Daemon{make("a")}, ""},
		"unknown":         {[]*Daemon{make("web", on("databse"))}, []*Daemon{make("database")}, `daemon "web": depends_on[0]: there is no daemon "databse" (web -> databse); did you mean "database"?`},
		"cycle":           {[]*Daemon{make("a", on("b")), make("b", on("c")), make("c", on("a"))}, nil, `daemon "c": depends_on[0]: the dependencies go in a circle: a -> b -> c -> a; take one of them out`},
		"through others":  {[]*Daemon{make("a", on("b"))}, []*Daemon{make("b", on("a"))}, `daemon "b": depends_on[0]: the dependencies go in a circle: a -> b -> a; take one of them out`},
		"replaced":        {[]*Daemon{make("a", on("b")), make("b")}, []*Daemon{make("b", on("a"))}, ""},
		"not in it":       {[]*Daemon{make("x", on("a")), make("a", on("b")), make("b", on("a"))}, nil, `daemon "b": depends_on[0]: the dependencies go in a circle: a -> b -> a; take one of them out`},
		"one entangled":   {[]*Daemon{make("a", on("b"), on("c")), make("b", on("a"), on("c")), make("c", on("a"), on("b"))}, nil, `daemon "b": depends_on[0]: the dependencies go in a circle: a -> b -> a; take one of them out`},
		"healthy":         {[]*Daemon{make("a", healthy("probed"))}, []*Daemon{probed}, ""},
		"never healthy":   {[]*Daemon{make("a", healthy("b")), make("b")}, nil, `daemon "a": depends_on[0]: "b" can't become healthy (a -> b): it has neither ready nor health_check; give it one of them, or write condition = "started"`},
		"two cycles":      {[]*Daemon{make("a", on("b")), make("b", on("a")), make("c", on("d")), make("d", on("c"))}, nil, "daemon \"b\": depends_on[0]: the dependencies go in a circle: a -> b -> a; take one of them out\ndaemon \"d\": depends_on[0]: the dependencies go in a circle: c -> d -> c; take one of them out"},
		"diamond, no way": {[]*Daemon{make("a", on("b"), on("c")), make("b", on("d")), make("c", on("d")), make("d")}, nil, ""},
	} {
		if got := CheckGraph(c.daemons, c.registered).Error(); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
	var deep []*Daemon
	for i := range 20000 {
		deep = append(deep, make("d"+itoa(i), on("d"+itoa(i+1))))
	}
	deep = append(deep, make("d20000", on("d0")))
	if got := CheckGraph(deep, nil); len(got) != 1 || len(got.Error()) > 500 {
		t.Errorf("%d problems", len(got))
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

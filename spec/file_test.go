package spec

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the expected reports anew")

// someday is when the tests' schedules are read.
var someday = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// Each broken file in testdata/bad has its report beside it.
func TestReports(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.sys")
	if err != nil || len(files) < 50 {
		t.Fatalf("only %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".sys"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f, ps := Parse(filepath.Base(file), data, At(someday))
			if len(ps) == 0 {
				t.Fatal("no problem was found")
			}
			if f != nil {
				t.Error("a file came with its problems")
			}
			for i, p := range ps {
				if p.Message == "" || p.File == "" || (p.Line == 0) != (p.Column == 0) {
					t.Errorf("problem without a place or a message: %#v", p)
				}
				if p.Line == 0 && p.Source == "" {
					t.Errorf("no line: %v", p)
				}
				if i > 0 && (p.Line < ps[i-1].Line || p.Line == ps[i-1].Line && p.Column < ps[i-1].Column) {
					t.Errorf("out of order: %v", p)
				}
			}
			got := ps.Error() + "\n"
			want := strings.TrimSuffix(file, ".sys") + ".want"
			if *update {
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			exp, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if got != strings.ReplaceAll(string(exp), "\r\n", "\n") {
				t.Errorf("got:\n%swant:\n%s", got, exp)
			}
			if _, err := json.Marshal(ps); err != nil {
				t.Error(err)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

func mustParse(t *testing.T, path, text string) *File {
	t.Helper()
	f, ps := Parse(path, []byte(text), At(someday))
	if len(ps) > 0 {
		t.Fatalf("%v", ps)
	}
	return f
}

func same(t *testing.T, got, want any) {
	t.Helper()
	g, _ := json.MarshalIndent(got, "", " ")
	w, _ := json.MarshalIndent(want, "", " ")
	if string(g) != string(w) {
		t.Errorf("got:\n%s\nwant:\n%s", g, w)
	}
}

func TestEveryKey(t *testing.T) {
	set, err := Load("testdata/good/full.sys")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Abs("testdata/good")
	if err != nil {
		t.Fatal(err)
	}
	same(t, set.Files[0].Path, filepath.Join(dir, "full.sys"))
	same(t, set.Groups(), []*Group{{Name: "shop", Strategy: "rest_for_one", MaxRestarts: ptr(5), Window: 60}})
	etc := filepath.FromSlash("/etc/shop.env")
	if !filepath.IsAbs(etc) { // Windows: it has no drive
		etc = filepath.Join(dir, etc)
	}

	api := &Daemon{
		Name: "api.v2", Command: []string{"./api", "--port", "8080"}, Description: "The API", WorkingDir: "api",
		Env:     map[string]string{"PORT": "8080", "with.dot": ""},
		EnvFile: []string{filepath.Join(dir, "api.env"), etc},
		User:    "www-data:www-data", Tags: []string{"web", "shop"}, StopTimeout: 20, Autostart: true, Group: "shop",
		KillMode: KillAll, StopSignal: "SIGINT", ReloadSignal: "SIGHUP", ReloadCommand: []string{"./api", "reload"},
		Watchdog: 1.5, Umask: "027", Nice: ptr(-5), OOMScoreAdj: ptr(-100),
		DependsOn:      []Dependency{{Name: "db"}, {Name: "migrate", Condition: ConditionCompleted}},
		HealthCheck:    &HealthCheck{Type: "http", Target: "http://localhost:8080/health", Interval: 10, Timeout: 2, Retries: 4, StartPeriod: 5, OnUnhealthy: "none"},
		Ready:          &Ready{Type: "log", Pattern: "listening on .*", Timeout: 30},
		RestartPolicy:  RestartPolicy{Policy: RestartOnFailure, MaxRetries: ptr(7), BackoffBase: 2, BackoffMax: 30.5, Cooldown: 10, SuccessExitCodes: []int{0, 143}},
		ResourceLimits: ResourceLimits{MaxMemoryBytes: ptr[int64](536870912), MaxCPUPercent: ptr(150.0), MaxOpenFiles: ptr[int64](1024), MaxProcesses: ptr[int64](64)},
		LogConfig:      LogConfig{MaxSizeBytes: 1048576, RetainCount: 2, CompressRotated: true, RetainDays: ptr(7), OnFull: "block"},
	}
	db := defaults()
	db.Name, db.Command = "db", []string{"postgres"}
	db.HealthCheck = &HealthCheck{Type: "tcp", Target: "localhost:5432", Interval: 30, Timeout: 5, Retries: 3, OnUnhealthy: "restart"}
	migrate := defaults()
	migrate.Name, migrate.Command = "migrate", []string{"./migrate"}
	nightly := defaults()
	nightly.Name, nightly.Command, nightly.Schedule = "nightly", []string{"./backup"}, "0 3 * * MON-FRI"
	nightly.SchedulePolicy = &SchedulePolicy{Timezone: "Europe/Berlin", Overlap: "queue", CatchUp: true, Jitter: 30}
	same(t, set.Daemons(), []*Daemon{api, db, migrate, nightly})
}

func TestVersion01(t *testing.T) {
	set, err := Load("testdata/good/v01.sys")
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Name, want.Command = "web-server", []string{"python", "-m", "http.server", "8000"}
	want.Description, want.WorkingDir, want.User, want.Tags = "Simple HTTP server", "/srv", "nobody", []string{"web"}
	want.Env = map[string]string{"PYTHONUNBUFFERED": "1"}
	want.StopTimeout, want.Schedule = 5, "*/15 * * * *"
	want.HealthCheck = &HealthCheck{Type: "command", Target: "true", Interval: 30, Timeout: 5, Retries: 3, OnUnhealthy: "restart"}
	want.RestartPolicy = RestartPolicy{Policy: RestartAlways, MaxRetries: ptr(4294967295), BackoffBase: 0, BackoffMax: 60, Cooldown: 60, SuccessExitCodes: []int{0}}
	want.ResourceLimits = ResourceLimits{MaxMemoryBytes: ptr[int64](1), MaxCPUPercent: ptr(12.5), MaxOpenFiles: ptr[int64](64)}
	want.LogConfig = LogConfig{MaxSizeBytes: 1024, OnFull: "drop"}
	same(t, set.Daemons(), []*Daemon{want})
}

// The same daemon, in every way that TOML has to write it.
func TestSpellings(t *testing.T) {
	const want = `[[daemon]]
name = "web"
command = ["x"]
[daemon.env]
A = "1"
[daemon.restart_policy]
policy = "always"
`
	first := mustParse(t, "/d/t.sys", want)
	for name, text := range map[string]string{
		"one table":      strings.Replace(want, "[[daemon]]", "[daemon]", 1),
		"dotted":         "daemon.name = 'web'\ndaemon.command = ['x']\ndaemon.env.A = '1'\ndaemon.restart_policy.policy = 'always'\n",
		"inline":         `daemon = { name = "web", command = ["x"], env = { A = "1" }, restart_policy = { policy = "always" } }`,
		"inline array":   `daemon = [{ name = "web", command = ["x"], env = { A = "1" }, restart_policy.policy = "always" }]`,
		"several lines":  "daemon = [\n  { # the web server\n    name = \"web\",\n    command = [\n      \"x\",\n    ],\n    env = { A = \"1\" },\n    restart_policy = { policy = \"always\" },\n  },\n]\n",
		"quoted keys":    "[[\"daemon\"]]\n\"name\" = 'web'\n'command' = ['''x''']\n[daemon.\"env\"]\nA = \"\"\"\n1\"\"\"\n[ daemon . restart_policy ]\npolicy = \"alw\\u0061ys\"\n",
		"CRLF":           strings.ReplaceAll(want, "\n", "\r\n"),
		"byte-order":     "\xef\xbb\xbf" + want,
		"no end of line": strings.TrimSuffix(want, "\n"),
	} {
		t.Run(name, func(t *testing.T) {
			f := mustParse(t, "/d/t.sys", text)
			same(t, f.Daemons, first.Daemons)
		})
	}
}

func TestPosition(t *testing.T) {
	f := mustParse(t, "t.sys", `[[daemon]]
name = "a"
command = ["x",
  "yy", "zz"]
restart_policy.policy = "always"
[daemon.env]
"x.y" = "1"
[[daemon]]
name = "b"
command = ["x"]
depends_on = ["c", { name = "d", condition = "started" }]
health_check = { type = "tcp", target = "h:1" }
`)
	for _, c := range []struct {
		daemon, key  string
		line, column int
	}{
		{"a", "", 1, 3}, {"a", "name", 2, 8}, {"a", "command", 3, 11}, {"a", "command[2]", 4, 9},
		{"a", "restart_policy.policy", 5, 25}, {"a", "restart_policy.max_retries", 5, 1}, {"a", "env.x.y", 7, 9}, {"a", "user", 1, 3},
		{"b", "name", 9, 8}, {"b", "depends_on[0]", 11, 15}, {"b", "depends_on[1].condition", 11, 46}, {"b", "health_check.target", 12, 41},
	} {
		line, column, ok := f.Position(c.daemon, c.key)
		if !ok || line != c.line || column != c.column {
			t.Errorf("%s %s: got %d:%d %t, want %d:%d", c.daemon, c.key, line, column, ok, c.line, c.column)
		}
	}
	if _, _, ok := f.Position("c", "name"); ok {
		t.Error("found a daemon that is not there")
	}
}

// write puts files into a directory of their own, which becomes the current
// one.
func write(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoadSeveral(t *testing.T) {
	write(t, map[string]string{
		"a.sys": "[daemon]\nname = 'a'\ncommand = ['x']\ngroup = 'g'\n[[group]]\nname = 'g'\nstrategy = 'one_for_all'\n",
		"b.sys": "[[daemon]]\nname = 'b'\ncommand = ['x']\ndepends_on = ['a', 'registered-long-ago']\n[[group]]\nname = 'g'\nstrategy = 'one_for_all'\n",
	})
	set, err := Load("b.sys", "a.sys", "./b.sys")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range set.Daemons() {
		names = append(names, d.Name)
	}
	same(t, names, []string{"b", "a"})
	same(t, set.Groups(), []*Group{{Name: "g", Strategy: "one_for_all"}})
}

func TestLoadErrors(t *testing.T) {
	const one = "[daemon]\nname = 'a'\ncommand = ['x']\n"
	write(t, map[string]string{
		"a.sys":      one,
		"again.sys":  "\n" + one,
		"case.sys":   "[daemon]\nname = 'A'\ncommand = ['x']\n",
		"g1.sys":     "[[group]]\nname = 'g'\n",
		"g2.sys":     "[[group]]\nname = 'g'\nmax_restarts = 3\n",
		"g3.sys":     "[daemon]\nname = 'm'\ncommand = ['x']\ngroup = 'G'\n",
		"to-b.sys":   "[daemon]\nname = 'x'\ncommand = ['x']\ndepends_on = ['y']\n",
		"to-a.sys":   "[daemon]\nname = 'y'\ncommand = ['x']\ndepends_on = ['x']\n",
		"latin1.sys": "[daemon]\nname = 'caf\xe9'\n",
		"utf16.sys":  "\xff\xfe[\x00d\x00",
		"utf16b.sys": "[\x00d\x00",
		"nul.sys":    one + "\x00",
		"broken.sys": "[daemon\n",
		"wrong.sys":  "[daemon]\nname = 'a'\ncommand = 'x'\n",
	})
	if err := os.Mkdir("dir", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("dir/in.sys", []byte(one), 0o600); err != nil {
		t.Fatal(err)
	}
	big, err := os.Create("big.sys")
	if err != nil {
		t.Fatal(err)
	}
	if err := big.Truncate(MaxFileSize + 1); err != nil {
		t.Fatal(err)
	}
	big.Close()

	for _, c := range []struct {
		paths string
		want  string
	}{
		{"none.sys", "none.sys: there is no such file; look at the path, or write a template with `syspulse init`"},
		{"dir", "dir: this is a directory, not a file; name a file in it, such as " + filepath.Join("dir", "in.sys")},
		{"big.sys", "big.sys: the file is larger than 16 MiB; is it a .sys file at all?"},
		{"latin1.sys", "latin1.sys:2:12: the byte 0xe9 is not UTF-8; save the file as UTF-8"},
		{"utf16.sys", "utf16.sys:1:1: the file is UTF-16 or binary; save it as UTF-8"},
		{"utf16b.sys", "utf16b.sys:1:1: the file is UTF-16 or binary; save it as UTF-8"},
		{"nul.sys", "nul.sys:4:1: there is a NUL character; take it out"},
		{"a.sys again.sys", `again.sys:3:8: daemon "a": name: is already the name of the daemon at a.sys:2:8; give one of them another name`},
		{"a.sys case.sys", `case.sys:2:8: daemon "A": name: differs only by case from "a" at a.sys:2:8; give one of them another name`},
		{"g1.sys g2.sys", `g2.sys:2:8: group "g": name: is declared differently at g1.sys:2:8; declare it once, or both alike`},
		{"g3.sys g1.sys", `g3.sys:4:9: daemon "m": group: "G" differs only by case from "g" at g1.sys:2:8; write both alike`},
		{"to-b.sys to-a.sys", `to-a.sys:4:15: daemon "y": depends_on[0]: the dependencies go in a circle: x -> y -> x; take one of them out`},
		// One report for all of them, in their order.
		{"none.sys wrong.sys a.sys broken.sys", "none.sys: there is no such file; look at the path, or write a template with `syspulse init`\n" +
			`wrong.sys:3:11: daemon "a": command: is the string "x", must be an array of strings; write command = ["x"]` + "\n" +
			`a.sys:2:8: daemon "a": name: is already the name of the daemon at wrong.sys:2:8; give one of them another name` + "\n" +
			"broken.sys:1:8: the table header is not right; write [daemon] or [[daemon]], and sub tables as [daemon.env]\n     1 | [daemon\n       |        ^"},
	} {
		set, err := Load(strings.Fields(c.paths)...)
		if set != nil || err == nil {
			t.Errorf("%s: accepted", c.paths)
		} else if err.Error() != c.want {
			t.Errorf("%s: got:\n%v\nwant:\n%s", c.paths, err, c.want)
		}
	}
	if set, err := Load("a.sys"); err != nil || len(set.Daemons()) != 1 {
		t.Errorf("%v, %v", set, err)
	}
	if _, err := Load(""); err == nil || !strings.Contains(err.Error(), "the name of the file is empty") {
		t.Errorf("got %v", err)
	}
}

// One report has what is wrong with a daemon and with its dependencies, and
// the places are right beside what is wrong.
func TestDependenciesBesideOtherProblems(t *testing.T) {
	const text = `[[daemon]]
name = "a"
command = ["x"]
comand = 1
depends_on = [3, { name = "b", condition = "healthy" }, "/", "c"]
[[daemon]]
name = "b"
command = ["x"]
[[daemon]]
name = "c"
command = []
depends_on = ["a", { name = "probed", condition = "healthy" }, { name = "waits", condition = "healthy" }]
[[daemon]]
name = "probed"
command = ["x"]
health_check = "http"
[[daemon]]
name = "waits"
command = ["x"]
ready = 1
[[daemon]]
name = "b"
command = ["x"]
depends_on = ["b"]
`
	_, ps := Parse("t.sys", []byte(text), At(someday))
	got := ps.Error()
	for _, want := range []string{
		`t.sys:4:1: daemon "a": comand: unknown key`,
		`t.sys:5:15: daemon "a": depends_on[0]: is the integer 3`,
		`t.sys:5:18: daemon "a": depends_on[1]: "b" can't become healthy`,
		`t.sys:5:57: daemon "a": depends_on[2]: "/" holds "/"`,
		`t.sys:11:11: daemon "c": command: is empty`,
		`t.sys:12:15: daemon "c": depends_on[0]: the dependencies go in a circle: a -> c -> a`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	for _, spurious := range []string{`"probed" can't`, `"waits" can't`, "circle: b"} {
		if strings.Contains(got, spurious) {
			t.Errorf("%s in\n%s", spurious, got)
		}
	}
}

func TestUnreadable(t *testing.T) {
	write(t, map[string]string{"a.sys": ""})
	if err := os.Chmod("a.sys", 0); err != nil {
		t.Fatal(err)
	}
	if f, err := os.Open("a.sys"); err == nil {
		f.Close()
		t.Skip("this user may read everything")
	}
	_, err := Load("a.sys")
	if want := "a.sys: the file may not be read; look at the rights of the file and of the directories above it"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// A hostile file ends in a report, of bounded length.
func TestHostile(t *testing.T) {
	many := "[daemon]\nname = 'a'\ncommand = ['x']\n"
	for i := range 5000 {
		many += "k" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("y", i/100) + "_" + strings.Repeat("z", i%100) + " = 1\n"
	}
	for name, text := range map[string]string{
		"brackets":        strings.Repeat("[", MaxFileSize),
		"array":           "x = " + strings.Repeat("[", MaxFileSize-4),
		"tables":          "x = " + strings.Repeat("{a=", MaxFileSize/3-4),
		"dots":            strings.Repeat("a.", MaxFileSize/2),
		"dots in braces":  "x = { " + strings.Repeat("a.", MaxFileSize/2-10),
		"quoted dots":     strings.Repeat(`"a" . `, MaxFileSize/6),
		"one long line":   "x = '" + strings.Repeat("ä", MaxFileSize/2-10),
		"many problems":   many,
		"many daemons":    strings.Repeat("[[daemon]]\nname = 'x'\n", 20000),
		"long key":        strings.Repeat("k", 1<<20) + " = 1\n",
		"many parameters": "[daemon]\nname='a'\ncommand=[" + strings.Repeat("1,", 1<<18) + "]\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, ps := Parse("t.sys", []byte(text))
			if len(ps) == 0 || len(ps) > maxProblems+1 {
				t.Errorf("%d problems", len(ps))
			}
			if n := len(ps.Error()); n > 1000*len(ps) {
				t.Errorf("the report has %d bytes for %d problems", n, len(ps))
			}
		})
	}
}

// Nothing of a file reaches a terminal as a control sequence.
func TestReportIsPrintable(t *testing.T) {
	for _, text := range []string{
		"x = '\x1b[31m", "\"\x1b[31m\" = 1", "[daemon]\nname = \"\\u001b[31m\"\n\"\\u001b[2J\" = 1\nuser = \"\\u001b\"\n", "x = \u202e", "a\x1b = 1",
		"[daemon]\nname='a'\ncommand=['x']\n[daemon.env]\n\"\\u001b\" = 1\n", "[daemon.\"\\u001b\"]\ncommand = []\n", "[\"\\u001b\"]\n[\"\\u001b\"]\n",
	} {
		_, ps := Parse("t\x1b.sys", []byte(text))
		if len(ps) == 0 {
			t.Errorf("%q: accepted", text)
		}
		for _, line := range strings.Split(ps.Error(), "\n") {
			if printable(line) != line {
				t.Errorf("%q: %q", text, line)
			}
		}
	}
}

func TestWarnings(t *testing.T) {
	f := mustParse(t, "t.sys", `[[daemon]]
name = "a"
command = ["python -m http.server"]
nice = 5

[daemon.log_config]
max_size_bytes = 52428800

[daemon.restart_policy]
max_retries = 3

[[group]]
name = "g"
window_secs = 5
`)
	var got []string
	for _, w := range f.Warnings() {
		got = append(got, w.String())
	}
	same(t, got, []string{
		`t.sys:3:11: daemon "a": command: "python -m http.server" is taken as the name of one program, blanks and all: there is no shell that would split it; if the blanks part arguments, write ["python", "-m", "http.server"]`,
		`t.sys:4:1: daemon "a": nice: this build doesn't act on it yet: the manager's value is inherited`,
		`t.sys:7:1: daemon "a": log_config.max_size_bytes: this build doesn't act on it yet: logs are not rotated`,
		`t.sys:9:9: daemon "a": restart_policy: the policy is "never", so nothing else in here matters; write policy = "on_failure" or "always"`,
		`t.sys:14:15: group "g": window_secs: does nothing without max_restarts; write max_restarts = 5 or the like`,
	})
}

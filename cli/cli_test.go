package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/apitest"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// buffer may be written to and read at once.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// shell runs command lines against a fake manager.
type shell struct {
	*apitest.Fake
	t           *testing.T
	stdin       string
	tty         bool
	out, err    buffer
	stdout, msg string // of the last command
}

func newShell(t *testing.T) *shell {
	t.Setenv("SYSPULSE_DATA_DIR", t.TempDir())
	t.Setenv("NO_COLOR", "")
	return &shell{Fake: apitest.New(), t: t}
}

func (s *shell) run(args ...string) int {
	s.t.Helper()
	s.out, s.err = buffer{}, buffer{}
	a := &app{stdin: strings.NewReader(s.stdin), stdout: &s.out, stderr: &s.err, outTTY: s.tty, dial: func(string) api.Manager { return s.Fake }}
	code := a.run(context.Background(), args)
	s.stdout, s.msg = s.out.String(), s.err.String()
	return code
}

func (s *shell) add(names ...string) {
	s.t.Helper()
	for _, name := range names {
		if code := s.run("add", "--name", name, "--command", "true"); code != 0 {
			s.t.Fatalf("add %s: %d %s", name, code, s.msg)
		}
	}
}

// want checks a command's exit code and what its two outputs contain.
func (s *shell) want(code int, stdout, stderr string, args ...string) {
	s.t.Helper()
	got := s.run(args...)
	if got != code || !strings.Contains(s.stdout, stdout) || !strings.Contains(s.msg, stderr) || stdout == "" && s.stdout != "" || stderr == "" && s.msg != "" {
		s.t.Errorf("%q: exit code %d, want %d\nstdout: %s\n  want: %s\nstderr: %s\n  want: %s", args, got, code, s.stdout, stdout, s.msg, stderr)
	}
}

func TestActionsSayWhatTheyDid(t *testing.T) {
	s := newShell(t)
	s.want(0, "registered web\n", "", "add", "--name", "web", "--command", "sleep", "100", "--json")
	s.want(0, "web is registered already\n", "", "add", "--name", "web", "--command", "sleep", "100", "--json")
	s.want(1, "", "apply", "add", "--name", "web", "--command", "sleep", "200")
	s.want(0, "started web\n", "", "start", "web")
	s.want(0, "web is running already\n", "", "start", "web")
	s.want(0, "sent SIGHUP to web\n", "", "signal", "web", "hup")
	s.want(1, "", "web is running; stop it first", "remove", "web")
	s.want(0, "restarted web\n", "", "restart", "web")
	s.want(0, "stopped web\n", "", "stop", "--all")
	s.want(0, "web is stopped already\n", "", "stop", "web")
	s.want(0, "removed web\n", "", "remove", "web")
	s.want(0, "no daemons are registered", "", "stop", "--all")
	s.want(0, "have ended", "", "shutdown")
}

func TestWhatIsWrongWithTheManagerIsSaid(t *testing.T) {
	s := newShell(t)
	const said = "warning: the manager: the disk is full\n"
	s.Trouble = []string{"the disk is full"}
	s.want(0, "a manager runs", said, "ping")
	s.want(0, "no daemons are registered", said, "status")
	s.want(0, "no daemons are registered", said, "list")
	s.add("web")
	s.want(0, "web", said, "status")
	s.want(0, "web", said, "status", "web")
	s.want(0, "web", said, "list")
	s.want(0, "web", "", "status", "-q")
	s.want(0, "web", "", "status", "--json")
	s.want(0, "web", "", "status", "web", "--json")
	s.want(0, `"warnings":["the disk is full"]`, "", "ping", "--json")
	s.Trouble = nil
	s.want(0, "web", "", "status")
}

func TestStatusShowsTheLastChecks(t *testing.T) {
	s := newShell(t)
	file := filepath.Join(t.TempDir(), "web.sys")
	text := "[daemon]\nname = \"web\"\ncommand = [\"true\"]\n[daemon.health_check]\ntype = \"tcp\"\ntarget = \"localhost:1\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := s.run("add", "--file", file); code != 0 {
		t.Fatal(s.msg)
	}
	s.want(0, "health check    tcp localhost:1, every 30s\nfailures        1 in a row\nlast checks     ", "", "status", "web", "-q")
	for _, line := range []string{"  connection refused on localhost:1, took 2.1ms\n", "  ok, took 800µs\n"} {
		if !strings.Contains(s.stdout, line) {
			t.Errorf("%q is missing in\n%s", line, s.stdout)
		}
	}
	s.want(0, `"health_check":{"type":"tcp","target":"localhost:1","interval_secs":30,"failures":1,"results":[{"at":`, "", "status", "web", "--json")
	s.add("plain")
	s.want(0, `"health_check":null`, "", "status", "plain", "--json")
}

func TestQuietSaysErrorsOnly(t *testing.T) {
	s := newShell(t)
	s.add("web")
	s.want(0, "", "", "start", "web", "-q")
	s.want(4, "", "nobody", "-q", "start", "nobody")
}

func TestExitCodes(t *testing.T) {
	s := newShell(t)
	s.add("a", "b", "c")
	for _, test := range []struct {
		code   int
		fail   map[string]error
		target []string
	}{
		{0, nil, []string{"a", "b"}},
		{4, nil, []string{"a", "nobody"}},
		{1, map[string]error{"a": errors.New("exec failed")}, []string{"a", "b"}},
		{1, map[string]error{"a": errors.New("exec failed")}, []string{"a", "nobody"}},
		{5, map[string]error{"a": api.Timeout("a", "a is not ready")}, []string{"a", "b"}},
		{5, map[string]error{"a": api.Timeout("a", "a is not ready")}, []string{"a", "nobody"}},
		{1, map[string]error{"a": api.Timeout("a", "a is not ready"), "b": errors.New("x")}, []string{"a", "b"}},
	} {
		s.Hook = func(_, name string) error { return test.fail[name] }
		if code := s.run(append([]string{"start", "--wait"}, test.target...)...); code != test.code {
			t.Errorf("%v with %v: %d, want %d", test.target, test.fail, code, test.code)
		}
	}
	s.Hook = nil
	for _, test := range []struct {
		code int
		line string
	}{
		{4, "status nobody"}, {4, "logs nobody"}, {4, "history nobody"}, {4, "start --tag none"},
		{2, "start"}, {2, "status --format xml"}, {2, "nonsense"}, {2, "start --timeout 5 a"}, {2, "stop --timeout -1 a"}, {2, "stop --timeout x a"},
		{2, "logs a -n -3"}, {2, "logs a -n x"}, {2, "signal a"}, {2, "signal a NOSUCH"}, {2, "history a b"}, {2, "status --at soon"},
		{2, "add x.sys"}, {2, "add --name x"}, {2, "add --command x"}, {2, "add --name x --command"}, {2, "add --name .x --command true"},
		{2, "check"}, {2, "check /nonexistent.sys"}, {2, "up /nonexistent.sys"}, {2, "up"}, {2, "state"}, {2, "state import /nonexistent"}, {2, "completion tcsh"},
		{2, "init a b"}, {2, "daemon x"}, {2, "--nonsense"}, {2, "daemon --file /nonexistent.sys"},
	} {
		if code := s.run(strings.Fields(test.line)...); code != test.code {
			t.Errorf("%s: %d, want %d; %s", test.line, code, test.code, s.msg)
		} else if s.msg == "" || s.stdout != "" {
			t.Errorf("%s: stdout %q, stderr %q", test.line, s.stdout, s.msg)
		}
	}
}

func TestErrorsAreJSONToo(t *testing.T) {
	s := newShell(t)
	s.add("a")
	for _, line := range []string{"--json status nobody", "status nobody --format json", "stats --json", "start --nonsense --json", "check --json /nonexistent.sys", "start nobody --json", "logs nobody --json", "init --json /"} {
		code := s.run(strings.Fields(line)...)
		var e struct {
			Error struct {
				Code, Message string
				ExitCode      int `json:"exit_code"`
			}
		}
		if err := json.Unmarshal([]byte(s.msg), &e); err != nil {
			t.Errorf("%s: %v in %q", line, err, s.msg)
		}
		if e.Error.Code == "" || e.Error.Message == "" || e.Error.ExitCode != code || code == 0 {
			t.Errorf("%s: exit code %d, %s", line, code, s.msg)
		}
	}
}

// Every command prints exactly one document with --json, or JSON lines.
func TestOneDocument(t *testing.T) {
	s := newShell(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "x.sys")
	if err := os.WriteFile(file, []byte("[[daemon]]\nname = \"f\"\ncommand = [\"true\"]\nschedule = \"@daily\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.add("a")
	for _, line := range []string{"status", "list", "status a", "ping", "version", "start a", "stop a nobody", "restart a", "signal a HUP", "add --file " + file,
		"check " + file, "init " + filepath.Join(dir, "new.sys"), "state export", "remove a --force", "status --tag none", "list --tag none", "start --tag none", "start --all", "shutdown"} {
		s.run(append([]string{"--json"}, strings.Fields(line)...)...)
		d := json.NewDecoder(strings.NewReader(s.stdout))
		var v any
		if err := d.Decode(&v); err != nil || d.More() {
			t.Errorf("%s: %v in %q (stderr %q)", line, err, s.stdout, s.msg)
		}
	}
}

func TestDaemonJSONHasTheKeysOfTheReference(t *testing.T) {
	s := newShell(t)
	s.add("a")
	s.run("status", "a", "--json")
	var one map[string]any
	if err := json.Unmarshal([]byte(s.stdout), &one); err != nil {
		t.Fatal(err)
	}
	last := 0
	for _, key := range strings.Fields("name state wanted reason waiting_for pid started_at stopped_at uptime_secs ready exit_code signal exit_known restart_count attempt adopted health tags group description schedule next_run_at next_restart_at stdout_log stderr_log") {
		if _, ok := one[key]; !ok {
			t.Errorf("%s is missing", key)
		}
		at := strings.Index(s.stdout, `"`+key+`":`)
		if at < last {
			t.Errorf("%s stands before what comes before it in the reference", key)
		}
		last = at
	}
	if _, ok := one["env"]; ok {
		t.Error("env was not asked for")
	}
	s.run("start", "a", "--json")
	var results []map[string]any
	if err := json.Unmarshal([]byte(s.stdout), &results); err != nil || len(results) != 1 || len(results[0]) != 4 {
		t.Errorf("%v %v", results, err)
	}
}

func TestStatusTable(t *testing.T) {
	s := newShell(t)
	s.want(0, "no daemons are registered", "", "status")
	s.add("web", "データ")
	s.run("start", "web")
	s.Set("データ", func(r *supervision.Record) {
		r.State, r.Reason = supervision.Failed, "exec: \x1b[2Jnot found"
	})
	s.run("status")
	lines := strings.Split(s.stdout, "\n")
	if !strings.HasPrefix(lines[0], "NAME    STATE    PID") || !strings.HasPrefix(lines[1], "web     running  10") || !strings.HasPrefix(lines[2], "データ  failed   -") {
		t.Errorf("\n%s", s.stdout)
	}
	if !strings.Contains(s.msg, `データ: exec: \x1b[2Jnot found`) {
		t.Errorf("%s", s.msg)
	}
	s.tty = true
	s.run("status")
	if !strings.Contains(s.stdout, "\x1b[32mrunning\x1b[0m") {
		t.Errorf("no colour on a terminal: %q", s.stdout)
	}
	s.run("status", "--no-color")
	if strings.Contains(s.stdout, "\x1b") {
		t.Errorf("colour: %q", s.stdout)
	}
	t.Setenv("NO_COLOR", "1")
	s.run("status")
	if strings.Contains(s.stdout, "\x1b") {
		t.Errorf("colour: %q", s.stdout)
	}
	s.run("status", "データ")
	if !strings.Contains(s.stdout, `reason          exec: \x1b[2Jnot found`) {
		t.Errorf("%s", s.stdout)
	}
}

func TestEnvironmentIsShownWhenAskedFor(t *testing.T) {
	s := newShell(t)
	d, err := spec.New("web", []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	d.Env = map[string]string{"SECRET": "hunter2"}
	if _, err := s.Add(context.Background(), api.AddRequest{Daemons: []api.Registration{{Spec: d}}}); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"status", "web"}, {"status", "web", "--json"}} {
		s.run(args...)
		if strings.Contains(s.stdout, "hunter2") || !strings.Contains(s.stdout, "SECRET") {
			t.Errorf("%v: %s", args, s.stdout)
		}
		s.run(append(args, "--env")...)
		if !strings.Contains(s.stdout, "hunter2") {
			t.Errorf("%v --env: %s", args, s.stdout)
		}
	}
}

func TestLogs(t *testing.T) {
	s := newShell(t)
	s.add("a", "bb")
	s.Print("a", api.Stdout, "1")
	s.Print("a", api.Stderr, "err")
	s.Print("bb", api.Stdout, "2\x1b[2J")
	s.Print("a", api.Stdout, "3")
	s.want(0, "1\n3\n", "", "logs", "a")
	s.want(0, "3\n", "", "logs", "a", "-n", "1")
	s.want(0, "err\n", "", "logs", "a", "--stderr")
	s.want(0, "a | 1\nbb | 2\x1b[2J\na  | 3\n", "", "logs", "a", "bb")
	s.want(0, `{"time":null,"daemon":"a","stream":"stdout","line":"1"}`+"\n", "", "logs", "a", "--json")
	s.tty = true
	s.want(0, `2\x1b[2J`+"\n", "", "logs", "bb", "-n", "all")
}

func TestLinesInPieces(t *testing.T) {
	var out bytes.Buffer
	a := &app{stdout: &out, stderr: &out}
	p := newLinePrinter(a, &out, true)
	for _, l := range []api.LogLine{
		{Daemon: "a", Stream: api.Stdout, Line: "one ", Partial: true},
		{Daemon: "a", Stream: api.Stdout, Line: "line", Continues: true},
		{Daemon: "a", Stream: api.Stdout, Line: "half", Partial: true},
		{Daemon: "b", Stream: api.Stdout, Line: "other"},
		{Daemon: "a", Stream: api.Stdout, Line: "rest", Continues: true},
		{Daemon: "b", Stream: api.Stdout, Bytes: []byte("\xff"), Line: "\ufffd", Partial: true},
	} {
		if err := p.line(l); err != nil {
			t.Fatal(err)
		}
	}
	p.endLine()
	if got := out.String(); got != "a | one line\na | half\nb | other\na | rest\nb | \xff\n" {
		t.Errorf("%q", got)
	}
}

func TestFailedStartShowsItsLastWords(t *testing.T) {
	s := newShell(t)
	a := &app{stdout: &s.out, stderr: &s.err}
	err := a.results([]api.Result{{Name: "web", Error: new("exited with code 1"), Code: api.CodeFailed, Stderr: []string{"no such \x1b]file"}}}, started)
	if exitCode(err) != 1 || s.err.String() != "syspulse: web: exited with code 1\nthe last it wrote:\n  no such \\x1b]file\n" {
		t.Errorf("%v\n%s", err, s.err.String())
	}
}

func TestAddFindsItsFile(t *testing.T) {
	s := newShell(t)
	t.Chdir(t.TempDir())
	write := func(file, name string) {
		if err := os.WriteFile(file, []byte("[daemon]\nname = \""+name+"\"\ncommand = [\"true\"]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.want(2, "", "no .sys file here", "add")
	write("one.sys", "one")
	s.want(0, "registered one", "", "add")
	write("two.sys", "two")
	s.want(2, "", "which file? There are one.sys, two.sys", "add")
	write("syspulse.toml", "t")
	s.want(0, "registered t", "", "add")
	write("syspulse.sys", "s")
	s.want(0, "registered s", "", "add")
}

func TestPanicIsAMessage(t *testing.T) {
	s := newShell(t)
	s.PanicOn = "status"
	s.want(1, "", "this should not have happened", "status")
	if strings.Contains(s.msg, "goroutine") {
		t.Error("a stack was not asked for")
	}
}

func TestCompletionKnowsNames(t *testing.T) {
	s := newShell(t)
	s.add("web", "worker")
	s.run("__complete", "stop", "web", "w")
	if !strings.HasPrefix(s.stdout, "worker\tstopped\n") {
		t.Errorf("%q", s.stdout)
	}
	for _, sh := range []string{"bash", "zsh", "fish", "powershell"} {
		if code := s.run("completion", sh); code != 0 || !strings.Contains(s.stdout, "syspulse") {
			t.Errorf("%s: %d", sh, code)
		}
	}
}

func TestStateMoves(t *testing.T) {
	s := newShell(t)
	s.add("a")
	s.run("state", "export")
	other := newShell(t)
	other.stdin = s.stdout
	other.want(0, "registered a", "", "state", "import")
	other.stdin = `{"hello": 1}`
	other.want(2, "", "no export", "state", "import", "-")
	other.stdin = `{"version": 99}`
	other.want(2, "", "newer", "state", "import")
}

func TestHistory(t *testing.T) {
	s := newShell(t)
	s.add("a", "b")
	s.run("start", "a")
	s.run("history", "a")
	if lines := strings.Split(strings.TrimSpace(s.stdout), "\n"); len(lines) != 2 || !strings.Contains(lines[0], "  a         registered") || !strings.Contains(lines[1], "started") {
		t.Errorf("%s", s.stdout)
	}
	s.run("events", "-n", "1", "--json")
	var e api.Event
	if err := json.Unmarshal([]byte(s.stdout), &e); err != nil || e.Event != supervision.EventStarted {
		t.Errorf("%s", s.stdout)
	}
}

func TestHumanLog(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(&humanLog{out: &out, level: slog.LevelInfo, paint: new(app).paintErr})
	log.Debug("hidden")
	log.With("a", 1).WithGroup("g").Warn("dis\x1bk full", "path", "/a b", "n", slog.GroupValue(slog.Int("m", 2)))
	if got := out.String(); !strings.HasSuffix(got, " warning: dis\\x1bk full a=1 g.path=\"/a b\" g.n.m=2\n") || strings.Count(got, "\n") != 1 {
		t.Errorf("%q", got)
	}
}

func TestApplyShowsTheDifference(t *testing.T) {
	s := newShell(t)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const web, db = "[[daemon]]\nname = \"web\"\ncommand = [\"true\"]\n", "[[daemon]]\nname = \"database\"\ncommand = [\"true\"]\n"
	shop := file("shop.sys", web+db)
	s.want(0, "+ web       added\n+ database  added\n2 added, 0 changed, 0 unchanged, 0 removed\n", "", "apply", shop)
	s.want(0, "started web", "", "start", "web")
	file("shop.sys", web+"umask = \"022\"\n")
	s.want(0, "~ web       changed (umask), to be restarted\n- database  removed\n0 added, 1 changed, 0 unchanged, 1 removed; nothing was done", "", "apply", shop, "--prune", "--dry-run")
	s.tty = true
	s.want(0, "\x1b[33m~ web  changed (umask), restarted\x1b[0m\n", "", "apply", shop)
	s.want(0, "\x1b[31m- database  removed\x1b[0m\n", "", "apply", shop, "--prune")
	s.tty = false
	s.want(0, `[{"kind":"daemon","name":"web","change":"unchanged","keys":[],"restart":false,"warnings":[]}]`+"\n", "", "apply", shop, "--json")
	s.want(2, "", "bad.sys", "apply", shop, file("bad.sys", "[[deamon]]"))
	s.want(2, "", "which file", "apply")

	s.want(0, "stopped web\nother is not registered\n", "", "down", shop, file("other.sys", "[daemon]\nname = \"other\"\ncommand = [\"true\"]\n"))
	s.want(4, "", "no daemon is called \"other\"", "down", filepath.Join(dir, "other.sys"))
	s.want(0, "no daemon is in there", "", "down", file("group.sys", "[[group]]\nname = \"g\"\n"))
}

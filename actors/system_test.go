//go:build unix

package actors

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/persist"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// logBuffer keeps a manager's log for a test.
type logBuffer struct {
	mu      sync.Mutex
	b       strings.Builder
	written pulse
}

func (l *logBuffer) Write(p []byte) (int, error) {
	defer l.written.ring()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// await waits for a line with text in it.
func (l *logBuffer) await(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		woken := l.written.wait()
		if strings.Contains(l.String(), text) {
			return
		}
		select {
		case <-woken:
		case <-deadline:
			t.Fatalf("the log never has %q:\n%s", text, l)
		}
	}
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// fixture is a manager in the test's own process.
type fixture struct {
	*System
	t    *testing.T
	dir  string
	log  *logBuffer
	boot string // the boot that is pretended; empty is the real one

	faults persist.Faults  // of the journal
	hinder func(Host) Host // what goes wrong with processes
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, dir: t.TempDir()}
	f.begin()
	return f
}

// begin starts a manager on the fixture's data directory.
func (f *fixture) begin() {
	f.t.Helper()
	f.log = new(logBuffer)
	s, err := Start(Options{
		DataDir: f.dir, Version: "test", bootID: f.boot, faults: f.faults, hinder: f.hinder,
		Logger: slog.New(slog.NewTextHandler(io.MultiWriter(f.log), nil)),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.System = s
	f.t.Cleanup(func() {
		if f.System == s {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			s.Shutdown(ctx, api.ShutdownRequest{Force: true})
		}
		s.Close()
	})
}

// crash ends the manager without a word to its daemons, as far as that can be
// done within one process.
func (f *fixture) crash() {
	f.System.Close()
	f.System = nil
}

func (f *fixture) add(name string, change func(*spec.Daemon), command ...string) *spec.Daemon {
	f.t.Helper()
	d, err := spec.New(name, command)
	if err != nil {
		f.t.Fatal(err)
	}
	if change != nil {
		change(d)
	}
	f.must(f.Add(context.Background(), api.AddRequest{Daemons: []api.Registration{{Spec: d}}}))
	return d
}

func (f *fixture) must(results []api.Result, err error) []api.Result {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, r := range results {
		if !r.OK {
			f.t.Fatalf("%s: %s", r.Name, *r.Error)
		}
	}
	return results
}

func on(names ...string) api.ActionRequest {
	return api.ActionRequest{Selector: api.Selector{Names: names}}
}

func (f *fixture) start(names ...string) {
	f.t.Helper()
	f.must(f.Start(context.Background(), on(names...)))
}

func (f *fixture) stop(names ...string) {
	f.t.Helper()
	f.must(f.Stop(context.Background(), on(names...)))
}

func (f *fixture) get(name string) api.Details {
	f.t.Helper()
	d, err := f.Get(context.Background(), api.GetQuery{Name: name})
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

// until waits for the daemon to be as ok says; events wake it.
func (f *fixture) until(name, what string, ok func(api.Details) bool) api.Details {
	f.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		woken := f.ledger.changed.wait()
		d := f.get(name)
		if ok(d) {
			return d
		}
		select {
		case <-woken:
		case <-deadline:
			f.t.Fatalf("%s is never %s: %s\nhistory: %s\n%s", name, what, asJSON(d.Daemon), f.kinds(name), f.log)
		}
	}
}

func (f *fixture) untilState(name string, s supervision.State) api.Details {
	f.t.Helper()
	return f.until(name, string(s), func(d api.Details) bool { return d.State == s })
}

func (f *fixture) kinds(name string) string {
	f.t.Helper()
	events, err := f.Events(context.Background(), api.EventQuery{Names: []string{name}, Limit: -1})
	if err != nil {
		f.t.Fatal(err)
	}
	var out []string
	for e, err := range events {
		if err != nil {
			f.t.Fatal(err)
		}
		out = append(out, string(e.Event))
	}
	return strings.Join(out, " ")
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func always(base spec.Seconds) func(*spec.Daemon) {
	return func(d *spec.Daemon) {
		d.RestartPolicy.Policy, d.RestartPolicy.BackoffBase = spec.RestartAlways, base
	}
}

func TestLife(t *testing.T) {
	f := newFixture(t)
	f.add("web", always(0), "sleep", "1000")
	if d := f.get("web"); d.State != supervision.Stopped || d.PID != nil || d.ExitKnown != nil {
		t.Errorf("after add: %+v", d.Daemon)
	}
	f.start("web")
	first := f.get("web")
	if first.State != supervision.Running || first.PID == nil || !alive(*first.PID) || !first.Ready || first.Wanted != supervision.WantRunning {
		t.Fatalf("after start: %+v", first.Daemon)
	}
	if r := f.must(f.Start(context.Background(), on("web"))); r[0].Changed {
		t.Error("start of what runs changed something")
	}

	kill(t, *first.PID)
	second := f.until("web", "replaced", func(d api.Details) bool {
		return d.State == supervision.Running && *d.PID != *first.PID
	})
	if second.RestartCount != 1 || second.Signal == nil || *second.Signal != "SIGKILL" || second.ExitCode != nil || !*second.ExitKnown {
		t.Errorf("after kill: %+v", second.Daemon)
	}

	f.must(f.Restart(context.Background(), on("web")))
	third := f.get("web")
	if third.State != supervision.Running || *third.PID == *second.PID || alive(*second.PID) || third.RestartCount != 1 {
		t.Errorf("after restart: %+v", third.Daemon)
	}

	f.stop("web")
	if d := f.get("web"); d.State != supervision.Stopped || d.Wanted != supervision.WantStopped || alive(*third.PID) || d.PID != nil {
		t.Errorf("after stop: %+v", d.Daemon)
	}
	if r := f.must(f.Stop(context.Background(), on("web"))); r[0].Changed {
		t.Error("stop of what is stopped changed something")
	}

	f.must(f.Remove(context.Background(), api.RemoveRequest{Selector: api.Selector{Names: []string{"web"}}}))
	if _, err := f.Get(context.Background(), api.GetQuery{Name: "web"}); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("after remove: %v", err)
	}
	want := "registered wanted starting started exited starting started wanted stopping exited starting started wanted stopping exited stopped removed"
	if got := f.kinds("web"); got != want {
		t.Errorf("history\n%s, want\n%s", got, want)
	}
	f.add("web", nil, "sleep", "1000") // the name is free again
	f.start("web")
}

// What status says of the attempts of what runs is what its next end records.
func TestAttemptsAfterACooldown(t *testing.T) {
	f := newFixture(t)
	// Each ends twice by itself.
	for name, cooldown := range map[string]spec.Seconds{"cool": 0.05, "hot": 600} {
		f.add(name, func(d *spec.Daemon) {
			d.RestartPolicy.Policy, d.RestartPolicy.BackoffBase, d.RestartPolicy.Cooldown = spec.RestartAlways, 0, cooldown
		}, "sh", "-c", `echo >>"$0"; [ $(wc -l <"$0") -lt 3 ] && exit 1; exec sleep 1000`, filepath.Join(f.dir, name))
	}
	f.start("cool", "hot")
	for name, want := range map[string]int{"cool": 0, "hot": 2} {
		d := f.until(name, "up", func(d api.Details) bool { return d.RestartCount == 2 && d.PID != nil })
		for end := time.Now().Add(20 * time.Second); d.Attempt != want && time.Now().Before(end); d = f.get(name) {
			time.Sleep(5 * time.Millisecond) // no event tells of the cooldown
		}
		if d.Attempt != want {
			t.Errorf("%s: attempt %d while it runs, want %d", name, d.Attempt, want)
		}
		kill(t, *d.PID)
		f.until(name, "restarted", func(d api.Details) bool { return d.RestartCount == 3 })
		var attempts []int
		events, err := f.Events(context.Background(), api.EventQuery{Names: []string{name}, Limit: -1})
		if err != nil {
			t.Fatal(err)
		}
		for e, err := range events {
			if err != nil {
				t.Fatal(err)
			}
			if e.Event == supervision.EventExited {
				attempts = append(attempts, *e.Attempt)
			}
		}
		if len(attempts) < 3 || attempts[2] != want {
			t.Errorf("%s: attempts %v at its ends, want %d at the third", name, attempts, want)
		}
	}
}

func TestStartThatFails(t *testing.T) {
	f := newFixture(t)
	file := filepath.Join(f.dir, "plain")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		change  func(*spec.Daemon)
		command []string
		want    string
	}{
		{"missing", nil, []string{"no-such-program-anywhere"}, "not found"},
		{"plain", nil, []string{file}, "not executable"},
		{"nodir", func(d *spec.Daemon) { d.WorkingDir = "/no/such/dir" }, []string{"true"}, "/no/such/dir"},
		{"nouser", func(d *spec.Daemon) { d.User = "nobody-of-this-name" }, []string{"true"}, "nobody-of-this-name"},
		{"noenv", func(d *spec.Daemon) { d.EnvFile = []string{"/no/such/file.env"} }, []string{"true"}, "/no/such/file.env"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.add(tt.name, tt.change, tt.command...)
			r, err := f.Start(context.Background(), on(tt.name))
			if err != nil || r[0].OK || !strings.Contains(*r[0].Error, tt.want) || *r[0].State != supervision.Failed {
				t.Fatalf("start: %+v %v", r, err)
			}
			d := f.untilState(tt.name, supervision.Failed)
			if d.Reason == nil || !strings.Contains(*d.Reason, tt.want) || d.Wanted != supervision.WantStopped {
				t.Errorf("afterwards %+v", d.Daemon)
			}
		})
	}

	f.add("retried", func(d *spec.Daemon) {
		two := 2
		d.RestartPolicy.Policy, d.RestartPolicy.MaxRetries, d.RestartPolicy.BackoffBase = spec.RestartOnFailure, &two, 0
	}, "no-such-program-anywhere")
	f.Start(context.Background(), on("retried"))
	if d := f.untilState("retried", supervision.Failed); d.RestartCount != 2 || !strings.Contains(*d.Reason, "max_retries (2) spent") {
		t.Errorf("retried: %+v, %s", d.Daemon, *d.Reason)
	}
}

func TestAnswersDuringBackoff(t *testing.T) {
	f := newFixture(t)
	f.add("flaky", always(300), "false")
	f.start("flaky")
	d := f.untilState("flaky", supervision.Backoff)
	if d.NextRestartAt == nil || time.Until(*d.NextRestartAt) < 4*time.Minute || *d.ExitCode != 1 {
		t.Fatalf("in backoff: %+v", d.Daemon)
	}
	f.start("flaky")
	d = f.untilState("flaky", supervision.Backoff)
	if d.RestartCount != 0 {
		t.Errorf("a start by hand was charged: %+v", d.Daemon)
	}
	f.stop("flaky")
	f.untilState("flaky", supervision.Stopped)

	// It survives a new manager.
	f.start("flaky")
	before := f.untilState("flaky", supervision.Backoff)
	f.crash()
	f.begin()
	after := f.get("flaky")
	if after.State != supervision.Backoff || !after.NextRestartAt.Equal(*before.NextRestartAt) {
		t.Errorf("%+v became %+v", before.Daemon, after.Daemon)
	}
	f.stop("flaky")
}

func TestStopKillsWhatIgnoresIt(t *testing.T) {
	f := newFixture(t)
	ready := filepath.Join(f.dir, "ready")
	if err := syscall.Mkfifo(ready, 0o600); err != nil {
		t.Fatal(err)
	}
	f.add("stubborn", func(d *spec.Daemon) { d.StopTimeout = 0.2 },
		"sh", "-c", fmt.Sprintf("trap '' TERM; echo >%s; while :; do sleep 1000; done", ready))
	f.start("stubborn")
	if _, err := os.ReadFile(ready); err != nil {
		t.Fatal(err)
	}
	pid := *f.get("stubborn").PID
	f.stop("stubborn")
	if d := f.get("stubborn"); d.State != supervision.Stopped || alive(pid) || *d.Signal != "SIGKILL" {
		t.Errorf("after stop: %+v", d.Daemon)
	}
}

func TestANewManagerFindsWhatRuns(t *testing.T) {
	f := newFixture(t)
	f.add("web", always(0), "sleep", "1000")
	f.start("web")
	before := f.get("web")
	f.crash()
	if !alive(*before.PID) {
		t.Fatal("the daemon died with its manager")
	}
	f.begin()
	after := f.until("web", "adopted", func(d api.Details) bool { return d.Adopted })
	if *after.PID != *before.PID || !after.StartedAt.Equal(*before.StartedAt) || after.State != supervision.Running || after.RestartCount != 0 {
		t.Fatalf("%+v became %+v", before.Daemon, after.Daemon)
	}
	if *after.UptimeSecs < *before.UptimeSecs {
		t.Errorf("uptime %g s, before %g s", *after.UptimeSecs, *before.UptimeSecs)
	}
	kill(t, *after.PID)
	d := f.until("web", "replaced", func(d api.Details) bool { return d.State == supervision.Running && *d.PID != *after.PID })
	if *d.Signal != "SIGKILL" || d.RestartCount != 1 {
		t.Errorf("after the kill: %+v", d.Daemon)
	}

	// What dies while no manager lives is an exit like any other.
	f.crash()
	kill(t, *d.PID)
	f.begin()
	next := f.until("web", "replaced", func(n api.Details) bool { return n.State == supervision.Running && *n.PID != *d.PID })
	if next.RestartCount != 2 {
		t.Errorf("after a death without a manager: %+v", next.Daemon)
	}
}

// TestFaults makes each kind of actor panic. No process may end by it, and
// the manager goes on.
func TestFaults(t *testing.T) {
	f := newFixture(t)
	f.add("web", always(0), "sleep", "1000")
	f.add("flaky", always(300), "false")
	f.start("web", "flaky")
	f.untilState("flaky", supervision.Backoff)
	pid := *f.get("web").PID
	count := int64(0)
	for _, id := range []string{
		"manager/daemon/web/process", "manager/daemon/web/log", "manager/daemon/web", "manager/journal", "manager",
		"manager/daemon/flaky/log", "manager/daemon/flaky",
	} {
		t.Run(strings.ReplaceAll(id, "/", "."), func(t *testing.T) {
			who := actor.NewPID(f.system.Address(), id)
			f.system.Root.Send(who, injected{"a fault in " + id})
			f.log.await(t, "a fault in "+id)
			if d := f.untilState("web", supervision.Running); *d.PID != pid || !alive(pid) || d.RestartCount != count {
				t.Fatalf("after the fault: %+v", d.Daemon)
			}
			if d := f.get("flaky"); d.State != supervision.Backoff || d.RestartCount != 0 {
				t.Fatalf("after the fault: %+v", d.Daemon)
			}
			// It is as good as new.
			kill(t, pid)
			d := f.until("web", "replaced", func(d api.Details) bool { return d.State == supervision.Running && *d.PID != pid })
			count++
			pid = *d.PID
			if d.RestartCount != count || *d.Signal != "SIGKILL" {
				t.Fatalf("after the kill: %+v", d.Daemon)
			}
		})
	}
	f.stop("web", "flaky")
	if alive(pid) {
		t.Error("stop left the process")
	}
}

func TestARootThatKeepsFailingGivesUp(t *testing.T) {
	f := newFixture(t)
	f.add("web", nil, "sleep", "1000")
	f.start("web")
	pid := *f.get("web").PID
	for range rootFailures + 1 {
		f.system.Root.Send(f.root, injected{"again"})
	}
	select {
	case <-f.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on and on")
	}
	if f.Err() != ErrGivenUp || !alive(pid) {
		t.Errorf("ended with %v, daemon alive %v", f.Err(), alive(pid))
	}
	f.crash()
	f.begin()
	f.until("web", "adopted", func(d api.Details) bool { return d.Adopted && *d.PID == pid })
}

func TestNothingIsLeftBehind(t *testing.T) {
	newFixture(t).crash() // whatever is made once
	count := func() (goroutines, fds int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc")
		}
		return runtime.NumGoroutine(), len(entries)
	}
	g0, fd0 := count()
	f := newFixture(t)
	for i := range 20 {
		f.add(fmt.Sprint("d", i), always(0), "sleep", "1000")
	}
	f.must(f.Start(context.Background(), api.ActionRequest{Selector: api.Selector{All: true}}))
	f.must(f.Remove(context.Background(), api.RemoveRequest{Selector: api.Selector{All: true}, Force: true}))
	if err := f.Shutdown(context.Background(), api.ShutdownRequest{}); err != nil {
		t.Fatal(err)
	}
	f.crash()
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		g, fd := count()
		if g <= g0 && fd <= fd0 {
			return
		}
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("goroutines %d → %d, descriptors %d → %d\n%s", g0, g, fd0, fd, buf[:runtime.Stack(buf, true)])
		}
	}
}

func TestSignalsHaveNamesAndNumbers(t *testing.T) {
	f := newFixture(t)
	for _, sig := range []string{"SIGUSR1", "usr1", "10"} {
		if syscall.SIGUSR1 != 10 && sig == "10" {
			continue
		}
		f.add("d"+sig, nil, "sleep", "1000")
		f.start("d" + sig)
		f.must(f.Signal(context.Background(), api.SignalRequest{Selector: api.Selector{Names: []string{"d" + sig}}, Signal: sig}))
		if d := f.untilState("d"+sig, supervision.Failed); *d.Signal != "SIGUSR1" {
			t.Errorf("%s ended it by %s", sig, *d.Signal)
		}
	}
	for _, sig := range []string{"", "SIGNAL", "0", "-1", "65", "9e9"} {
		if _, err := f.Signal(context.Background(), api.SignalRequest{Selector: api.Selector{All: true}, Signal: sig}); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%q: %v", sig, err)
		}
	}
}

func TestNoTimeIsEnoughForWhatIsDone(t *testing.T) {
	f := newFixture(t)
	f.add("web", nil, "sleep", "1000")
	f.start("web")
	req := on("web")
	req.Wait, req.Timeout = true, new(spec.Seconds)
	f.must(f.Start(context.Background(), req))
}

// asJSON shows what is behind pointers, too.
func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

//go:build unix

package actors

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// The tests of this file are the lines of "Wanted" in the reference, in its
// order. Those about dependencies come with dependencies.

func autostart(d *spec.Daemon) { d.Autostart = true }

func (f *fixture) wants(name string, w supervision.Wanted) {
	f.t.Helper()
	if d := f.get(name); d.Wanted != w {
		f.t.Errorf("%s is wanted %s, want %s: %s", name, d.Wanted, w, asJSON(d.Daemon))
	}
}

func (f *fixture) shutdown() {
	f.t.Helper()
	if err := f.Shutdown(context.Background(), api.ShutdownRequest{}); err != nil {
		f.t.Fatal(err)
	}
	f.crash()
}

func TestWantedRunning(t *testing.T) {
	f := newFixture(t)
	f.add("started", nil, "sleep", "1000")
	f.wants("started", supervision.WantStopped)
	f.start("started")
	f.wants("started", supervision.WantRunning)

	f.add("restarted", nil, "sleep", "1000")
	f.must(f.Restart(context.Background(), on("restarted")))
	f.wants("restarted", supervision.WantRunning)

	f.add("auto", autostart, "sleep", "1000")
	f.untilState("auto", supervision.Running)
	f.wants("auto", supervision.WantRunning)
}

func TestWantedStopped(t *testing.T) {
	f := newFixture(t)
	f.add("stopped", nil, "sleep", "1000")
	f.start("stopped")
	f.stop("stopped")
	f.wants("stopped", supervision.WantStopped)

	f.add("done", nil, "true")
	f.start("done")
	f.untilState("done", supervision.Stopped)
	f.wants("done", supervision.WantStopped)

	f.add("broken", nil, "false")
	f.start("broken")
	f.untilState("broken", supervision.Failed)
	f.wants("broken", supervision.WantStopped)

	f.add("spent", func(d *spec.Daemon) {
		one := 1
		always(0)(d)
		d.RestartPolicy.MaxRetries = &one
	}, "false")
	f.start("spent")
	f.untilState("spent", supervision.Failed)
	f.wants("spent", supervision.WantStopped)
}

func TestNothingElseChangesWhatIsWanted(t *testing.T) {
	f := newFixture(t)
	f.add("up", nil, "sleep", "1000")
	f.add("waiting", always(300), "false")
	f.add("down", nil, "sleep", "1000")
	f.start("up", "waiting")
	f.untilState("waiting", supervision.Backoff)
	check := func(when string) {
		t.Helper()
		for name, want := range map[string]supervision.Wanted{
			"up": supervision.WantRunning, "waiting": supervision.WantRunning, "down": supervision.WantStopped,
		} {
			if d := f.get(name); d.Wanted != want {
				t.Errorf("after %s %s is wanted %s", when, name, d.Wanted)
			}
		}
	}
	f.crash()
	f.begin()
	check("a crash")
	f.shutdown()
	f.begin()
	check("a shutdown")
	f.untilState("up", supervision.Running)
}

func TestAfterACrashWhatLivesIsAdopted(t *testing.T) {
	for _, how := range []string{"crash", "keep-daemons"} {
		t.Run(how, func(t *testing.T) {
			f := newFixture(t)
			f.add("lives", nil, "sleep", "1000")
			f.add("dies", nil, "sleep", "1000")
			f.add("comes-back", always(0), "sleep", "1000")
			f.add("auto", autostart, "true")
			f.start("lives", "dies", "comes-back")
			f.untilState("auto", supervision.Stopped)
			lives, dies, back := f.get("lives"), f.get("dies"), f.get("comes-back")
			if how == "keep-daemons" {
				if err := f.Shutdown(context.Background(), api.ShutdownRequest{KeepDaemons: true}); err != nil {
					t.Fatal(err)
				}
			}
			f.crash()
			kill(t, *dies.PID)
			kill(t, *back.PID)
			f.begin()
			if d := f.until("lives", "adopted", func(d api.Details) bool { return d.Adopted }); *d.PID != *lives.PID {
				t.Errorf("lives: %+v", d.Daemon)
			}
			f.untilState("dies", supervision.Failed)
			f.wants("dies", supervision.WantStopped)
			d := f.until("comes-back", "back", func(d api.Details) bool { return d.RestartCount == 1 && d.State == supervision.Running })
			if d.Attempt != 1 {
				t.Errorf("comes-back: %+v", d.Daemon)
			}
			if k := f.kinds("auto"); strings.Count(k, "starting") != 1 {
				t.Errorf("autostart played a part: %s", k)
			}
		})
	}
}

func TestTheFirstManagerStartsWhatIsWanted(t *testing.T) {
	for _, how := range []string{"shutdown", "another boot"} {
		t.Run(how, func(t *testing.T) {
			f := newFixture(t)
			runs := filepath.Join(f.dir, "runs")
			f.add("never", nil, "sleep", "1000") // policy never plays no part either
			f.add("once", autostart, "sh", "-c", "echo run >>"+runs)
			f.add("auto-stopped", autostart, "sleep", "1000")
			f.add("auto-failed", autostart, "false")
			f.add("not", nil, "sleep", "1000")
			f.start("never", "not")
			f.untilState("once", supervision.Stopped)
			f.untilState("auto-failed", supervision.Failed)
			f.untilState("auto-stopped", supervision.Running)
			f.stop("auto-stopped", "not")
			old := *f.get("never").PID
			if how == "shutdown" {
				f.shutdown()
				if alive(old) {
					t.Fatal("shutdown left a daemon")
				}
			} else {
				f.crash()
				f.boot = "another-boot"
				kill(t, old)
			}
			f.begin()
			f.until("never", "started", func(d api.Details) bool { return d.State == supervision.Running && *d.PID != old })
			f.until("once", "run again", func(api.Details) bool {
				data, _ := os.ReadFile(runs)
				return string(data) == "run\nrun\n"
			})
			f.untilState("once", supervision.Stopped)
			f.until("auto-failed", "tried again", func(d api.Details) bool {
				return strings.Count(f.kinds("auto-failed"), "starting") == 2
			})
			for _, name := range []string{"auto-stopped", "not"} {
				if d := f.get(name); d.State != supervision.Stopped || d.Wanted != supervision.WantStopped {
					t.Errorf("%s: %+v", name, d.Daemon)
				}
			}
			// A start makes it one that autostart starts.
			f.start("auto-stopped")
			f.shutdown()
			f.begin()
			f.untilState("auto-stopped", supervision.Running)
		})
	}
}

func TestTheStateSurvives(t *testing.T) {
	f := newFixture(t)
	f.add("a", always(0), "sleep", "1000")
	f.add("b", nil, "sh", "-c", "exit 7")
	f.start("a", "b")
	f.untilState("b", supervision.Failed)
	for i := range 3 {
		pid := *f.get("a").PID
		kill(t, pid)
		f.until("a", "replaced", func(d api.Details) bool { return d.RestartCount == int64(i+1) && d.State == supervision.Running })
	}
	clean := func(d api.Details) string {
		d.UptimeSecs, d.Adopted = nil, false
		return fmt.Sprint(d.State, d.Wanted, *d.StartedAt, value(d.StoppedAt), value(d.ExitCode), value(d.Signal), d.RestartCount, d.Attempt, d.Health, value(d.PID), value(d.Reason))
	}
	a, b := clean(f.get("a")), clean(f.get("b"))
	f.crash()
	f.begin()
	f.until("a", "adopted", func(d api.Details) bool { return d.Adopted })
	if got := clean(f.get("a")); got != a {
		t.Errorf("a was\n%s, is\n%s", a, got)
	}
	if got := clean(f.get("b")); got != b {
		t.Errorf("b was\n%s, is\n%s", b, got)
	}
}

func value[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

package supervision

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cyber-boost/syspulse/spec"
)

// world drives a machine the way its actor does, with processes that are
// numbers in a set.
type world struct {
	m      *Machine
	now    time.Time
	boot   time.Duration
	ids    int
	live   map[string]bool // incarnations whose main process runs
	left   map[string]bool // incarnations of which only others are left
	forks  map[string]bool // forks under way
	lost   map[string]bool // incarnations whose main process isn't there, and whose left-overs won't die
	armed  uint64
	due    time.Duration
	dueRun time.Time // of a schedule: the run that is waited for
	gone   bool
	events []Event
}

func newWorld(d *spec.Daemon) *world {
	return &world{
		m:   &Machine{Name: d.Name, Reg: Registration{Spec: d}, Rec: Record{State: Stopped, Wanted: WantStopped}},
		now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), boot: time.Hour,
		live: map[string]bool{}, left: map[string]bool{}, forks: map[string]bool{}, lost: map[string]bool{},
	}
}

func daemonSpec() *spec.Daemon {
	return &spec.Daemon{
		Name: "d", Command: []string{"d"}, StopTimeout: 10, KillMode: spec.KillGroup, StopSignal: "SIGTERM",
		RestartPolicy: spec.RestartPolicy{Policy: spec.RestartNever, BackoffBase: 1, BackoffMax: 300, Cooldown: 60, SuccessExitCodes: []int{0}},
	}
}

func (w *world) step(in Input) Outcome {
	out := w.m.Step(in, Env{Now: w.now, Boot: w.boot, NewID: func() string { w.ids++; return fmt.Sprint("i", w.ids) }})
	w.events = append(w.events, out.Events...)
	for _, e := range out.Effects {
		switch e := e.(type) {
		case Fork:
			w.forks[e.Incarnation] = true
		case Arm:
			w.armed, w.due = e.Gen, w.boot+e.After
		case Disarm:
			w.armed = 0
		case ArmRun:
			w.dueRun = e.Run
		case DisarmRun:
			w.dueRun = time.Time{}
		case Gone:
			w.gone = true
		}
	}
	return out
}

func (w *world) pass(d time.Duration) {
	w.now, w.boot = w.now.Add(d), w.boot+d
}

func (w *world) forked() Outcome {
	inc := w.m.Rec.Incarnation
	delete(w.forks, inc)
	w.live[inc] = true
	return w.step(Forked{Incarnation: inc, Process: Identity{PID: 100 + w.ids}, At: w.now, Boot: w.boot})
}

func (w *world) exited(e Exit) Outcome {
	inc := w.m.Rec.Incarnation
	delete(w.live, inc)
	return w.step(Exited{Incarnation: inc, Exit: e, At: w.now, Boot: w.boot, Empty: true})
}

func (w *world) fire() Outcome {
	w.pass(max(w.due-w.boot, 0))
	gen := w.armed
	w.armed = 0
	return w.step(TimerFired{gen})
}

func (w *world) want(t *testing.T, s State) {
	t.Helper()
	if w.m.Rec.State != s {
		t.Fatalf("state %s, want %s; events: %s", w.m.Rec.State, s, kinds(w.events))
	}
}

func kinds(events []Event) string {
	var out []Kind
	for _, e := range events {
		out = append(out, e.Kind)
	}
	return fmt.Sprint(out)
}

func TestRestartsUntilSpent(t *testing.T) {
	d := daemonSpec()
	three := 3
	d.RestartPolicy.Policy, d.RestartPolicy.MaxRetries = spec.RestartAlways, &three
	w := newWorld(d)
	w.step(Start{By: "start"})
	for n := range 3 {
		w.want(t, Starting)
		w.forked()
		w.want(t, Running)
		w.exited(Exit{Known: true, Code: 1})
		w.want(t, Backoff)
		if want := time.Second << n; w.due-w.boot != want {
			t.Errorf("attempt %d waits %v, want %v", n, w.due-w.boot, want)
		}
		if got := w.m.Rec.NextRestartAt.Sub(w.now); got != w.due-w.boot {
			t.Errorf("next_restart_at in %v, timer in %v", got, w.due-w.boot)
		}
		w.fire()
	}
	w.forked()
	w.exited(Exit{Known: true, Code: 1})
	w.want(t, Failed)
	if r := w.m.Rec; r.RestartCount != 3 || r.Attempt != 3 || r.Wanted != WantStopped || r.Ended {
		t.Errorf("record %+v", r)
	}
	w.step(Start{By: "start"})
	if r := w.m.Rec; r.RestartCount != 3 || r.Attempt != 0 || r.State != Starting {
		t.Errorf("after start: %+v", r)
	}
}

func TestCooldownStartsTheAttemptsAnew(t *testing.T) {
	d := daemonSpec()
	d.RestartPolicy.Policy = spec.RestartAlways
	w := newWorld(d)
	w.step(Start{})
	for range 4 {
		w.forked()
		w.exited(Exit{Known: true})
		w.fire()
	}
	w.forked()
	w.pass(59 * time.Second)
	w.exited(Exit{Known: true})
	if w.m.Rec.Attempt != 4 {
		t.Fatalf("attempt %d after 59 s", w.m.Rec.Attempt)
	}
	w.fire()
	w.forked()
	// While it runs, the record has what was, and is asked for what is.
	for up, want := range map[time.Duration]int{0: 5, 59 * time.Second: 5, 60 * time.Second: 0} {
		if got := w.m.Rec.AttemptAfter(up, d.RestartPolicy); got != want {
			t.Errorf("attempt %d after %v, want %d", got, up, want)
		}
	}
	w.pass(60 * time.Second)
	w.exited(Exit{Known: true})
	if w.m.Rec.Attempt != 0 || w.due-w.boot != time.Second {
		t.Errorf("attempt %d, next in %v after a cooldown", w.m.Rec.Attempt, w.due-w.boot)
	}
}

func TestInterruptions(t *testing.T) {
	restarting := daemonSpec()
	restarting.RestartPolicy.Policy = spec.RestartAlways
	backoff := func(w *world) { w.step(Start{}); w.forked(); w.exited(Exit{Known: true, Code: 1}) }
	running := func(w *world) { w.step(Start{}); w.forked() }

	t.Run("stop during backoff", func(t *testing.T) {
		w := newWorld(restarting)
		backoff(w)
		w.want(t, Backoff)
		w.step(Stop{})
		w.want(t, Stopped)
		if w.armed != 0 || !w.m.Rec.Ended || w.m.Rec.Wanted != WantStopped {
			t.Errorf("timer %d, record %+v", w.armed, w.m.Rec)
		}
	})
	t.Run("start during backoff starts at once", func(t *testing.T) {
		w := newWorld(restarting)
		backoff(w)
		w.step(Start{})
		w.want(t, Starting)
		if w.m.Rec.RestartCount != 0 || w.m.Rec.Attempt != 0 {
			t.Errorf("it was charged: %+v", w.m.Rec)
		}
	})
	t.Run("start during stopping", func(t *testing.T) {
		w := newWorld(daemonSpec())
		running(w)
		w.step(Stop{})
		w.want(t, Stopping)
		w.step(Start{})
		w.want(t, Stopping)
		w.exited(Exit{Known: true, Signal: "SIGTERM"})
		w.want(t, Starting)
		if w.m.Rec.Wanted != WantRunning || w.m.Rec.RestartCount != 0 {
			t.Errorf("record %+v", w.m.Rec)
		}
	})
	t.Run("stop while the fork is under way", func(t *testing.T) {
		w := newWorld(daemonSpec())
		w.step(Start{})
		if out := w.step(Stop{}); len(out.Effects) != 0 {
			t.Fatalf("effects before there is a process: %v", out.Effects)
		}
		out := w.forked()
		if !slices.Contains(out.Effects, Effect(Signal{w.m.Rec.Incarnation, "SIGTERM", spec.KillGroup})) {
			t.Fatalf("effects %v", out.Effects)
		}
		w.exited(Exit{Known: true, Signal: "SIGTERM"})
		w.want(t, Stopped)
	})
	t.Run("forced stop while the fork is under way", func(t *testing.T) {
		w := newWorld(daemonSpec())
		w.step(Start{})
		w.step(Stop{Force: true})
		if out := w.forked(); !slices.Contains(out.Effects, Effect(Kill{w.m.Rec.Incarnation})) {
			t.Fatalf("effects %v", out.Effects)
		}
	})
	t.Run("kill after the timeout", func(t *testing.T) {
		w := newWorld(daemonSpec())
		running(w)
		w.step(Stop{})
		if w.due-w.boot != 10*time.Second {
			t.Errorf("kill in %v", w.due-w.boot)
		}
		if out := w.fire(); !slices.Contains(out.Effects, Effect(Kill{w.m.Rec.Incarnation})) {
			t.Fatalf("effects %v", out.Effects)
		}
	})
	t.Run("what a dead daemon left is ended first", func(t *testing.T) {
		w := newWorld(restarting)
		running(w)
		inc := w.m.Rec.Incarnation
		out := w.step(Exited{Incarnation: inc, Exit: Exit{Known: true, Code: 3}, At: w.now, Boot: w.boot})
		w.want(t, Stopping)
		if !slices.Contains(out.Effects, Effect(Signal{inc, "SIGTERM", spec.KillAll})) {
			t.Fatalf("effects %v", out.Effects)
		}
		w.step(TreeEmpty{inc})
		w.want(t, Backoff)
		if w.m.Rec.LastExit.Code != 3 {
			t.Errorf("last exit %v", w.m.Rec.LastExit)
		}
	})
	t.Run("remove while running", func(t *testing.T) {
		w := newWorld(daemonSpec())
		running(w)
		if out := w.step(Remove{}); out.Err == nil {
			t.Fatal("not refused")
		}
		w.step(Remove{Force: true})
		if out := w.step(Start{}); out.Err == nil {
			t.Fatal("start of what is being removed is not refused")
		}
		if out := w.step(Change{Reg: w.m.Reg, Restart: true}); out.Err == nil {
			t.Fatal("change of what is being removed is not refused")
		}
		w.exited(Exit{Known: true})
		if !w.gone {
			t.Fatal("still there")
		}
	})
	t.Run("shutdown keeps what is wanted", func(t *testing.T) {
		for _, from := range []func(*world){backoff, running, func(w *world) { w.step(Start{}) }} {
			w := newWorld(restarting)
			from(w)
			w.step(Stop{Shutdown: true})
			if w.m.Rec.State == Stopping {
				if len(w.forks) > 0 {
					w.forked()
				}
				w.exited(Exit{Known: true})
			}
			w.want(t, Stopped)
			if w.m.Rec.Wanted != WantRunning || w.m.Rec.Ended {
				t.Errorf("record %+v", w.m.Rec)
			}
		}
	})
	t.Run("late news of an older incarnation is ignored", func(t *testing.T) {
		w := newWorld(restarting)
		running(w)
		old := w.m.Rec.Incarnation
		w.exited(Exit{Known: true})
		w.fire()
		before := w.m.Rec
		w.step(Exited{Incarnation: old, Empty: true})
		w.step(Forked{Incarnation: old, Process: Identity{PID: 7}})
		w.step(TreeEmpty{old})
		w.step(StartFailed{Incarnation: old})
		if w.m.Rec != before {
			t.Errorf("%+v became %+v", before, w.m.Rec)
		}
	})
	t.Run("a command that can't be started counts as a failure", func(t *testing.T) {
		d := daemonSpec()
		d.RestartPolicy.Policy = spec.RestartOnFailure
		w := newWorld(d)
		w.step(Start{})
		w.step(StartFailed{Incarnation: w.m.Rec.Incarnation, Reason: "not found"})
		w.want(t, Backoff)
		if w.m.Rec.Reason != "not found" {
			t.Errorf("reason %q", w.m.Rec.Reason)
		}
	})
}

// TestNoSequenceGoesAstray drives the machine through random sequences of
// commands, observations and recoveries.
func TestNoSequenceGoesAstray(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := daemonSpec()
		d.Autostart = rapid.Bool().Draw(t, "autostart")
		d.RestartPolicy.Policy = rapid.SampledFrom([]spec.Policy{spec.RestartNever, spec.RestartAlways, spec.RestartOnFailure}).Draw(t, "policy")
		d.RestartPolicy.BackoffBase = rapid.SampledFrom([]spec.Seconds{0, 1}).Draw(t, "base")
		if n := rapid.IntRange(-1, 3).Draw(t, "retries"); n >= 0 {
			d.RestartPolicy.MaxRetries = &n
		}
		if rapid.Bool().Draw(t, "depends") {
			d.DependsOn = []spec.Dependency{{Name: "other"}}
		}
		if rapid.Bool().Draw(t, "has ready") {
			d.Ready = &spec.Ready{Type: "notify", Timeout: spec.Seconds(rapid.SampledFrom([]int{0, 5}).Draw(t, "ready timeout"))}
		}
		if rapid.Bool().Draw(t, "has health") {
			d.HealthCheck = &spec.HealthCheck{Type: "tcp", OnUnhealthy: rapid.SampledFrom([]string{"restart", "none"}).Draw(t, "on unhealthy")}
		}
		if rapid.Bool().Draw(t, "grouped") {
			d.Group = "group"
		}
		scheduled := *d
		scheduled.Schedule = "*/2 * * * *"
		scheduled.SchedulePolicy = &spec.SchedulePolicy{
			Timezone: "UTC", Overlap: rapid.SampledFrom([]string{"skip", "queue", "replace"}).Draw(t, "overlap"), CatchUp: rapid.Bool().Draw(t, "catch up"),
		}
		alone := *d
		alone.Group, alone.DependsOn = "", nil
		specs := []*spec.Daemon{d, &scheduled, &alone}
		w := newWorld(rapid.SampledFrom(specs).Draw(t, "spec"))
		count, replay := int64(0), w.m.Rec
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if w.gone {
				break
			}
			w.pass(time.Duration(rapid.IntRange(0, 90).Draw(t, "pass")) * time.Second)
			rec := w.m.Rec
			inc := rec.Incarnation
			seen := len(w.events)
			switch what := rapid.SampledFrom([]string{
				"start", "stop", "kill", "restart", "remove", "shutdown", "change",
				"fork", "fork", "fails", "exit", "exit", "leftover", "empty", "timer", "crash", "fresh",
				"along", "give up", "proceed", "proceed", "rest", "dependency", "resume", "ready", "sick", "well", "fault", "run", "due", "clock",
			}).Draw(t, "what"); what {
			case "start":
				w.step(Start{Go: rapid.Bool().Draw(t, "go")})
			case "stop":
				w.step(Stop{})
			case "kill":
				w.step(Stop{Force: true})
			case "restart":
				w.step(Restart{})
			case "remove":
				w.step(Remove{Force: rapid.Bool().Draw(t, "force")})
			case "shutdown":
				w.step(Stop{Shutdown: true})
			case "change":
				w.step(Change{Reg: Registration{Spec: rapid.SampledFrom(specs).Draw(t, "spec")}, Restart: rapid.Bool().Draw(t, "restarts")})
			case "along":
				w.step(Stop{Shutdown: true, Along: "another"})
			case "give up":
				w.step(GiveUp{Incarnation: rapid.SampledFrom([]string{"", inc, "another"}).Draw(t, "of"), Reason: "enough"})
			case "proceed":
				w.step(Proceed{inc})
			case "rest":
				w.step(Rest{inc, "other"})
			case "dependency":
				w.step(DependencyFailed{inc, "other has failed"})
			case "resume":
				w.step(Resume{})
			case "ready":
				w.step(BecameReady{inc, "it says so"})
			case "sick":
				w.step(Probed{Incarnation: inc, Reason: "no answer"})
			case "well":
				w.step(Probed{Incarnation: inc, Healthy: true})
			case "fault":
				w.step(Faulted{inc, "its watchdog"})
			case "run":
				w.step(Run{})
			case "due":
				if !w.dueRun.IsZero() && !w.now.Before(w.dueRun) {
					w.step(Due{w.dueRun})
				}
			case "clock":
				w.now = w.now.Add(time.Duration(rapid.IntRange(-600, 600).Draw(t, "set")) * time.Second)
				w.step(ClockSet{})
			case "fork":
				if w.forks[inc] {
					w.forked()
				}
			case "fails":
				if w.forks[inc] {
					delete(w.forks, inc)
					w.step(StartFailed{Incarnation: inc, Reason: "no"})
				}
			case "exit":
				if w.live[inc] {
					w.exited(Exit{Known: true, Code: rapid.IntRange(0, 1).Draw(t, "code")})
				}
			case "leftover":
				if w.live[inc] {
					delete(w.live, inc)
					w.left[inc] = true
					w.step(Exited{Incarnation: inc, Exit: Exit{Known: true}, At: w.now, Boot: w.boot})
				}
			case "empty":
				if w.left[inc] {
					delete(w.left, inc)
					if w.lost[inc] {
						w.step(NotFound{inc})
					} else {
						w.step(TreeEmpty{inc})
					}
				}
			case "timer":
				if w.armed != 0 {
					w.fire()
				}
			case "fresh":
				if len(w.live)+len(w.left)+len(w.forks) > 0 {
					break
				}
				w.m = &Machine{Name: d.Name, Reg: w.m.Reg, Rec: w.m.Rec}
				w.armed, w.dueRun = 0, time.Time{}
				w.step(Recover{Fresh: true, BootID: "another"})
			case "crash":
				// A new manager, which knows the record alone.
				w.m = &Machine{Name: d.Name, Reg: w.m.Reg, Rec: w.m.Rec}
				w.armed, w.dueRun = 0, time.Time{}
				out := w.step(Recover{})
				for _, e := range out.Effects {
					switch e := e.(type) {
					case Attach:
						switch {
						case w.live[inc]:
							w.step(Attached{Incarnation: inc, Process: Identity{PID: 100 + w.ids}, At: w.now, Boot: w.boot})
						case e.Process == (Identity{}):
							delete(w.forks, inc)
							if w.left[inc] = rapid.Bool().Draw(t, "left behind"); w.left[inc] {
								w.lost[inc] = true
								w.step(LeftBehind{Incarnation: inc, Reason: "it won't die"})
								break
							}
							delete(w.left, inc)
							w.step(NotFound{inc})
						default:
							t.Fatalf("attach to %v, which is dead and was told of", e)
						}
					case Sweep:
						if rapid.Bool().Draw(t, "left behind") {
							w.lost[inc] = true
							w.step(LeftBehind{Incarnation: inc, Reason: "it won't die"})
							break
						}
						delete(w.left, inc)
						w.step(TreeEmpty{inc})
					}
				}
			}

			// What must hold whatever happened.
			rec = w.m.Rec
			if n := len(w.live) + len(w.left) + len(w.forks); n > 1 {
				t.Fatalf("%d incarnations at once", n)
			}
			busy := w.live[rec.Incarnation] || w.left[rec.Incarnation] || w.forks[rec.Incarnation]
			if rec.Waiting && (rec.State != Starting || busy) {
				t.Fatalf("it waits, %s, and something is there: %v", rec.State, busy)
			}
			if armed := w.m.isArmed(); armed != !rec.NextRunAt.IsZero() || armed != !w.dueRun.IsZero() {
				t.Fatalf("armed %v, next run %v, alarm %v; events %s", armed, rec.NextRunAt, w.dueRun, kinds(w.events))
			}
			if rec.Queued && (rec.State == Stopped || rec.State == Failed || rec.State == Scheduled) {
				t.Fatalf("%s, and a run waits for its end; events %s", rec.State, kinds(w.events))
			}
			if rec.State == Running && !rec.Ready && w.m.Reg.Spec.Ready != nil {
				t.Fatalf("running and not ready")
			}
			switch rec.State {
			case Starting, Running, Stopping:
				if !busy && !rec.Waiting {
					t.Fatalf("%s, but nothing is there; events %s", rec.State, kinds(w.events))
				}
				if rec.State == Running && !w.live[rec.Incarnation] {
					t.Fatalf("running without a process")
				}
				if rec.State == Stopping && !w.forks[rec.Incarnation] && !w.lost[rec.Incarnation] && w.armed == 0 && !w.m.forced {
					t.Fatalf("stopping without a timer that kills; events %s", kinds(w.events))
				}
			case Backoff:
				if busy || w.armed == 0 && !w.m.due || rec.NextRestartAt.IsZero() {
					t.Fatalf("backoff: busy %v, timer %d, next %v", busy, w.armed, rec.NextRestartAt)
				}
			case Stopped, Failed, Scheduled:
				if (rec.State == Scheduled) != (w.m.isArmed() && !w.gone) {
					t.Fatalf("%s, wanted %s, with schedule %q; events %s", rec.State, rec.Wanted, w.m.Reg.Spec.Schedule, kinds(w.events))
				}
				if busy && !w.gone {
					t.Fatalf("%s, but a process is there; events %s", rec.State, kinds(w.events))
				}
				if rec.Process != (Identity{}) {
					t.Fatalf("%s with a pid", rec.State)
				}
			default:
				t.Fatalf("undefined state %q", rec.State)
			}
			if rec.RestartCount < count {
				t.Fatalf("restart_count went back")
			}
			count = rec.RestartCount
			if d.RestartPolicy.MaxRetries != nil && rec.Attempt > *d.RestartPolicy.MaxRetries {
				t.Fatalf("attempt %d of %d", rec.Attempt, *d.RestartPolicy.MaxRetries)
			}
			// The journal's last record is the live one.
			for _, ev := range w.events[seen:] {
				if ev.Record != nil {
					replay = *ev.Record
				}
			}
			if replay != rec && !w.gone {
				t.Fatalf("the journal has %+v, the machine %+v", replay, rec)
			}
		}

		// A stop always ends in stopped.
		if w.gone {
			return
		}
		w.step(Stop{})
		inc := w.m.Rec.Incarnation
		if w.forks[inc] {
			w.forked()
		}
		if w.live[inc] {
			w.exited(Exit{Known: true, Signal: "SIGTERM"})
		}
		if w.left[inc] {
			w.step(TreeEmpty{inc})
		}
		if !w.gone && w.m.Rec.State != Stopped {
			t.Fatalf("after a stop: %s; events %s", w.m.Rec.State, kinds(w.events))
		}
	})
}

// A run that waits for the one before begins when that has ended by itself, and not
// when it is stopped: whoever stops it waits until nothing is left.
func TestAStopDropsTheQueuedRun(t *testing.T) {
	for _, waiting := range []bool{true, false} {
		d := daemonSpec()
		d.Schedule, d.SchedulePolicy = "*/2 * * * *", &spec.SchedulePolicy{Timezone: "UTC", Overlap: "queue"}
		if waiting {
			d.DependsOn = []spec.Dependency{{Name: "other"}}
		}
		w := newWorld(d)
		w.step(Start{})
		w.step(Run{})
		if !waiting {
			w.forked()
		}
		w.now = w.m.Rec.NextRunAt
		w.step(Due{w.now})
		if !w.m.Rec.Queued {
			t.Fatalf("it is not queued: %+v", w.m.Rec)
		}
		w.step(Stop{By: "other is stopped", Shutdown: true})
		if !waiting {
			w.exited(Exit{Known: true, Signal: "SIGTERM"})
		}
		w.want(t, Scheduled)
	}
}

// A run that is due when the manager ends is the next one's to see.
func TestNothingIsDueWhenTheManagerEnds(t *testing.T) {
	d := daemonSpec()
	d.Schedule, d.SchedulePolicy = "*/2 * * * *", &spec.SchedulePolicy{Timezone: "UTC", Overlap: "skip"}
	w := newWorld(d)
	w.step(Start{})
	due := w.m.Rec.NextRunAt
	w.m.Step(Due{due}, Env{Now: due, Ending: true})
	w.want(t, Scheduled)
	if !w.m.Rec.NextRunAt.Equal(due) {
		t.Errorf("the next run is %v, want %v", w.m.Rec.NextRunAt, due)
	}
}

func TestFresh(t *testing.T) {
	auto := daemonSpec()
	auto.Autostart = true
	running := Record{State: Running, Wanted: WantRunning, Incarnation: "old", Process: Identity{BootID: "b", PID: 9}}
	for _, tt := range []struct {
		name string
		d    *spec.Daemon
		rec  Record
		want State
	}{
		{"wanted running, after a shutdown", daemonSpec(), Record{State: Stopped, Wanted: WantRunning}, Starting},
		{"wanted running, after a reboot", daemonSpec(), running, Starting},
		{"wanted stopped", daemonSpec(), Record{State: Stopped, Wanted: WantStopped}, Stopped},
		{"failed", daemonSpec(), Record{State: Failed, Wanted: WantStopped}, Failed},
		{"autostart, completed", auto, Record{State: Stopped, Wanted: WantStopped}, Starting},
		{"autostart, failed", auto, Record{State: Failed, Wanted: WantStopped}, Starting},
		{"autostart, but a stop ended it", auto, Record{State: Stopped, Wanted: WantStopped, Ended: true}, Stopped},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(tt.d)
			w.m.Rec = tt.rec
			out := w.step(Recover{Fresh: true, BootID: "new"})
			w.want(t, tt.want)
			for _, e := range out.Effects {
				if _, ok := e.(Attach); ok {
					t.Error("a process was looked for")
				}
			}
		})
	}
}

// A manager that is the first on a boot may be killed while it starts what is
// wanted. The next one is the first again, and must not start a second copy.
func TestFreshAgainFindsWhatWasBegun(t *testing.T) {
	for _, rec := range []Record{
		{State: Running, Wanted: WantRunning, Incarnation: "i", Process: Identity{BootID: "new", PID: 9}},
		{State: Starting, Wanted: WantRunning, Incarnation: "i"},
	} {
		w := newWorld(daemonSpec())
		w.m.Rec = rec
		out := w.step(Recover{Fresh: true, BootID: "new"})
		if !slices.Contains(out.Effects, Effect(Attach{"i", rec.Process})) || len(w.forks) > 0 {
			t.Errorf("%s: effects %v", rec.State, out.Effects)
		}
	}
}

func TestWhatWasRemovedStaysSo(t *testing.T) {
	w := newWorld(daemonSpec())
	w.step(Remove{})
	n := len(w.events)
	for _, in := range []Input{Start{By: "start"}, Stop{By: "stop"}, Restart{By: "restart"}, Remove{Force: true}, Recover{}, TimerFired{}} {
		out := w.step(in)
		if out.Err != ErrRemoved || len(w.events) != n || len(out.Effects) > 0 {
			t.Errorf("%T after the removal: %+v", in, out)
		}
	}
}

// TestTheEndOvertakesTheDeath: news of an end may come before the news that the
// main process died and others are left.
func TestTheEndOvertakesTheDeath(t *testing.T) {
	for _, first := range []bool{true, false} { // whether the death was told before
		w := newWorld(daemonSpec())
		w.step(Start{By: "start"})
		w.forked()
		death := Exited{Incarnation: w.m.Rec.Incarnation, Exit: Exit{Known: true, Code: 3}, At: w.now, Boot: w.boot}
		end := death
		end.Empty = true
		if first {
			w.step(death)
			if w.m.Rec.State != Stopping || !w.m.Rec.Leftovers {
				t.Fatalf("after the death: %+v", w.m.Rec)
			}
		}
		w.step(end)
		if w.m.Rec.State != Failed || w.m.Rec.LastExit.Code != 3 {
			t.Fatalf("after the end: %+v", w.m.Rec)
		}
		if out := w.step(death); len(out.Events)+len(out.Effects) > 0 {
			t.Errorf("the late news did %+v", out)
		}
		exits := 0
		for _, e := range w.events {
			if e.Kind == EventExited {
				exits++
			}
		}
		if exits != 1 {
			t.Errorf("%d exits on record", exits)
		}
	}
}

// TestAnEndBeforeTheShutdown: a one-shot that completed before the shutdown,
// and is only waited for because of what it left, is not wanted any more.
func TestAnEndBeforeTheShutdown(t *testing.T) {
	for policy, want := range map[spec.Policy]Wanted{spec.RestartNever: WantStopped, spec.RestartAlways: WantRunning} {
		d := daemonSpec()
		d.RestartPolicy.Policy = policy
		w := newWorld(d)
		w.step(Start{By: "start"})
		w.forked()
		inc := w.m.Rec.Incarnation
		w.step(Exited{Incarnation: inc, Exit: Exit{Known: true}, At: w.now, Boot: w.boot})
		w.step(Stop{By: "shutdown", Shutdown: true})
		w.step(TreeEmpty{inc})
		if w.m.Rec.State != Stopped || w.m.Rec.Wanted != want || w.m.Rec.Ended {
			t.Errorf("policy %s: %+v, want it wanted %s", policy, w.m.Rec, want)
		}
	}
}

// TestRecoverStartsWhatIsWanted: the manager before died between a command and
// its start, or in the middle of a shutdown.
func TestRecoverStartsWhatIsWanted(t *testing.T) {
	for _, ending := range []bool{false, true} {
		w := newWorld(daemonSpec())
		w.m.Rec.Wanted = WantRunning
		w.step(Recover{Ending: ending})
		if started := w.m.Rec.State == Starting; started == ending {
			t.Errorf("ending %v: %+v", ending, w.m.Rec)
		}
	}
	w := newWorld(daemonSpec())
	w.step(Recover{})
	if w.m.Rec.State != Stopped {
		t.Errorf("nobody wants it: %+v", w.m.Rec)
	}
}

// A clock that was set back while no manager lived makes no backoff longer than
// its policy has it.
func TestBackoffAndAClockThatJumps(t *testing.T) {
	for _, jump := range []time.Duration{-24 * time.Hour, 0, 24 * time.Hour} {
		d := daemonSpec()
		d.RestartPolicy.Policy, d.RestartPolicy.BackoffBase = spec.RestartAlways, 8
		w := newWorld(d)
		w.m.Rec.State, w.m.Rec.Wanted, w.m.Rec.Attempt = Backoff, WantRunning, 1
		w.m.Rec.NextRestartAt = w.now.Add(16 * time.Second)
		w.now = w.now.Add(jump)
		var armed []time.Duration
		for _, e := range w.step(Recover{}).Effects {
			if e, ok := e.(Arm); ok {
				armed = append(armed, e.After)
			}
		}
		if len(armed) != 1 || armed[0] < 0 || armed[0] > 18*time.Second || jump == 0 && armed[0] != 16*time.Second {
			t.Errorf("a jump of %v: armed for %v", jump, armed)
		}
	}
}

// Its output may be read before who forked it has told of that.
func TestReadyBeforeThePIDIsKnown(t *testing.T) {
	d := daemonSpec()
	d.Ready = &spec.Ready{Type: "log", Pattern: "up", Timeout: 5}
	w := newWorld(d)
	w.step(Start{})
	w.step(BecameReady{w.m.Rec.Incarnation, "it wrote: up"})
	w.want(t, Starting)
	w.forked()
	w.want(t, Running)
	if !w.m.Rec.Ready {
		t.Error("it is not ready")
	}
	if w.armed != 0 {
		t.Error("the wait for its readiness goes on")
	}
}

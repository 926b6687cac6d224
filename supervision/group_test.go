package supervision

import (
	"fmt"
	"testing"
	"time"

	"github.com/cyber-boost/syspulse/spec"
	"pgregory.net/rapid"
)

// The intensity of a group by its definition: more than max_restarts firings within
// window_secs, on this boot, none counted before the group failed the last time.
func TestIntensity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit, window := rapid.IntRange(0, 4).Draw(t, "max"), rapid.IntRange(0, 10).Draw(t, "window")
		g := &spec.Group{Name: "g", Strategy: "one_for_one", MaxRestarts: &limit, Window: spec.Seconds(window)}
		var rec Record
		var since []time.Duration
		now, boot := time.Duration(0), "a"
		for i := range rapid.IntRange(1, 30).Draw(t, "firings") {
			if rapid.IntRange(0, 20).Draw(t, "boot") == 0 {
				boot, now, since = fmt.Sprint("boot", i), 0, nil
			}
			now += time.Duration(rapid.IntRange(0, 5000).Draw(t, "later")) * time.Millisecond
			since = append(since, now)
			within := 0
			for _, at := range since {
				if window == 0 || now-at <= time.Duration(window)*time.Second {
					within++
				}
			}
			var ev Event
			before := rec
			rec, ev = Fire(rec, g, "d", Firing{Incarnation: fmt.Sprint(i), BootID: boot, Up: now}, func(string) bool { return false })
			if failed := rec.State == Failed; failed != (within > limit) {
				t.Fatalf("failed %v with %d of %d", failed, within, limit)
			}
			if !rec.Firings.Has(fmt.Sprint(i)) {
				t.Fatal("the last one is not in the record")
			}
			if before.Firings.Has(fmt.Sprint(i)) {
				t.Fatal("the record of before was changed")
			}
			if len(rec.Firings.List) > limit+1 {
				t.Fatalf("%d are kept", len(rec.Firings.List))
			}
			if (ev.Kind == EventGroupFailed) != (rec.State == Failed) || *ev.Record != rec {
				t.Fatalf("the event is %+v", ev)
			}
			if rec.State == Failed {
				since = nil
			}
		}
	})
}

// What is counted is so once, however long a member has been in backoff, and
// whether the group has an intensity or not.
func TestAFiringUnderWayIsKept(t *testing.T) {
	two := 2
	for _, g := range []*spec.Group{
		{Name: "g", Strategy: "rest_for_one"},
		{Name: "g", Strategy: "rest_for_one", MaxRestarts: &two, Window: 60},
	} {
		inBackoff := map[string]bool{"old": true}
		underWay := func(incarnation string) bool { return inBackoff[incarnation] }
		rec, _ := Fire(Record{}, g, "a", Firing{Incarnation: "old", BootID: "b"}, underWay)
		for i, up := range []time.Duration{time.Hour, time.Hour + time.Second} {
			rec, _ = Fire(rec, g, "b", Firing{Incarnation: fmt.Sprint(i), BootID: "b", Up: up}, underWay)
			if rec.State == Failed {
				t.Fatal("one outside of the window was counted")
			}
		}
		if !rec.Firings.Has("old") {
			t.Fatalf("%v: a restart that is under way is forgotten: %v", g.MaxRestarts, rec.Firings.List)
		}
		delete(inBackoff, "old")
		if rec, _ = Fire(rec, g, "b", Firing{Incarnation: "last", BootID: "b", Up: 2 * time.Hour}, underWay); len(rec.Firings.List) != 1 {
			t.Fatalf("%v: kept for nothing: %v", g.MaxRestarts, rec.Firings.List)
		}
	}
}

func TestAMemberAsksForLeave(t *testing.T) {
	d := daemonSpec()
	d.Group = "g"
	d.RestartPolicy.Policy = spec.RestartAlways
	d.RestartPolicy.BackoffBase = 0
	w := newWorld(d)
	w.step(Start{})
	w.want(t, Starting)
	w.step(Proceed{w.m.Rec.Incarnation})
	w.forked()
	out := w.exited(Exit{Known: true})
	w.want(t, Backoff)
	if len(out.Effects) == 0 || out.Effects[len(out.Effects)-1] != (AskLeave{w.m.Rec.Incarnation}) {
		t.Fatalf("it doesn't ask: %v", out.Effects)
	}
	w.step(Proceed{"another"})
	w.want(t, Backoff)
	w.step(Proceed{w.m.Rec.Incarnation})
	w.want(t, Starting)
	if w.m.Rec.Waiting || w.m.Rec.RestartCount != 1 || w.m.Rec.Attempt != 1 {
		t.Errorf("%+v", w.m.Rec)
	}
}

func TestAlongWithAnother(t *testing.T) {
	d := daemonSpec()
	d.Group = "g"
	w := newWorld(d)
	w.step(Start{})
	w.step(Proceed{w.m.Rec.Incarnation})
	w.forked()
	w.step(Stop{Shutdown: true, Along: "db"})
	w.exited(Exit{Known: true, Signal: "SIGTERM"})
	w.want(t, Stopped)
	if w.m.Rec.Wanted != WantRunning || w.m.Rec.Along != "db" {
		t.Fatalf("%+v", w.m.Rec)
	}
	before := w.m.Rec
	w.step(Resume{})
	w.want(t, Starting)
	if w.m.Rec.RestartCount != 1 || w.m.Rec.Attempt != 0 || w.m.Rec.Along != "" {
		t.Errorf("restarted along: %+v", w.m.Rec)
	}
	// Started by hand instead, it is no automatic restart.
	w.m.Rec = before
	w.step(Start{})
	if w.m.Rec.RestartCount != 0 {
		t.Errorf("started by hand: %+v", w.m.Rec)
	}
}

func TestGivenUp(t *testing.T) {
	for _, state := range []State{Starting, Running, Backoff, Stopped, Scheduled} {
		d := daemonSpec()
		d.Group = "g"
		if state == Scheduled {
			d.Schedule = "@daily"
		}
		d.RestartPolicy.Policy = spec.RestartAlways
		w := newWorld(d)
		w.step(Start{})
		if state == Running || state == Backoff || state == Stopped {
			w.step(Proceed{w.m.Rec.Incarnation})
			w.forked()
		}
		switch state {
		case Backoff:
			w.exited(Exit{Known: true})
		case Stopped:
			w.step(Stop{Shutdown: true})
			w.exited(Exit{Known: true})
		}
		w.want(t, state)
		w.step(GiveUp{Incarnation: "another", Reason: "enough"})
		w.want(t, state)
		w.step(GiveUp{Reason: "enough"})
		if state == Running {
			w.want(t, Stopping)
			w.exited(Exit{Known: true, Signal: "SIGTERM"})
		}
		w.want(t, Failed)
		reason := "enough"
		if state == Backoff { // why its end was one too many
			reason = "exited with code 0; enough"
		}
		if w.m.Rec.Wanted != WantStopped || w.m.Rec.Reason != reason {
			t.Errorf("%s: %+v", state, w.m.Rec)
		}
	}
}

//go:build unix

package actors

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// stubborn is a daemon that only a kill ends. It has said so once it is deaf.
var stubborn = []string{"sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.05; done"}

func (f *fixture) declare(name, strategy string) {
	f.t.Helper()
	f.must(f.Add(context.Background(), api.AddRequest{Groups: []spec.Group{{Name: name, Strategy: strategy}}}))
}

// member is a change that puts a daemon into the group g.
func member(changes ...func(*spec.Daemon)) func(*spec.Daemon) {
	return func(d *spec.Daemon) {
		d.Group = "g"
		for _, change := range changes {
			change(d)
		}
	}
}

// lingers has a stubborn daemon live for so long after the signal.
func lingers(timeout spec.Seconds) func(*spec.Daemon) {
	return func(d *spec.Daemon) {
		d.StopTimeout = timeout
		d.Ready = &spec.Ready{Type: "log", Pattern: "deaf"}
	}
}

// A member that its group waits for may leave it, or be removed, instead of stopping.
func TestAGroupGoesOnWithoutWhoLeavesIt(t *testing.T) {
	for name, leave := range map[string]func(f *fixture, d *spec.Daemon){
		"removed": func(f *fixture, _ *spec.Daemon) {
			f.Remove(context.Background(), api.RemoveRequest{Selector: api.Selector{Names: []string{"deaf"}}, Force: true})
		},
		"put into another group": func(f *fixture, d *spec.Daemon) {
			other := *d
			other.Group = "other"
			if _, err := f.Apply(context.Background(), api.ApplyRequest{Daemons: []api.Registration{{Spec: &other}}}); err != nil {
				f.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.declare("g", "one_for_all")
			d := f.add("deaf", member(lingers(1.5)), stubborn...)
			f.add("lead", member(always(0)), "sleep", "1000")
			f.start("deaf", "lead")
			f.until("deaf", "deaf", func(d api.Details) bool { return d.Ready })
			lead := f.untilState("lead", supervision.Running)
			done := make(chan struct{})
			go func() {
				defer close(done)
				if name != "removed" {
					f.Stop(context.Background(), on("deaf"))
					return
				}
				leave(f, d)
			}()
			f.untilState("deaf", supervision.Stopping)
			kill(t, *lead.PID)
			waits := f.until("lead", "due", func(d api.Details) bool { return len(d.WaitingFor) > 0 })
			if waits.State != supervision.Backoff || !slices.Equal(waits.WaitingFor, []string{"deaf"}) {
				t.Errorf("%s, waits for %q", waits.State, waits.WaitingFor)
			}
			if name != "removed" {
				leave(f, d)
			}
			f.until("lead", "restarted", func(d api.Details) bool { return d.State == supervision.Running && d.RestartCount == 1 })
			<-done
		})
	}
}

// A leader doesn't rest because of those that start again along with it.
func TestALeaderWaitsForWhomItTookAlong(t *testing.T) {
	f := newFixture(t)
	f.declare("g", "one_for_all")
	f.add("db", member(), "sleep", "1000")
	f.add("api", member(needs("db")), "sleep", "1000")
	f.add("web", member(needs("api", "db"), always(0)), "sleep", "1000")
	f.start("web")
	kill(t, *f.untilState("web", supervision.Running).PID)
	f.until("web", "restarted", func(d api.Details) bool { return d.State == supervision.Running && d.RestartCount == 1 })
	if kinds := f.kinds("web"); strings.Contains(kinds, "stopped") {
		t.Error(kinds)
	}
}

// Who is kept from starting by something that its user has stopped lets the leader rest.
func TestALeaderRestsWithWhomItTookAlong(t *testing.T) {
	f := newFixture(t)
	f.declare("g", "one_for_all")
	f.add("db", member(), "sleep", "1000")
	f.add("api", member(needs("db")), "sleep", "1000")
	f.add("web", member(needs("api"), always(0.2)), "sleep", "1000")
	f.start("web")
	kill(t, *f.untilState("web", supervision.Running).PID)
	f.untilState("db", supervision.Stopped)
	f.stop("db")
	f.until("web", "at rest", func(d api.Details) bool { return d.State == supervision.Stopped })
	f.start("db")
	f.untilState("web", supervision.Running)
}

// Whoever is to be taken along may wait already by the time it is told so. Nobody waits
// for its end then: it would begin again only with the one who does.
func TestWhoWaitsAlreadyIsNotAwaited(t *testing.T) {
	f := newFixture(t)
	f.add("first", func(d *spec.Daemon) { d.Ready = &spec.Ready{Type: "log", Pattern: "never"} }, "sleep", "1000")
	f.add("waits", member(needs("first")), "sleep", "1000")
	f.start("waits")
	f.until("waits", "waiting", func(d api.Details) bool { return len(d.WaitingFor) > 0 })
	f.must(f.bulk(t.Context(), api.Selector{Names: []string{"waits"}}, 20*time.Second, order{}, func(reply func(outcome)) any {
		return command{Input: supervision.Stop{By: "first is restarted", Shutdown: true, Along: "first"}, Until: untilGone, Reply: reply}
	}))
}

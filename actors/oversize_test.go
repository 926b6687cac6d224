//go:build unix

package actors

import (
	"strings"
	"testing"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

func daemonSpec(t *testing.T, name string, command ...string) *spec.Daemon {
	t.Helper()
	d, err := spec.New(name, command)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What the journal can't hold is refused by every way in, and what it just can
// goes through all that may happen to a daemon.
func TestDaemonsThatAreTooLargeAreRefused(t *testing.T) {
	f := newFixture(t)
	large := daemonSpec(t, "large", "sleep", "1000")
	large.Env = map[string]string{"BIG": strings.Repeat("\x01", 40<<10)} // six bytes each in JSON
	regs := []api.Registration{{Spec: daemonSpec(t, "small", "true")}, {Spec: large}}
	_, err1 := f.Add(t.Context(), api.AddRequest{Daemons: regs})
	_, err2 := f.Apply(t.Context(), api.ApplyRequest{Daemons: regs})
	_, err3 := f.Import(t.Context(), api.State{Version: api.StateVersion, Daemons: []api.ExportedState{{Registration: regs[1], Wanted: supervision.WantRunning}}})
	for _, err := range []error{err1, err2, err3} {
		if err == nil || !strings.Contains(err.Error(), "it has 241 KiB in all, and 192 are the most") {
			t.Errorf("got %v", err)
		}
	}
	if list, err := f.Status(t.Context(), api.StatusQuery{}); err != nil || len(list) != 0 {
		t.Errorf("registered: %v, %v", list, err)
	}

	// A program with a name of 180 KiB can't be started, and its name would be in
	// the reason, the event and the registration.
	d := daemonSpec(t, "long", "/"+strings.Repeat("n", 180<<10))
	if _, err := f.Add(t.Context(), api.AddRequest{Daemons: []api.Registration{{Spec: d}}}); err != nil {
		t.Fatal(err)
	}
	if results, err := f.Start(t.Context(), on("long")); err != nil || results[0].OK {
		t.Fatalf("%v, %v", results, err)
	}
	if got := f.get("long"); got.State != supervision.Failed || got.Reason == nil || len(*got.Reason) > 3000 {
		t.Errorf("state %s, reason %v", got.State, got.Reason)
	}
	d.Description = "changed"
	if _, err := f.Apply(t.Context(), api.ApplyRequest{Daemons: []api.Registration{{Spec: d, Source: "/a.sys"}}}); err != nil {
		t.Fatal(err)
	}
	if p, err := f.Ping(t.Context()); err != nil || len(p.Warnings) > 0 {
		t.Errorf("%v, %v", p.Warnings, err)
	}
	f.crash()
	f.begin()
	if got := f.get("long"); got.Description == nil || *got.Description != "changed" {
		t.Errorf("the next manager knows %+v", got.Description)
	}
}

// An event that the journal can't take harms no other of its commit.
func TestOneBadEventIsLeftOutAlone(t *testing.T) {
	f := newFixture(t)
	event := func(name string, size int) supervision.Event {
		d := daemonSpec(t, name, "true")
		d.Command[0] = strings.Repeat("x", size)
		return supervision.Event{
			Time: wallNow(), Daemon: name, Kind: supervision.EventRegistered,
			Record: &supervision.Record{State: supervision.Stopped, Wanted: supervision.WantStopped},
			Spec:   &supervision.Registration{Spec: d},
		}
	}
	f.ledger.accept(appendEvents{Events: []supervision.Event{event("before", 1), event("bad", 300<<10), event("after", 1)}})
	f.system.Root.Send(f.journal, flush{})
	f.log.await(t, "an event can't be written")
	if err := f.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p, err := f.Ping(t.Context()); err != nil || len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], `of "bad" has`) {
		t.Errorf("%q, %v", p.Warnings, err)
	}
	f.crash()
	f.begin()
	for name, want := range map[string]bool{"before": true, "bad": false, "after": true} {
		if _, ok := f.ledger.snapshot()[name]; ok != want {
			t.Errorf("%s is known: %v", name, ok)
		}
	}
}

package cli

import (
	"testing"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/supervision"
)

func TestProgressLine(t *testing.T) {
	began := time.Now()
	row := func(name string, s supervision.State, change ...func(*api.Daemon)) api.Daemon {
		d := api.Daemon{Name: name, State: s, Wanted: supervision.WantRunning, Ready: s == supervision.Running, Health: supervision.HealthNotConfigured}
		if s == supervision.Running || s == supervision.Stopping {
			d.PID, d.StartedAt = new(1), new(began.Add(-time.Hour))
		}
		for _, c := range change {
			c(&d)
		}
		return d
	}
	waitsFor := func(name string) func(*api.Daemon) { return func(d *api.Daemon) { d.WaitingFor = []string{name} } }
	unwanted := func(d *api.Daemon) { d.Wanted = supervision.WantStopped }
	unchecked := func(d *api.Daemon) { d.Health = supervision.HealthUnknown }
	event := func(name string, k supervision.Kind, s supervision.State) api.Event {
		return api.Event{Daemon: &name, Event: k, State: &s}
	}
	all := api.Selector{All: true}
	for _, c := range []struct {
		name   string
		p      progress
		list   []api.Daemon
		events []api.Event
		want   string
	}{
		{"nothing is selected", progress{what: stopping}, []api.Daemon{row("a", supervision.Running)}, nil, ""},
		{"one", progress{what: stopping, selector: api.Selector{Names: []string{"a"}}}, []api.Daemon{row("a", supervision.Stopping)}, nil, "stopping a, 3s …"},
		{"one that stops behind another", progress{what: stopping, selector: api.Selector{Names: []string{"a"}}},
			[]api.Daemon{row("a", supervision.Running), row("b", supervision.Stopping)}, nil, "stopping a, 3s … waiting for b"},
		{"by group", progress{what: stopping, selector: api.Selector{Groups: []string{"g"}}},
			[]api.Daemon{row("a", supervision.Stopping, func(d *api.Daemon) { d.Group = new("g") }), row("b", supervision.Stopping)}, nil, "stopping a, 3s …"},
		{"events go on with it", progress{what: stopping, selector: all},
			[]api.Daemon{row("a", supervision.Running), row("b", supervision.Running), row("c", supervision.Stopped)},
			[]api.Event{event("a", supervision.EventStopping, supervision.Stopping), event("b", supervision.EventStopped, supervision.Stopped), event("new", supervision.EventRegistered, supervision.Stopped), {}},
			"stopping 2/3, 3s … waiting for a"},
		{"what waits is named last", progress{what: starting, selector: all},
			[]api.Daemon{row("a", supervision.Starting, waitsFor("z")), row("b", supervision.Starting, waitsFor("z")), row("z", supervision.Starting)}, nil,
			"starting 0/3, 3s … waiting for z"},
		{"many", progress{what: starting, selector: all},
			[]api.Daemon{row("d", supervision.Starting), row("c", supervision.Backoff), row("b", supervision.Starting), row("a", supervision.Starting), row("e", supervision.Starting)}, nil,
			"starting 0/5, 3s … waiting for a, b, c (+2)"},
		{"it hasn't come to all of them", progress{what: starting, selector: all},
			[]api.Daemon{row("a", supervision.Stopped, unwanted), row("b", supervision.Stopped, unwanted), row("c", supervision.Stopped, unwanted)},
			[]api.Event{event("b", supervision.EventWanted, supervision.Stopped), event("c", supervision.EventFailed, supervision.Failed)},
			"starting 1/3, 3s … waiting for a, b"},
		{"what runs is not yet restarted", progress{what: restarting, selector: all},
			[]api.Daemon{row("a", supervision.Running), row("b", supervision.Running), row("c", supervision.Running, func(d *api.Daemon) { d.StartedAt = new(began.Add(time.Second)) })},
			[]api.Event{event("b", supervision.EventStopping, supervision.Stopping), event("b", supervision.EventStarting, supervision.Starting), event("b", supervision.EventStarted, supervision.Running)},
			"restarting 2/3, 3s … waiting for a"},
		{"health is waited for", progress{what: starting, selector: all, wait: true},
			[]api.Daemon{row("a", supervision.Running, unchecked), row("b", supervision.Starting, unchecked), row("c", supervision.Starting, unchecked), row("d", supervision.Starting)},
			[]api.Event{
				event("b", supervision.EventStarted, supervision.Running),
				event("c", supervision.EventStarted, supervision.Running), event("c", supervision.EventHealth, supervision.Running),
				event("d", supervision.EventStarting, supervision.Starting), event("d", supervision.EventStarted, supervision.Running),
			},
			"starting 2/4, 3s … waiting for a, b"},
		{"health is not waited for", progress{what: starting, selector: all}, []api.Daemon{row("a", supervision.Running, unchecked), row("b", supervision.Starting)}, nil,
			"starting 1/2, 3s … waiting for b"},
		{"removed", progress{what: removing, selector: all}, []api.Daemon{row("a", supervision.Running), row("b", supervision.Running)},
			[]api.Event{{Daemon: new("a"), Event: supervision.EventRemoved}}, "removing 1/2, 3s … waiting for b"},
	} {
		c.p.began = began
		c.p.take(c.list)
		for _, e := range c.events {
			c.p.note(e)
		}
		if got := c.p.line(began.Add(3 * time.Second)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/client"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// answerWithin is how long a manager that lives may take for an answer. The
// longest stop takes half a second.
const answerWithin = 30 * time.Second

// A commander sends a random stream of commands to daemons that nobody else
// commands, and keeps account of what may be the case with them.
type commander struct {
	*suite
	id    int
	rng   *rand.Rand
	api   *client.Client
	mine  []*daemon
	sent  int
	acked int
}

// run sends commands until ctx ends. It pauses while the gate is held.
func (c *commander) run(ctx context.Context) {
	defer c.api.Close()
	for ctx.Err() == nil {
		c.gate.RLock()
		down := !c.up.Load()
		if !down && ctx.Err() == nil {
			c.one()
		}
		c.gate.RUnlock()
		pause := rand.N(40 * time.Millisecond)
		if down {
			pause = 5 * time.Millisecond
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// change says what a command may do to a fact; done is what it has done if it
// was acknowledged.
type change func(fact) (done fact)

func wants(w supervision.Wanted) change {
	return func(f fact) fact {
		if f.registered {
			f.wanted = w
		}
		return f
	}
}

func unregistered(fact) fact { return fact{} }

// registered is how it stands once it is registered: what has a schedule is armed.
func (d *daemon) registered() fact {
	f := fact{registered: true, wanted: supervision.WantStopped}
	if d.kind.schedule != "" {
		f.wanted = supervision.WantRunning
	}
	return f
}

// may widens what may be the case before a command is sent.
func (d *daemon) may(c change) {
	for f := range maps.Clone(d.maybe) {
		d.maybe[c(f)] = true
	}
}

// must narrows it once the command is acknowledged: of before, to what the
// command made of it.
func (d *daemon) must(before map[fact]bool, c change) {
	d.maybe = make(map[fact]bool)
	for f := range before {
		d.maybe[c(f)] = true
	}
}

// promise is an acknowledged command that the history must show.
type promise struct {
	what  string
	event supervision.Kind // or a start that failed
	since time.Time
}

func (c *commander) one() {
	d := c.mine[c.rng.IntN(len(c.mine))]
	name := api.Selector{Names: []string{d.name}}
	if d.stack != nil {
		c.oneOfStack(d)
		return
	}
	if d.kind.unasked {
		switch c.rng.IntN(3) {
		case 0:
			c.stop(d, api.ActionRequest{Selector: name})
		case 1:
			c.apply(d, false)
		default:
			c.remove(d)
			c.add(d)
		}
		return
	}
	switch c.rng.IntN(20) {
	case 0, 1, 2, 3, 4:
		c.start(d, api.ActionRequest{Selector: name})
	case 5, 6, 7:
		c.restart(d, api.ActionRequest{Selector: name, Force: c.rng.IntN(4) == 0})
	case 8, 9:
		c.stop(d, api.ActionRequest{Selector: name})
	case 10:
		c.stop(d, api.ActionRequest{Selector: name, Force: true})
	case 11:
		c.stop(d, api.ActionRequest{Selector: name, Timeout: new(spec.Seconds(0))})
	case 12:
		c.signal(d)
	case 13:
		c.apply(d, true)
	case 14:
		c.apply(d, false)
	case 15:
		c.remove(d)
	case 16:
		c.add(d)
	case 17:
		c.remove(d)
		c.add(d)
		c.start(d, api.ActionRequest{Selector: name})
	case 18:
		c.twoAtOnce(d)
	case 19:
		c.bulk()
	}
}

// call sends one command and classifies what came back. answered: the manager
// said something that is not just its end.
func (c *commander) call(what string, f func(ctx context.Context) error) (answered bool) {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	sent := time.Now()
	err := f(ctx)
	c.note(what, sent, err)
	if !errors.Is(err, api.ErrNoManager) {
		c.count(err == nil)
	}
	switch {
	case err == nil:
		return true
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		c.violation("a command was not answered", "%s: nothing for %v", what, answerWithin)
	}
	var e *api.Error
	if errors.As(err, &e) && (e.Code == api.CodeInternal || e.Code == api.CodeInvalid || e.Code == api.CodeNoRoute) {
		c.violation("a command failed", "%s: %v", what, e)
	}
	return false
}

// note keeps a record of a command, for whoever looks into a violation.
func (c *commander) note(what string, sent time.Time, err error) {
	const clock = "15:04:05.000000"
	answer := "answered"
	if err != nil {
		answer = err.Error()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.commandLog, "%s to %s, client %d: %s: %s\n", sent.Format(clock), time.Now().Format(clock), c.id, what, answer)
}

var counting sync.Mutex

func (c *commander) count(acked bool) {
	counting.Lock()
	defer counting.Unlock()
	c.sent++
	if acked {
		c.acked++
	}
}

// act is a command that answers with one result for each of some daemons. ok
// is called for each that was acknowledged.
func (c *commander) act(what string, ds []*daemon, ch change, f func(ctx context.Context) ([]api.Result, error), ok func(*daemon, api.Result, time.Time)) {
	before := make(map[string]map[fact]bool, len(ds))
	for _, d := range ds {
		before[d.name] = maps.Clone(d.maybe)
		d.may(ch)
	}
	sent := time.Now()
	var results []api.Result
	c.call(what, func(ctx context.Context) (err error) {
		results, err = f(ctx)
		return err
	})
	for _, r := range results {
		c.note(fmt.Sprintf("%s of %s: ok %v, state %s, changed %v", what, r.Name, r.OK, show(r.State), r.Changed), sent, nil)
	}
	for _, r := range results {
		if !r.OK {
			if r.Code == api.CodeInternal {
				c.violation("a command failed", "%s %s: %s", what, r.Name, *r.Error)
			}
			continue
		}
		for _, d := range ds {
			if d.name == r.Name {
				d.must(before[d.name], ch)
				if ok != nil {
					ok(d, r, sent)
				}
			}
		}
	}
}

func (c *commander) start(d *daemon, req api.ActionRequest) { c.starts("start", []*daemon{d}, req) }

func (c *commander) starts(what string, ds []*daemon, req api.ActionRequest) {
	c.act(what, withNeeds(ds), wants(supervision.WantRunning), func(ctx context.Context) ([]api.Result, error) {
		return c.api.Start(ctx, req)
	}, func(d *daemon, r api.Result, sent time.Time) {
		if r.Changed && !d.kind.waits() {
			d.promises = append(d.promises, promise{what, supervision.EventStarted, sent})
		}
	})
}

func (c *commander) restart(d *daemon, req api.ActionRequest) {
	c.restarts("restart", []*daemon{d}, req)
}

func (c *commander) restarts(what string, ds []*daemon, req api.ActionRequest) {
	c.act(what, withNeeds(ds), wants(supervision.WantRunning), func(ctx context.Context) ([]api.Result, error) {
		return c.api.Restart(ctx, req)
	}, func(d *daemon, r api.Result, sent time.Time) {
		if !r.PulledIn && !d.kind.waits() {
			d.promises = append(d.promises, promise{what, supervision.EventStarted, sent})
		}
	})
}

func (c *commander) stop(d *daemon, req api.ActionRequest) { c.stops("stop", []*daemon{d}, req) }

func (c *commander) stops(what string, ds []*daemon, req api.ActionRequest) {
	c.act(what, ds, wants(supervision.WantStopped), func(ctx context.Context) ([]api.Result, error) {
		return c.api.Stop(ctx, req)
	}, func(d *daemon, r api.Result, _ time.Time) {
		if r.State == nil && d.maybe[fact{}] {
			return // an earlier remove, which was not answered, has come to its end
		}
		if r.State == nil || *r.State != supervision.Stopped {
			c.violation("a stop did not stop", "%s of %s was acknowledged with %v", what, d.name, r)
		}
		c.mustBeGone(d, what)
	})
}

// mustBeGone: nobody but this client starts d, so its lock is free.
func (c *commander) mustBeGone(d *daemon, what string) {
	if c.held(d.name) {
		var who []string
		for _, p := range c.processes() {
			if p.name == d.name {
				who = append(who, fmt.Sprintf("%d (%s)", p.pid, p.incarnation))
			}
		}
		time.Sleep(50 * time.Millisecond)
		c.violation("a stop did not stop", "%s of %s was acknowledged, and something of it still runs: %v; 50 ms later its lock is held: %v", what, d.name, who, c.held(d.name))
	}
}

func (c *commander) signal(d *daemon) {
	sig := []string{"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGKILL"}[c.rng.IntN(5)]
	c.act("signal "+sig, []*daemon{d}, func(f fact) fact { return f }, func(ctx context.Context) ([]api.Result, error) {
		return c.api.Signal(ctx, api.SignalRequest{Selector: api.Selector{Names: []string{d.name}}, Signal: sig})
	}, nil)
}

// apply changes the registration, or makes one.
func (c *commander) apply(d *daemon, restarts bool) {
	if restarts {
		d.revision++
	} else {
		d.comment++
	}
	reg := c.spec(d, d.revision, d.comment)
	ch := func(f fact) fact {
		if !f.registered {
			f = d.registered()
		}
		f.revision, f.comment = d.revision, d.comment
		return f
	}
	before := maps.Clone(d.maybe)
	d.may(ch)
	if c.call("apply of "+d.name, func(ctx context.Context) error {
		_, err := c.api.Apply(ctx, api.ApplyRequest{Daemons: []api.Registration{{Spec: reg}}})
		return err
	}) {
		d.must(before, ch)
	}
}

func (c *commander) remove(d *daemon) {
	c.act("remove", []*daemon{d}, unregistered, func(ctx context.Context) ([]api.Result, error) {
		return c.api.Remove(ctx, api.RemoveRequest{Selector: api.Selector{Names: []string{d.name}}, Force: true})
	}, func(d *daemon, _ api.Result, _ time.Time) { c.mustBeGone(d, "remove") })
}

// add registers d, unless it is registered: then, if it is different, nothing
// happens.
func (c *commander) add(d *daemon) {
	reg := c.spec(d, d.revision, d.comment)
	ch := func(f fact) fact {
		if f.registered {
			return f
		}
		f = d.registered()
		f.revision, f.comment = d.revision, d.comment
		return f
	}
	c.act("add", []*daemon{d}, ch, func(ctx context.Context) ([]api.Result, error) {
		return c.api.Add(ctx, api.AddRequest{Daemons: []api.Registration{{Spec: reg}}})
	}, nil)
}

// twoAtOnce sends two commands that may be answered in either order.
func (c *commander) twoAtOnce(d *daemon) {
	for _, on := range withNeeds([]*daemon{d}) {
		on.may(wants(supervision.WantRunning))
	}
	d.may(wants(supervision.WantStopped))
	req := api.ActionRequest{Selector: api.Selector{Names: []string{d.name}}}
	ways := []func(context.Context, api.ActionRequest) ([]api.Result, error){c.api.Start, c.api.Stop, c.api.Restart}
	var wg sync.WaitGroup
	for range 2 {
		way := ways[c.rng.IntN(len(ways))]
		wg.Go(func() {
			c.call("two commands at once for "+d.name, func(ctx context.Context) error {
				_, err := way(ctx, req)
				return err
			})
		})
	}
	wg.Wait()
}

// asked are the daemons that this client may start.
func (c *commander) asked() []*daemon {
	return slices.DeleteFunc(slices.Clone(c.mine), func(d *daemon) bool { return d.kind.unasked })
}

// bulk commands all of them with one request.
func (c *commander) bulk() {
	ds := c.asked()
	names := api.Selector{Names: names(ds)}
	switch c.rng.IntN(4) {
	case 0:
		c.stops("bulk stop", ds, api.ActionRequest{Selector: names})
	case 1:
		c.restarts("bulk restart", ds, api.ActionRequest{Selector: names, Force: true})
	default:
		c.starts("bulk start", ds, api.ActionRequest{Selector: names})
	}
}

// oneOfStack sends a command to a daemon of a stack, or to several.
func (c *commander) oneOfStack(d *daemon) {
	name := api.Selector{Names: []string{d.name}}
	switch n := c.rng.IntN(24); n {
	case 0, 1, 2, 3, 4:
		c.start(d, api.ActionRequest{Selector: name})
	case 5, 6:
		c.restart(d, api.ActionRequest{Selector: name, Force: n == 5})
	case 7, 8:
		c.stop(d, api.ActionRequest{Selector: name})
	case 9:
		c.stop(d, api.ActionRequest{Selector: name, Force: true})
	case 10, 11, 12:
		c.signal(d)
	case 13:
		c.apply(d, true)
	case 14, 15:
		c.apply(d, false) // depends on something else then
	case 16:
		c.twoAtOnce(d)
	case 17:
		c.bulk()
	case 18:
		c.add(d)
	case 19, 20:
		if d.kind.leaf {
			c.remove(d)
			if n == 19 {
				c.add(d)
				c.start(d, api.ActionRequest{Selector: name})
			}
		}
	default:
		g := d.group()
		switch {
		case d.kind.schedule != "":
			c.runNow(d)
		case g == nil:
			c.starts("start of a stack", c.asked(), api.ActionRequest{Selector: api.Selector{Names: names(c.asked())}})
		case n == 21:
			c.declare(g)
		default:
			c.starts("start of a group", g.members, api.ActionRequest{Selector: api.Selector{Groups: []string{g.name}}})
		}
	}
}

// runNow begins a run, armed or not. Nothing changes in what is wanted.
func (c *commander) runNow(d *daemon) {
	c.act("run", []*daemon{d}, func(f fact) fact { return f }, func(ctx context.Context) ([]api.Result, error) {
		return c.api.Run(ctx, api.RunRequest{Selector: api.Selector{Names: []string{d.name}}})
	}, func(d *daemon, r api.Result, sent time.Time) {
		if r.Changed && len(d.kind.needs) == 0 {
			d.promises = append(d.promises, promise{"run", supervision.EventStarted, sent})
		}
	})
}

// declare gives a group a strategy, another one or the same.
func (c *commander) declare(g *groupOf) {
	strategy := g.strategies[c.rng.IntN(len(g.strategies))]
	g.maybe[strategy] = true
	if c.call("declaration of "+g.name, func(ctx context.Context) error {
		_, err := c.api.Apply(ctx, api.ApplyRequest{Groups: []spec.Group{g.spec(strategy)}})
		return err
	}) {
		g.maybe = map[string]bool{strategy: true}
	}
}

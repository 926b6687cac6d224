package actors

import (
	"context"
	"fmt"
	"hash/maphash"
	mathrand "math/rand/v2"
	"reflect"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/cyber-boost/syspulse/platform"
	"github.com/cyber-boost/syspulse/probe"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// Messages to a probe actor.
type (
	// beginProbe begins to check an incarnation, or goes on with another spec.
	// What of the spec's checks is as it was goes on undisturbed.
	beginProbe struct {
		Incarnation string
		Spec        *spec.Daemon
		Ready       bool          // it is ready, or needs nothing to show that
		Up          time.Duration // since its start
	}
	// endProbe: the incarnation is over, or is being stopped.
	endProbe struct{}

	// checkDue: it is time for a check.
	checkDue struct{ c *checking }
	// checkDone is the result of one.
	checkDone struct {
		c      *checking
		result probe.Result
	}
)

// Readiness is looked for often at first.
const (
	readyFirst   = 50 * time.Millisecond // after the start
	readyMost    = time.Second           // between two checks
	readyTimeout = spec.DefaultTimeout   // of one check
)

// healthFirst is when a new daemon is first asked for its health. A user who has
// started it shall not wait for a whole interval.
const healthFirst = 100 * time.Millisecond

// crowdStep is by how much the first checks of daemons that were started together
// are spread, for each.
const crowdStep = 2 * time.Millisecond

// prober checks the health and the readiness of one daemon. Its checks run on
// goroutines of their own, never more than one of a kind at a time; between them
// there is an alarm and nothing else.
//
// Health is checked on a grid of intervals. Where a daemon's grid lies is decided
// by its name, so that those of many daemons are spread. Failures count on the
// grid alone, and, until the first success, not before one interval after the
// start. Until then there are checks in between, after growing delays, which
// count if they succeed.
type prober struct{ *probeCell }

// newProber makes the actor of a daemon, and the one that replaces it after a fault.
func newProber(t *tree, daemon string) func() actor.Actor {
	c := &probeCell{tree: t, name: daemon, account: platform.LookupAccount}
	return func() actor.Actor { return &prober{c} }
}

// probeCell is what outlives a fault of the probe actor.
type probeCell struct {
	*tree
	name    string
	account func(string) (*platform.Account, error)

	probing beginProbe // zero: nothing is checked
	started time.Time
	health  *checking
	ready   *checking // nil once it is ready

	verdict  *bool             // what the daemon was told last: healthy or not
	failures int               // of health, that count, in a row
	shown    *spec.HealthCheck // what the results that are kept are of
}

// checking is one of the two things that are checked, from beginProbe or a fault on.
type checking struct {
	probe.Check
	alarm   alarm
	under   bool // a check is under way
	counts  bool // if that one fails, it counts
	delay   time.Duration
	ctx     context.Context // of its checks
	cancel  context.CancelFunc
	settled bool // it is known how it does: no longer new
}

func (p *prober) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		if p.probing.Spec != nil { // another actor failed
			p.stopChecking(&p.health)
			p.stopChecking(&p.ready)
			p.begin(ctx)
		}
	case *actor.Stopping:
		p.end()
	case *actor.Stopped:
		p.probes.forget(p.name)
	case beginProbe:
		p.take(ctx, msg)
	case endProbe:
		p.end()
	case checkDue:
		p.check(ctx, msg.c)
	case checkDone:
		switch msg.c {
		case p.health:
			p.healthChecked(ctx, msg.result)
		case p.ready:
			p.readyChecked(ctx, msg.result)
		}
	}
}

// take begins with what a message asks for, as far as it isn't under way.
func (p *prober) take(ctx actor.Context, msg beginProbe) {
	last := p.probing
	p.probing, p.started = msg, time.Now().Add(-msg.Up)
	sameHealth := last.Spec != nil && reflect.DeepEqual(last.Spec.HealthCheck, msg.Spec.HealthCheck)
	sameReady := last.Spec != nil && reflect.DeepEqual(last.Spec.Ready, msg.Spec.Ready)
	again := last.Incarnation == msg.Incarnation
	if !again || !sameHealth {
		p.stopChecking(&p.health)
		p.verdict, p.failures = nil, 0
		p.probes.note(p.name, func(d *probed) {
			d.failures = 0
			if !reflect.DeepEqual(p.shown, msg.Spec.HealthCheck) {
				d.results = nil
			}
		})
		p.shown = msg.Spec.HealthCheck
	}
	if !again || !sameReady || msg.Ready {
		p.stopChecking(&p.ready)
		p.probes.note(p.name, func(d *probed) { d.readiness = "" })
	}
	p.begin(ctx)
}

// begin begins what is to be checked and isn't.
func (p *prober) begin(ctx actor.Context) {
	d := p.probing.Spec
	if h := d.HealthCheck; h != nil && p.health == nil {
		p.health = p.newChecking(h.Type, h.Target, h.Timeout.Duration())
		p.health.settled = p.verdict != nil
		p.health.delay = healthFirst
		if !p.health.settled {
			p.crowd(p.health, 1)
		}
		p.nextHealth(ctx)
	}
	r := d.Ready
	if r == nil || p.probing.Ready || p.ready != nil {
		return
	}
	switch r.Type {
	case "http", "tcp", "command":
		p.ready = p.newChecking(r.Type, r.Target, readyTimeout.Duration())
		p.ready.delay = readyFirst
		p.crowd(p.ready, 1)
		p.later(ctx, p.ready, p.ready.delay)
	case "delay":
		p.ready = p.newChecking(r.Type, "", 0)
		p.ready.settled = true
		p.later(ctx, p.ready, max(time.Until(p.started.Add(r.Delay.Duration())), 0))
	}
}

func (p *prober) newChecking(kind, target string, timeout time.Duration) *checking {
	c := &checking{Check: probe.Check{Type: kind, Target: target, Timeout: timeout, Host: p.host}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if kind == "command" {
		c.Command = p.command()
	}
	return c
}

// command makes what the commands of this incarnation's checks have in common with
// its daemon. The account and the environment files are read before the first one.
func (p *prober) command() func() (platform.Command, error) {
	d, name, marks, account := p.probing.Spec, p.name, p.marks, p.account
	var mu sync.Mutex
	var made *platform.Command
	return func() (platform.Command, error) {
		mu.Lock()
		defer mu.Unlock()
		if made == nil {
			a, err := account(d.User)
			if err != nil {
				return platform.Command{}, err
			}
			cmd, err := launchCommand(d, "", "", a)
			if err != nil {
				return platform.Command{}, err
			}
			// What becomes of it is no manager's concern but this one's, and a watchdog
			// isn't meant for it.
			cmd.Keep, cmd.WatchdogPID = false, false
			made = &cmd
		}
		cmd := *made
		cmd.Incarnation = marks.nextCheck(name)
		return cmd, nil
	}
}

// crowd counts c in, or out, among those that are new.
func (p *prober) crowd(c *checking, n int) {
	most := p.probes.crowd(n)
	if n > 0 {
		c.delay += time.Duration(mathrand.Float64() * float64(most) * float64(crowdStep))
	}
}

// settle counts c out.
func (p *prober) settle(c *checking) {
	if !c.settled {
		c.settled = true
		p.crowd(c, -1)
	}
}

func (p *prober) stopChecking(c **checking) {
	if *c == nil {
		return
	}
	p.settle(*c)
	p.alarms.clear(&(*c).alarm)
	(*c).cancel()
	*c = nil
}

func (p *prober) end() {
	p.stopChecking(&p.health)
	p.stopChecking(&p.ready)
	p.probing = beginProbe{Incarnation: p.probing.Incarnation}
}

// later has c checked after d.
func (p *prober) later(ctx actor.Context, c *checking, d time.Duration) {
	system, self := ctx.ActorSystem(), ctx.Self()
	p.alarms.set(&c.alarm, d, func() { system.Root.Send(self, checkDue{c}) })
}

// check makes a check on a goroutine of its own.
func (p *prober) check(ctx actor.Context, c *checking) {
	if c != p.health && c != p.ready || c.under {
		return
	}
	if c.Type == "delay" {
		p.becameReady(ctx, fmt.Sprintf("%v have passed", p.probing.Spec.Ready.Delay.Duration()))
		return
	}
	c.under = true
	system, self := ctx.ActorSystem(), ctx.Self()
	p.checks.run(func() {
		if c.ctx.Err() != nil { // while it waited for its turn
			return
		}
		result := c.Run(c.ctx)
		if c.ctx.Err() == nil {
			system.Root.Send(self, checkDone{c, result})
		}
	})
}

func (p *prober) healthChecked(ctx actor.Context, r probe.Result) {
	c, h := p.health, p.probing.Spec.HealthCheck
	c.under = false
	first := !c.settled
	switch {
	case r.OK:
		p.failures = 0
	case r.Lacking:
		p.log.Warn("a health check can't be made", "daemon", p.name, "error", r.Error)
	case c.counts && r.At.Sub(p.started) >= h.StartPeriod.Duration():
		p.failures++
	}
	p.probes.note(p.name, func(d *probed) {
		d.add(r)
		d.failures = p.failures
	})
	switch {
	case r.OK:
		p.tell(ctx, true, "")
	case p.failures >= h.Retries:
		reason := "a health check failed: " + r.Error
		if p.failures > 1 {
			reason = fmt.Sprintf("%d health checks failed in a row, the last one: %s", p.failures, r.Error)
		}
		p.tell(ctx, false, reason)
	}
	if first {
		c.delay *= 2
	}
	p.nextHealth(ctx)
}

// tell tells the daemon of its health when that has changed.
func (p *prober) tell(ctx actor.Context, healthy bool, reason string) {
	if p.verdict != nil && *p.verdict == healthy {
		return
	}
	p.verdict = &healthy
	p.settle(p.health)
	ctx.Send(ctx.Parent(), observed{Input: supervision.Probed{Incarnation: p.probing.Incarnation, Healthy: healthy, Reason: reason}})
}

// nextHealth sets the alarm for the next check of health.
func (p *prober) nextHealth(ctx actor.Context) {
	c, h := p.health, p.probing.Spec.HealthCheck
	now, interval := time.Now(), h.Interval.Duration()
	earliest := now
	if first := p.started.Add(interval); !c.settled && first.After(now) {
		earliest = first
	}
	d := gridAfter(earliest, p.name, interval).Sub(now)
	c.counts = true
	if !c.settled && p.verdict == nil && c.delay < min(interval, d) {
		d, c.counts = c.delay, false
	}
	p.later(ctx, c, d)
}

// gridEpoch is where all grids are counted from, gridSeed what spreads them.
var (
	gridEpoch = time.Now()
	gridSeed  = maphash.MakeSeed()
)

// gridAfter is the first point of a daemon's grid after t.
func gridAfter(t time.Time, daemon string, interval time.Duration) time.Time {
	interval = max(interval, time.Millisecond)
	phase := time.Duration(float64(maphash.String(gridSeed, daemon)) / (1 << 64) * float64(interval))
	since := t.Sub(gridEpoch) - phase
	n := since / interval
	if since%interval < 0 {
		n--
	}
	return t.Add((n+1)*interval - since)
}

func (p *prober) readyChecked(ctx actor.Context, r probe.Result) {
	c := p.ready
	c.under = false
	if r.OK {
		p.becameReady(ctx, fmt.Sprintf("its %s check succeeded", c.Type))
		return
	}
	p.probes.note(p.name, func(d *probed) { d.readiness = r.Error })
	c.delay = min(2*c.delay, readyMost)
	p.later(ctx, c, c.delay)
}

func (p *prober) becameReady(ctx actor.Context, how string) {
	p.stopChecking(&p.ready)
	p.probing.Ready = true
	p.probes.note(p.name, func(d *probed) { d.readiness = "" })
	ctx.Send(ctx.Parent(), observed{Input: supervision.BecameReady{Incarnation: p.probing.Incarnation, How: how}})
}

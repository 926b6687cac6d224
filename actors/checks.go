package actors

import (
	"slices"
	"sync"
	"time"

	"github.com/cyber-boost/syspulse/probe"
)

const (
	// checksAtOnce bounds the checks of the whole manager that are at work at
	// the same time. Others wait for their turn, in order.
	checksAtOnce = 32
	// checkPatience is how long a check keeps others waiting. One that takes
	// longer waits for an answer that may never come, and costs little.
	checkPatience = time.Second
)

// checks runs the checks of all daemons. Safe for concurrent use.
type checks struct {
	alarms *alarms

	mu      sync.Mutex
	busy    int      // places that are taken
	queue   []func() // for a place
	done    bool
	running sync.WaitGroup
}

// run calls f on a goroutine, as soon as there is a place.
func (c *checks) run(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.done:
	case c.busy < checksAtOnce:
		c.beginLocked(f)
	default:
		c.queue = append(c.queue, f)
	}
}

func (c *checks) beginLocked(f func()) {
	c.busy++
	free := sync.OnceFunc(c.free)
	impatience := new(alarm)
	c.alarms.set(impatience, checkPatience, free)
	c.running.Go(func() {
		defer free()
		defer c.alarms.clear(impatience)
		f()
	})
}

// free gives a place to who has waited longest.
func (c *checks) free() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy--
	if c.done || len(c.queue) == 0 {
		return
	}
	f := c.queue[0]
	c.queue[0] = nil
	if c.queue = c.queue[1:]; len(c.queue) == 0 {
		c.queue = nil
	}
	c.beginLocked(f)
}

// stop begins no more checks and waits for those that run. Somebody else has
// cancelled them.
func (c *checks) stop() {
	c.mu.Lock()
	c.done, c.queue = true, nil
	c.mu.Unlock()
	c.running.Wait()
}

// keptResults is how many results of a daemon's health checks are kept.
const keptResults = 5

// probes are the last results of checks, by daemon. Safe for concurrent use.
type probes struct {
	mu  sync.Mutex
	all map[string]*probed
	new int // daemons that have yet to show that they are there
}

// probed is what the checks of one daemon have shown.
type probed struct {
	results   []probe.Result // newest first
	failures  int            // that count, in a row
	readiness string         // why the last check of readiness failed
}

// of is what is known of a daemon.
func (p *probes) of(daemon string) probed {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.all[daemon]; d != nil {
		return probed{slices.Clone(d.results), d.failures, d.readiness}
	}
	return probed{}
}

// note changes what is known of a daemon.
func (p *probes) note(daemon string, change func(*probed)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.all = make(map[string]*probed)
	}
	if p.all[daemon] == nil {
		p.all[daemon] = new(probed)
	}
	change(p.all[daemon])
}

func (p *probes) forget(daemon string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.all, daemon)
}

func (d *probed) add(r probe.Result) {
	d.results = slices.Insert(d.results, 0, r)
	d.results = d.results[:min(len(d.results), keptResults)]
}

// crowd changes by n how many daemons are new, and returns how many that are.
func (p *probes) crowd(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.new += n
	return p.new
}

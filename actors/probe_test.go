//go:build unix

package actors

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/platform"
	"github.com/cyber-boost/syspulse/probe"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// probeParent is in the daemon's place.
type probeParent struct {
	tree     *tree
	names    []string
	probers  chan *actor.PID
	observed chan supervision.Input
}

func (p *probeParent) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		for _, name := range p.names {
			p.probers <- p.tree.spawn(ctx, "probe-"+name, newProber(p.tree, name))
		}
	case observed:
		p.observed <- msg.Input
	}
}

func (p *probeParent) HandleFailure(system *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID, rs *actor.RestartStatistics, reason, message any) {
	supervisor.RestartChildren(child)
}

// probing is a prober without a manager.
type probing struct {
	*probeParent
	t      *testing.T
	system *actor.ActorSystem
	pid    *actor.PID // of the first one
	all    []*actor.PID
}

func newProbing(t *testing.T, names ...string) *probing {
	dir := t.TempDir()
	host, err := platform.New(platform.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	alarms := newAlarms()
	tr := &tree{host: host, alarms: alarms, checks: &checks{alarms: alarms}, log: slog.New(slog.DiscardHandler), marks: newMarks(dir)}
	p := &probing{
		probeParent: &probeParent{tree: tr, names: names, probers: make(chan *actor.PID, len(names)), observed: make(chan supervision.Input, 10_000)},
		t:           t, system: actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) })),
	}
	root := p.system.Root.Spawn(props(func() actor.Actor { return p.probeParent }))
	t.Cleanup(func() {
		p.system.Root.StopFuture(root).Wait()
		tr.checks.stop()
		alarms.stop()
		p.system.Shutdown()
		host.Close()
		if n := tr.probes.crowd(0); n != 0 {
			t.Errorf("%d are still counted as new", n)
		}
	})
	for range names {
		p.all = append(p.all, <-p.probers)
	}
	p.pid = p.all[0]
	return p
}

func (p *probing) begin(d *spec.Daemon) {
	p.system.Root.Send(p.pid, beginProbe{Incarnation: "i", Spec: d, Ready: d.Ready == nil})
}

// next is what the daemon is told next.
func (p *probing) next() supervision.Input {
	p.t.Helper()
	select {
	case in := <-p.observed:
		return in
	case <-time.After(20 * time.Second):
		p.t.Fatalf("nothing is told; %+v", p.tree.probes.of(p.names[0]))
		return nil
	}
}

func (p *probing) expect(want supervision.Input) {
	p.t.Helper()
	if got := p.next(); got != want {
		p.t.Errorf("told %+v, want %+v", got, want)
	}
}

// until waits for what is known of the daemon to be as ok says.
func (p *probing) until(what string, ok func(probed) bool) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(p.tree.probes.of(p.names[0])); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("never %s: %+v", what, p.tree.probes.of(p.names[0]))
		}
	}
}

func withCheck(name, kind, target string, interval spec.Seconds) *spec.Daemon {
	return &spec.Daemon{Name: name, Command: []string{"sleep"}, HealthCheck: &spec.HealthCheck{
		Type: kind, Target: target, Interval: interval, Timeout: 5, Retries: 3, OnUnhealthy: "restart",
	}}
}

// A file says whether the daemon is well.
func well(t *testing.T, path string, is bool) {
	t.Helper()
	err := os.WriteFile(path, nil, 0o600)
	if !is {
		err = os.Remove(path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestHealthChanges(t *testing.T) {
	p := newProbing(t, "web")
	file := filepath.Join(t.TempDir(), "well")
	well(t, file, true)
	p.begin(withCheck("web", "command", "test -f "+file, 0.02))
	healthy := supervision.Probed{Incarnation: "i", Healthy: true}
	p.expect(healthy)
	well(t, file, false)
	p.expect(supervision.Probed{Incarnation: "i", Reason: "3 health checks failed in a row, the last one: exit code 1"})
	p.until("failing on", func(d probed) bool { return d.failures > 4 }) // and the daemon is told once
	well(t, file, true)
	p.expect(healthy)
	p.until("well", func(d probed) bool {
		return d.failures == 0 && len(d.results) == keptResults && d.results[0].OK && d.results[0].At.After(d.results[1].At)
	})
	p.system.Root.Send(p.pid, endProbe{})
	p.until("still known", func(d probed) bool { return len(d.results) > 0 })
}

// Whoever starts a daemon need not wait for an interval to see that it is well.
func TestHealthyEarly(t *testing.T) {
	p := newProbing(t, "web")
	file := filepath.Join(t.TempDir(), "well")
	p.begin(withCheck("web", "command", "test -f "+file, 3600))
	p.until("checked", func(d probed) bool { return len(d.results) >= 2 })
	if d := p.tree.probes.of("web"); d.failures != 0 || d.results[0].OK {
		t.Errorf("%+v", d)
	}
	well(t, file, true)
	p.expect(supervision.Probed{Incarnation: "i", Healthy: true})
}

func TestStartPeriod(t *testing.T) {
	p := newProbing(t, "web")
	d := withCheck("web", "command", "false", 0.02)
	d.HealthCheck.StartPeriod = 3600
	p.begin(d)
	p.until("checked", func(d probed) bool { return len(d.results) == keptResults })
	if d := p.tree.probes.of("web"); d.failures != 0 {
		t.Errorf("%+v", d)
	}
	// The same incarnation, asked with another spec.
	other := *d
	check := *d.HealthCheck
	other.HealthCheck, check.StartPeriod, check.Retries = &check, 0, 1
	p.begin(&other)
	p.expect(supervision.Probed{Incarnation: "i", Reason: "a health check failed: exit code 1"})
}

func TestReadiness(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	p := newProbing(t, "web")
	p.begin(&spec.Daemon{Name: "web", Ready: &spec.Ready{Type: "tcp", Target: address}})
	p.until("asked", func(d probed) bool { return d.readiness == "connection refused on "+address })
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p.expect(supervision.BecameReady{Incarnation: "i", How: "its tcp check succeeded"})
	if d := p.tree.probes.of("web"); d.readiness != "" {
		t.Errorf("%+v", d)
	}

	// An adopted one has done its waiting already.
	delayed := &spec.Daemon{Name: "web", Ready: &spec.Ready{Type: "delay", Delay: 3600}}
	p.system.Root.Send(p.pid, beginProbe{Incarnation: "j", Spec: delayed, Up: 3600 * time.Second})
	p.expect(supervision.BecameReady{Incarnation: "j", How: "1h0m0s have passed"})
	for _, kind := range []string{"log", "notify"} { // somebody else's
		p.system.Root.Send(p.pid, beginProbe{Incarnation: "k", Spec: &spec.Daemon{Name: "web", Ready: &spec.Ready{Type: kind}}})
	}
	p.system.Root.Send(p.pid, beginProbe{Incarnation: "l", Spec: &spec.Daemon{Name: "web", Ready: &spec.Ready{Type: "delay"}}})
	p.expect(supervision.BecameReady{Incarnation: "l", How: "0s have passed"})
}

// News of one incarnation is never told of another, and a check of the one before
// is over at once, with all that it started.
func TestCheckOfTheLastIncarnation(t *testing.T) {
	p := newProbing(t, "web")
	dir := t.TempDir()
	d := withCheck("web", "command", "echo $$ > "+dir+"/pid.new && mv "+dir+"/pid.new "+dir+"/pid; sleep 9973", 0.02)
	d.HealthCheck.Timeout = 3600
	p.begin(d)
	p.until("begun", func(probed) bool { _, err := os.Stat(dir + "/pid"); return err == nil })
	b, err := os.ReadFile(dir + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	fmt.Sscan(string(b), &pid)
	p.system.Root.Send(p.pid, beginProbe{Incarnation: "j", Spec: withCheck("web", "command", "true", 3600), Ready: true})
	p.expect(supervision.Probed{Incarnation: "j", Healthy: true})
	p.until("ended", func(probed) bool { return !alive(pid) })
}

// A prober that fails is replaced, and the new one goes on.
func TestProberFault(t *testing.T) {
	p := newProbing(t, "web")
	file := filepath.Join(t.TempDir(), "well")
	d := withCheck("web", "command", "test -f "+file, 0.02)
	d.HealthCheck.StartPeriod = 3600
	d.Ready = &spec.Ready{Type: "command", Target: "test -f " + file}
	p.begin(d)
	p.until("checked", func(d probed) bool { return len(d.results) > 0 && d.readiness != "" })
	p.system.Root.Send(p.pid, injected{"a fault of the test"})
	well(t, file, true)
	for _, in := range []supervision.Input{p.next(), p.next()} {
		switch in {
		case supervision.Probed{Incarnation: "i", Healthy: true}, supervision.BecameReady{Incarnation: "i", How: "its command check succeeded"}:
		default:
			t.Errorf("told %+v", in)
		}
	}
	p.system.Root.Send(p.pid, injected{"a second one"})
	well(t, file, false)
	d2 := *d
	check := *d.HealthCheck
	d2.HealthCheck, check.StartPeriod = &check, 0
	p.begin(&d2)
	if in, ok := p.next().(supervision.Probed); !ok || in.Healthy {
		t.Errorf("told %+v", in)
	}
}

// Many daemons that are started together: each is asked, and not all at once.
func TestManyProbes(t *testing.T) {
	const many = 1000
	var names []string
	for i := range many {
		names = append(names, fmt.Sprint("d", i))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := newProbing(t, names...)
	for i, pid := range p.all {
		p.system.Root.Send(pid, beginProbe{Incarnation: names[i], Spec: withCheck(names[i], "tcp", l.Addr().String(), 3600), Ready: true})
	}
	seen := make(map[string]bool)
	var spread [2]time.Time
	for range many {
		in := p.next().(supervision.Probed)
		if !in.Healthy || seen[in.Incarnation] {
			t.Errorf("told %+v", in)
		}
		seen[in.Incarnation] = true
		at := p.tree.probes.of(in.Incarnation).results[0].At
		if spread[0].IsZero() || at.Before(spread[0]) {
			spread[0] = at
		}
		if at.After(spread[1]) {
			spread[1] = at
		}
	}
	if d := spread[1].Sub(spread[0]); d < many*crowdStep/4 {
		t.Errorf("all of them within %v", d)
	}
}

// No more checks are at work at the same time than there are places.
func TestChecksAtOnce(t *testing.T) {
	a := newAlarms()
	defer a.stop()
	c := &checks{alarms: a}
	var now, most atomic.Int64
	var all sync.WaitGroup
	for range 20 * checksAtOnce {
		all.Add(1)
		c.run(func() {
			defer all.Done()
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			for range 100 {
				runtime.Gosched()
			}
			now.Add(-1)
		})
	}
	all.Wait()
	c.stop()
	if n := most.Load(); n > checksAtOnce || n < 2 {
		t.Errorf("%d checks at once", n)
	}
}

// Checks that hang keep nobody waiting for long.
func TestHangingChecksGiveWay(t *testing.T) {
	a := newAlarms()
	defer a.stop()
	c := &checks{alarms: a}
	release := make(chan struct{})
	var began sync.WaitGroup
	for range 2 * checksAtOnce {
		began.Add(1)
		c.run(func() { began.Done(); <-release })
	}
	began.Wait()
	close(release)
	c.stop()
	if c.busy != 0 || len(c.queue) != 0 {
		t.Errorf("%d busy, %d waiting", c.busy, len(c.queue))
	}
	c.run(func() { t.Error("after the end") })
	c.stop()
}

func TestGrid(t *testing.T) {
	const interval = 30 * time.Second
	at := gridEpoch
	var low, high int
	for i := range 1000 {
		name := fmt.Sprint("daemon-", i)
		first := gridAfter(at, name, interval)
		if d := first.Sub(at); d <= 0 || d > interval {
			t.Fatalf("%s: after %v", name, d)
		}
		for _, off := range []time.Duration{-interval, -1, 0, interval - 1, 7 * interval} {
			n := gridAfter(first.Add(off), name, interval)
			if d := n.Sub(first.Add(off)); d <= 0 || d > interval || n.Sub(first)%interval != 0 {
				t.Errorf("%s: %v after %v", name, d, off)
			}
		}
		if first.Sub(at) < interval/2 {
			low++
		} else {
			high++
		}
	}
	if low < 400 || high < 400 {
		t.Errorf("%d in the first half, %d in the second", low, high)
	}
}

// What this process is short of is nobody's ill health.
func TestLackIsNoVerdict(t *testing.T) {
	p := newProbing(t, "web")
	p.tree.host = lackingHost{p.tree.host}
	d := withCheck("web", "command", "true", 0.02)
	d.HealthCheck.Retries = 1
	p.begin(d)
	p.until("tried", func(d probed) bool { return len(d.results) == keptResults && d.results[0].Lacking })
	if d := p.tree.probes.of("web"); d.failures != 0 || len(p.observed) != 0 {
		t.Errorf("%+v", d)
	}
}

type lackingHost struct{ Host }

func (lackingHost) Start(platform.Command) (platform.Process, error) {
	return nil, &platform.StartError{Stage: platform.StageSystem, Reason: "out of descriptors"}
}

// A check that runs while its manager is killed is no daemon: the next manager ends it.
func TestCheckOfADeadManager(t *testing.T) {
	f := newFixture(t)
	f.add("web", nil, "sleep", "1000")
	f.start("web")
	id := f.marks.nextCheck("web")
	if !f.marks.mine(id) || !f.marks.check(id) || f.marks.check(f.marks.next("web")) {
		t.Errorf("%q", id)
	}
	h, err := platform.New(platform.Options{DataDir: f.dir})
	if err != nil {
		t.Fatal(err)
	}
	check, err := h.Start(platform.Command{Incarnation: id, Args: []string{"sleep", "1000"}, Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	web, pid := *f.get("web").PID, check.Identity().PID
	check.Release()
	f.crash()
	f.begin()
	defer h.Close()
	got := f.until("web", "adopted", func(d api.Details) bool { return d.Adopted })
	if *got.PID != web {
		t.Errorf("%d was adopted, want %d", *got.PID, web)
	}
	for deadline := time.Now().Add(20 * time.Second); alive(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the check runs on")
		}
	}
	if log := f.log.String(); strings.Contains(log, "lost") || strings.Contains(log, "taken over") {
		t.Errorf("it was mistaken:\n%s", log)
	}
}

func TestHealthCheckInDetails(t *testing.T) {
	f := newFixture(t)
	f.add("plain", nil, "sleep", "1000")
	if h := f.get("plain").HealthCheck; h != nil {
		t.Errorf("%+v", h)
	}
	f.add("web", func(d *spec.Daemon) { d.HealthCheck = withCheck("web", "tcp", "localhost:1", 0.5).HealthCheck }, "sleep", "1000")
	if h := f.get("web").HealthCheck; h == nil || h.Type != "tcp" || h.Target != "localhost:1" || h.IntervalSecs != 0.5 || h.Results == nil || len(h.Results) != 0 {
		t.Errorf("%+v", h)
	}
	f.probes.note("web", func(d *probed) {
		for i := range 7 {
			d.add(probe.Result{OK: i != 6, At: time.Unix(int64(i), 0), Took: 3 * time.Millisecond, Error: strings.Repeat("no", i/6)})
		}
		d.failures = 1
	})
	h := f.get("web").HealthCheck
	if h.Failures != 1 || len(h.Results) != keptResults {
		t.Fatalf("%+v", h)
	}
	if r := h.Results[0]; r.OK || *r.Error != "no" || r.TookSecs != 0.003 || !r.At.Equal(time.Unix(6, 0)) {
		t.Errorf("%+v", r)
	}
	if r := h.Results[4]; !r.OK || r.Error != nil || !r.At.Equal(time.Unix(2, 0)) {
		t.Errorf("%+v", r)
	}
}

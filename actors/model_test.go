//go:build unix

package actors

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"log/slog"

	"pgregory.net/rapid"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/logs"
	"github.com/cyber-boost/syspulse/notify"
	"github.com/cyber-boost/syspulse/persist"
	"github.com/cyber-boost/syspulse/platform"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// modelChecks is how many sequences are tried by default; -rapid.checks N tries as
// many as wanted.
const modelChecks = 25

// TestNoSequenceLeadsTheTreeAstray drives managers, with all their actors and a real
// journal, through random sequences of commands, ends, results of checks, faults,
// crashes and shutdowns, on processes that are entries of a table. Time is that of
// synctest: nothing is waited for but until everybody waits.
func TestNoSequenceLeadsTheTreeAstray(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		n := modelChecks
		if testing.Short() {
			n /= 4
		}
		if err := f.Value.Set(fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
		defer f.Value.Set(f.DefValue)
	}
	// It reads from sockets, and that is not a wait that synctest knows.
	receiver, err := notify.Open(notify.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.Close()
	seen := make(map[supervision.Kind]int)
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		var escaped any
		synctest.Test(t, func(*testing.T) {
			m := &modelRun{T: rt, dir: dir, receiver: receiver, world: newWorld()}
			defer func() {
				escaped = recover() // rapid's way to fail, which a bubble must not see
				if m.System != nil {
					m.System.Close()
				}
				time.Sleep(time.Minute) // protoactor counts what it can't deliver, for a while
				for k, n := range m.seen {
					seen[k] += n
				}
			}()
			m.run()
		})
		if escaped != nil {
			panic(escaped)
		}
	})
	t.Log(seen)
}

// modelRun is one sequence.
type modelRun struct {
	*rapid.T
	*System
	*world
	dir      string
	receiver *notify.Receiver

	calls   map[*modelCall]bool // that have no answer
	faulted bool                // an actor, just now
}

type modelCall struct {
	what  string
	since time.Time
}

var modelNames = []string{"a", "b", "c", "d", "e"}

func (m *modelRun) run() {
	m.calls = make(map[*modelCall]bool)
	m.begin()
	for range rapid.IntRange(1, 3).Draw(m.T, "at first") {
		m.add()
	}
	for range rapid.IntRange(5, 60).Draw(m.T, "steps") {
		m.act()
		m.settle()
		m.pass(rapid.SampledFrom([]time.Duration{0, 0, 2 * time.Millisecond, 60 * time.Millisecond, time.Second, 3 * time.Minute}).Draw(m.T, "pass"))
		m.settle()
	}
	m.finish()
}

func (m *modelRun) pass(d time.Duration) {
	time.Sleep(d)
	m.tellf("")
}

// settle waits until nothing happens any more without the passage of time, and looks
// at what there is.
func (m *modelRun) settle() {
	synctest.Wait()
	if m.faulted { // an actor that fails again is restarted after a while
		m.faulted = false
		m.pass(3 * time.Second)
		synctest.Wait()
	}
	if m.lifeIsOver() {
		m.revive()
	}
	m.look()
}

// tellf is notef for who has not locked the world.
func (m *modelRun) tellf(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.notef(format, args...)
}

func (m *modelRun) lifeIsOver() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.life.dead
}

func (m *modelRun) failf(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	from := max(0, len(m.lines)-250)
	m.Fatalf("%s\n%s\n%s", fmt.Sprintf(format, args...), m.states(), strings.Join(m.lines[from:], "\n"))
}

// begin starts a manager on the data directory, as Start does.
func (m *modelRun) begin() {
	l := new(life)
	m.mu.Lock()
	m.life = l
	m.notef("a manager begins")
	m.mu.Unlock()
	s := &System{startedAt: time.Now(), done: make(chan struct{}), capture: new(logs.Capturer)}
	store, err := persist.Open(persist.Options{Dir: m.dir, BootID: m.boot, Version: "test"})
	if err != nil {
		m.failf("open: %v", err)
	}
	s.store = store
	s.closers = append(s.closers, func() {
		if err := store.Close(); err != nil {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.wrongf("the journal is not closed: %v", err)
		}
	})
	recovered := store.Recovered()
	if len(recovered.Notices) > 0 {
		m.failf("the journal: %v", recovered.Notices)
	}
	m.compare("what the journal replays to", recovered.Daemons)
	current := make(map[string]entry, len(recovered.Daemons))
	for _, d := range recovered.Daemons {
		current[d.Name] = newEntry(d)
	}
	host := &fakeHost{world: m.world, life: l, marks: newMarks(m.dir)}
	survivors, _ := host.Survivors(platform.Search{Mine: host.marks.mine})
	if what := reclaim(host, host.marks, current, survivors); len(what) > 0 {
		m.failf("the journal doesn't tell of what runs: %v", what)
	}
	rebooted := recovered.BootID != "" && recovered.BootID != m.boot
	alarms := newAlarms()
	log := slog.New(slog.DiscardHandler)
	s.tree = tree{
		host: host, output: fakeOutput{}, alarms: alarms, log: log, version: "test", marks: host.marks,
		checks: &checks{alarms: alarms}, notify: m.receiver,
		ledger: &ledger{store: &seenStore{store, m.world, l}, log: log, changed: new(pulse), current: current},
		found:  found{Recover: supervision.Recover{Fresh: recovered.Clean || rebooted, BootID: m.boot}},
	}
	s.closers = append(s.closers, s.alarms.stop, s.checks.stop)
	s.wall = newWallClock(newFakeWall)
	s.closers = append(s.closers, s.wall.stop)
	s.run()
	m.System = s
	synctest.Wait()
}

// bury ends what is left of a manager in this process, whose life is over.
func (m *modelRun) bury() {
	m.mu.Lock()
	m.life.dead = true
	m.crashIn = 0
	m.mu.Unlock()
	m.Close()
	m.System = nil
	synctest.Wait()
	m.mu.Lock()
	for c := range m.calls {
		m.wrongf("%s has no answer when the manager has ended", c.what)
	}
	for inc, p := range m.procs {
		p.handle = nil
		if !p.lives() {
			delete(m.procs, inc)
		}
	}
	m.mu.Unlock()
}

// revive begins another manager where one has died, and lets things happen before.
func (m *modelRun) revive() {
	m.bury()
	for range 20 { // it may die while it begins
		m.meanwhile()
		m.crashSoon(4)
		m.begin()
		if !m.lifeIsOver() {
			return
		}
		m.bury()
	}
	m.mu.Lock()
	m.crashIn = 0
	m.mu.Unlock()
	m.begin()
}

// crashSoon lets one manager in n die at a moment of its own choice.
func (m *modelRun) crashSoon(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if rapid.IntRange(1, n).Draw(m.T, "crash soon") == 1 {
		m.crashIn = rapid.IntRange(1, 60).Draw(m.T, "crash in")
	}
}

// meanwhile is what happens while there is no manager.
func (m *modelRun) meanwhile() {
	for _, p := range m.running() {
		switch rapid.IntRange(0, 5).Draw(m.T, "meanwhile") {
		case 0:
			m.exitOf(p)
		case 1:
			if !m.exitOf(p) {
				break
			}
			m.mu.Lock()
			delete(m.kept, p.incarnation) // nobody could learn its code
			m.completed[p.daemon] = false
			m.mu.Unlock()
		}
	}
	if rapid.IntRange(0, 9).Draw(m.T, "another boot") == 0 {
		m.mu.Lock()
		m.notef("another boot")
		m.boot += "+"
		m.booted = m.booted.Add(-time.Minute) // uptimes only have to be other ones
		clear(m.procs)
		clear(m.kept)
		m.mu.Unlock()
	}
	m.pass(rapid.SampledFrom([]time.Duration{0, time.Second, 5 * time.Minute}).Draw(m.T, "down for"))
}

// running are the processes that live, by daemon.
func (m *modelRun) running() (out []*fakeProcess) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range modelNames {
		out = append(out, m.of(name)...)
	}
	return out
}

// exitOf ends a main process, or the children that it left.
func (m *modelRun) exitOf(p *fakeProcess) (main bool) {
	m.mu.Lock()
	main = p.main
	m.mu.Unlock()
	if main {
		p.exit(rapid.SampledFrom([]supervision.Exit{
			{Known: true}, {Known: true}, {Known: true, Code: 1}, {Known: true, Signal: "SIGSEGV"},
		}).Draw(m.T, "exit"))
	} else {
		p.empty()
	}
	return main
}

// call makes a call of the API, whose answer may take its time.
func (m *modelRun) call(what string, f func(context.Context) error) {
	c := &modelCall{what: what, since: time.Now()}
	m.mu.Lock()
	m.notef("%s", what)
	m.calls[c] = true
	m.mu.Unlock()
	go func() {
		err := f(context.Background())
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.calls, c)
		if err != nil {
			m.notef("answer to %s: %v", what, err)
		} else {
			m.notef("answer to %s", what)
		}
	}()
}

// bulk is a call whose answer has one result for each daemon.
func (m *modelRun) bulk(what string, sel api.Selector, f func(context.Context) ([]api.Result, error)) {
	m.call(what+" "+asJSON(sel), func(ctx context.Context) error {
		results, err := f(ctx)
		if err != nil {
			return err
		}
		told := make(map[string]int)
		var errs []error
		for _, r := range results {
			told[r.Name]++
			if told[r.Name] > 1 {
				m.mu.Lock()
				m.wrongf("%s: %d results for %s", what, told[r.Name], r.Name)
				m.mu.Unlock()
			}
			if !r.OK {
				errs = append(errs, fmt.Errorf("%s: %s", r.Name, *r.Error))
			}
		}
		for _, name := range sel.Names {
			if told[name] == 0 {
				m.mu.Lock()
				m.wrongf("%s: no result for %s", what, name)
				m.mu.Unlock()
			}
		}
		return errors.Join(errs...)
	})
}

func (m *modelRun) selector() api.Selector {
	switch rapid.IntRange(0, 9).Draw(m.T, "select") {
	case 0:
		return api.Selector{All: true}
	case 1:
		return api.Selector{Groups: []string{"g"}}
	case 2:
		names := rapid.Permutation(modelNames).Draw(m.T, "some")
		return api.Selector{Names: names[:2]}
	}
	return api.Selector{Names: []string{rapid.SampledFrom(modelNames).Draw(m.T, "name")}}
}

// act lets something happen.
func (m *modelRun) act() {
	m.crashSoon(25)
	s := m.System
	name := rapid.SampledFrom(modelNames).Draw(m.T, "of")
	switch what := rapid.SampledFrom([]string{
		"start", "start", "start", "start", "stop", "stop", "restart", "remove", "add", "add", "add", "change", "change", "run",
		"exit", "exit", "exit", "exit", "exit", "unstartable", "check", "check", "stubborn", "family", "undying",
		"fault", "crash", "shutdown", "two", "group",
	}).Draw(m.T, "what"); what {
	case "start", "restart":
		req := api.ActionRequest{Selector: m.selector()}
		if rapid.Bool().Draw(m.T, "wait") {
			req.Wait, req.Timeout = true, new(spec.Seconds(30))
		}
		if what == "start" {
			m.bulk(what, req.Selector, func(ctx context.Context) ([]api.Result, error) { return s.Start(ctx, req) })
		} else {
			req.Force = rapid.Bool().Draw(m.T, "force")
			m.bulk(what, req.Selector, func(ctx context.Context) ([]api.Result, error) { return s.Restart(ctx, req) })
		}
	case "stop":
		req := api.ActionRequest{Selector: m.selector(), Force: rapid.Bool().Draw(m.T, "force")}
		m.bulk(what, req.Selector, func(ctx context.Context) ([]api.Result, error) { return s.Stop(ctx, req) })
	case "remove":
		req := api.RemoveRequest{Selector: m.selector(), Force: rapid.Bool().Draw(m.T, "force")}
		m.bulk(what, req.Selector, func(ctx context.Context) ([]api.Result, error) { return s.Remove(ctx, req) })
	case "run":
		req := api.RunRequest{Selector: m.selector()}
		m.bulk(what, req.Selector, func(ctx context.Context) ([]api.Result, error) { return s.Run(ctx, req) })
	case "add":
		m.add()
	case "change":
		m.apply()
	case "group":
		m.declare()
	case "exit":
		if all := m.running(); len(all) > 0 {
			m.exitOf(rapid.SampledFrom(all).Draw(m.T, "process"))
		}
	case "unstartable", "stubborn", "family", "check", "undying":
		m.mu.Lock()
		m.notef("%s: %s", name, what)
		switch what {
		case "unstartable":
			m.unstartable[name] = rapid.IntRange(0, 4).Draw(m.T, "starts that fail")
		case "stubborn":
			m.stubborn[name] = !m.stubborn[name]
		case "family":
			m.family[name] = !m.family[name]
		case "undying":
			m.undying = rapid.IntRange(1, 3).Draw(m.T, "attempts")
		case "check":
			m.checks[name] = rapid.SampledFrom([]checkResult{checkSucceeds, checkFails, checkFails, checkHangs}).Draw(m.T, "result")
		}
		m.mu.Unlock()
	case "fault":
		m.fault(name)
	case "crash":
		m.mu.Lock()
		m.notef("the manager dies")
		m.life.dead = true
		m.mu.Unlock()
	case "shutdown":
		m.shutdown()
	case "two": // at the same time
		m.act()
		m.act()
	}
}

func (m *modelRun) fault(name string) {
	path := rapid.SampledFrom([]string{
		"manager", "manager/journal", "manager/daemon/%s", "manager/daemon/%s", "manager/daemon/%s/process", "manager/daemon/%s/log", "manager/daemon/%s/probe", "manager/daemon/%s/schedule",
	}).Draw(m.T, "actor")
	if strings.Contains(path, "%") {
		path = fmt.Sprintf(path, name)
	}
	m.tellf("a fault of %s", path)
	m.system.Root.Send(m.system.NewLocalPID(path), injected{"a fault"})
	m.faulted = true
	if path == "manager" {
		m.settle() // a root that fails often is given up
	}
}

func (m *modelRun) shutdown() {
	s := m.System
	m.call("shutdown", func(ctx context.Context) error { return s.Shutdown(ctx, api.ShutdownRequest{}) })
	synctest.Wait()
	m.pass(time.Minute)
	synctest.Wait()
	if m.lifeIsOver() {
		return
	}
	select {
	case <-s.Done():
	default:
		m.failf("the manager doesn't end")
	}
	if p := m.running(); len(p) > 0 {
		m.failf("the manager has ended, and %s lives", p)
	}
	m.bury()
	m.pass(rapid.SampledFrom([]time.Duration{0, 5 * time.Minute}).Draw(m.T, "down for"))
	m.begin()
}

func (m *modelRun) daemon(name string) *spec.Daemon {
	d, err := spec.New(name, []string{"program", name})
	if err != nil {
		m.Fatal(err)
	}
	d.Autostart = rapid.Bool().Draw(m.T, "autostart")
	d.RestartPolicy.Policy = rapid.SampledFrom([]spec.Policy{spec.RestartNever, spec.RestartAlways, spec.RestartAlways, spec.RestartOnFailure}).Draw(m.T, "policy")
	d.RestartPolicy.BackoffBase = rapid.SampledFrom([]spec.Seconds{0, 0.05, 5}).Draw(m.T, "backoff")
	d.RestartPolicy.Cooldown = 30
	if n := rapid.IntRange(-3, 4).Draw(m.T, "retries"); n >= 0 {
		d.RestartPolicy.MaxRetries = &n
	}
	d.StopTimeout = rapid.SampledFrom([]spec.Seconds{0, 0.1, 2}).Draw(m.T, "stop timeout")
	switch rapid.IntRange(0, 5).Draw(m.T, "ready") {
	case 0:
		d.Ready = &spec.Ready{Type: "delay", Delay: 0.2}
	case 1:
		d.Ready = &spec.Ready{Type: "command", Target: name, Timeout: 4}
	}
	if rapid.IntRange(0, 3).Draw(m.T, "has health") == 0 {
		d.HealthCheck = &spec.HealthCheck{
			Type: "command", Target: name, Interval: 1, Timeout: 0.5, Retries: 2, OnUnhealthy: rapid.SampledFrom([]string{"restart", "none"}).Draw(m.T, "unhealthy"),
		}
	}
	if rapid.Bool().Draw(m.T, "grouped") {
		d.Group = "g"
	}
	if rapid.IntRange(0, 6).Draw(m.T, "scheduled") == 0 {
		d.Schedule = "*/2 * * * *"
		d.SchedulePolicy = &spec.SchedulePolicy{
			Timezone: "UTC", Overlap: rapid.SampledFrom([]string{"skip", "queue", "replace"}).Draw(m.T, "overlap"), CatchUp: rapid.Bool().Draw(m.T, "catch up"),
		}
	}
	for _, other := range modelNames[:slices.Index(modelNames, name)] {
		if rapid.IntRange(0, 2).Draw(m.T, "depends") == 0 {
			d.DependsOn = append(d.DependsOn, spec.Dependency{
				Name: other, Condition: rapid.SampledFrom([]spec.Condition{"", "", spec.ConditionStarted, spec.ConditionHealthy, spec.ConditionCompleted}).Draw(m.T, "condition"),
			})
		}
	}
	return d
}

// possible leaves out of the dependencies what is not registered, and conditions that
// are refused.
func (m *modelRun) possible(d *spec.Daemon) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d.DependsOn = slices.DeleteFunc(d.DependsOn, func(dep spec.Dependency) bool { return m.committed[dep.Name].reg.Spec == nil })
	for i := range d.DependsOn {
		dep := &d.DependsOn[i]
		on := m.committed[dep.Name].reg.Spec
		if dep.Condition == spec.ConditionHealthy && on.Ready == nil && on.HealthCheck == nil {
			dep.Condition = spec.ConditionStarted
		}
		if dep.Condition == spec.ConditionCompleted && on.NeverCompletes() {
			dep.Condition = spec.ConditionStarted
		}
	}
}

func (m *modelRun) group() []spec.Group {
	if rapid.Bool().Draw(m.T, "declared") {
		return nil
	}
	g := spec.Group{Name: "g", Strategy: rapid.SampledFrom([]string{"one_for_one", "one_for_all", "rest_for_one"}).Draw(m.T, "strategy")}
	if n := rapid.IntRange(-1, 3).Draw(m.T, "intensity"); n >= 0 {
		g.MaxRestarts, g.Window = &n, 60
	}
	return []spec.Group{g}
}

// missing is the first name that is not registered; any if all are.
func (m *modelRun) missing() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range modelNames {
		if _, ok := m.committed[name]; !ok {
			return name
		}
	}
	return modelNames[len(modelNames)-1]
}

func (m *modelRun) add() {
	s, d := m.System, m.daemon(m.missing())
	m.possible(d)
	req := api.AddRequest{Daemons: []api.Registration{{Spec: d}}, Groups: m.group()}
	m.call("add "+asJSON(req), func(ctx context.Context) error {
		_, err := s.Add(ctx, req)
		return err
	})
	synctest.Wait()
}

func (m *modelRun) apply() {
	s, name := m.System, rapid.SampledFrom(modelNames).Draw(m.T, "changed")
	d := m.daemon(name)
	m.possible(d)
	req := api.ApplyRequest{Daemons: []api.Registration{{Spec: d, Source: "/file.sys"}}, Groups: m.group()}
	if rapid.IntRange(0, 4).Draw(m.T, "prune") == 0 {
		req.Prune = []string{"/file.sys"}
	}
	m.call("apply "+asJSON(req), func(ctx context.Context) error {
		_, err := s.Apply(ctx, req)
		return err
	})
}

func (m *modelRun) declare() {
	s := m.System
	req := api.ApplyRequest{Groups: m.group()}
	m.call("apply "+asJSON(req), func(ctx context.Context) error {
		_, err := s.Apply(ctx, req)
		return err
	})
}

// patience is longer than anything takes that somebody waits for.
const modelPatience = 2 * time.Minute

// look says whether all is as it must be when nothing happens.
func (m *modelRun) look() {
	ctx, cancel := context.WithTimeout(context.Background(), modelPatience)
	defer cancel()
	// What a fault interrupted goes on after a while, and that may be now.
	var live selection
	for {
		m.mu.Lock()
		n := len(m.lines)
		m.mu.Unlock()
		msg := selectDaemons{Selector: api.Selector{All: true}, answer: newAnswer[selection]()}
		var err error
		if live, err = ask(ctx, m.System, msg, msg.answer); err != nil {
			m.failf("no answer: %v", err)
		}
		synctest.Wait()
		if m.lifeIsOver() {
			m.revive()
			continue
		}
		m.mu.Lock()
		same := n == len(m.lines)
		m.mu.Unlock()
		if same {
			break
		}
	}
	replayed, err := m.store.At(ctx, time.Now())
	if err != nil {
		m.failf("replay: %v", err)
	}
	m.compare("what the journal replays to", replayed)
	m.compareLive(live)

	m.mu.Lock()
	for _, d := range live.daemons {
		m.lookAtDaemon(d)
	}
	for _, p := range m.procs {
		if _, ok := m.committed[p.daemon]; p.daemon != "" && p.lives() && !ok {
			m.wrongf("%s lives, and its daemon was removed", p)
		}
	}
	for c := range m.calls {
		if age := time.Since(c.since); age > modelPatience+time.Minute {
			m.wrongf("%s has no answer for %s", c.what, age)
		}
	}
	wrong := m.wrong
	m.mu.Unlock()
	if len(wrong) > 0 {
		m.failf("%s", strings.Join(wrong, "\n"))
	}
}

func (m *modelRun) lookAtDaemon(d selected) {
	rec, reg := &d.rec, d.reg.Spec
	procs := m.of(d.name)
	if len(procs) > 1 {
		m.wrongf("%d processes of %s: %s", len(procs), d.name, procs)
	}
	var p *fakeProcess
	if len(procs) == 1 {
		p = procs[0]
	}
	if p != nil && p.incarnation != rec.Incarnation {
		m.wrongf("%s is of another incarnation than its record: %s", p, rec.Incarnation)
	}
	up := p != nil && p.main
	switch rec.State {
	case supervision.Running:
		if !up || p.id != rec.Process || !rec.Ready && reg.Ready != nil {
			m.wrongf("%s runs, ready %v, process %+v; it is %v", d.name, rec.Ready, rec.Process, p)
		}
	case supervision.Starting:
		switch {
		case rec.Waiting && p != nil:
			m.wrongf("%s waits, and %s lives", d.name, p)
		case rec.Waiting && len(d.waitingFor) == 0:
			m.wrongf("%s waits for nothing: %+v", d.name, *rec)
		case !rec.Waiting && (!up || p.id != rec.Process):
			m.wrongf("%s is starting, process %+v; it is %v", d.name, rec.Process, p)
		}
	case supervision.Stopping:
		// What could not be ended is not watched, but tried again.
		if p == nil && !strings.HasSuffix(rec.Reason, "it is tried again") {
			m.wrongf("%s is stopping, and nothing of it lives", d.name)
		}
	case supervision.Backoff, supervision.Stopped, supervision.Failed, supervision.Scheduled:
		if p != nil {
			m.wrongf("%s is %s, and %s lives", d.name, rec.State, p)
		}
		if rec.Process.PID != 0 {
			m.wrongf("%s is %s, with a process on record", d.name, rec.State)
		}
		if rec.State == supervision.Stopped && rec.Wanted == supervision.WantRunning && len(d.waitingFor) == 0 && len(m.calls) == 0 {
			// While a command is under way it may be yet to be stopped.
			m.wrongf("%s is wanted running and rests for nothing", d.name)
		}
		if rec.State == supervision.Backoff && rec.NextRestartAt.IsZero() {
			m.wrongf("%s is in backoff without an end", d.name)
		}
	default:
		m.wrongf("%s is in the state %q", d.name, rec.State)
	}
	for _, other := range d.waitingFor {
		for _, dep := range reg.DependsOn {
			if dep.Name != other || m.unmet(dep) != "" {
				continue
			}
			// With a command under way it may be about to be stopped.
			if on := m.committed[other]; isMet(dep, &on) && on.rec.State != supervision.Backoff && len(m.calls) == 0 {
				m.wrongf("%s waits for %s, which is there", d.name, other)
			}
		}
	}
	if max := reg.RestartPolicy.MaxRetries; max != nil && rec.Attempt > *max && !m.amended[d.name] {
		m.wrongf("%s: attempt %d of %d", d.name, rec.Attempt, *max)
	}
}

// compare holds what a journal tells against what was committed.
func (m *modelRun) compare(what string, got []persist.Daemon) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for _, d := range got {
		names = append(names, d.Name)
		e, ok := m.committed[d.Name]
		if !ok {
			m.wrongf("%s has %s", what, d.Name)
			continue
		}
		m.compareEntry(what, d.Name, e, newEntry(d))
	}
	if want := slices.Sorted(maps.Keys(m.committed)); !slices.Equal(want, names) {
		m.wrongf("%s has %q, committed were %q", what, names, want)
	}
}

// compareLive holds the projection against what was committed.
func (m *modelRun) compareLive(live selection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := 0
	for _, d := range live.daemons {
		e, ok := m.committed[d.name]
		if !ok {
			m.wrongf("the manager knows of %s, the journal doesn't", d.name)
			continue
		}
		known++
		m.compareEntry("the manager", d.name, e, d.entry)
	}
	for name := range m.committed {
		if _, ok := supervision.IsGroup(name); !ok {
			known--
		}
	}
	if known != 0 {
		m.wrongf("the manager doesn't know of %d daemons", -known)
	}
}

func (m *modelRun) compareEntry(what, name string, want, got entry) {
	a, b := reflect.ValueOf(want.rec), reflect.ValueOf(got.rec)
	for i := range a.NumField() {
		x, y := a.Field(i).Interface(), b.Field(i).Interface()
		if t, ok := x.(time.Time); ok && t.Equal(y.(time.Time)) || reflect.DeepEqual(x, y) {
			continue
		}
		m.wrongf("%s has %s of %s as %+v, committed was %+v", what, a.Type().Field(i).Name, name, y, x)
	}
	if x, y := asJSON(want.reg), asJSON(got.reg); x != y {
		m.wrongf("%s has %s as %s, committed was %s", what, name, y, x)
	}
}

// finish stops everything: whatever happened before, that ends with everything
// stopped, and it stays so, also under another manager.
func (m *modelRun) finish() {
	m.mu.Lock()
	m.crashIn, m.undying = 0, 0
	m.mu.Unlock()
	m.settle()
	s := m.System
	stopped := false
	m.call("the last stop", func(ctx context.Context) error {
		results, err := s.Stop(ctx, api.ActionRequest{Selector: api.Selector{All: true}})
		for _, r := range results {
			if !r.OK && r.Code != api.CodeNotFound { // a removal was under way
				err = errors.Join(err, fmt.Errorf("%s: %s", r.Name, *r.Error))
			}
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		stopped = err == nil
		if err != nil {
			m.wrongf("the last stop: %v", err)
		}
		return err
	})
	synctest.Wait()
	m.pass(modelPatience)
	m.settle()
	m.mu.Lock()
	done := stopped
	m.mu.Unlock()
	if !done {
		m.failf("the last stop isn't answered")
	}
	m.allStopped()
	m.pass(time.Hour)
	m.settle()
	m.allStopped()
	m.bury()
	m.begin()
	m.settle()
	m.allStopped()
	m.shutdown()
	m.settle()
	m.allStopped()
	m.bury()
}

func (m *modelRun) allStopped() {
	if p := m.running(); len(p) > 0 {
		m.failf("after a stop of everything %s lives", p)
	}
	m.mu.Lock()
	committed := maps.Clone(m.committed)
	m.mu.Unlock()
	for name, e := range committed {
		if e.reg.Spec != nil && (e.rec.State != supervision.Stopped || e.rec.Wanted != supervision.WantStopped) {
			m.failf("after a stop of everything %s is %s, wanted %s", name, e.rec.State, e.rec.Wanted)
		}
	}
}

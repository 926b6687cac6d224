//go:build unix

package actors

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cyber-boost/syspulse/logs"
	"github.com/cyber-boost/syspulse/persist"
	"github.com/cyber-boost/syspulse/platform"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// world is a machine whose processes are entries of a table. It outlives the
// managers that are begun on it, and it sees what they commit: so it can say, at
// the moment of a fork, whether there should be one.
type world struct {
	mu     sync.Mutex
	boot   string
	booted time.Time
	life   *life // of the present manager

	procs     map[string]*fakeProcess // by incarnation, until they are dead and released
	kept      map[string]supervision.Exit
	completed map[string]bool      // the last end of the daemon was its own, and a success
	succeeded map[string]time.Time // when it last ended so
	committed map[string]entry
	changed   map[string]time.Time // when it got its spec
	amended   map[string]bool      // that is not its first
	backedOff map[string]time.Time // when it was last put into backoff
	died      map[string]time.Time // when a process of the daemon last died by itself
	pids      int
	startedAt time.Time // the last process
	startsNow int       // how many since no time has passed

	unstartable map[string]int  // so many starts fail: with no backoff, more would be for ever
	stubborn    map[string]bool // it ends by a kill alone
	family      map[string]bool // it has children, which outlive it
	checks      map[string]checkResult
	undying     int // so many attempts to end leftovers fail
	crashIn     int // the manager dies at this operation from now on; 0: it doesn't

	wrong []string
	lines []string // what happened, for the report of a failure
	seen  map[supervision.Kind]int
}

type checkResult int

const (
	checkSucceeds checkResult = iota
	checkFails
	checkHangs
)

// life is that of one manager. From its death on nothing that it does has any
// effect, although its actors go on for a moment.
type life struct{ dead bool }

func newWorld() *world {
	return &world{
		boot: "boot-1", booted: time.Now(),
		procs: make(map[string]*fakeProcess), kept: make(map[string]supervision.Exit), completed: make(map[string]bool), succeeded: make(map[string]time.Time),
		committed: make(map[string]entry), changed: make(map[string]time.Time), died: make(map[string]time.Time), backedOff: make(map[string]time.Time), amended: make(map[string]bool),
		unstartable: make(map[string]int), stubborn: make(map[string]bool), family: make(map[string]bool),
		checks: make(map[string]checkResult), seen: make(map[supervision.Kind]int),
	}
}

// op begins an operation of a manager: false if that is dead by now. The lock is
// held then and until done, which is another moment at which it may die.
func (w *world) op(l *life) (done func(), ok bool) {
	w.mu.Lock()
	w.step(l)
	if l.dead {
		w.mu.Unlock()
		return nil, false
	}
	return func() {
		w.step(l)
		w.mu.Unlock()
	}, true
}

func (w *world) step(l *life) {
	if l.dead || w.crashIn == 0 {
		return
	}
	if w.crashIn--; w.crashIn == 0 {
		l.dead = true
		w.notef("the manager dies")
	}
}

func (w *world) notef(format string, args ...any) {
	w.lines = append(w.lines, time.Since(w.booted).String()+"  "+fmt.Sprintf(format, args...))
}

func (w *world) wrongf(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
	w.notef("WRONG: "+format, args...)
}

// of are the processes of a daemon of which something lives.
func (w *world) of(daemon string) (out []*fakeProcess) {
	for _, p := range w.procs {
		if p.daemon == daemon && p.lives() {
			out = append(out, p)
		}
	}
	return out
}

// fakeHost is the world as a manager has it.
type fakeHost struct {
	*world
	life  *life
	marks marks
}

var errManagerDead = errors.New("the manager is dead")

func (h *fakeHost) Uptime() time.Duration { return time.Since(h.booted) }

func (h *fakeHost) Age(id supervision.Identity) time.Duration {
	return h.Uptime() - time.Duration(id.StartTime)
}

func (h *fakeHost) Start(c platform.Command) (platform.Process, error) {
	done, ok := h.op(h.life)
	if !ok {
		time.Sleep(time.Millisecond) // or it is tried for ever before any time passes
		return nil, errManagerDead
	}
	defer done()
	if now := time.Now(); !now.Equal(h.startedAt) {
		h.startedAt, h.startsNow = now, 0
	}
	if h.startsNow++; h.startsNow > 1000 && !h.life.dead {
		h.wrongf("it starts processes for ever, and no time passes")
		h.life.dead = true
	}
	if h.marks.check(c.Incarnation) {
		return h.startCheck(c), nil
	}
	name := c.Args[1]
	h.judge(name, c.Incarnation)
	if h.unstartable[name] > 0 {
		h.unstartable[name]--
		h.notef("%s can't be started", name)
		return nil, errors.New("no such program")
	}
	h.pids++
	p := &fakeProcess{
		world: h.world, daemon: name, incarnation: c.Incarnation, main: true, left: h.family[name], stubborn: h.stubborn[name],
		id: supervision.Identity{BootID: h.boot, PID: h.pids, StartTime: uint64(h.Uptime())}, began: time.Now(),
	}
	h.procs[c.Incarnation] = p
	h.completed[name] = false
	h.notef("fork of %s, pid %d", name, h.pids)
	return p.by(h.life), nil
}

func (h *fakeHost) startCheck(c platform.Command) platform.Process {
	name := c.Args[len(c.Args)-1]
	h.pids++
	p := &fakeProcess{world: h.world, incarnation: c.Incarnation, main: true, id: supervision.Identity{BootID: h.boot, PID: h.pids}}
	h.procs[c.Incarnation] = p
	switch h.checks[name] {
	case checkSucceeds:
		for _, d := range h.of(name) {
			d.passed = true
		}
		go p.exit(supervision.Exit{Known: true})
	case checkFails:
		go p.exit(supervision.Exit{Known: true, Code: 1})
	}
	return p.by(h.life)
}

// judge says whether a daemon should be forked now, by what lives and by what is
// committed: all that happens, but exits that the test causes while everything is
// quiet, is a consequence of that.
func (w *world) judge(name, incarnation string) {
	for _, p := range w.of(name) {
		w.wrongf("%s is forked while %s lives", name, p)
	}
	e, ok := w.committed[name]
	rec := &e.rec
	switch {
	case !ok:
		w.wrongf("%s is forked and isn't registered", name)
		return
	case rec.Incarnation != incarnation || rec.Waiting || rec.Process.PID != 0 || rec.State != supervision.Starting && rec.State != supervision.Stopping:
		w.wrongf("%s is forked without its intent: %+v", name, *rec)
	case rec.State == supervision.Stopping:
		return // it was asked for before
	}
	for _, dep := range e.reg.Spec.DependsOn {
		if why := w.unmet(dep); why != "" {
			w.wrongf("%s is forked, and %s", name, why)
		}
	}
	for other, o := range w.committed {
		// If that is so just now, leave for the fork may have been given before.
		if o.rec.State == supervision.Backoff && w.takesAlong(other, name) && !w.backedOff[other].Equal(time.Now()) {
			w.wrongf("%s is forked while %s is in backoff", name, other)
		}
	}
}

// takesAlong says whether a restart of the member leader of a group takes another
// daemon along; false where that has changed just now.
func (w *world) takesAlong(leader, other string) bool {
	l, o := w.committed[leader].reg.Spec, w.committed[other].reg.Spec
	if l == nil || o == nil || leader == other || l.Group == "" || l.Group != o.Group || o.Schedule != "" {
		return false
	}
	key := supervision.GroupKey(l.Group)
	for _, changed := range []string{key, leader, other} {
		if w.changed[changed].Equal(time.Now()) {
			return false
		}
	}
	g := w.committed[key].reg.Group
	return g != nil && (g.Strategy == "one_for_all" || g.Strategy == "rest_for_one" && w.reaches(other, leader))
}

func (w *world) reaches(from, to string) bool {
	e, ok := w.committed[from]
	return ok && slices.ContainsFunc(e.reg.Spec.DependsOn, func(d spec.Dependency) bool { return d.Name == to || w.reaches(d.Name, to) })
}

// unmet is why a dependency isn't as it has to be; empty if it may be.
func (w *world) unmet(dep spec.Dependency) string {
	on, ok := w.committed[dep.Name]
	if !ok {
		return dep.Name + " isn't registered"
	}
	var up *fakeProcess
	for _, p := range w.of(dep.Name) {
		if p.main {
			up = p
		}
	}
	if up == nil && w.died[dep.Name].Equal(time.Now()) {
		return "" // if that is so just now, leave for the fork may have been given before
	}
	switch condition(dep, on.reg.Spec) {
	case spec.ConditionCompleted:
		// One that is always restarted has completed for a moment.
		if !w.completed[dep.Name] && !w.succeeded[dep.Name].Equal(time.Now()) {
			return dep.Name + " has not completed"
		}
	case spec.ConditionStarted:
		if up == nil && !w.completed[dep.Name] {
			return dep.Name + " doesn't run"
		}
	case spec.ConditionHealthy:
		r := on.reg.Spec.Ready
		switch {
		case up == nil:
			return dep.Name + " doesn't run"
		case on.reg.Spec.HealthCheck != nil && !up.passed:
			return dep.Name + " was never healthy"
		case r != nil && r.Type == "delay" && time.Since(up.began) < r.Delay.Duration() && w.changed[dep.Name].Before(up.began):
			return dep.Name + " isn't ready"
		}
	}
	return ""
}

func (h *fakeHost) Adopt(id supervision.Identity, incarnation string) (platform.Process, error) {
	done, ok := h.op(h.life)
	if !ok {
		return nil, errManagerDead
	}
	defer done()
	p := h.procs[incarnation]
	if p == nil || p.id != id || !p.main && (p.handle == nil || p.handle.life != h.life) {
		gone := &platform.GoneError{Why: "it is gone", ID: id}
		if e, ok := h.kept[incarnation]; ok {
			gone.Exit = &e
		}
		return nil, gone
	}
	return p.by(h.life), nil
}

func (h *fakeHost) Find(incarnation string) (platform.Process, error) {
	done, ok := h.op(h.life)
	if !ok {
		return nil, errManagerDead
	}
	defer done()
	if p := h.procs[incarnation]; p != nil && p.main {
		return p.by(h.life), nil
	}
	if e, ok := h.kept[incarnation]; ok {
		return nil, &platform.GoneError{Why: "it is gone", Exit: &e}
	}
	return nil, platform.ErrNotFound
}

func (h *fakeHost) Survivors(s platform.Search) (out []platform.Survivor, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.procs {
		if p.lives() && s.Mine(p.incarnation) {
			found := platform.Survivor{Incarnation: p.incarnation, Age: time.Since(p.began)}
			if p.main {
				found.Main = p.id
			}
			out = append(out, found)
		}
	}
	return out, nil
}

func (h *fakeHost) EndLeftovers(incarnation string, _ supervision.Identity) (int, error) {
	done, ok := h.op(h.life)
	if !ok {
		return 0, errManagerDead
	}
	defer done()
	p := h.procs[incarnation]
	if p == nil || !p.lives() {
		return 0, nil
	}
	if h.undying > 0 && p.daemon != "" {
		h.undying--
		return 1, errors.New("it is stuck in the kernel")
	}
	if p.main && p.daemon != "" {
		h.wrongf("the main process of %s is ended as a leftover", p)
	}
	p.main, p.left = false, false
	delete(h.procs, incarnation)
	return 1, nil
}

func (h *fakeHost) Forget(incarnation string) {
	if done, ok := h.op(h.life); ok {
		delete(h.kept, incarnation)
		done()
	}
}

// fakeProcess is the tree of one start.
type fakeProcess struct {
	*world
	daemon      string // empty for a check
	incarnation string
	id          supervision.Identity
	began       time.Time
	main, left  bool // what of it lives
	stubborn    bool
	passed      bool // a check of its health has succeeded
	ended       bool // it was sent a signal
	end         supervision.Exit
	handle      *fakeHandle // of who looks after it
}

func (p *fakeProcess) String() string {
	return fmt.Sprintf("%s (pid %d, main %v, children %v)", p.daemon, p.id.PID, p.main, p.left)
}

func (p *fakeProcess) lives() bool { return p.main || p.left }

// by is the handle of a manager.
func (p *fakeProcess) by(l *life) *fakeHandle {
	if p.handle == nil || p.handle.life != l {
		p.handle = &fakeHandle{fakeProcess: p, life: l}
	}
	return p.handle
}

// exit is the death of the main process, all of its tree without children.
func (p *fakeProcess) exit(e supervision.Exit) {
	p.mu.Lock()
	if !p.main {
		p.mu.Unlock()
		return
	}
	p.main, p.end = false, e
	if p.daemon != "" {
		p.kept[p.incarnation] = e
		if !p.ended {
			p.died[p.daemon] = time.Now()
		}
		if p.completed[p.daemon] = !p.ended && e.Signal == "" && e.Code == 0; p.completed[p.daemon] {
			p.succeeded[p.daemon] = time.Now()
		}
		p.notef("%s: %s", p, e)
	}
	p.tell()
}

// empty is the death of everything.
func (p *fakeProcess) empty() {
	p.mu.Lock()
	if !p.left {
		p.mu.Unlock()
		return
	}
	p.left = false
	p.notef("%s: its children end", p)
	p.tell()
}

// tell calls who waits, and unlocks.
func (p *fakeProcess) tell() {
	h := p.handle
	var calls []func()
	if h != nil && !h.life.dead {
		if f := h.onExit; f != nil && !p.main {
			h.onExit = nil
			end := p.end
			calls = append(calls, func() { f(end) })
		}
		if f := h.onEmpty; f != nil && !p.lives() {
			h.onEmpty = nil
			calls = append(calls, f)
		}
	} else if !p.lives() {
		delete(p.procs, p.incarnation)
	}
	p.mu.Unlock()
	for _, f := range calls {
		f()
	}
}

type fakeHandle struct {
	*fakeProcess
	life    *life
	onExit  func(supervision.Exit)
	onEmpty func()
}

func (h *fakeHandle) Identity() supervision.Identity { return h.id }
func (h *fakeHandle) Incarnation() string            { return h.incarnation }

func (h *fakeHandle) OnExit(f func(supervision.Exit)) {
	h.mu.Lock()
	h.onExit = f
	h.tell()
}

func (h *fakeHandle) OnEmpty(f func()) {
	h.mu.Lock()
	h.onEmpty = f
	h.tell()
}

func (h *fakeHandle) Empty() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.lives()
}

// How long what is told to end takes for that.
const (
	byASignal = 5 * time.Millisecond
	byAKill   = time.Millisecond
)

func (h *fakeHandle) Signal(sig string, mode spec.KillMode) error {
	done, ok := h.op(h.life)
	if !ok {
		return platform.ErrDead
	}
	defer done()
	if !h.lives() {
		return platform.ErrDead
	}
	h.notef("%s gets %s", h, sig)
	if rec := h.committed[h.daemon].rec; rec.State != supervision.Stopping || rec.Incarnation != h.incarnation {
		h.wrongf("%s is signalled, and the journal has it %s", h, rec.State)
	}
	h.ended = true
	if !h.stubborn {
		p := h.fakeProcess
		time.AfterFunc(byASignal, func() {
			p.exit(supervision.Exit{Known: true, Signal: sig})
			if mode != spec.KillMain {
				p.empty()
			}
		})
	}
	return nil
}

func (h *fakeHandle) Kill() error {
	done, ok := h.op(h.life)
	if !ok {
		return nil
	}
	defer done()
	h.ended = true
	p := h.fakeProcess
	time.AfterFunc(byAKill, func() {
		p.exit(supervision.Exit{Known: true, Signal: "SIGKILL"})
		p.empty()
	})
	return nil
}

func (h *fakeHandle) Release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.handle == h {
		h.handle = nil
	}
	if !h.lives() {
		delete(h.procs, h.incarnation)
	}
}

// fakeOutput captures nothing.
type fakeOutput struct{}

func (fakeOutput) Open(string, logs.StreamOptions) (Capture, error) { return fakeOutput{}, nil }
func (fakeOutput) Remove(string, bool) error                        { return nil }
func (fakeOutput) Drain() error                                     { return nil }
func (fakeOutput) Close()                                           {}

func (fakeOutput) Writers() (stdout, stderr *os.File, err error) {
	if stdout, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0); err != nil {
		return nil, nil, err
	}
	if stderr, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0); err != nil {
		stdout.Close()
	}
	return stdout, stderr, err
}

// fakeWall is a timer of the time of day.
type fakeWall struct{ timer *time.Timer }

func newFakeWall(f func(bool)) platform.WallTimer {
	t := &fakeWall{timer: time.AfterFunc(time.Hour, func() { f(false) })}
	t.timer.Stop()
	return t
}

func (t *fakeWall) Set(at time.Time) { t.timer.Reset(max(time.Until(at), 0)) }
func (t *fakeWall) Clear()           { t.timer.Stop() }
func (t *fakeWall) Close()           { t.timer.Stop() }

// seenStore is a journal whose commits the world sees.
type seenStore struct {
	*persist.Store
	world *world
	life  *life
}

func (s *seenStore) Append(events []supervision.Event) error {
	w := s.world
	done, ok := w.op(s.life)
	if !ok {
		return nil
	}
	defer done()
	if err := s.Store.Append(events); err != nil {
		w.wrongf("the journal: %v", err)
		return err
	}
	for i := range events {
		w.commit(&events[i])
	}
	return nil
}

func (w *world) commit(ev *supervision.Event) {
	w.seen[ev.Kind]++
	w.notef("  %s %s %s", ev.Daemon, ev.Kind, ev.Detail)
	if ev.Daemon == "" {
		return
	}
	if ev.Kind == supervision.EventRemoved {
		delete(w.committed, ev.Daemon)
		return
	}
	e := w.committed[ev.Daemon]
	if ev.Record != nil && ev.Record.RestartCount < e.rec.RestartCount {
		w.wrongf("the restart_count of %s goes back from %d to %d", ev.Daemon, e.rec.RestartCount, ev.Record.RestartCount)
	}
	if ev.Record != nil && e.rec.State == supervision.Backoff && ev.Record.State == supervision.Starting && ev.Record.RestartCount > e.rec.RestartCount {
		for _, p := range w.procs {
			if p.lives() && w.takesAlong(ev.Daemon, p.daemon) {
				w.wrongf("%s is restarted while %s lives, which goes along", ev.Daemon, p)
			}
		}
	}
	if ev.Kind == supervision.EventBackoff {
		w.backedOff[ev.Daemon] = time.Now()
	}
	if ev.Spec != nil {
		w.changed[ev.Daemon], w.amended[ev.Daemon] = time.Now(), ev.Kind == supervision.EventChanged
	}
	e.take(ev)
	w.committed[ev.Daemon] = e
}

func (s *seenStore) Sync() error {
	done, ok := s.world.op(s.life)
	if !ok {
		return nil
	}
	defer done()
	return s.Store.Sync()
}

// states describes everything, for the report of a failure.
func (w *world) states() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(w.committed)) {
		e := w.committed[name]
		fmt.Fprintf(&b, "%s: %+v\n", name, e.rec)
		if e.reg.Spec != nil {
			fmt.Fprintf(&b, "\t%s\n", asJSON(e.reg.Spec))
		} else {
			fmt.Fprintf(&b, "\t%s\n", asJSON(e.reg.Group))
		}
	}
	for _, p := range w.procs {
		fmt.Fprintf(&b, "process %s\n", p)
	}
	return b.String()
}

// Member and Follow: nobody names another main process here.
func (h *fakeHost) Member(string, int) (supervision.Identity, error) {
	return supervision.Identity{}, platform.ErrNotFound
}

func (h *fakeHost) Follow(platform.Process, supervision.Identity) (platform.Process, error) {
	return nil, platform.ErrNotFound
}

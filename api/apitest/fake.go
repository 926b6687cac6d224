// Package apitest holds an [api.Manager] without processes, for tests of
// what talks to one.
package apitest

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// Fake keeps daemons in memory. Its starts succeed at once unless Hook says
// otherwise.
type Fake struct {
	// Hook is called at the beginning of every operation that names daemons,
	// once per daemon. An error is the daemon's result.
	Hook func(op, name string) error
	// Block, if set, is waited for (or the context) by Stop and Start.
	Block chan struct{}
	// PanicOn panics in the operation of that name.
	PanicOn string
	// Trouble is what Ping warns of.
	Trouble []string

	mu       sync.Mutex
	daemons  map[string]*entry
	events   []api.Event
	lines    []api.LogLine
	changed  chan struct{} // closed and replaced whenever events or lines grow
	ended    chan struct{} // closed by Shutdown
	shutdown []api.ShutdownRequest
	streams  int
}

type entry struct {
	reg api.Registration
	rec supervision.Record
}

// New is a manager without daemons.
func New() *Fake {
	return &Fake{daemons: map[string]*entry{}, changed: make(chan struct{}), ended: make(chan struct{})}
}

var _ api.Manager = (*Fake)(nil)

func (f *Fake) grow() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *Fake) record(name string, kind supervision.Kind, detail string) {
	e := supervision.Event{Seq: uint64(len(f.events) + 1), Time: time.Now(), Daemon: name, Kind: kind, Detail: detail}
	if d := f.daemons[name]; d != nil {
		e.Record = new(d.rec)
	}
	f.events = append(f.events, api.NewEvent(e))
	f.grow()
}

// Print makes a daemon write a line.
func (f *Fake) Print(name string, stream api.Stream, line string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, api.LogLine{Daemon: name, Stream: stream, Line: line, Cursor: cursor(name, stream, len(f.lines)+1)})
	f.grow()
}

// Exit ends a daemon for good, as its policy never would restart it.
func (f *Fake) Exit(name string, code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.daemons[name]
	d.rec.State, d.rec.Wanted = supervision.Stopped, supervision.WantStopped
	if code != 0 {
		d.rec.State, d.rec.Reason = supervision.Failed, fmt.Sprintf("exited with code %d", code)
	}
	d.rec.Exited, d.rec.LastExit = true, supervision.Exit{Known: true, Code: code}
	d.rec.Process = supervision.Identity{}
	f.record(name, supervision.EventExited, fmt.Sprintf("exit code %d", code))
	if code != 0 {
		f.record(name, supervision.EventFailed, "")
	} else {
		f.record(name, supervision.EventStopped, "")
	}
}

// Set changes a daemon's record.
func (f *Fake) Set(name string, change func(*supervision.Record)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.daemons[name].rec)
}

// State is where a daemon stands.
func (f *Fake) State(name string) supervision.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := f.daemons[name]; d != nil {
		return d.rec.State
	}
	return ""
}

// Streams is how many streams are open.
func (f *Fake) Streams() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.streams
}

// Ended is closed once Shutdown was called.
func (f *Fake) Ended() <-chan struct{} { return f.ended }

// Shutdowns are the requests that Shutdown got.
func (f *Fake) Shutdowns() []api.ShutdownRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.shutdown)
}

func (f *Fake) enter(op string) {
	if f.PanicOn == op {
		panic("the test wants " + op + " to panic")
	}
}

func (f *Fake) hook(op, name string) error {
	if f.Hook == nil {
		return nil
	}
	return f.Hook(op, name)
}

// Ping implements api.Manager.
func (f *Fake) Ping(context.Context) (api.Ping, error) {
	f.enter("ping")
	return api.Ping{PID: 4711, Version: "v0.0.0-test", StartedAt: time.Unix(1700000000, 0).UTC(), Warnings: append([]string{}, f.Trouble...)}, nil
}

func (f *Fake) pick(s api.Selector) (names, unknown []string) {
	for name, d := range f.daemons {
		if s.All || slices.Contains(s.Names, name) || slices.ContainsFunc(s.Tags, func(t string) bool { return slices.Contains(d.reg.Spec.Tags, t) }) ||
			slices.Contains(s.Groups, d.reg.Spec.Group) && d.reg.Spec.Group != "" {
			names = append(names, name)
		}
	}
	for _, name := range s.Names {
		if f.daemons[name] == nil {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(names)
	return names, unknown
}

func (f *Fake) row(d *entry) api.Daemon {
	row := api.NewDaemon(&supervision.Registration{Spec: d.reg.Spec, Source: d.reg.Source}, &d.rec)
	row.StdoutLog, row.StderrLog = "/data/logs/"+row.Name+"/stdout.log", "/data/logs/"+row.Name+"/stderr.log"
	if d.rec.State == supervision.Running {
		row.UptimeSecs = new(time.Since(d.rec.StartedAt).Seconds())
	}
	return row
}

// Status implements api.Manager.
func (f *Fake) Status(_ context.Context, q api.StatusQuery) ([]api.Daemon, error) {
	f.enter("status")
	f.mu.Lock()
	defer f.mu.Unlock()
	if q.IsZero() {
		q.All = true
	}
	names, unknown := f.pick(q.Selector)
	if len(unknown) > 0 {
		return nil, api.NotFound(unknown[0])
	}
	var out []api.Daemon
	for _, name := range names {
		out = append(out, f.row(f.daemons[name]))
	}
	return out, nil
}

// Get implements api.Manager.
func (f *Fake) Get(_ context.Context, q api.GetQuery) (api.Details, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.daemons[q.Name]
	if d == nil {
		return api.Details{}, api.NotFound(q.Name)
	}
	out := api.Details{Daemon: f.row(d), Command: d.reg.Spec.Command, DependsOn: []string{}, EnvKeys: []string{}}
	for k := range d.reg.Spec.Env {
		out.EnvKeys = append(out.EnvKeys, k)
	}
	slices.Sort(out.EnvKeys)
	if q.Env {
		out.Env = d.reg.Spec.Env
	}
	if h := d.reg.Spec.HealthCheck; h != nil {
		refused := "connection refused on localhost:1"
		out.HealthCheck = &api.HealthCheck{
			Type: h.Type, Target: h.Target, IntervalSecs: float64(h.Interval), Failures: 1,
			Results: []api.CheckResult{
				{At: time.Now().Add(-2 * time.Second), TookSecs: 0.0021, Error: &refused},
				{At: time.Now().Add(-32 * time.Second), TookSecs: 0.0008, OK: true},
			},
		}
	}
	return out, nil
}

// Graph implements api.Manager: all of it, whatever is selected.
func (f *Fake) Graph(_ context.Context, q api.GraphQuery) (api.Graph, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, unknown := f.pick(q.Selector); len(unknown) > 0 {
		return api.Graph{}, api.NotFound(unknown[0])
	}
	var specs []*spec.Daemon
	for _, d := range f.daemons {
		specs = append(specs, d.reg.Spec)
	}
	out := api.Graph{Daemons: []api.GraphDaemon{}, Groups: []api.GraphGroup{}}
	for name, step := range spec.Steps(specs) {
		node := api.GraphDaemon{Name: name, Step: step, WaitingFor: []string{}, DependsOn: []api.GraphDependency{}}
		if d := f.daemons[name]; d != nil {
			row := f.row(d)
			node.Registered, node.State, node.Wanted, node.Group = true, &row.State, &row.Wanted, row.Group
			for _, dep := range d.reg.Spec.DependsOn {
				edge := api.GraphDependency{Name: dep.Name}
				if on := f.daemons[dep.Name]; on != nil {
					edge.Registered = true
					edge.Condition = new(string(cmp.Or(dep.Condition, spec.ConditionStarted)))
					edge.Met = on.rec.State == supervision.Running
				}
				node.DependsOn = append(node.DependsOn, edge)
			}
		}
		out.Daemons = append(out.Daemons, node)
	}
	slices.SortFunc(out.Daemons, func(a, b api.GraphDaemon) int {
		return cmp.Or(cmp.Compare(a.Step, b.Step), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

// Add implements api.Manager.
func (f *Fake) Add(_ context.Context, req api.AddRequest) ([]api.Result, error) {
	f.enter("add")
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, reg := range req.Daemons {
		if d := f.daemons[reg.Spec.Name]; d != nil && !reflect.DeepEqual(d.reg.Spec, reg.Spec) {
			return nil, api.Conflict(reg.Spec.Name, "%q is registered already, and differs in command; `syspulse apply` changes it. Nothing was registered", reg.Spec.Name)
		}
	}
	var out []api.Result
	for _, reg := range req.Daemons {
		out = append(out, api.Done(reg.Spec.Name, supervision.Stopped, f.register(reg)))
	}
	return out, nil
}

func (f *Fake) register(reg api.Registration) bool {
	if f.daemons[reg.Spec.Name] != nil {
		return false
	}
	f.daemons[reg.Spec.Name] = &entry{reg: reg, rec: supervision.Record{
		State: supervision.Stopped, Wanted: supervision.WantStopped, Health: supervision.HealthNotConfigured,
	}}
	f.record(reg.Spec.Name, supervision.EventRegistered, "")
	return true
}

// Apply implements api.Manager.
func (f *Fake) Apply(_ context.Context, req api.ApplyRequest) ([]api.Change, error) {
	f.enter("apply")
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []api.Change
	change := func(name string, k api.ChangeKind) *api.Change {
		out = append(out, api.Change{Kind: api.KindDaemon, Name: name, Change: k, Keys: []string{}, Warnings: []string{}})
		return &out[len(out)-1]
	}
	named := map[string]bool{}
	for _, reg := range req.Daemons {
		name := reg.Spec.Name
		named[name] = true
		d := f.daemons[name]
		if d == nil {
			change(name, api.ChangeAdded)
			if !req.DryRun {
				f.register(reg)
			}
			continue
		}
		c := change(name, api.ChangeUnchanged)
		if keys := spec.Diff(d.reg.Spec, reg.Spec); len(keys) > 0 {
			c.Change, c.Keys = api.ChangeChanged, keys
			c.Restart = spec.NeedsRestart(keys) && d.rec.State == supervision.Running
		}
		if !req.DryRun {
			d.reg = reg
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.daemons)) {
		if !named[name] && slices.Contains(req.Prune, f.daemons[name].reg.Source) {
			change(name, api.ChangeRemoved)
			if !req.DryRun {
				delete(f.daemons, name)
				f.record(name, supervision.EventRemoved, "")
			}
		}
	}
	return out, nil
}

// each runs an operation on the selected daemons.
func (f *Fake) each(ctx context.Context, op string, s api.Selector, do func(name string, d *entry) api.Result) ([]api.Result, error) {
	f.enter(op)
	if f.Block != nil {
		select {
		case <-f.Block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	names, unknown := f.pick(s)
	var out []api.Result
	for _, name := range names {
		d := f.daemons[name]
		if err := f.hook(op, name); err != nil {
			out = append(out, api.Failed(name, d.rec.State, err))
			continue
		}
		out = append(out, do(name, d))
	}
	for _, name := range unknown {
		out = append(out, api.Failed(name, "", api.NotFound(name)))
	}
	return out, nil
}

func (f *Fake) start(name string, d *entry) api.Result {
	if d.rec.State == supervision.Running {
		return api.Done(name, d.rec.State, false)
	}
	d.rec.State, d.rec.Wanted, d.rec.StartedAt, d.rec.Ready = supervision.Running, supervision.WantRunning, time.Now(), true
	d.rec.Process.PID = 1000 + len(f.events)
	f.record(name, supervision.EventStarted, "")
	return api.Done(name, d.rec.State, true)
}

func (f *Fake) stop(name string, d *entry) api.Result {
	if d.rec.State == supervision.Stopped {
		return api.Done(name, d.rec.State, false)
	}
	d.rec.State, d.rec.Wanted, d.rec.StoppedAt, d.rec.Ready = supervision.Stopped, supervision.WantStopped, time.Now(), false
	d.rec.Process = supervision.Identity{}
	d.rec.Exited, d.rec.LastExit = true, supervision.Exit{Known: true, Signal: "SIGTERM"}
	f.record(name, supervision.EventStopped, "")
	return api.Done(name, d.rec.State, true)
}

// Start implements api.Manager.
func (f *Fake) Start(ctx context.Context, req api.ActionRequest) ([]api.Result, error) {
	return f.each(ctx, "start", req.Selector, f.start)
}

// Stop implements api.Manager.
func (f *Fake) Stop(ctx context.Context, req api.ActionRequest) ([]api.Result, error) {
	return f.each(ctx, "stop", req.Selector, f.stop)
}

// Restart implements api.Manager.
func (f *Fake) Restart(ctx context.Context, req api.ActionRequest) ([]api.Result, error) {
	return f.each(ctx, "restart", req.Selector, func(name string, d *entry) api.Result {
		f.stop(name, d)
		return f.start(name, d)
	})
}

// Run implements api.Manager.
func (f *Fake) Run(ctx context.Context, req api.RunRequest) ([]api.Result, error) {
	return f.each(ctx, "run", req.Selector, func(name string, d *entry) api.Result {
		if d.reg.Spec.Schedule == "" {
			return api.Failed(name, d.rec.State, api.Conflict(name, "%s has no schedule", name))
		}
		return api.Done(name, supervision.Running, true)
	})
}

// Reload implements api.Manager.
func (f *Fake) Reload(ctx context.Context, req api.ReloadRequest) ([]api.Result, error) {
	return f.each(ctx, "reload", req.Selector, func(name string, d *entry) api.Result {
		switch {
		case d.reg.Spec.ReloadSignal == "" && d.reg.Spec.ReloadCommand == nil:
			return api.Failed(name, d.rec.State, api.Conflict(name, "%s can't be reloaded", name))
		case d.rec.State != supervision.Running:
			return api.Failed(name, d.rec.State, api.Conflict(name, "%s is not running", name))
		}
		return api.Done(name, d.rec.State, true)
	})
}

// Signal implements api.Manager.
func (f *Fake) Signal(ctx context.Context, req api.SignalRequest) ([]api.Result, error) {
	return f.each(ctx, "signal", req.Selector, func(name string, d *entry) api.Result {
		if d.rec.State != supervision.Running {
			return api.Failed(name, d.rec.State, api.Conflict(name, "%s is not running", name))
		}
		return api.Done(name, d.rec.State, true)
	})
}

// Remove implements api.Manager.
func (f *Fake) Remove(ctx context.Context, req api.RemoveRequest) ([]api.Result, error) {
	return f.each(ctx, "remove", req.Selector, func(name string, d *entry) api.Result {
		if d.rec.State == supervision.Running && !req.Force {
			return api.Failed(name, d.rec.State, api.Conflict(name, "%s is running; stop it first, or remove it with --force", name))
		}
		delete(f.daemons, name)
		f.record(name, supervision.EventRemoved, "")
		return api.Result{Name: name, OK: true, Changed: true}
	})
}

// cursor is the position in a stream behind n of all lines.
func cursor(name string, stream api.Stream, n int) string {
	return fmt.Sprintf("%s/%s/%d", name, stream, n)
}

// follow yields what is first, what snapshot has from position n on, and then
// what comes.
func follow[T any](ctx context.Context, f *Fake, first []T, n int, goOn bool, finish <-chan struct{}, all func() []T, keep func(T) bool) iter.Seq2[T, error] {
	f.streams++
	var once sync.Once
	closed := func() {
		once.Do(func() {
			f.mu.Lock()
			f.streams--
			f.mu.Unlock()
		})
	}
	context.AfterFunc(ctx, closed)
	return func(yield func(T, error) bool) {
		defer closed()
		for _, it := range first {
			if !yield(it, nil) {
				return
			}
		}
		for {
			f.mu.Lock()
			items, changed := all()[n:], f.changed
			n += len(items)
			f.mu.Unlock()
			for _, it := range items {
				if keep(it) && !yield(it, nil) {
					return
				}
			}
			if !goOn {
				return
			}
			select {
			case <-changed:
			case <-finish:
				goOn = false
			case <-ctx.Done():
				var zero T
				yield(zero, ctx.Err())
				return
			}
		}
	}
}

// last is the position from which n kept items remain.
func last[T any](items []T, n int, keep func(T) bool) int {
	if n < 0 {
		return 0
	}
	i := len(items)
	for ; i > 0 && n > 0; i-- {
		if keep(items[i-1]) {
			n--
		}
	}
	return i
}

// Events implements api.Manager.
func (f *Fake) Events(ctx context.Context, q api.EventQuery) (iter.Seq2[api.Event, error], error) {
	f.enter("events")
	f.mu.Lock()
	defer f.mu.Unlock()
	keep := func(e api.Event) bool {
		return q.Names == nil || e.Daemon != nil && slices.Contains(q.Names, *e.Daemon)
	}
	for _, name := range q.Names {
		if f.daemons[name] == nil {
			return nil, api.NotFound(name)
		}
	}
	n := last(f.events, q.Limit, keep)
	if q.After != nil {
		n = max(n, int(min(*q.After, uint64(len(f.events)))))
	}
	var first []api.Event
	if q.Resumable {
		first = []api.Event{{Seq: uint64(n), Time: time.Now(), Event: api.EventPosition}}
	}
	return follow(ctx, f, first, n, q.Follow, nil, func() []api.Event { return f.events }, keep), nil
}

// Logs implements api.Manager.
func (f *Fake) Logs(ctx context.Context, q api.LogQuery) (iter.Seq2[api.LogLine, error], error) {
	f.enter("logs")
	f.mu.Lock()
	defer f.mu.Unlock()
	type source struct {
		name   string
		stream api.Stream
	}
	from := map[source]int{} // how many of all lines lie before its position
	n := len(f.lines)
	for _, c := range q.After {
		var s source
		parts := strings.Split(c, "/")
		if len(parts) != 3 {
			return nil, api.Invalid("after: " + c)
		}
		s.name, s.stream = parts[0], api.Stream(parts[1])
		at, err := strconv.Atoi(parts[2])
		if err != nil {
			return nil, api.Invalid("after: " + c)
		}
		from[s] = at
		n = min(n, at)
	}
	if q.After == nil {
		names, unknown := f.pick(q.Selector)
		if len(unknown) > 0 {
			return nil, api.NotFound(unknown[0])
		}
		for _, name := range names {
			for _, stream := range []api.Stream{api.Stdout, api.Stderr} {
				if q.Streams == nil || slices.Contains(q.Streams, stream) {
					from[source{name, stream}] = 0
				}
			}
		}
		n = last(f.lines, q.Lines, func(l api.LogLine) bool {
			_, ok := from[source{l.Daemon, l.Stream}]
			return ok
		})
		for s := range from {
			from[s] = n
		}
	}
	var first []api.LogLine
	if q.Resumable {
		first = []api.LogLine{{Positions: []api.LogPosition{}}}
		for s, at := range from {
			first[0].Positions = append(first[0].Positions, api.LogPosition{Daemon: s.name, Stream: s.stream, Cursor: cursor(s.name, s.stream, at)})
		}
	}
	keep := func(l api.LogLine) bool {
		at, ok := from[source{l.Daemon, l.Stream}]
		behind, _ := strconv.Atoi(l.Cursor[strings.LastIndexByte(l.Cursor, '/')+1:])
		return ok && behind > at
	}
	seq := follow(ctx, f, first, n, q.Follow, q.Finish, func() []api.LogLine { return f.lines }, keep)
	if q.Resumable {
		return seq, nil
	}
	return func(yield func(api.LogLine, error) bool) {
		for l, err := range seq {
			l.Cursor = ""
			if !yield(l, err) {
				return
			}
		}
	}, nil
}

// Export implements api.Manager.
func (f *Fake) Export(context.Context) (api.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := api.State{Version: api.StateVersion}
	for _, d := range f.daemons {
		st.Daemons = append(st.Daemons, api.ExportedState{Registration: d.reg, Wanted: d.rec.Wanted})
	}
	slices.SortFunc(st.Daemons, func(a, b api.ExportedState) int { return strings.Compare(a.Spec.Name, b.Spec.Name) })
	return st, nil
}

// Import implements api.Manager.
func (f *Fake) Import(ctx context.Context, st api.State) ([]api.Result, error) {
	var req api.AddRequest
	for _, d := range st.Daemons {
		req.Daemons = append(req.Daemons, d.Registration)
	}
	return f.Add(ctx, req)
}

// Upgrade implements api.Manager. It changes nothing.
func (f *Fake) Upgrade(ctx context.Context, req api.UpgradeRequest) (api.Upgrade, error) {
	return api.Upgrade{Binary: cmp.Or(req.Binary, "/usr/bin/syspulse"), From: "1.0.0", Version: "1.1.0"}, nil
}

// Shutdown implements api.Manager.
func (f *Fake) Shutdown(ctx context.Context, req api.ShutdownRequest) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shutdown = append(f.shutdown, req)
	select {
	case <-f.ended:
	default:
		close(f.ended)
	}
	if !req.KeepDaemons {
		for name, d := range f.daemons {
			f.stop(name, d)
		}
	}
	return nil
}

// Package actors is the manager: a tree of protoactor actors with the root at
// the top, which every command arrives at. DESIGN.md draws it.
//
// What an actor stands for outlives it: an actor that fails is restarted by
// its supervisor and goes on with the same OS process, the same files and the
// same journal. No actor's stop or restart ends a process; only a command
// does.
package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/keeper"
	"github.com/cyber-boost/syspulse/logs"
	"github.com/cyber-boost/syspulse/notify"
	"github.com/cyber-boost/syspulse/persist"
	"github.com/cyber-boost/syspulse/platform"
	"github.com/cyber-boost/syspulse/supervision"
)

// ErrGivenUp is the manager's end after its root actor failed too often. The
// process exits with 70 (EX_SOFTWARE of sysexits.h), and a keeper starts it
// again.
var ErrGivenUp = errors.New("the root actor failed too often")

// How often the root may fail before the manager gives up.
const (
	rootFailures = 5
	rootWindow   = 10 * time.Second
)

// closePatience bounds the end of a manager whose disk is gone. What was committed is
// in the journal's log by then.
const closePatience = 20 * time.Second

// Options say how a manager is started. DataDir is required.
type Options struct {
	DataDir   string
	Version   string
	Logger    *slog.Logger
	NoCgroups bool
	// Store has what a successor needs; nil: nothing is kept.
	Store *keeper.Store
	// KeeperArgs are the arguments of the managers that a new keeper would
	// start, if the one there is dies.
	KeeperArgs []string
	// Binary is the path by which this program was started, for upgrades; "":
	// the manager can't be replaced.
	Binary string

	bootID string          // tests: pretend to be on another boot
	faults persist.Faults  // tests: of the journal
	hinder func(Host) Host // tests: what goes wrong with processes
}

// System is a running manager. It implements [api.Manager].
type System struct {
	tree
	upgrade upgrade
	system  *actor.ActorSystem
	root    *actor.PID
	store   *persist.Store
	capture *logs.Capturer
	closers []func()

	startedAt time.Time
	began     uint64 // the number of the last event of an earlier manager

	done    chan struct{}
	endOnce sync.Once
	err     error
}

var _ api.Manager = (*System)(nil)

// Start opens the data directory, takes over what an earlier manager left
// there, and starts the tree. [System.Close] must be called in the end.
func Start(o Options) (_ *System, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	failpoint.Hit(failpoint.RecoverBegin)
	staySmall()
	s := &System{startedAt: time.Now(), done: make(chan struct{})}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	host, err := platform.New(platform.Options{DataDir: o.DataDir, NoCgroups: o.NoCgroups, Store: o.Store})
	if err != nil {
		return nil, fmt.Errorf("the platform's process handling: %w", err)
	}
	s.closers = append(s.closers, func() { host.Close() })
	bootID := host.BootID()
	if o.bootID != "" {
		bootID = o.bootID
	}
	// What runs is looked for while the journal is read.
	var survivors []platform.Survivor
	surveyed := make(chan error, 1)
	marks := marks{}
	look := func() {
		marks = newMarks(o.DataDir)
		go func() {
			var err error
			if o.Store.OnTrial() {
				surveyed <- nil // nothing was lost between one exec and the next
				return
			}
			survivors, err = host.Survivors(platform.Search{Mine: marks.mine, Outputs: logs.FIFOs(o.DataDir)})
			surveyed <- err
		}()
	}
	s.store, err = persist.Open(persist.Options{
		Locked: look,
		Dir:    o.DataDir, BootID: bootID, Version: o.Version, Logger: o.Logger, Faults: o.faults,
	})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() {
		var err error
		closed := make(chan error, 1)
		go func() { closed <- s.store.Close() }()
		select {
		case err = <-closed:
		case <-time.After(closePatience): // Badger tries for ever to write where nothing can be written
			err = fmt.Errorf("it takes longer than %v; is the data directory still there?", closePatience)
		}
		if err != nil {
			o.Logger.Error("the journal could not be closed cleanly; it is read again at the next start", "error", err)
		}
	})
	s.capture, err = logs.New(logs.Options{Dir: o.DataDir, Logger: o.Logger, Store: o.Store})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.capture.Close)

	if newest, err := s.store.History(context.Background(), persist.HistoryQuery{Limit: 1}); err == nil && len(newest) > 0 {
		s.began = newest[0].Seq
	}
	failpoint.Hit(failpoint.RecoverState)
	recovered := s.store.Recovered()
	current := make(map[string]entry, len(recovered.Daemons))
	for _, d := range recovered.Daemons {
		current[d.Name] = newEntry(d)
	}
	notices, damage := recovered.Notices, recovered.Damage
	if err := <-surveyed; err != nil {
		err = fmt.Errorf("what an earlier manager left running can't be looked for: %w", err)
		if len(notices) > 0 { // and the journal alone can't be trusted
			return nil, err
		}
		o.Logger.Warn(err.Error())
	}
	if !failpoint.Sabotaged(failpoint.NoIntent) { // it would make up for that
		what := reclaim(host, marks, current, survivors)
		notices, damage = append(notices, what...), append(damage, what...)
	}
	if len(recovered.Notices) == 0 { // else a daemon may be unknown because it was lost
		if err := s.capture.Tidy(func(daemon string) bool { _, ok := current[daemon]; return ok }); err != nil {
			o.Logger.Warn("what is left of removed daemons could not be removed", "error", err)
		}
	}
	rebooted := recovered.BootID != "" && recovered.BootID != bootID
	processes := Host(host)
	if o.hinder != nil {
		processes = o.hinder(host)
	}
	alarms := newAlarms()
	s.tree = tree{
		host: processes, keep: o.Store, output: output{s.capture}, alarms: alarms, log: o.Logger, version: o.Version, marks: marks,
		checks: &checks{alarms: alarms},
		ledger: &ledger{store: s.store, log: o.Logger, changed: new(pulse), current: current},
		found: found{
			Recover: supervision.Recover{Fresh: recovered.Clean || rebooted, BootID: bootID},
			Notices: notices, Damage: damage,
		},
	}
	for _, n := range notices {
		o.Logger.Warn(n)
	}
	s.closers = append(s.closers, s.alarms.stop, s.checks.stop)
	s.wall = newWallClock(host.NewWallTimer)
	s.closers = append(s.closers, s.wall.stop)
	s.notify, err = notify.Open(notify.Options{DataDir: o.DataDir, Store: o.Store, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() { s.notify.Close() })
	s.outputs = outputs{dir: s.capture.DataDir(), follow: func(sources []logs.Source) (*logs.Tail, error) {
		return logs.NewTail(s.capture.DataDir(), s.capture, sources, logs.TailOptions{Follow: true, Cursors: true})
	}}
	if how := o.Store.FailedUpgrade(); how != "" {
		s.found.Notices = append(s.found.Notices, "the new binary of an upgrade "+how+"; this is the one before it")
	}
	s.run()
	guardian := &keeperGuard{host: host, store: o.Store, args: o.KeeperArgs, log: o.Logger, done: s.done}
	guardian.watch()
	s.upgrade.binary, s.upgrade.dir, s.upgrade.host, s.upgrade.guard = o.Binary, o.DataDir, host, guardian
	s.upgrade.proved = make(chan *os.File, 1)
	removeProofs(o.DataDir)
	return s, nil
}

// run starts the tree.
func (s *System) run() {
	s.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(slog.DiscardHandler) // faults are told by the strategies, with their cause
	}))
	s.journal = s.system.NewLocalPID("manager/journal")
	again := false
	guardian := &supervision.Root{
		MaxFailures: rootFailures, Window: rootWindow,
		OneForOne: supervision.OneForOne{
			Fault: func(child *actor.PID, reason any, delay time.Duration) {
				logFault(s.log, child, reason, "restart in "+delay.String())
			},
			After: s.alarms.after,
		},
		GiveUp: func(reason any) {
			logFault(s.log, s.root, reason, "the manager ends")
			s.end(ErrGivenUp)
		},
	}
	var err error
	s.root, err = s.system.Root.SpawnNamed(props(func() actor.Actor {
		m := &manager{tree: &s.tree, again: again}
		again = true
		return m
	}, actor.WithGuardian(guardian)), "manager")
	if err != nil {
		panic(err) // the name is taken in a new system
	}
	s.closers = append(s.closers, func() {
		s.system.Root.StopFuture(s.root).Wait()
		s.system.Shutdown()
	})
}

// Done is closed when the manager has ended: after a shutdown, or when it
// gave up. Close must be called then.
func (s *System) Done() <-chan struct{} { return s.done }

// Err is why the manager ended: nil after a shutdown. Valid once Done is
// closed.
func (s *System) Err() error { return s.err }

func (s *System) end(err error) {
	s.endOnce.Do(func() {
		s.err = err
		close(s.done)
	})
}

// Close stops the actors and closes the state. It ends no daemon: what still
// runs is found by the next manager.
func (s *System) Close() {
	s.end(errors.New("closed"))
	s.close()
}

func (s *System) close() {
	for len(s.closers) > 0 {
		last := len(s.closers) - 1
		f := s.closers[last]
		s.closers = s.closers[:last]
		f()
	}
}

// ask sends a request to the root and waits for its answer.
func ask[T any](ctx context.Context, s *System, msg any, a answer[T]) (T, error) {
	s.system.Root.Send(s.root, msg)
	return a.await(ctx, s.done, s.ended)
}

func (s *System) ended() error {
	if err := s.Err(); err != nil {
		return api.NewError(api.CodeInternal, "the manager ends: %v", err)
	}
	return api.ShuttingDown()
}

// streamEnd is what a stream ends with that is followed, once s has ended.
func (s *System) streamEnd() error {
	if s.Err() != nil {
		return api.ErrInterrupted
	}
	return api.ShuttingDown()
}

// sync makes what was committed durable. Every command does before it is
// acknowledged.
func (s *System) sync(ctx context.Context) error {
	synced := s.ledger.awaitSync()
	s.system.Root.Send(s.journal, syncState{})
	_, err := synced.await(ctx, s.done, s.ended)
	failpoint.Hit(failpoint.CommitAcked)
	if errors.Is(err, persist.ErrDegraded) {
		return nil // the disk is full: it is done, and Ping's warnings say what it is worth
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, api.ErrShuttingDown) {
		return api.NewError(api.CodeFailed, "done, but it can't be written to the disk, and would be lost in a power cut: %v", err)
	}
	return err
}

// Ping implements [api.Manager].
func (s *System) Ping(context.Context) (api.Ping, error) {
	return api.Ping{
		PID: os.Getpid(), Version: s.version, StartedAt: s.startedAt,
		Warnings:  append([]string{}, slices.Concat(s.ledger.trouble(), s.notes.list(), s.found.Damage)...),
		KeeperPID: keeperPID(s.keep),
	}, nil
}

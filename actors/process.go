package actors

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/platform"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// Messages to a process actor. Each names the incarnation it is for and is
// dropped when that isn't the actor's: a message sent to a suspended actor
// reaches its next incarnation.
type (
	launch struct {
		Incarnation string
		Spec        *spec.Daemon
		Account     *platform.Account
		Capture     Capture
		Notify      string // where it says something about itself; may be empty
		Heard       heard  // if it may
		Err         error  // no such user, or the output can't be captured
	}
	attach struct {
		Incarnation string
		Process     supervision.Identity // zero: find it by its mark
		Capture     Capture
		Heard       heard
	}
	sendSignal struct {
		Incarnation string
		Signal      string
		Mode        spec.KillMode
		Reply       func(error) // may be nil
	}
	killTree struct{ Incarnation string }
	sweep    struct {
		Incarnation string
		Capture     Capture
	}
	mainDied struct {
		Incarnation string
		Process     supervision.Identity
		Exit        supervision.Exit
		At          time.Time
		Boot        time.Duration
	}
	treeEmptied struct{ Incarnation string }
	// tryAgain has the task tried again that could not be done.
	tryAgain struct{ Incarnation string }
	// captured: the output of what was attached without is captured now.
	captured struct {
		Incarnation string
		Capture     Capture
	}
)

func (m sendSignal) fail(err error) {
	if m.Reply != nil {
		m.Reply(err)
	}
}

// ended is the failure of a process actor: its incarnation is over.
type ended struct {
	Forked *supervision.Forked // what the daemon may not have been told yet
	Input  supervision.Input
}

// EndOfIncarnation implements [supervision.Incarnate].
func (ended) EndOfIncarnation() {}

// observed tells the daemon of something short of the end.
type observed struct {
	Input supervision.Input
	Noted func(changed bool) // called once it is in the journal, or is no news; may be nil
}

// process stands for one incarnation of a daemon's OS process, and fails when
// that has ended. It never ends the OS process because it is itself stopped or
// restarted: a new actor finds the handle in the cell and goes on.
type process struct {
	*cell
}

// cell is what outlives a fault of the process actor.
type cell struct {
	name   string
	host   Host
	log    *slog.Logger
	after  func(time.Duration, func())
	starts *launches

	incarnation string
	handle      platform.Process
	capture     Capture
	forked      *supervision.Forked
	died        *mainDied
	told        bool // of died, with others of the tree left
	task        any  // what was begun and must be done: the message to go on with after a fault
	tries       int  // that task has failed
	mainPID     mainPID
}

func (p *process) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		p.resume(ctx)
	case *actor.Stopping:
		if p.handle != nil {
			p.handle.Release()
			p.handle = nil
		}
	case launch:
		p.launch(ctx, msg)
	case attach:
		p.attach(ctx, msg)
	case sendSignal:
		p.signal(msg)
	case killTree:
		p.kill(ctx, msg)
	case sweep:
		p.sweep(ctx, msg)
	case tryAgain:
		p.tryAgain(ctx, msg)
	case captured:
		if p.incarnation == msg.Incarnation {
			p.capture = msg.Capture
		}
	case mainDied:
		if p.current(msg.Incarnation) && p.handle.Identity() == msg.Process {
			p.died = &msg
			p.mainGone(ctx)
		}
	case namedMain:
		p.namedMain(ctx, msg)
	case notedMain:
		p.notedMain(ctx, msg)
	case heardAll:
		p.heardAll(ctx, msg)
	case treeEmptied:
		if p.current(msg.Incarnation) && p.died != nil {
			p.finish(ctx, true)
		}
	}
}

// current reports whether a message for an incarnation is for the one at hand.
func (p *process) current(incarnation string) bool {
	return p.handle != nil && p.incarnation == incarnation
}

func (c *cell) reset(incarnation string, capture Capture) {
	if c.incarnation != incarnation {
		c.tries = 0
	}
	c.incarnation, c.capture = incarnation, capture
	c.handle, c.forked, c.died, c.told, c.task = nil, nil, nil, false, nil
	c.mainPID = mainPID{}
}

// resume goes on where an earlier actor of this cell failed.
func (p *process) resume(ctx actor.Context) {
	switch task := p.task.(type) {
	case attach:
		p.attach(ctx, task)
		return
	case sweep:
		p.sweep(ctx, task)
		return
	case notedMain:
		p.follow(ctx, task.Process)
		return
	}
	if p.handle == nil {
		return
	}
	if p.died == nil {
		if p.forked != nil {
			ctx.Send(ctx.Parent(), observed{Input: *p.forked}) // told twice does no harm
		}
		p.watch(ctx)
	} else {
		p.mainGone(ctx)
	}
	if task, ok := p.task.(killTree); ok {
		p.kill(ctx, task)
	}
}

// failed has the task tried again, after growing delays, and tells why it could
// not be done: nothing follows until it is.
func (p *process) failed(ctx actor.Context, what string, err error) {
	p.tries++
	delay := supervision.FaultDelay(p.tries + 1)
	p.log.Warn(what, "daemon", p.name, "error", err, "again in", delay)
	ctx.Send(ctx.Parent(), observed{Input: supervision.LeftBehind{
		Incarnation: p.incarnation, Reason: fmt.Sprintf("%s: %s; it is tried again", what, brief(err)),
	}})
	system, self, incarnation := ctx.ActorSystem(), ctx.Self(), p.incarnation
	p.after(delay, func() { system.Root.Send(self, tryAgain{incarnation}) })
}

func (p *process) tryAgain(ctx actor.Context, msg tryAgain) {
	if p.incarnation != msg.Incarnation {
		return
	}
	switch task := p.task.(type) {
	case attach:
		p.attach(ctx, task)
	case sweep:
		p.sweep(ctx, task)
	case killTree:
		p.kill(ctx, task)
	}
}

func (p *process) launch(ctx actor.Context, msg launch) {
	p.reset(msg.Incarnation, msg.Capture)
	// After a fault it is not known whether the fork happened.
	p.mainPID.heard = msg.Heard
	p.task = attach{Incarnation: msg.Incarnation, Capture: msg.Capture, Heard: msg.Heard}
	noted := p.starts.begin()
	handed := false
	defer func() {
		if !handed {
			noted()
		}
	}()
	handle, err := p.start(msg)
	p.task = nil
	if err != nil {
		panic(ended{Input: supervision.StartFailed{Incarnation: msg.Incarnation, Reason: brief(err)}})
	}
	failpoint.Hit(failpoint.ForkAfter)
	p.handle = handle
	p.forked = &supervision.Forked{
		Incarnation: msg.Incarnation, Process: handle.Identity(), At: wallNow(), Boot: p.host.Uptime(),
	}
	handed = true
	ctx.Send(ctx.Parent(), observed{*p.forked, func(bool) { noted() }})
	p.watch(ctx)
}

// maxReason is how many bytes of an error are kept. It may name a program whose
// name is longer than the journal likes.
const maxReason = 2048

func brief(err error) string {
	s := err.Error()
	if len(s) <= maxReason {
		return s
	}
	return strings.ToValidUTF8(s[:maxReason], "") + "…"
}

func (p *process) start(msg launch) (platform.Process, error) {
	if msg.Err != nil {
		return nil, msg.Err
	}
	cmd, err := launchCommand(msg.Spec, msg.Incarnation, msg.Notify, msg.Account)
	if err != nil {
		return nil, err
	}
	stdout, stderr, err := msg.Capture.Writers()
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	defer stderr.Close()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	failpoint.Hit(failpoint.ForkBefore)
	return p.host.Start(cmd)
}

// attach takes over what an earlier manager, or an earlier actor, started.
func (p *process) attach(ctx actor.Context, msg attach) {
	named := p.mainPID
	p.reset(msg.Incarnation, msg.Capture)
	if named.incarnation == msg.Incarnation {
		p.mainPID = named // it may have been named already
	}
	p.mainPID.incarnation, p.mainPID.heard = msg.Incarnation, msg.Heard
	p.task = msg
	failpoint.Hit(failpoint.RecoverLook)
	var handle platform.Process
	var err error
	if msg.Process == (supervision.Identity{}) {
		handle, err = p.host.Find(msg.Incarnation)
	} else {
		handle, err = p.host.Adopt(msg.Process, msg.Incarnation)
	}
	if err != nil {
		p.lost(ctx, msg, err)
		return
	}
	failpoint.Hit(failpoint.RecoverAdopted)
	p.handle, p.task = handle, nil
	age := p.host.Age(handle.Identity())
	ctx.Send(ctx.Parent(), observed{Input: supervision.Attached{
		Incarnation: msg.Incarnation, Process: handle.Identity(), At: wallNow().Add(-age), Boot: p.host.Uptime() - age,
	}})
	p.watch(ctx)
	p.mainPID.asked, p.mainPID.all = false, false
	if early := p.mainPID.early; early != nil {
		p.mainPID.early = nil
		p.namedMain(ctx, *early)
	}
}

// lost ends an incarnation whose process isn't there.
func (p *process) lost(ctx actor.Context, msg attach, err error) {
	var gone *platform.GoneError
	if !errors.As(err, &gone) && !errors.Is(err, platform.ErrNotFound) {
		// It may well run: to go on without it could start it twice. The
		// supervisor has us look again, after growing delays.
		panic(fmt.Errorf("could not look for the process of %s: %w", p.name, err))
	}
	if msg.Process != (supervision.Identity{}) && p.awaitHeard(ctx) {
		return // it may have named another main process before it ended
	}
	exit := supervision.Exited{Incarnation: msg.Incarnation, At: wallNow(), Boot: p.host.Uptime(), Empty: true}
	died := msg.Process != (supervision.Identity{})
	if gone != nil && gone.Exit != nil {
		exit.Exit, died = *gone.Exit, true
	}
	// Whatever is left of its tree must not run beside the next incarnation.
	_, err = p.host.EndLeftovers(msg.Incarnation, msg.Process)
	if p.capture != nil {
		p.capture.Drain()
	}
	if err != nil {
		if died {
			exit.Empty = false
			ctx.Send(ctx.Parent(), observed{Input: exit}) // its code might not be told a second time
		}
		p.failed(ctx, notEnded, err)
		return
	}
	failpoint.Hit(failpoint.RecoverLost)
	p.task = nil
	if !died {
		panic(ended{Input: supervision.NotFound{Incarnation: msg.Incarnation}})
	}
	panic(ended{Input: exit})
}

const notEnded = "what it left behind can't be ended"

// sweep ends what a main process left that died under an earlier manager.
func (p *process) sweep(ctx actor.Context, msg sweep) {
	p.reset(msg.Incarnation, msg.Capture)
	p.task = msg
	if _, err := p.host.EndLeftovers(msg.Incarnation, supervision.Identity{}); err != nil {
		p.failed(ctx, notEnded, err)
		return
	}
	if p.capture != nil {
		p.capture.Drain()
	}
	p.task = nil
	panic(ended{Input: supervision.TreeEmpty{Incarnation: msg.Incarnation}})
}

func (p *process) kill(ctx actor.Context, msg killTree) {
	if !p.current(msg.Incarnation) {
		return
	}
	p.task = msg
	if err := p.handle.Kill(); err != nil {
		p.failed(ctx, "not all of it can be killed", err)
		return
	}
	p.task, p.tries = nil, 0
}

func (p *process) watch(ctx actor.Context) {
	system, self, incarnation, host, id := ctx.ActorSystem(), ctx.Self(), p.incarnation, p.host, p.handle.Identity()
	p.handle.OnExit(func(e supervision.Exit) {
		system.Root.Send(self, mainDied{incarnation, id, e, wallNow(), host.Uptime()})
	})
}

func (p *process) signal(msg sendSignal) {
	err := platform.ErrDead
	if p.current(msg.Incarnation) {
		err = p.handle.Signal(msg.Signal, msg.Mode)
	}
	if msg.Reply != nil {
		msg.Reply(err)
		return
	}
	if err != nil && !errors.Is(err, platform.ErrDead) {
		p.log.Warn("could not signal a daemon", "daemon", p.name, "signal", msg.Signal, "error", err)
	}
}

// finish goes on from the death of the main process: to the end, if nothing
// else of the tree is left, else it tells of the death and waits.
func (p *process) finish(ctx actor.Context, empty bool) {
	failpoint.Hit(failpoint.ExitSeen)
	if p.capture != nil {
		p.capture.Drain() // its last words are in the log before its end is told
	}
	failpoint.Hit(failpoint.ExitDrained)
	in := supervision.Exited{
		Incarnation: p.incarnation, Exit: p.died.Exit, At: p.died.At, Boot: p.died.Boot, Empty: empty,
	}
	switch {
	case empty:
		// Also where the death was told before: this may overtake that.
		p.end(in)
	case !p.told:
		p.told = true
		ctx.Send(ctx.Parent(), observed{Input: in})
	}
	system, self, incarnation := ctx.ActorSystem(), ctx.Self(), p.incarnation
	p.handle.OnEmpty(func() { system.Root.Send(self, treeEmptied{incarnation}) })
}

func (p *process) end(in supervision.Input) {
	p.handle.Release()
	forked := p.forked
	p.reset("", nil)
	panic(ended{Forked: forked, Input: in})
}

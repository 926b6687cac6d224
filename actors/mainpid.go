package actors

import (
	"errors"
	"fmt"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/cyber-boost/syspulse/platform"
	"github.com/cyber-boost/syspulse/supervision"
)

// A daemon may name another process of its tree as its main one (MAINPID=): a server
// that replaces itself, or one whose first process forks and ends. From then on that
// one's end is the daemon's. It is in the journal before anything is done about it:
// a manager that follows would else take the end of the first process for the
// daemon's. And since the first process may end right after it has named another,
// its end counts only when all has been heard that it has said.

// mainPID is what a cell knows of that.
type mainPID struct {
	incarnation string // of early
	heard       heard  // nil: it says nothing
	early       *namedMain
	noting      supervision.Identity // is being noted; zero: none is
	asked       bool                 // heard was asked
	all         bool                 // and has answered
}

// Messages to a process actor.
type (
	// namedMain: a process says which one is the main one.
	namedMain struct {
		Incarnation string
		PID, Sender int
		heard       bool // the sender is the daemon's: that was looked at
	}
	// notedMain: that is in the journal now, or was refused.
	notedMain struct {
		Incarnation string
		Process     supervision.Identity
		Changed     bool
	}
	// heardAll: all that the daemon had said was handled.
	heardAll struct{ Incarnation string }
)

// namedMain looks whether the two belong to the daemon.
func (p *process) namedMain(ctx actor.Context, msg namedMain) {
	if p.incarnation != msg.Incarnation || p.handle == nil {
		// It is being attached, or about to be.
		p.mainPID.incarnation, p.mainPID.early = msg.Incarnation, &msg
		return
	}
	p.changeMain(ctx, p.handle.Identity(), msg)
}

// changeMain has another main process noted.
func (p *process) changeMain(ctx actor.Context, first supervision.Identity, msg namedMain) {
	refuse := func(why string) {
		p.log.Warn("a notification is not heard", "daemon", p.name, "reason", fmt.Sprintf("MAINPID=%d %s", msg.PID, why))
	}
	// The first process is believed also when it has ended since: that is what it
	// does it for.
	if msg.Sender != first.PID && !msg.heard {
		if _, err := p.host.Member(msg.Incarnation, msg.Sender); err != nil {
			refuse(fmt.Sprintf("comes from process %d, which is none of the daemon's", msg.Sender))
			return
		}
	}
	if p.mainPID.noting != (supervision.Identity{}) {
		msg.heard = true
		p.mainPID.incarnation, p.mainPID.early = msg.Incarnation, &msg // the last one counts
		return
	}
	if msg.PID == first.PID {
		return
	}
	id, err := p.host.Member(msg.Incarnation, msg.PID)
	if err != nil {
		refuse("is no process of the daemon")
		return
	}
	p.mainPID.noting = id
	system, self := ctx.ActorSystem(), ctx.Self()
	ctx.Send(ctx.Parent(), observed{
		Input: supervision.MainChanged{Incarnation: msg.Incarnation, Process: id},
		Noted: func(changed bool) { system.Root.Send(self, notedMain{msg.Incarnation, id, changed}) },
	})
}

// notedMain goes over to the new main process.
func (p *process) notedMain(ctx actor.Context, msg notedMain) {
	if p.incarnation != msg.Incarnation || p.mainPID.noting != msg.Process {
		return
	}
	p.mainPID.noting = supervision.Identity{}
	attaching, isAttach := p.task.(attach)
	switch {
	case isAttach:
		if msg.Changed {
			attaching.Process = msg.Process
			p.task = attaching
		}
		if !p.namedAgain(ctx, attaching.Process) {
			p.attach(ctx, attaching)
		}
	case p.handle == nil:
	case msg.Changed:
		p.task = msg
		p.follow(ctx, msg.Process)
	case !p.namedAgain(ctx, p.handle.Identity()) && p.died != nil:
		p.finish(ctx, p.handle.Empty())
	}
}

// namedAgain goes on with what was named while another one was being noted, and
// reports whether that is being noted now.
func (p *process) namedAgain(ctx actor.Context, main supervision.Identity) bool {
	if early := p.mainPID.early; early != nil {
		p.mainPID.early = nil
		p.changeMain(ctx, main, *early)
	}
	return p.mainPID.noting != (supervision.Identity{})
}

// follow makes the handle that of the new main process.
func (p *process) follow(ctx actor.Context, id supervision.Identity) {
	handle, err := p.host.Follow(p.handle, id)
	var gone *platform.GoneError
	switch {
	case errors.As(err, &gone): // it has ended meanwhile, as the daemon's main process
		p.task = nil
		p.died = &mainDied{Incarnation: p.incarnation, Process: id, At: wallNow(), Boot: p.host.Uptime()}
		if gone.Exit != nil {
			p.died.Exit = *gone.Exit
		}
		if !p.namedAgain(ctx, id) {
			p.finish(ctx, p.handle.Empty())
		}
		return
	case err != nil:
		panic(fmt.Errorf("the main process of %s can't be followed: %w", p.name, err)) // it is tried again
	}
	p.task = nil
	p.handle, p.died, p.told = handle, nil, false
	p.mainPID.asked, p.mainPID.all = false, false
	p.watch(ctx)
	p.namedAgain(ctx, id)
}

// mainGone goes on from the death of the main process.
func (p *process) mainGone(ctx actor.Context) {
	empty := p.handle.Empty()
	if !empty && p.awaitHeard(ctx) {
		return
	}
	p.finish(ctx, empty)
}

// awaitHeard reports whether something may have been said that is not handled yet. Then
// heardAll or notedMain comes.
func (p *process) awaitHeard(ctx actor.Context) bool {
	m := &p.mainPID
	if m.heard == nil || m.all {
		return m.noting != (supervision.Identity{})
	}
	if !m.asked {
		m.asked = true
		system, self, incarnation := ctx.ActorSystem(), ctx.Self(), p.incarnation
		m.heard(func() { system.Root.Send(self, heardAll{incarnation}) })
	}
	return true
}

func (p *process) heardAll(ctx actor.Context, msg heardAll) {
	if p.incarnation != msg.Incarnation || !p.mainPID.asked || p.mainPID.all {
		return
	}
	p.mainPID.all = true
	if attaching, ok := p.task.(attach); ok && p.handle == nil {
		if early := p.mainPID.early; early != nil {
			p.mainPID.early = nil
			p.changeMain(ctx, attaching.Process, *early)
		}
		if p.mainPID.noting == (supervision.Identity{}) {
			p.attach(ctx, attaching)
		}
		return
	}
	if p.handle != nil && p.died != nil && p.mainPID.noting == (supervision.Identity{}) {
		p.finish(ctx, p.handle.Empty())
	}
}

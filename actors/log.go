package actors

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/cyber-boost/syspulse/logs"
	"github.com/cyber-boost/syspulse/platform"
)

// Messages to a log actor. What needs the capture open goes through it, so
// that opening and closing keep their order.
type (
	// open opens the capture, if it isn't, and hands what Then makes of it to
	// the process actor.
	open struct {
		User    string // as the .sys file has it
		Process *actor.PID
		Then    func(Capture, *platform.Account, error) any
		System  *actor.ActorSystem
		Running string // the incarnation, if it runs already: then an open that fails is tried again
	}
	// reopen tries again to open the capture of what runs.
	reopen struct{ open }
	// idle: nothing of the daemon runs. The capture is closed.
	idle struct{}
)

// fail answers an open that the actor failed over: the process actor waits for
// what comes of it.
func (m open) fail(err error) { m.System.Root.Send(m.Process, m.Then(nil, nil, err)) }

// logger owns the capture of a daemon's output. When it stops, what is in the
// pipes goes to the files first; the pipes stay with the daemon.
type logger struct {
	name   string
	output Output
	log    *slog.Logger
	alarms *alarms
	notes  *notes
	*recorder
}

// recorder is what outlives a fault of the log actor.
type recorder struct {
	capture Capture
	again   alarm         // set while the output of what runs isn't captured
	wait    time.Duration // how long it was last set for
}

func (l *logger) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case open:
		if msg.Running == "" {
			if err := platform.SpareDescriptors(); err != nil {
				ctx.Send(msg.Process, msg.Then(nil, nil, err))
				return
			}
		}
		account, err := l.open(msg.User)
		ctx.Send(msg.Process, msg.Then(l.capture, account, err))
		l.wait = 0
		l.settle(ctx, msg, err)
	case reopen:
		if l.capture != nil {
			return
		}
		_, err := l.open(msg.User)
		if err == nil {
			l.log.Info("the output is captured again", "daemon", l.name)
			ctx.Send(msg.Process, captured{msg.Running, l.capture})
		}
		l.settle(ctx, msg.open, err)
	case idle, *actor.Stopping:
		l.alarms.clear(&l.again)
		l.notes.clear(l.name)
		if l.capture != nil {
			l.capture.Close()
			l.capture = nil
		}
	}
}

// settle sees to it that the output of what runs is captured in the end: the
// daemon waits once its pipes are full.
func (l *logger) settle(ctx actor.Context, msg open, err error) {
	if err == nil || msg.Running == "" {
		l.alarms.clear(&l.again)
		l.notes.clear(l.name)
		return
	}
	l.notes.set(l.name, fmt.Sprintf("the output of %s is not captured: %v", l.name, err))
	l.wait = min(max(2*l.wait, retryFirst), retryMost)
	system, self := ctx.ActorSystem(), ctx.Self()
	l.alarms.set(&l.again, l.wait, func() { system.Root.Send(self, reopen{msg}) })
}

// notes are what is wrong now and passes by itself. Safe for concurrent use.
type notes struct {
	mu  sync.Mutex
	all map[string]string
}

func (n *notes) set(about, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all == nil {
		n.all = make(map[string]string)
	}
	n.all[about] = text
}

func (n *notes) clear(about string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.all, about)
}

// list is sorted by what they are about.
func (n *notes) list() (out []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, about := range slices.Sorted(maps.Keys(n.all)) {
		out = append(out, n.all[about])
	}
	return out
}

// open opens the capture for a daemon that runs as user.
func (l *logger) open(user string) (*platform.Account, error) {
	account, err := platform.LookupAccount(user)
	if err != nil {
		return nil, err
	}
	owner := logs.StreamOptions{UID: os.Geteuid(), GID: os.Getegid()}
	if account != nil {
		owner = logs.StreamOptions{UID: int(account.UID), GID: int(account.GID)}
	}
	l.capture, err = l.output.Open(l.name, owner)
	return account, err
}

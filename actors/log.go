package actors

import (
	"log/slog"
	"os"

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
	}
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
	*recorder
}

// recorder is what outlives a fault of the log actor.
type recorder struct{ capture Capture }

func (l *logger) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case open:
		account, err := l.open(msg.User)
		ctx.Send(msg.Process, msg.Then(l.capture, account, err))
	case idle, *actor.Stopping:
		if l.capture != nil {
			l.capture.Close()
			l.capture = nil
		}
	}
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

package actors

import (
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/supervision"
)

// request is a message that somebody waits for the answer to. An actor that
// fails while it handles one drops the message, so the guard answers it.
type request interface{ fail(error) }

// fault is the failure reason of an actor that panicked: the panic's value
// and where it happened, which protoactor's recover would lose.
type fault struct {
	reason any
	stack  []byte
}

func (f *fault) String() string { return fmt.Sprint(f.reason) }

// injected makes any actor fail; tests send it.
type injected struct{ reason string }

// guard is the middleware around every actor's Receive.
func guard(next actor.ReceiverFunc) actor.ReceiverFunc {
	return func(ctx actor.ReceiverContext, env *actor.MessageEnvelope) {
		defer func() {
			r := recover()
			if r == nil {
				return
			}
			if end, ok := r.(supervision.Incarnate); ok {
				panic(end)
			}
			if req, ok := env.Message.(request); ok {
				req.fail(api.NewError(api.CodeInternal, "internal error, the manager's log has the details: %v", r))
			}
			panic(&fault{r, debug.Stack()})
		}()
		if inj, ok := env.Message.(injected); ok {
			panic(inj.reason)
		}
		next(ctx, env)
	}
}

// logFault tells of an actor's fault and its cause.
func logFault(log *slog.Logger, child *actor.PID, reason any, then string) {
	attrs := []any{"actor", child.Id, "cause", fmt.Sprint(reason), "then", then}
	if f, ok := reason.(*fault); ok {
		attrs = append(attrs, "stack", string(f.stack))
	}
	log.Error("an actor failed; no daemon's process is ended by that", attrs...)
}

package actors

import (
	"errors"
	"fmt"

	"github.com/cyber-boost/syspulse/supervision"
)

// until says what the reply to a command waits for.
type until int

const (
	untilRecorded until = iota // the change is committed
	untilGone                  // nothing is left of the incarnation
	untilExec                  // exec has succeeded or failed
	untilReady                 // it is ready, or completed
)

var errStopped = errors.New("it was stopped before that")

// waiter is a command whose reply waits for something. It looks at the record
// that the command resulted in, and then at each event of the daemon.
type waiter struct {
	until       until
	incarnation string // the one it is about; empty if that is yet to begin
	changed     bool
	healthy     bool  // it is ready when it is healthy
	forks       bool  // it has nothing to wait for
	failed      error // the start did; told with the state that follows from that
	reply       func(outcome)
}

// newWaiter makes the waiter of a command that resulted in rec.
func newWaiter(u until, rec *supervision.Record, changed bool, reply func(outcome)) *waiter {
	w := &waiter{until: u, incarnation: rec.Incarnation, changed: changed, reply: reply}
	if u != untilGone && rec.State == supervision.Stopping {
		w.incarnation = "" // it starts again once it has stopped
	}
	return w
}

// settle replies if rec is what was waited for. k is the event that led to it,
// or empty for the command itself.
func (w *waiter) settle(k supervision.Kind, rec *supervision.Record) bool {
	done, err := w.look(k, rec)
	if done {
		w.reply(outcome{state: rec.State, changed: w.changed, err: err})
	}
	return done
}

func (w *waiter) look(k supervision.Kind, rec *supervision.Record) (done bool, err error) {
	live := rec.State == supervision.Starting || rec.State == supervision.Running || rec.State == supervision.Stopping
	switch w.until {
	case untilRecorded:
		return true, nil
	case untilGone:
		return !live || rec.Incarnation != w.incarnation, nil
	}
	if w.failed != nil {
		return true, w.failed
	}
	if k == supervision.EventStarting || k == supervision.EventWaiting {
		w.incarnation = rec.Incarnation
	}
	ours := rec.Incarnation == w.incarnation
	switch {
	case ours && k == supervision.EventStartFailed:
		w.failed = errors.New(rec.Reason)
		return false, nil
	case ours && k == supervision.EventExited && w.until == untilReady && (rec.State != supervision.Stopping || rec.After == supervision.AfterPolicy):
		if rec.Completed {
			return true, nil // a one-shot that completed
		}
		return true, fmt.Errorf("%s before it was ready", rec.LastExit)
	case ours && w.until == untilReady && k == supervision.EventStopping && rec.Cause != "":
		return true, errors.New(rec.Cause)
	case ours && w.until == untilReady && rec.Ready && (!w.healthy || rec.Health == supervision.HealthHealthy):
		return true, nil
	case ours && w.until == untilReady && w.healthy && rec.Health == supervision.HealthUnhealthy:
		return true, errors.New(rec.Reason)
	case ours && w.until == untilExec && rec.Process.PID != 0 && rec.State != supervision.Stopping:
		return true, nil
	case w.until == untilExec && !w.forks && rec.State == supervision.Starting && rec.Waiting:
		return true, nil // what it waits for may take long
	}
	switch {
	case rec.State == supervision.Scheduled && rec.Reason == "":
		return true, nil // its time comes
	case (rec.State == supervision.Failed || rec.State == supervision.Scheduled) && rec.Reason != "":
		return true, errors.New(rec.Reason)
	case !live:
		return true, errStopped
	}
	return false, nil
}

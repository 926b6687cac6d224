package actors

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/persist"
	"github.com/cyber-boost/syspulse/supervision"
)

// Store is what the journal writes to; persist.Store is the real one.
type Store interface {
	// Append commits events in one piece, so that they survive the manager's
	// death but not a power cut, and numbers them.
	Append([]supervision.Event) error
	// Sync makes everything appended before survive a power cut as well.
	Sync() error
	// Degraded says why events are kept in memory; empty if they are not.
	Degraded() string
	// Retry looks whether they can be written again, and if so writes them.
	// It reports whether the journal is on disk.
	Retry() bool
}

// Messages to the journal.
type (
	// appendEvents asks for a commit; once it is done, the sender gets an
	// appended with the same Batch.
	appendEvents struct {
		Events []supervision.Event
		From   *actor.PID
		Batch  uint64
	}
	// appended is the answer.
	appended struct{ Batch uint64 }
	// syncState asks for a sync, for all who wait for one in the ledger.
	syncState struct{}
	// recall asks for the last state of a daemon, all that was sent before
	// it included.
	recall struct {
		Name string
		From *actor.PID
	}
	// recalled is the answer. Known is false if there is no such daemon.
	recalled struct {
		Known bool
		Entry entry
	}
	// retry asks to write what is kept in memory.
	retry struct{}
	// flush ends a batch: the journal sends it to itself behind the messages
	// that wait already.
	flush struct{}
)

// entry is what is known of a daemon.
type entry struct {
	reg      supervision.Registration
	rec      supervision.Record
	warnings []string // of reg: what this build doesn't act on
	wish     bool     // rec.Wanted is of a plain copy, and newer than the rest of rec
}

// take applies an event.
func (e *entry) take(ev *supervision.Event) {
	if ev.Spec != nil {
		e.reg, e.warnings = *ev.Spec, nil
		if ev.Spec.Spec != nil {
			e.warnings = warnings(ev.Spec.Spec)
		}
	}
	if ev.Record != nil {
		e.rec, e.wish = *ev.Record, false
	}
}

// ledger is what outlives a fault of the journal actor: the store, what was
// accepted but not yet committed, and the state that results from it all.
type ledger struct {
	store   Store
	log     *slog.Logger
	changed *pulse // rings after each commit

	mu      sync.Mutex
	current map[string]entry
	pending []appendEvents
	broken  error                 // the last commit failed with it
	lost    error                 // why the last event was left out that the journal can't take
	intents []supervision.Event   // that a sabotage keeps back
	late    [][]supervision.Event // likewise
	syncs   []answer[struct{}]
}

// awaitSync notes that somebody waits for a sync of all that is committed by
// now. It is kept here, and not in a message, since a journal that ends loses
// its messages.
func (l *ledger) awaitSync() answer[struct{}] {
	a := newAnswer[struct{}]()
	l.mu.Lock()
	l.syncs = append(l.syncs, a)
	l.mu.Unlock()
	return a
}

// sync syncs once for all who wait.
func (l *ledger) sync() {
	l.mu.Lock()
	waiting := l.syncs
	l.mu.Unlock()
	if len(waiting) == 0 {
		return
	}
	err := l.store.Sync()
	l.mu.Lock()
	l.syncs = slices.Clone(l.syncs[len(waiting):])
	l.mu.Unlock()
	for _, a := range waiting {
		a.give(struct{}{}, err)
	}
}

// snapshot is the state of all daemons.
func (l *ledger) snapshot() map[string]entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string]entry, len(l.current))
	for name, e := range l.current {
		out[name] = e
	}
	return out
}

// accept notes events that are to be committed.
func (l *ledger) accept(msg appendEvents) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ev := range msg.Events {
		if ev.Daemon == "" {
			continue
		}
		if ev.Kind == supervision.EventRemoved {
			delete(l.current, ev.Daemon)
			continue
		}
		e := l.current[ev.Daemon]
		e.take(&ev)
		l.current[ev.Daemon] = e
	}
	l.pending = append(l.pending, msg)
	return len(l.pending) == 1
}

// commit writes what is pending and returns it, numbered.
func (l *ledger) commit() (batch []appendEvents, events []supervision.Event) {
	l.mu.Lock()
	batch = l.pending
	l.mu.Unlock()
	if len(batch) == 0 {
		return nil, nil
	}
	for _, b := range batch {
		events = append(events, b.Events...)
	}
	if failpoint.Sabotaged(failpoint.NoIntent) {
		events = l.withoutIntents(events)
	}
	var err error
	if failpoint.Sabotaged(failpoint.EarlyAnswer) {
		l.appendLate(events)
	} else {
		err = l.append(events)
	}
	l.mu.Lock()
	l.pending = l.pending[len(batch):]
	if len(l.pending) == 0 {
		l.pending = nil
	}
	was := l.broken
	l.broken = err
	l.mu.Unlock()
	switch {
	case err != nil && was == nil:
		// Daemons must not wait for a disk: it goes on in memory.
		l.log.Error("the journal can't be written; changes are kept in memory only", "error", err)
	case err == nil && was != nil:
		l.log.Info("the journal can be written again")
	}
	return batch, events
}

// withoutIntents keeps each start intent back until the next event of its
// daemon, behind the fork.
func (l *ledger) withoutIntents(events []supervision.Event) (out []supervision.Event) {
	for _, e := range events {
		if e.Kind == supervision.EventStarting {
			l.intents = append(l.intents, e)
			continue
		}
		if i := slices.IndexFunc(l.intents, func(in supervision.Event) bool { return in.Daemon == e.Daemon }); i >= 0 {
			out = append(out, l.intents[i])
			l.intents = slices.Delete(l.intents, i, i+1)
		}
		out = append(out, e)
	}
	return out
}

// appendLate writes events when they have been answered for a while.
func (l *ledger) appendLate(events []supervision.Event) {
	l.mu.Lock()
	l.late = append(l.late, events)
	l.mu.Unlock()
	time.AfterFunc(50*time.Millisecond, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		_ = l.store.Append(l.late[0])
		l.late = l.late[1:]
	})
}

// append writes events in one piece. One that the journal can't take is left out,
// so that it harms no other.
func (l *ledger) append(events []supervision.Event) error {
	err := l.store.Append(events)
	var bad *persist.EventError
	if !errors.As(err, &bad) {
		return err
	}
	l.log.Error("an event can't be written to the journal; it is left out, and the next manager will not know of it",
		"daemon", events[bad.Index].Daemon, "event", events[bad.Index].Kind, "error", bad)
	l.mu.Lock()
	l.lost = bad
	l.mu.Unlock()
	return l.append(slices.Delete(slices.Clone(events), bad.Index, bad.Index+1))
}

// trouble says why changes aren't durable; empty if they are.
func (l *ledger) trouble() []string {
	l.mu.Lock()
	broken, lost := l.broken, l.lost
	l.mu.Unlock()
	out := []string{}
	if lost != nil {
		out = append(out, fmt.Sprintf("the next manager will not know all: %v", lost))
	}
	if broken != nil {
		out = append(out, fmt.Sprintf("changes are kept in memory only, the journal can't be written: %v", broken))
	} else if why := l.store.Degraded(); why != "" {
		out = append(out, "changes are kept in memory only: "+why)
	}
	return out
}

// journal is the only writer of the state. Appends that arrive together are
// committed together.
type journal struct {
	*ledger
	subscriber *actor.PID // gets every commit before those who asked for it
	settle     func()     // called after each commit
	alarms     *alarms
	again      alarm         // set while events are kept in memory only
	wait       time.Duration // how long again was last set for
	why        string        // why events are kept in memory only; empty while they are not
}

// How long a journal in memory waits until it looks whether it can be written
// again: at first, and at most. Only what is in trouble looks.
const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
)

// committed tells the root of a commit.
type committed struct{ Events []supervision.Event }

func (j *journal) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		j.flush(ctx) // what a fault interrupted
		j.sync()
		j.wait = 0
		j.watch(ctx)
	case *actor.Stopping:
		j.alarms.clear(&j.again)
	case appendEvents:
		if j.accept(msg) {
			ctx.Send(ctx.Self(), flush{})
		}
	case flush:
		j.flush(ctx)
	case syncState:
		j.flush(ctx)
		j.sync()
		j.watch(ctx)
	case retry:
		j.store.Retry()
		j.watch(ctx)
	case recall:
		// Answered first: a commit that fails must not lose the question.
		j.mu.Lock()
		e, ok := j.current[msg.Name]
		j.mu.Unlock()
		ctx.Send(msg.From, recalled{ok, e})
		j.flush(ctx)
	}
}

func (j *journal) flush(ctx actor.Context) {
	batch, events := j.commit()
	if len(batch) == 0 {
		return
	}
	ctx.Send(j.subscriber, committed{events})
	for _, b := range batch {
		if b.From != nil {
			ctx.Send(b.From, appended{b.Batch})
		}
	}
	j.changed.ring()
	j.settle()
	j.watch(ctx)
}

// watch has a journal that is kept in memory only tried again, after growing
// delays, for as long as it is: nothing else may happen that would.
func (j *journal) watch(ctx actor.Context) {
	why := j.store.Degraded()
	if was := j.why; why == "" && was != "" {
		ctx.Send(j.subscriber, notice{"the journal is on disk again; before, " + was})
	}
	j.why = why
	if why == "" {
		j.wait = 0
		j.alarms.clear(&j.again)
		return
	}
	if j.alarms.armed(&j.again) {
		return
	}
	j.wait = min(max(2*j.wait, retryFirst), retryMost)
	system, self := ctx.ActorSystem(), ctx.Self()
	j.alarms.set(&j.again, j.wait, func() { system.Root.Send(self, retry{}) })
}

// pulse wakes whoever waits for a change. Safe for concurrent use.
type pulse struct {
	mu sync.Mutex
	ch chan struct{}
}

// wait returns a channel that is closed at the next ring.
func (p *pulse) wait() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ch == nil {
		p.ch = make(chan struct{})
	}
	return p.ch
}

func (p *pulse) ring() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ch != nil {
		close(p.ch)
		p.ch = nil
	}
}

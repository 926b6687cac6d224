package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/persist"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// startWait is how long output that comes before the start of its daemon was
// told is held back for that. They come by two streams.
const startWait = 250 * time.Millisecond

// An end is told behind the last words, which come by another stream: when
// there was no line for lineWait, at most lineWaitMost later.
const (
	lineWait     = 20 * time.Millisecond
	lineWaitMost = 500 * time.Millisecond
)

// up runs the files' daemons in the foreground.
func (a *app) up(ctx context.Context, set *spec.Set, exitWith string) error {
	// The command's own context ends at the first Ctrl-C; this one counts.
	ctx = context.WithoutCancel(ctx)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, append([]os.Signal{sigHangup}, endSignals...)...)
	defer signal.Stop(signals)
	signal.Ignore(ignoredSignals...)

	u := &upRun{
		app: a, names: namesOf(set), exitWith: exitWith, print: newLinePrinter(a, a.stdout, true), signals: signals,
		last: map[string]supervision.Kind{}, live: map[string]bool{}, finish: make(chan struct{}),
	}
	m, err := a.managerWithin(0)
	if err != nil {
		return err
	}
	u.m = m
	ping := func(ctx context.Context) error {
		_, err := m.Ping(ctx)
		return err
	}
	stopped, err := u.unlessStopped(ctx, ping)
	if errors.Is(err, api.ErrNoManager) {
		dir, derr := a.dataDir()
		if derr != nil {
			return derr
		}
		log, f := a.fileLog(dir)
		defer f.Close()
		var h *host
		h, err = a.openHost(log)
		switch {
		case err == nil:
			defer h.close()
			h.serve()
			u.m, u.host = h, h
		case errors.Is(err, persist.ErrLocked):
			// Another one may have begun at the same moment.
			locked := err
			if stopped, err = u.unlessStopped(ctx, ping); errors.Is(err, api.ErrNoManager) {
				err = locked
			}
		}
	}
	if stopped || err != nil {
		return err
	}
	err = u.run(ctx, set)
	if u.host != nil {
		u.shutdown(ctx)
	}
	return err
}

// upRun is one `up` in the foreground.
type upRun struct {
	*app
	m        api.Manager
	host     *host // nil: the manager is another process
	names    []string
	exitWith string
	print    *linePrinter
	signals  chan os.Signal

	lines  <-chan item[api.LogLine] // nil once it has ended
	events <-chan item[api.Event]
	finish chan struct{} // closed to make lines end
	seq    uint64        // of the last event

	began []string                    // what this up started
	last  map[string]supervision.Kind // each daemon's last event
	live  map[string]bool             // its start was told, or needn't be
	ended bool                        // an event that may be the end came while a line was held back
	ends  []api.Event                 // to be told behind what was written before them
	out   error                       // the output is gone
}

// unlessStopped runs f until it is done or a signal ends it.
func (u *upRun) unlessStopped(ctx context.Context, f func(context.Context) error) (stopped bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	select {
	case err := <-done:
		return false, err
	case <-u.signals:
		cancel()
		<-done // soon: its context has ended
		return true, nil
	}
}

func (u *upRun) run(ctx context.Context, set *spec.Set) error {
	streamCtx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()

	var before map[string]api.Daemon
	var changes []api.Change
	applied := false
	interrupted, err := u.unlessStopped(ctx, func(ctx context.Context) (err error) {
		// The streams outlive this, unless it is stopped.
		open, cancel := context.WithCancel(streamCtx)
		end := context.AfterFunc(ctx, cancel)
		if before, err = u.states(ctx, nil); err != nil {
			return err
		}
		regs, groups := registrations(set)
		applied = true
		if changes, err = u.m.Apply(ctx, api.ApplyRequest{Daemons: regs, Groups: groups}); err != nil || len(u.names) == 0 {
			return err
		}
		// Everything is subscribed to before anything starts.
		sel := api.Selector{Names: u.names}
		if u.lines, err = pump(open, &wg, func() (seq2[api.LogLine], error) {
			return u.m.Logs(open, api.LogQuery{Selector: sel, Follow: true, SkipUnfinished: true, Finish: u.finish})
		}); err != nil {
			return err
		}
		if u.events, err = pump(open, &wg, func() (seq2[api.Event], error) {
			return u.m.Events(open, api.EventQuery{Names: u.names, Follow: true})
		}); err != nil {
			return err
		}
		now, err := u.states(ctx, nil)
		for name, d := range now {
			u.live[name] = d.PID != nil
		}
		end()
		return err
	})
	switch {
	case interrupted && !applied:
		return nil
	case interrupted:
		u.noteStarted(before, nil, nil)
		return u.interrupted(ctx)
	case err != nil:
		return err
	}
	u.warn(set.Warnings())
	if len(u.names) == 0 {
		return u.nothing(api.Selector{All: true})
	}
	for _, name := range u.names { // colours and width in the order of the files
		u.print.prefix(name)
	}
	restarted := u.noteChanges(changes)

	startCtx, cancelStart := context.WithCancel(ctx)
	defer cancelStart()
	type outcome struct {
		results []api.Result
		err     error
	}
	startDone := make(chan outcome, 1)
	wg.Go(func() {
		results, err := u.m.Start(startCtx, api.ActionRequest{Selector: api.Selector{Names: u.names}})
		startDone <- outcome{results, err}
	})

	var managerDone <-chan struct{}
	if u.host != nil {
		managerDone = u.host.Done()
	}
	for starting := true; ; {
		ask := false
		select {
		case o := <-startDone:
			starting = false
			if o.err != nil {
				return o.err
			}
			u.noteStarted(before, o.results, restarted)
			ask = true
		case l, ok := <-u.lines:
			if !ok {
				return u.brokenOff(errors.New("the output broke off: the manager went away"))
			}
			if l.err != nil {
				return u.brokenOff(l.err)
			}
			u.line(l.value)
			ask = u.ended // seen while the line waited for its start
			u.ended = false
		case e, ok := <-u.events:
			if !ok {
				return u.brokenOff(errors.New("the events broke off: the manager went away"))
			}
			if e.err != nil {
				return u.brokenOff(e.err)
			}
			ask = mayEnd(e.value)
			if isLast(e.value) {
				u.ends = append(u.ends, e.value)
			} else {
				u.toldEnds() // so that they stay in order
				u.event(e.value)
			}
		case <-managerDone:
			return u.host.end()
		case <-u.signals:
			cancelStart()
			if starting {
				o := <-startDone // soon: its context has ended
				u.noteStarted(before, o.results, restarted)
			}
			return u.interrupted(ctx)
		}
		over := false
		if ask && !starting {
			var err error
			if over, err = u.over(ctx); err != nil {
				return err
			}
		}
		switch {
		case over && u.exitWith == "":
			u.rest()
			u.tellEnds()
			u.lastEvents(ctx)
		case over:
			u.toldEnds()
			u.stop(ctx)
			u.rest()
			u.lastEvents(ctx)
		case len(u.ends) > 0 && u.ends[len(u.ends)-1].Event != supervision.EventExited:
			// What follows from an exit comes right behind it, and may be
			// that all is over: then nothing has to be guessed.
			u.toldEnds()
		}
		switch {
		case u.out != nil:
			cancelStart()
			u.stop(ctx)
			return fmt.Errorf("can't write the output: %w", u.out)
		case over:
			return u.verdict(ctx)
		}
	}
}

// brokenOff is what to say of a stream that ended by itself: with the manager,
// if that is this process.
func (u *upRun) brokenOff(err error) error {
	if u.host != nil {
		select {
		case <-u.host.Done():
			return u.host.end()
		default:
		}
	}
	return err
}

type seq2[T any] = func(yield func(T, error) bool)

type item[T any] struct {
	value T
	err   error
}

// pump opens a stream and makes a channel of it, which is closed at its end.
func pump[T any](ctx context.Context, wg *sync.WaitGroup, open func() (seq2[T], error)) (<-chan item[T], error) {
	seq, err := open()
	if err != nil {
		return nil, err
	}
	ch := make(chan item[T], 64)
	wg.Go(func() {
		defer close(ch)
		for v, err := range seq {
			select {
			case ch <- item[T]{v, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	})
	return ch, nil
}

// mayEnd reports whether a daemon may have ended for good with e. Removed ones
// have no state.
func mayEnd(e api.Event) bool { return e.State == nil || isEnd(*e.State) }

// isLast reports whether a daemon may have written its last words before e.
func isLast(e api.Event) bool {
	return e.Event == supervision.EventExited || mayEnd(e) && e.Event != supervision.EventWanted
}

func isEnd(s supervision.State) bool { return s == supervision.Stopped || s == supervision.Failed }

// states are the daemons' rows by name; nil names are all.
func (u *upRun) states(ctx context.Context, names []string) (map[string]api.Daemon, error) {
	list, err := u.m.Status(ctx, api.StatusQuery{Selector: api.Selector{Names: names}})
	if err != nil {
		return nil, err
	}
	out := make(map[string]api.Daemon, len(list))
	for _, d := range list {
		out[d.Name] = d
	}
	return out, nil
}

// noteChanges tells what became of daemons that differed from the files, and
// returns those that were restarted for that.
func (u *upRun) noteChanges(changes []api.Change) map[string]bool {
	restarted := make(map[string]bool)
	for _, c := range changes {
		if c.Change == api.ChangeChanged && c.Kind == api.KindDaemon {
			restarted[c.Name] = c.Restart
			if !u.json {
				u.notice(c.Name, dim, changed(c))
			}
		}
	}
	return restarted
}

// changed says how a daemon came to differ.
func changed(c api.Change) string {
	text := "changed"
	if len(c.Keys) > 0 {
		text += " (" + strings.Join(c.Keys, ", ") + ")"
	}
	if c.Restart {
		text += ", restarted"
	}
	return text
}

// noteStarted remembers what wasn't wanted running before this up.
func (u *upRun) noteStarted(before map[string]api.Daemon, results []api.Result, restarted map[string]bool) {
	started := slices.Clone(u.names)
	for _, r := range results {
		if r.PulledIn && r.Changed {
			started = append(started, r.Name)
		}
		if r.OK && r.Changed || u.json {
			continue
		}
		if r.OK {
			if d, ok := before[r.Name]; ok && d.State == supervision.Running && !restarted[r.Name] {
				u.notice(r.Name, dim, "is running already; its output follows")
			}
			continue
		}
		u.notice(r.Name, red, "not started: "+value(r.Error))
	}
	for _, name := range started {
		if d, ok := before[name]; !ok || d.Wanted != supervision.WantRunning || isEnd(d.State) {
			u.began = append(u.began, name)
		}
	}
}

// over reports whether all have ended for good, or the one that counts.
func (u *upRun) over(ctx context.Context) (bool, error) {
	names := u.names
	if u.exitWith != "" {
		names = []string{u.exitWith}
	}
	now, err := u.states(ctx, nil)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		d, ok := now[name] // one that isn't there was removed
		if ok && !endedForGood(d) {
			return false, nil
		}
	}
	return true, nil
}

func endedForGood(d api.Daemon) bool {
	return d.State == supervision.Failed || d.State == supervision.Stopped && d.Wanted == supervision.WantStopped
}

// verdict is the exit code of the daemons' ends.
func (u *upRun) verdict(ctx context.Context) error {
	now, err := u.states(ctx, nil)
	if err != nil {
		return err
	}
	if u.exitWith != "" {
		d := now[u.exitWith]
		code := exitFailed // unknown, or it never ran
		switch {
		case d.ExitCode != nil:
			code = *d.ExitCode
		case d.Signal != nil:
			code = 128 + signalNumber(*d.Signal)
		case d.ExitKnown == nil && d.State == supervision.Stopped:
			code = exitOK
		}
		if code == exitOK {
			return nil
		}
		return &codeError{code: code}
	}
	var failed []string
	for _, name := range u.names {
		if d, ok := now[name]; ok && d.State == supervision.Failed {
			failed = append(failed, name)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return &codeError{exitFailed, fmt.Errorf("%s failed", strings.Join(failed, ", "))}
}

// interrupted is Ctrl-C: what this up started is stopped, in reverse order.
func (u *upRun) interrupted(ctx context.Context) error {
	if !u.json && !u.quiet {
		u.print.endLine()
		fmt.Fprintln(u.stderr, "stopping; Ctrl-C once more kills")
	}
	u.stop(ctx)
	u.rest()
	u.lastEvents(ctx)
	return u.out
}

// stop stops what this up started and shows what is written meanwhile. A
// signal kills what is left.
func (u *upRun) stop(ctx context.Context) {
	// What has ended is left as it is: a failed daemon stays failed.
	now, err := u.states(ctx, nil)
	names := slices.DeleteFunc(slices.Clone(u.began), func(name string) bool {
		d, ok := now[name]
		return err == nil && (!ok || endedForGood(d))
	})
	if len(names) == 0 {
		return
	}
	done := make(chan error, 8)
	end := func(force bool) {
		_, err := u.m.Stop(ctx, api.ActionRequest{Selector: api.Selector{Names: names}, Force: force})
		done <- err
	}
	waiting := 1
	go end(false)
	for waiting > 0 {
		select {
		case err := <-done:
			waiting--
			if err != nil && !u.json {
				fmt.Fprintf(u.stderr, "syspulse: %s\n", clean(err.Error()))
			}
		case <-u.signals:
			if !u.json && !u.quiet {
				fmt.Fprintln(u.stderr, "killing what is left")
			}
			waiting++
			go end(true)
		case l, ok := <-u.lines:
			u.maybeLine(l, ok)
		case e, ok := <-u.events:
			if ok && e.value.Event == supervision.EventExited {
				u.waitingLines()
			}
			u.maybeEvent(e, ok)
		}
	}
}

// maybeLine shows a line of the stream, unless that has ended.
func (u *upRun) maybeLine(l item[api.LogLine], ok bool) {
	if !ok || l.err != nil {
		u.lines = nil
		return
	}
	u.line(l.value)
}

func (u *upRun) maybeEvent(e item[api.Event], ok bool) bool {
	if !ok || e.err != nil {
		u.events = nil
		return false
	}
	u.event(e.value)
	return true
}

// waitingLines shows the lines that are on their way.
func (u *upRun) waitingLines() {
	enough := time.Now().Add(lineWaitMost)
	quiet := time.NewTimer(lineWait)
	defer quiet.Stop()
	for u.lines != nil {
		select {
		case l, ok := <-u.lines:
			u.maybeLine(l, ok)
			quiet.Reset(min(lineWait, time.Until(enough)))
		case <-quiet.C:
			return
		}
	}
}

// rest shows all that is written by now, and ends the stream of lines. A
// signal cuts it short.
func (u *upRun) rest() {
	close(u.finish)
	for u.lines != nil {
		select {
		case l, ok := <-u.lines:
			u.maybeLine(l, ok)
		case <-u.signals:
			return
		}
	}
}

// lastEvents shows the events that are in the journal and didn't arrive yet.
func (u *upRun) lastEvents(ctx context.Context) {
	seq, err := u.m.Events(ctx, api.EventQuery{Names: u.names, Limit: 10 * len(u.names)})
	if err != nil {
		return
	}
	for e, err := range seq {
		if err != nil {
			return
		}
		if e.Seq > u.seq {
			u.event(e)
		}
	}
}

// shutdown ends the manager that this up is.
func (u *upRun) shutdown(ctx context.Context) {
	done := make(chan error, 8)
	end := func(force bool) { done <- u.m.Shutdown(ctx, api.ShutdownRequest{Force: force}) }
	go end(false)
	for {
		select {
		case <-done:
			return
		case <-u.host.Done():
			return
		case <-u.signals:
			go end(true)
		}
	}
}

func (u *upRun) line(l api.LogLine) {
	if !u.live[l.Daemon] {
		u.awaitStart(l.Daemon)
	}
	var err error
	if u.json {
		err = u.writeJSON(u.stdout, struct {
			Type string `json:"type"`
			api.LogLine
		}{"line", l})
	} else {
		err = u.print.line(l)
	}
	if err != nil && u.out == nil {
		u.out = err
	}
}

// awaitStart shows events until a daemon's start was among them. It may never
// be, as for the last words of one whose end was told.
func (u *upRun) awaitStart(name string) {
	if !u.live[name] {
		u.tellEnds() // what comes now is later
	}
	late := time.NewTimer(startWait)
	defer late.Stop()
	for !u.live[name] && u.events != nil {
		select {
		case e, ok := <-u.events:
			if u.maybeEvent(e, ok) && mayEnd(e.value) {
				u.ended = true
			}
		case <-late.C:
			u.live[name] = true
		}
	}
}

func (u *upRun) notice(name, color, text string) {
	if !u.quiet {
		u.print.endLine()
		if _, err := fmt.Fprintln(u.stdout, u.print.prefix(name)+u.paint(color, clean("-- "+text))); err != nil && u.out == nil {
			u.out = err
		}
	}
}

// toldEnds tells of the ends that are yet to be told, behind the lines that are
// on their way.
func (u *upRun) toldEnds() {
	if len(u.ends) > 0 {
		u.waitingLines()
		u.tellEnds()
	}
}

func (u *upRun) tellEnds() {
	for _, e := range u.ends {
		u.event(e)
	}
	u.ends = nil
}

// event shows the events that a user waits for.
func (u *upRun) event(e api.Event) {
	u.seq = max(u.seq, e.Seq)
	known := e.Event == supervision.EventAdopted && e.Daemon != nil && u.live[*e.Daemon]
	if e.Daemon != nil {
		switch e.Event {
		case supervision.EventStarted, supervision.EventAdopted:
			u.live[*e.Daemon] = true
		case supervision.EventExited:
			u.live[*e.Daemon] = false
		}
	}
	if u.json {
		if err := u.writeJSON(u.stdout, struct {
			Type string `json:"type"`
			api.Event
		}{"event", e}); err != nil && u.out == nil {
			u.out = err
		}
		return
	}
	if e.Daemon == nil || known { // that another manager cares for it changes nothing
		return
	}
	last := u.last[*e.Daemon]
	u.last[*e.Daemon] = e.Event
	text, color := notice(e)
	if last == supervision.EventStopping && e.Event == supervision.EventExited { // as was asked for
		text, color = "stopped ("+text+")", dim
	}
	if last == supervision.EventExited { // which has said why
		switch e.Event {
		case supervision.EventStopped:
			return
		case supervision.EventFailed:
			text = "failed"
		}
	}
	if text != "" {
		u.notice(*e.Daemon, color, text)
	}
}

// notice is an event in words, empty if it is no news for who watches.
func notice(e api.Event) (text, color string) {
	detail := func(before string) string {
		if d := value(e.Detail); d != "" {
			return before + ": " + d
		}
		return before
	}
	switch e.Event {
	case supervision.EventStarted:
		if e.PID != nil {
			return fmt.Sprintf("started, pid %d", *e.PID), green
		}
		return "started", green
	case supervision.EventReady:
		return "ready", green
	case supervision.EventAdopted:
		return detail("taken over"), green
	case supervision.EventStartFailed:
		return detail("not started"), red
	case supervision.EventExited:
		switch {
		case e.Signal != nil:
			return "killed by " + *e.Signal, yellow
		case e.ExitCode != nil && *e.ExitCode != 0:
			return fmt.Sprintf("exited with code %d", *e.ExitCode), yellow
		case e.ExitCode != nil:
			return "exited with code 0", dim
		}
		return detail("ended"), yellow
	case supervision.EventBackoff:
		if e.NextRestartAt != nil {
			return "next attempt in " + soon(e.NextRestartAt.Sub(e.Time)), yellow
		}
		return detail("waits for its next attempt"), yellow
	case supervision.EventStopping:
		return "stopping", dim
	case supervision.EventStopped:
		return "stopped", dim
	case supervision.EventFailed:
		return detail("failed"), red
	case supervision.EventHealth:
		return detail("health"), yellow
	}
	return "", ""
}

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
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// lastOutput is how long the output must be silent after all daemons have
// ended, before it counts as complete: the stream doesn't say.
const lastOutput = 300 * time.Millisecond

// up runs the files' daemons in the foreground.
func (a *app) up(ctx context.Context, set *spec.Set, exitWith string) error {
	// The command's own context ends at the first Ctrl-C; this one counts.
	ctx = context.WithoutCancel(ctx)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, append([]os.Signal{sigHangup}, endSignals...)...)
	defer signal.Stop(signals)
	// Not signal.Ignore: daemons would inherit that.
	signal.Notify(make(chan os.Signal, 1), ignoredSignals...)

	m, err := a.manager()
	if err != nil {
		return err
	}
	var h *host
	if _, err := m.Ping(ctx); errors.Is(err, api.ErrNoManager) {
		dir, err := a.dataDir()
		if err != nil {
			return err
		}
		log, f := a.fileLog(dir)
		defer f.Close()
		if h, err = a.openHost(log); err != nil {
			return err
		}
		defer h.close()
		h.serve()
		m = h
	} else if err != nil {
		return err
	}
	u := &upRun{app: a, m: m, host: h, names: namesOf(set), exitWith: exitWith, print: newLinePrinter(a, a.stdout, true), signals: signals, last: map[string]supervision.Kind{}}
	err = u.run(ctx, set)
	if h != nil {
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

	began []string                    // what this up started
	last  map[string]supervision.Kind // each daemon's last event
	out   error                       // the output is gone
}

func (u *upRun) run(ctx context.Context, set *spec.Set) error {
	before, err := u.states(ctx, nil)
	if err != nil {
		return err
	}
	regs, groups := registrations(set)
	if _, err := u.m.Apply(ctx, api.ApplyRequest{Daemons: regs, Groups: groups}); err != nil {
		return err
	}
	u.warn(set.Warnings())
	if len(u.names) == 0 {
		return u.nothing(api.Selector{All: true})
	}
	for _, name := range u.names { // colours and width in the order of the files
		u.print.prefix(name)
	}

	// Everything is subscribed to before anything starts.
	streamCtx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	lines, err := pump(streamCtx, &wg, func() (seq2[api.LogLine], error) {
		return u.m.Logs(streamCtx, api.LogQuery{Selector: api.Selector{Names: u.names}, Follow: true})
	})
	if err != nil {
		return err
	}
	events, err := pump(streamCtx, &wg, func() (seq2[api.Event], error) {
		return u.m.Events(streamCtx, api.EventQuery{Names: u.names, Follow: true})
	})
	if err != nil {
		return err
	}

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
	starting := true
	check := func() (bool, error) {
		if starting {
			return false, nil
		}
		return u.over(ctx)
	}
	// finish says how it ended, once the output is complete.
	finish := func() error {
		u.drain(lines, events)
		return u.verdict(ctx)
	}
	for {
		ask := false
		select {
		case o := <-startDone:
			starting = false
			if o.err != nil {
				return o.err
			}
			u.noteStarted(before, o.results)
			ask = true
		case l, ok := <-lines:
			if !ok {
				return errors.New("the output broke off: the manager went away")
			}
			if l.err != nil {
				return l.err
			}
			// What happened to a daemon is told before what it wrote since.
			for waiting := true; waiting; {
				select {
				case e, ok := <-events:
					if waiting = ok && e.err == nil; waiting {
						u.event(e.value)
						ask = ask || mayEnd(e.value)
					}
				default:
					waiting = false
				}
			}
			u.line(l.value)
		case e, ok := <-events:
			if !ok {
				return errors.New("the events broke off: the manager went away")
			}
			if e.err != nil {
				return e.err
			}
			u.event(e.value)
			ask = mayEnd(e.value)
		case <-managerDone:
			return u.host.end()
		case sig := <-u.signals:
			cancelStart()
			if starting {
				o := <-startDone // soon: its context has ended
				u.noteStarted(before, o.results)
			}
			return u.interrupted(ctx, sig, lines, events)
		}
		if u.out != nil {
			cancelStart()
			u.stop(ctx, nil, nil)
			return fmt.Errorf("can't write the output: %w", u.out)
		}
		if ask {
			if over, err := check(); err != nil {
				return err
			} else if over {
				if u.exitWith != "" {
					u.stop(ctx, lines, events)
				}
				return finish()
			}
		}
	}
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

// noteStarted remembers what wasn't wanted running before this up.
func (u *upRun) noteStarted(before map[string]api.Daemon, results []api.Result) {
	started := slices.Clone(u.names)
	for _, r := range results {
		if r.PulledIn && r.Changed {
			started = append(started, r.Name)
		}
		if r.OK && r.Changed || u.json {
			continue
		}
		if r.OK {
			if d, ok := before[r.Name]; ok && d.State == supervision.Running {
				u.notice(r.Name, yellow, "is running already; its output follows")
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
func (u *upRun) interrupted(ctx context.Context, sig os.Signal, lines <-chan item[api.LogLine], events <-chan item[api.Event]) error {
	if !u.json && !u.quiet {
		fmt.Fprintf(u.stderr, "%s: stopping; once more kills\n", sig)
	}
	u.stop(ctx, lines, events)
	u.drain(lines, events)
	return u.out
}

// stop stops what this up started and shows what is written meanwhile. A
// signal kills what is left.
func (u *upRun) stop(ctx context.Context, lines <-chan item[api.LogLine], events <-chan item[api.Event]) {
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
		case l, ok := <-lines:
			if !ok {
				lines = nil
			} else if l.err == nil {
				u.line(l.value)
			}
		case e, ok := <-events:
			if !ok {
				events = nil
			} else if e.err == nil {
				u.event(e.value)
			}
		}
	}
}

// drain shows what is still under way.
func (u *upRun) drain(lines <-chan item[api.LogLine], events <-chan item[api.Event]) {
	quiet := time.NewTimer(lastOutput)
	defer quiet.Stop()
	for lines != nil || events != nil {
		select {
		case l, ok := <-lines:
			if !ok || l.err != nil {
				lines = nil
				continue
			}
			u.line(l.value)
			quiet.Reset(lastOutput)
		case e, ok := <-events:
			if !ok || e.err != nil {
				events = nil
				continue
			}
			u.event(e.value)
		case <-u.signals:
			return
		case <-quiet.C:
			return
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

func (u *upRun) notice(name, color, text string) {
	if !u.quiet {
		u.print.endLine()
		if _, err := fmt.Fprintln(u.stdout, u.print.prefix(name)+u.paint(color, clean("-- "+text))); err != nil && u.out == nil {
			u.out = err
		}
	}
}

// event shows the events that a user waits for.
func (u *upRun) event(e api.Event) {
	if u.json {
		if err := u.writeJSON(u.stdout, struct {
			Type string `json:"type"`
			api.Event
		}{"event", e}); err != nil && u.out == nil {
			u.out = err
		}
		return
	}
	if e.Daemon == nil {
		return
	}
	last := u.last[*e.Daemon]
	u.last[*e.Daemon] = e.Event
	text, color := notice(e)
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
			return "ended by " + *e.Signal, yellow
		case e.ExitCode != nil && *e.ExitCode != 0:
			return fmt.Sprintf("exited with code %d", *e.ExitCode), yellow
		case e.ExitCode != nil:
			return "exited with code 0", dim
		}
		return detail("ended"), yellow
	case supervision.EventBackoff:
		if e.NextRestartAt != nil {
			return fmt.Sprintf("next attempt in %s", e.NextRestartAt.Sub(e.Time).Round(100*time.Millisecond)), yellow
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

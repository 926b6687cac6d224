package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/supervision"
)

const (
	// hush is how long a command may take without a word.
	hush = 500 * time.Millisecond
	// frame is the least time from one drawing of the line to the next.
	frame = 250 * time.Millisecond
)

// doing is what a command does with daemons, in the word for it.
type doing string

const (
	applying   doing = "applying"
	removing   doing = "removing"
	restarting doing = "restarting"
	starting   doing = "starting"
	stopping   doing = "stopping"
)

// whileWaiting shows on a terminal how far f has come and whom it waits for, in
// one line that is gone when it returns. Events feed that line; the state of all
// is asked for once.
func (a *app) whileWaiting(ctx context.Context, m api.Manager, p progress, f func() error) error {
	if !a.errTTY || a.json || a.quiet {
		return f()
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	p.began = time.Now()
	wg.Go(func() { a.showProgress(ctx, m, &p) })
	err := f()
	cancel()
	wg.Wait()
	return err
}

// showProgress draws the line until ctx ends.
func (a *app) showProgress(ctx context.Context, m api.Manager, p *progress) {
	due := time.NewTimer(hush)
	defer due.Stop()
	select {
	case <-ctx.Done():
		return
	case <-due.C:
	}
	// Whatever goes wrong is the command's to tell: it meets the same.
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seq, err := m.Events(ctx, api.EventQuery{Follow: true})
	if err != nil {
		return
	}
	events := make(chan api.Event)
	wg.Go(func() {
		for e, err := range seq {
			if err != nil {
				return
			}
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
		}
	})
	list, err := m.Status(ctx, api.StatusQuery{})
	if err != nil {
		return
	}
	p.take(list)

	const wipe = "\r\x1b[K"
	defer fmt.Fprint(a.stderr, wipe)
	next := time.Now()
	due.Reset(0)
	for drawn := next; ; {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			p.note(e)
			if soon := drawn.Add(frame); soon.Before(next) {
				next = soon
				due.Reset(time.Until(next))
			}
		case <-due.C:
			drawn = time.Now()
			fmt.Fprint(a.stderr, wipe+cut(p.line(drawn), a.errWidth()-1))
			next = drawn.Add(time.Second - drawn.Sub(p.began)%time.Second) // when it shows another second
			due.Reset(time.Until(next))
		}
	}
}

// errWidth is how many columns the terminal has now.
func (a *app) errWidth() int {
	if f, ok := a.stderr.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			return w
		}
	}
	return 80
}

// progress is how far a command has come, as far as that is known.
type progress struct {
	what     doing
	selector api.Selector
	wait     bool // until they are ready

	began   time.Time
	daemons map[string]*toward
}

// toward is a daemon on its way.
type toward struct {
	selected bool
	state    supervision.State
	checks   bool // it has a health check
	unproved bool // and that, or what tells that it is ready, has said nothing yet
	waits    bool // for another one
	due      bool // the command hasn't come to it yet
}

// take begins with what is known of all daemons.
func (p *progress) take(list []api.Daemon) {
	p.daemons = make(map[string]*toward, len(list))
	for _, d := range list {
		t := &toward{selected: picks(p.selector, d), state: d.State, waits: len(d.WaitingFor) > 0}
		t.checks = d.Health != supervision.HealthNotConfigured
		t.unproved = !d.Ready || d.Health == supervision.HealthUnknown
		before := func(at *time.Time) bool { return at == nil || at.Before(p.began) }
		switch p.what {
		case starting:
			t.due = d.PID == nil && d.State != supervision.Starting && d.Wanted == supervision.WantStopped && before(d.StoppedAt)
		case restarting:
			t.due = d.PID != nil && before(d.StartedAt) || d.PID == nil && d.Wanted == supervision.WantStopped && before(d.StoppedAt)
		}
		p.daemons[d.Name] = t
	}
}

// note goes on with an event.
func (p *progress) note(e api.Event) {
	if e.Daemon == nil {
		return
	}
	t := p.daemons[*e.Daemon]
	if t == nil {
		return // added since
	}
	if e.State != nil {
		t.state = *e.State
	}
	switch e.Event {
	case supervision.EventWanted:
		return
	case supervision.EventRemoved:
		t.state = supervision.Stopped
	case supervision.EventStarting:
		t.unproved = t.checks
	case supervision.EventReady, supervision.EventHealth:
		t.unproved = false
	}
	t.due, t.waits = false, e.Event == supervision.EventWaiting
}

// left says whether the command isn't done with a daemon.
func (p *progress) left(t *toward) bool {
	switch {
	case t.due, t.state == supervision.Starting, t.state == supervision.Stopping, t.state == supervision.Backoff:
		return true
	case t.state == supervision.Running:
		return p.what == stopping || p.what == removing || p.wait && t.unproved
	}
	return false
}

// busy says whether a daemon that isn't done is at it, and doesn't wait for others.
func (p *progress) busy(t *toward) bool {
	switch t.state {
	case supervision.Starting, supervision.Stopping, supervision.Backoff:
		return !t.waits
	case supervision.Running:
		return p.wait && t.unproved
	}
	return false
}

// shownNames is how many daemons a line names that a command waits for.
const shownNames = 3

// line is what is shown at a moment.
func (p *progress) line(now time.Time) string {
	total, done := 0, 0
	var only string
	var at, others, left []string // work
	for name, t := range p.daemons {
		switch {
		case !t.selected:
			if p.busy(t) {
				others = append(others, name)
			}
			continue
		case !p.left(t):
			done++
		default:
			left = append(left, name)
			if p.busy(t) {
				at = append(at, name)
			}
		}
		total++
		only = name
	}
	if total == 0 {
		return ""
	}
	what := fmt.Sprintf("%d/%d", done, total)
	if total == 1 {
		what = clean(only)
	}
	line := fmt.Sprintf("%s %s, %s …", p.what, what, duration(now.Sub(p.began)))
	// Those that it works on, else those that these wait for.
	names := at
	if len(names) == 0 {
		names = others
	}
	if len(names) == 0 {
		names = left
	}
	if len(names) == 0 || total == 1 && names[0] == only {
		return line
	}
	slices.Sort(names)
	more := len(names) - shownNames
	if more > 0 {
		names = names[:shownNames]
	}
	line += " waiting for " + clean(strings.Join(names, ", "))
	if more > 0 {
		line += fmt.Sprintf(" (+%d)", more)
	}
	return line
}

// picks says whether a daemon is one of those that are selected.
func picks(s api.Selector, d api.Daemon) bool {
	return s.All || slices.Contains(s.Names, d.Name) ||
		slices.ContainsFunc(s.Tags, func(t string) bool { return slices.Contains(d.Tags, t) }) ||
		d.Group != nil && slices.Contains(s.Groups, *d.Group)
}

// cut shortens s to a width.
func cut(s string, to int) string {
	if to <= 0 || columns(s) <= to {
		return s
	}
	n := 0
	for i, r := range s {
		if n += columns(string(r)); n >= to {
			return s[:i] + "…"
		}
	}
	return s
}

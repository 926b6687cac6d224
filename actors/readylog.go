package actors

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/cyber-boost/syspulse/logs"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// readyLog waits for a line of an incarnation's output (`ready` of type log). It
// reads the daemon's files, from where they ended before the fork; that place is
// noted in a file, so that another manager begins there, too. There is a goroutine
// for as long as the daemon isn't ready.
type readyLog struct {
	incarnation string
	tail        *logs.Tail
	stop        context.CancelFunc
	once        sync.Once
}

// outputs is where what was captured is read again.
type outputs struct {
	dir    string
	follow func([]logs.Source) (*logs.Tail, error)
}

// readyFrom is what is noted: where the output of an incarnation begins.
type readyFrom struct {
	Incarnation string   `json:"incarnation"`
	Cursors     []string `json:"cursors"`
}

func (o outputs) noteOf(daemon string) string { return filepath.Join(o.dir, "run", daemon+".ready") }

// begin opens the output of a daemon that is about to be forked, or, with running,
// of one that runs.
func (o outputs) begin(daemon, incarnation string, running bool) (*readyLog, error) {
	sources := []logs.Source{{Daemon: daemon, Stream: logs.Stdout, Running: true}, {Daemon: daemon, Stream: logs.Stderr, Running: true}}
	note := o.noteOf(daemon)
	if running {
		var from readyFrom
		b, err := os.ReadFile(note)
		if err == nil {
			err = json.Unmarshal(b, &from)
		}
		if err == nil && from.Incarnation == incarnation {
			sources = nil
			for _, text := range from.Cursors {
				c, err := logs.ParseCursor(text)
				if err != nil {
					return nil, err
				}
				sources = append(sources, logs.Source{Daemon: daemon, Stream: c.Stream(), Running: true, After: &c})
			}
		}
	}
	tail, err := o.follow(sources)
	if err != nil {
		return nil, err
	}
	if !running {
		from := readyFrom{Incarnation: incarnation}
		for _, at := range tail.Positions() {
			from.Cursors = append(from.Cursors, at.Cursor)
		}
		b, err := json.Marshal(from)
		if err == nil {
			err = os.WriteFile(note, b, 0o600)
		}
		if err != nil {
			tail.Close()
			return nil, err
		}
	}
	return &readyLog{incarnation: incarnation, tail: tail}, nil
}

// forget removes the note of a daemon that is removed.
func (o outputs) forget(daemon string) error {
	if err := os.Remove(o.noteOf(daemon)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// match tells the daemon's actor of the first line that matches, once.
func (r *readyLog) match(pattern *regexp.Regexp, system *actor.ActorSystem, to *actor.PID) {
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() {
		defer r.close()
		var line [2][]byte // of each stream, as far as it is there
		for l, err := range r.tail.All(ctx) {
			if err != nil {
				return
			}
			whole := &line[slices.Index([]logs.Stream{logs.Stdout, logs.Stderr}, l.Stream)]
			if !l.Continues {
				*whole = nil
			}
			if len(*whole) < maxReadyLine {
				*whole = append(*whole, l.Data...)
			}
			if l.Notice == "" && pattern.Match(*whole) {
				text := bytes.ToValidUTF8((*whole)[:min(len(*whole), 200)], []byte("\uFFFD"))
				system.Root.Send(to, observed{Input: supervision.BecameReady{Incarnation: r.incarnation, How: "it wrote: " + string(text)}})
				return
			}
		}
	}()
}

// maxReadyLine is how much of a line that comes in pieces is looked at.
const maxReadyLine = 1 << 20

func (r *readyLog) close() { r.once.Do(r.tail.Close) }

// end gives up, whether match was called or not.
func (r *readyLog) end() {
	if r.stop != nil {
		r.stop() // its goroutine closes the tail
		return
	}
	r.close()
}

// tendReadyLog gives up once nothing is waited for any more.
func (d *daemon) tendReadyLog() {
	rec := &d.machine.Rec
	if d.readyLog != nil && (rec.State != supervision.Starting || rec.Incarnation != d.readyLog.incarnation) {
		d.endReadyLog()
	}
}

// readyLogOpen hands the open output to the daemon's actor.
type readyLogOpen struct {
	log     *readyLog
	pattern *regexp.Regexp
}

// openReadyLog opens the output of an incarnation whose readiness it shows. It may
// be called from any goroutine.
func (d *daemon) openReadyLog(reg *spec.Daemon, incarnation string, running bool) error {
	if reg.Ready == nil || reg.Ready.Type != "log" {
		return nil
	}
	pattern, err := regexp.Compile(reg.Ready.Pattern)
	if err != nil {
		return err // not in a registration that was checked
	}
	r, err := d.outputs.begin(d.name, incarnation, running)
	if err != nil {
		return err
	}
	d.ctx.ActorSystem().Root.Send(d.ctx.Self(), readyLogOpen{r, pattern})
	return nil
}

// readyLogOpen begins to wait for the line, unless that is no longer of interest.
func (d *daemon) readyLogOpen(msg readyLogOpen) {
	rec := &d.machine.Rec
	if msg.log.incarnation != rec.Incarnation || rec.State != supervision.Starting || rec.Ready {
		msg.log.end()
		return
	}
	d.endReadyLog()
	d.readyLog = msg.log
	msg.log.match(msg.pattern, d.ctx.ActorSystem(), d.ctx.Self())
}

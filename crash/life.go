//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cyber-boost/syspulse/crash/trace"
)

// output is what the log files say.
type output struct {
	files map[string]*logFile     // by path
	lines map[string]*[2][2]int64 // by incarnation: the last line of each writer and stream
	lives map[string][]*life      // by daemon, oldest first: those not yet accounted for
	total [trace.Streams]int64    // lines seen
	done  int                     // lives accounted for
}

// logFile is one stream's file, read up to an offset.
type logFile struct {
	offset  int64
	current string          // whose lines come now
	over    map[string]bool // whose lines are behind us
}

// life is one incarnation.
type life struct {
	trace.Copy
	exit *exitEvent // what the history says of its end
}

func (o *output) init() {
	o.files = make(map[string]*logFile)
	o.lines = make(map[string]*[2][2]int64)
	o.lives = make(map[string][]*life)
}

// current is the newest incarnation of a daemon.
func (s *suite) current(d *daemon) (trace.Copy, bool) {
	all, err := trace.All(s.dir, d.name)
	if err != nil {
		s.fatal("%v", err)
	}
	if len(all) == 0 {
		return trace.Copy{}, false
	}
	return slices.MaxFunc(all, func(a, b trace.Copy) int { return a.Started.Compare(b.Started) }), true
}

// readTraces learns what the daemons know of themselves.
func (s *suite) readTraces() {
	for _, d := range s.daemons {
		all, err := trace.All(s.dir, d.name)
		if err != nil {
			s.fatal("%v", err)
		}
		lives := s.output.lives[d.name]
		for _, c := range all {
			i := slices.IndexFunc(lives, func(l *life) bool { return l.Incarnation == c.Incarnation })
			if i < 0 {
				lives = append(lives, &life{Copy: c})
				continue
			}
			lives[i].Copy = c
		}
		slices.SortFunc(lives, func(a, b *life) int { return a.Started.Compare(b.Started) })
		s.output.lives[d.name] = lives
	}
}

// readOutput reads what is new in a daemon's logs: each line of each
// incarnation once, in order.
func (s *suite) readOutput(d *daemon) {
	for stream, file := range []string{"stdout.log", "stderr.log"} {
		path := filepath.Join(s.data, "logs", d.name, file)
		b, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			s.fatal("%v", err)
		}
		f := s.output.files[path]
		if f == nil {
			f = &logFile{over: make(map[string]bool)}
			s.output.files[path] = f
		}
		if int64(len(b)) < f.offset {
			s.violation("a log has shrunk", "%s, from %d bytes to %d", path, f.offset, len(b))
			f.offset = int64(len(b))
		}
		b = b[f.offset:]
		for {
			line, rest, ok := bytes.Cut(b, []byte("\n"))
			if !ok {
				break
			}
			s.readLine(d, path, f, stream, string(line))
			f.offset += int64(len(line)) + 1
			b = rest
		}
		if len(b) > 0 {
			s.violation("a line is torn", "%s ends at byte %d with %q", path, f.offset, b)
		}
	}
}

func (s *suite) readLine(d *daemon, path string, f *logFile, stream int, text string) {
	incarnation, w, n, ok := trace.ParseLine(text)
	if !ok {
		s.violation("a line is torn", "%s at byte %d: %q", path, f.offset, text)
		return
	}
	if incarnation != f.current {
		if f.over[incarnation] {
			s.violation("a line is out of order", "%s at byte %d: %q comes behind lines of a later incarnation", path, f.offset, text)
			return
		}
		f.over[f.current] = true
		f.current = incarnation
	}
	seen := s.output.lines[incarnation]
	if seen == nil {
		seen = new([2][2]int64)
		s.output.lines[incarnation] = seen
	}
	last := &seen[w][stream]
	switch {
	case n <= *last:
		s.violation("a line is doubled", "%s at byte %d: %q comes after line %d", path, f.offset, text, *last)
	case n > *last+1:
		s.violation("lines are lost", "%s at byte %d: %q comes after line %d", path, f.offset, text, *last)
	}
	*last = max(*last, n)
	s.output.total[stream]++
}

// account compares, for each incarnation that is over, what it knew of itself
// with what logs and history have. rests says that the newest is over, too.
func (s *suite) account(d *daemon, rests bool) {
	p := s.history.of(d.name)
	lives := s.output.lives[d.name]
	var left []exitEvent
	for _, e := range p.exits {
		i := slices.IndexFunc(lives, func(l *life) bool { return l.PID == e.pid && l.exit == nil && l.Started.Before(e.Time) })
		if i >= 0 {
			lives[i].exit = &e
		} else if !e.again { // it may have begun its record just now, or never
			e.again = true
			left = append(left, e)
		}
	}
	p.exits = left
	for i, l := range lives {
		newest := i == len(lives)-1
		over := time.Now() // when at the latest nothing of it was left
		if !newest {
			over = lives[i+1].Started
		}
		ended := over // when its first process was dead
		if l.exit != nil && l.exit.Time.Before(ended) {
			ended = l.exit.Time
		}
		never := l.Started.Add(-behind) // unless somebody has noted it
		touched := never
		until := over.Add(-5 * coarse) // a pid may soon be another's, who is noted before it says so
		if l.exit != nil {
			until = l.exit.Time
		}
		for _, t := range p.touched {
			if t.pid == l.PID && t.at.After(touched) && t.at.Before(until) {
				touched = t.at
			}
		}
		s.compareLines(d, l, newest && !rests, touched, ended, over)
		if newest && !rests {
			s.output.lives[d.name] = lives[i:]
			return
		}
		s.compareExit(d, l, touched, ended, touched == never && s.interrupted(never, ended))
		trace.Forget(s.dir, d.name, l.Incarnation)
		delete(s.output.lines, l.Incarnation)
		p.touched = slices.DeleteFunc(p.touched, func(t touch) bool { return t.at.Before(l.Started) })
		s.output.done++
	}
	s.output.lives[d.name] = nil
}

// compareLines: what was written is in the logs. The process may have been
// killed between writing its last line and counting it.
func (s *suite) compareLines(d *daemon, l *life, lives bool, touched, ended, over time.Time) {
	var seen [2][2]int64
	if at := s.output.lines[l.Incarnation]; at != nil {
		seen = *at
	}
	for w := range l.Lines {
		for stream, wrote := range l.Lines[w] {
			got := seen[w][stream]
			where := fmt.Sprintf("%s, incarnation %s, writer %d, stream %d: %d written, %d in the log", d.name, l.Incarnation, w, stream+1, wrote, got)
			switch {
			case got > wrote+1 && !lives:
				s.violation("lines appeared that nobody wrote", "%s", where)
			case got < wrote && !s.unattended(touched, l.Sign[w], [...]time.Time{ended, over}[w]):
				s.violation("lines are lost", "%s", where)
			}
		}
	}
}

// compareExit: the end is in the history as it was. unborn says that its
// manager may have died between the fork and the note of it: what has ended by
// the time that somebody looks for it never was.
func (s *suite) compareExit(d *daemon, l *life, touched, ended time.Time, unborn bool) {
	where := fmt.Sprintf("%s, incarnation %s, pid %d", d.name, l.Incarnation, l.PID)
	if l.exit == nil {
		if !unborn && !s.unattended(touched, l.Sign[trace.Main], ended) {
			s.violation("an end is not in the history", "%s", where)
		}
		return
	}
	e := l.exit.Event
	var want string
	switch {
	case e.ExitKnown == nil || !*e.ExitKnown:
		if !s.unattended(touched, l.Sign[trace.Main], ended) {
			s.violation("an exit code is not known", "%s, though a manager watched it: %s", where, says(e))
		}
		return
	case e.Signal != nil:
		if !slices.Contains(signals, *e.Signal) { // any of them may come at any time
			want = "none of " + strings.Join(signals, ", ")
		}
	case !l.Left:
		want = "a signal"
	case l.Exit != *e.ExitCode:
		want = fmt.Sprint(l.Exit)
	}
	if want != "" {
		s.violation("an exit code is wrong", "%s ended with %s: %s", where, want, says(e))
	}
}

// signals are those that the suite and its daemons send.
var signals = []string{"SIGHUP", "SIGINT", "SIGKILL", "SIGTERM"}

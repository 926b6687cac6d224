package actors

import (
	"context"
	"iter"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/logs"
)

var streams = map[api.Stream]logs.Stream{api.Stdout: logs.Stdout, api.Stderr: logs.Stderr}

// Logs implements [api.Manager]. A stream reads the files; whoever follows is
// woken by the capture.
func (s *System) Logs(ctx context.Context, q api.LogQuery) (iter.Seq2[api.LogLine, error], error) {
	sources, err := s.sources(ctx, q)
	if err != nil {
		return nil, err
	}
	tail, err := logs.NewTail(s.capture.DataDir(), s.capture, sources, logs.TailOptions{
		Lines: q.Lines, Follow: q.Follow, SkipUnfinished: q.SkipUnfinished, Cursors: q.Resumable,
	})
	if err != nil {
		return nil, err
	}
	// Whoever comes first frees the tail: the loop over it, or the end of ctx
	// if there never is a loop.
	var claimed atomic.Bool
	unclaimed := context.AfterFunc(ctx, func() {
		if claimed.CompareAndSwap(false, true) {
			tail.Close()
		}
	})
	return func(yield func(api.LogLine, error) bool) {
		unclaimed()
		if !claimed.CompareAndSwap(false, true) {
			yield(api.LogLine{}, context.Cause(ctx))
			return
		}
		defer tail.Close()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			finish := q.Finish
			for {
				select {
				case <-s.done:
					cancel()
				case <-finish:
					tail.Finish()
					finish = nil
					continue
				case <-ctx.Done():
				}
				return
			}
		}()
		if q.Resumable {
			at := []api.LogPosition{}
			for _, l := range tail.Positions() {
				at = append(at, api.LogPosition{Daemon: l.Daemon, Stream: api.Stream(l.Stream.String()), Cursor: l.Cursor})
			}
			if !yield(api.LogLine{Positions: at}, nil) {
				return
			}
		}
		for l, err := range tail.All(ctx) {
			if err != nil {
				select {
				case <-s.done: // the stream ends with the manager
					yield(api.LogLine{}, s.streamEnd())
				default:
					yield(api.LogLine{}, err)
				}
				return
			}
			if !yield(logLine(l), nil) {
				return
			}
		}
	}, nil
}

// sources are the streams that a query picks.
func (s *System) sources(ctx context.Context, q api.LogQuery) ([]logs.Source, error) {
	var cursors []logs.Cursor
	var names []string
	for _, text := range q.After {
		c, err := logs.ParseCursor(text)
		if err != nil {
			return nil, api.Invalid("after: " + err.Error())
		}
		cursors = append(cursors, c)
		names = append(names, c.Daemon())
	}
	if cursors != nil {
		q.Selector = api.Selector{Names: names}
	}
	sel, err := s.selected(ctx, q.Selector, nil)
	if err != nil {
		return nil, err
	}
	var sources []logs.Source
	if cursors != nil { // one that was removed meanwhile may have left something to read
		live := map[string]bool{}
		for _, d := range sel.daemons {
			live[d.name] = isLive(d.rec.State)
		}
		for _, c := range cursors {
			sources = append(sources, logs.Source{Daemon: c.Daemon(), Stream: c.Stream(), Running: live[c.Daemon()], After: &c})
		}
		return sources, nil
	}
	if len(sel.unknown) > 0 {
		return nil, sel.unknown[0]
	}
	which := q.Streams
	if which == nil {
		which = []api.Stream{api.Stdout, api.Stderr}
	}
	for _, d := range sel.daemons {
		for _, stream := range which {
			sources = append(sources, logs.Source{Daemon: d.name, Stream: streams[stream], Running: isLive(d.rec.State)})
		}
	}
	return sources, nil
}

// logLine is the public form of a line.
func logLine(l logs.Line) api.LogLine {
	out := api.LogLine{
		Daemon: l.Daemon, Stream: api.Stream(l.Stream.String()), Line: string(l.Data),
		Partial: l.Partial, Continues: l.Continues, Notice: l.Notice, Cursor: l.Cursor,
	}
	if !utf8.Valid(l.Data) {
		out.Bytes, out.Line = l.Data, strings.ToValidUTF8(out.Line, "\uFFFD")
	}
	if !l.Time.IsZero() {
		out.Time = &l.Time
	}
	return out
}

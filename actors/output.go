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
	sel, err := s.selected(ctx, q.Selector, nil)
	if err != nil {
		return nil, err
	}
	if len(sel.unknown) > 0 {
		return nil, sel.unknown[0]
	}
	which := q.Streams
	if which == nil {
		which = []api.Stream{api.Stdout, api.Stderr}
	}
	var sources []logs.Source
	for _, d := range sel.daemons {
		for _, stream := range which {
			sources = append(sources, logs.Source{Daemon: d.name, Stream: streams[stream], Running: isLive(d.rec.State)})
		}
	}
	tail, err := logs.NewTail(s.capture.DataDir(), s.capture, sources, logs.TailOptions{Lines: q.Lines, Follow: q.Follow, SkipUnfinished: q.SkipUnfinished})
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
		for l, err := range tail.All(ctx) {
			if err != nil {
				select {
				case <-s.done: // the stream ends with the manager
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

// logLine is the public form of a line.
func logLine(l logs.Line) api.LogLine {
	out := api.LogLine{
		Daemon: l.Daemon, Stream: api.Stream(l.Stream.String()), Line: string(l.Data),
		Partial: l.Partial, Continues: l.Continues, Notice: l.Notice,
	}
	if !utf8.Valid(l.Data) {
		out.Bytes, out.Line = l.Data, strings.ToValidUTF8(out.Line, "\uFFFD")
	}
	if !l.Time.IsZero() {
		out.Time = &l.Time
	}
	return out
}

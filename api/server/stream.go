package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/cyber-boost/syspulse/api"
)

// streamBuffer is how many items may wait between a producer and the
// connection: enough to write history in large pieces.
const streamBuffer = 256

// lastWords is how long the end of a stream may take to write.
const lastWords = 2 * time.Second

// stream writes what open gives until it ends, the client hangs up or the
// server shuts down. name is the event type of server-sent events, id their
// id ("" for none).
//
// An error after the beginning is the last item: {"error": problem} as a
// line, or an event of type error; but [api.ErrInterrupted] breaks the
// connection off.
func stream[T any](s *Server, w http.ResponseWriter, r *http.Request, name string, id func(T) string, open func(context.Context) (iter.Seq2[T, error], error)) error {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	go func() {
		select {
		case <-s.closing:
			cancel(s.why)
		case <-ctx.Done():
		}
	}()
	if err := s.beginStream(); errors.Is(err, api.ErrInterrupted) {
		panic(http.ErrAbortHandler)
	} else if err != nil {
		return err
	}
	ended := sync.OnceFunc(s.streams.Done)
	seq, err := func() (iter.Seq2[T, error], error) {
		ok := false
		defer func() {
			if !ok {
				ended()
			}
		}()
		seq, err := open(ctx)
		ok = err == nil
		return seq, err
	}()
	if err != nil {
		return err
	}

	if leave, ok := r.Context().Value(leaveKey{}).(func()); ok && r.URL.Query().Has("follow") {
		leave() // nobody waits for the end of what has none
	}
	type item struct {
		value T
		err   error
	}
	items := make(chan item, streamBuffer)
	failed := make(chan any, 1) // a panic of the producer
	go func() {
		defer ended()
		defer close(items)
		defer func() {
			if v := recover(); v != nil {
				failed <- fmt.Sprintf("%v\n%s", v, debug.Stack())
			}
		}()
		for v, err := range seq {
			select {
			case items <- item{v, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	// The producer is gone before the handler is: nothing outlives a client.
	defer func() {
		cancel(nil)
		for range items {
		}
	}()

	sse := strings.Contains(r.Header.Get("Accept"), "text/event-stream")
	contentType := "application/x-ndjson"
	if sse {
		contentType = "text/event-stream"
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	// At the end nobody waits for a client that doesn't read.
	defer context.AfterFunc(ctx, func() { control.SetWriteDeadline(time.Now().Add(lastWords)) })()
	if err := control.Flush(); err != nil { // tells the client that it is subscribed
		return nil
	}

	out := bufio.NewWriterSize(w, 32<<10)
	put := func(event, id string, v any) bool {
		b, err := json.Marshal(v)
		if err != nil {
			s.log.Error("can't encode an item of a stream", "error", err)
			return false
		}
		if sse {
			if id != "" {
				fmt.Fprintf(out, "id: %s\n", id)
			}
			fmt.Fprintf(out, "event: %s\ndata: %s\n\n", event, b)
		} else {
			out.Write(b)
			out.WriteByte('\n')
		}
		return true
	}
	last := func(err error) {
		if errors.Is(err, api.ErrInterrupted) {
			// Without the end of the body: so its client knows that there is
			// more.
			out.Flush()
			control.Flush()
			panic(http.ErrAbortHandler)
		}
		e := s.problem(r, err)
		if sse {
			put("error", "", e)
		} else {
			put("", "", map[string]any{"error": e})
		}
		out.Flush()
		control.Flush()
	}
	for {
		var it item
		var more bool
		select {
		case it, more = <-items:
		default: // nothing waits: let the client have what there is
			if out.Flush() != nil || control.Flush() != nil {
				return nil
			}
			select {
			case it, more = <-items:
			case <-ctx.Done():
				if r.Context().Err() == nil {
					last(context.Cause(ctx))
				}
				return nil
			}
		}
		switch {
		case !more:
			select {
			case v := <-failed:
				panic(v)
			default:
			}
			if r.Context().Err() == nil && ctx.Err() != nil {
				last(context.Cause(ctx))
			}
			out.Flush()
			return nil
		case it.err != nil:
			if r.Context().Err() == nil {
				if cause := context.Cause(ctx); cause != nil {
					it.err = cause
				}
				last(it.err)
			}
			return nil
		default:
			if !put(name, id(it.value), it.value) {
				return nil
			}
		}
	}
}

package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cyber-boost/syspulse/api"
)

// errCut is the end of a stream that broke off: nobody said that it is the end.
var errCut = errors.New("the stream broke off")

// request is a stream to be opened, or opened again.
type request[T any] struct {
	path   string
	follow bool              // go on at the next manager; the first item is a position then
	query  func() url.Values // for what is yet to come
	// took notes an item that arrived, and says whether the caller is to see
	// it. It may change it.
	took func(*T) bool
	// reading is called while items are read; ctx ends with the connection. It
	// may be nil.
	reading func(ctx context.Context)
}

// stream makes one request whose answer is JSON lines, and those that go on
// with it.
func stream[T any](ctx context.Context, c *Client, r request[T]) (iter.Seq2[T, error], error) {
	if err := c.greet(ctx); err != nil {
		return nil, err
	}
	ended := func() {}
	if r.follow {
		c.following.Add(1)
		ended = sync.OnceFunc(func() { c.following.Add(-1) })
	}
	a, err := open(ctx, c, r)
	if err != nil {
		ended()
		return nil, err
	}
	unheard := context.AfterFunc(ctx, ended)
	return func(yield func(T, error) bool) {
		defer unheard()
		defer ended()
		err := a.read(ctx, c, r, yield)
		for errors.Is(err, errCut) && r.follow {
			if a, err = open(ctx, c, r); err == nil {
				err = a.read(ctx, c, r, yield)
			}
		}
		if errors.Is(err, errCut) {
			err = api.NewError(api.CodeFailed, "the manager on %s went away", c.socket)
		}
		if err != nil && err != errLeft {
			var zero T
			yield(zero, err)
		}
	}, nil
}

// errLeft is the end of a stream that its reader doesn't want more of.
var errLeft = errors.New("left")

// answer is one that holds items.
type answer[T any] struct {
	body  io.ReadCloser
	lines *bufio.Reader
	first *T          // the position, where it is to be seen
	stop  func() bool // the end of ctx closes body
}

// open asks for a stream, and reads its position if it is followed: from there
// on nothing is missed. Where it breaks off before that it is asked for again.
func open[T any](ctx context.Context, c *Client, r request[T]) (*answer[T], error) {
	for wait := time.Millisecond; ; wait = min(2*wait, maxWait) {
		resp, err := c.send(ctx, http.MethodGet, r.path, r.query(), nil)
		if err != nil {
			return nil, err
		}
		a := &answer[T]{body: resp.Body, lines: bufio.NewReaderSize(resp.Body, 64<<10)}
		a.stop = context.AfterFunc(ctx, func() { a.body.Close() })
		if !r.follow {
			return a, nil
		}
		v, err := a.next(ctx, c)
		if err == nil {
			if r.took(&v) {
				a.first = &v
			}
			return a, nil
		}
		a.close()
		if err == io.EOF {
			err = api.NewError(api.CodeFailed, "the manager on %s ended a stream before its beginning", c.socket)
		}
		if !errors.Is(err, errCut) {
			return nil, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (a *answer[T]) close() {
	a.stop()
	a.body.Close()
}

// read gives out what the answer holds; nil is its orderly end.
func (a *answer[T]) read(ctx context.Context, c *Client, r request[T], yield func(T, error) bool) error {
	defer a.close()
	if r.reading != nil {
		var wg sync.WaitGroup
		defer wg.Wait()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		wg.Go(func() { r.reading(ctx) })
	}
	if a.first != nil && !yield(*a.first, nil) {
		return errLeft
	}
	for {
		v, err := a.next(ctx, c)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if r.took(&v) && !yield(v, nil) {
			return errLeft
		}
	}
}

// next is the next item, or io.EOF behind the last, or errCut.
func (a *answer[T]) next(ctx context.Context, c *Client) (v T, err error) {
	line, err := a.lines.ReadBytes('\n')
	switch {
	case ctx.Err() != nil:
		return v, ctx.Err()
	case err == io.EOF && len(line) == 0:
		return v, io.EOF
	case err != nil:
		return v, errCut
	}
	var failure struct {
		Error *api.Error `json:"error"`
	}
	if bytes.HasPrefix(line, []byte(`{"error":`)) && json.Unmarshal(line, &failure) == nil && failure.Error != nil {
		return v, failure.Error
	}
	if err := json.Unmarshal(line, &v); err != nil {
		return v, api.NewError(api.CodeFailed, "can't read the answer of the manager on %s: %v", c.socket, err)
	}
	return v, nil
}

// Events implements [api.Manager].
func (c *Client) Events(ctx context.Context, query api.EventQuery) (iter.Seq2[api.Event, error], error) {
	after, limit, since := query.After, query.Limit, query.Since
	return stream(ctx, c, request[api.Event]{
		path: "/v1/events", follow: query.Follow,
		query: func() url.Values {
			q := selectorQuery(api.Selector{Names: query.Names})
			q.Set("limit", strconv.Itoa(limit))
			setTime(q, "since", since)
			if after != nil {
				q.Set("after", strconv.FormatUint(*after, 10))
			}
			if query.Follow {
				q.Set("follow", "true")
			}
			if query.Follow || query.Resumable {
				q.Set("resumable", "true")
			}
			return q
		},
		took: func(e *api.Event) bool {
			after, limit, since = &e.Seq, -1, nil // all that is behind it
			return e.Event != api.EventPosition || query.Resumable
		},
	})
}

// Logs implements [api.Manager].
func (c *Client) Logs(ctx context.Context, query api.LogQuery) (iter.Seq2[api.LogLine, error], error) {
	positions := map[api.LogPosition]string{} // a cursor for each stream, once there are any
	note := func(p api.LogPosition) {
		cursor := p.Cursor
		p.Cursor = ""
		positions[p] = cursor
	}
	word := rand.Text()
	r := request[api.LogLine]{
		path: "/v1/logs", follow: query.Follow,
		query: func() url.Values {
			q := url.Values{}
			if len(positions) > 0 {
				q["after"] = slices.Sorted(maps.Values(positions))
			} else {
				q = selectorQuery(query.Selector)
				q.Set("lines", strconv.Itoa(query.Lines))
				for _, s := range query.Streams {
					q.Add("stream", string(s))
				}
				if query.SkipUnfinished {
					q.Set("skip_unfinished", "true")
				}
				if query.After != nil {
					q["after"] = query.After
				}
			}
			if query.Follow {
				q.Set("follow", "true")
			}
			if query.Follow || query.Resumable {
				q.Set("resumable", "true")
			}
			if query.Finish != nil {
				q.Set("finish", word)
			}
			return q
		},
		took: func(l *api.LogLine) bool {
			for _, p := range l.Positions {
				note(p)
			}
			if l.Cursor != "" {
				note(api.LogPosition{Daemon: l.Daemon, Stream: l.Stream, Cursor: l.Cursor})
			}
			if query.Resumable {
				return true
			}
			l.Cursor = ""
			return l.Positions == nil
		},
	}
	if query.Finish != nil {
		r.reading = func(ctx context.Context) {
			select {
			case <-query.Finish:
				// If that fails, the stream has ended, or goes on elsewhere,
				// where it is said again.
				_, _ = call[struct{}](ctx, c, true, http.MethodPost, finishPath, nil, map[string]string{"finish": word})
			case <-ctx.Done():
			}
		}
	}
	return stream(ctx, c, r)
}

// Package client is a manager at the other end of a socket: [Client] is an
// [api.Manager].
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cyber-boost/syspulse/api"
)

// answerTimeout is how long a manager may take for what it answers from
// memory. One that takes longer hangs, or is no manager.
const answerTimeout = 10 * time.Second

// followPatience is how long who follows a stream waits for a manager once
// there is none.
const followPatience = 10 * time.Second

// maxWait is the longest time between two attempts to reach the next manager.
const maxWait = 50 * time.Millisecond

// connectPatience is how long a full connection queue is waited for.
const connectPatience = 10 * time.Second

// Client asks the manager that listens on one socket. It is an [api.Manager]:
// its errors are the manager's, and
//   - CodeNoManager if nobody answers on the socket,
//   - CodeForbidden if the socket belongs to someone else,
//   - CodeFailed if the manager hangs, vanishes in the middle or is none.
//
// A stream that is followed goes on by itself when the manager is replaced, or
// dies and another comes within some seconds: nothing is missing in it and
// nothing comes twice. It ends where a manager ends it.
//
// It may be used from several goroutines. Close frees its connections.
type Client struct {
	socket string
	http   *http.Client

	starting  func() bool // nil: nobody is waited for
	following atomic.Int32
	patience  time.Duration // of who follows

	greeting sync.Mutex
	known    atomic.Bool // a manager has answered
}

var _ api.Manager = (*Client)(nil)

// New is a client of the manager on socket. It doesn't connect yet.
func New(socket string) *Client {
	c := &Client{socket: socket, patience: followPatience}
	c.http = &http.Client{
		Transport: &http.Transport{
			DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
			DisableCompression: true,
			IdleConnTimeout:    30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// Await makes c wait for a manager that doesn't listen yet, for as long as
// starting says that one is on its way (at most ten seconds). It is to be
// called before the first request.
func (c *Client) Await(starting func() bool) { c.starting = starting }

// Socket is the address of the manager.
func (c *Client) Socket() string { return c.socket }

// Close closes the connections that nothing uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	giveUp := time.Now().Add(connectPatience)
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		conn, err := dial(ctx, c.socket)
		if err == nil || time.Now().After(giveUp) {
			return conn, err
		}
		if isAbsent(err) {
			if c.starting == nil || !c.starting() {
				return nil, err
			}
			wait = min(wait, 10*time.Millisecond)
		} else if !isBusy(err) {
			return nil, err
		}
		// A Unix socket refuses at once when nobody listens yet or its queue
		// is full, and says nothing when that has changed.
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// errVanished is in the error of a connection that a manager took, and that
// broke off.
var errVanished = errors.New("vanished")

type vanished struct{ problem *api.Error }

func (v vanished) Error() string   { return v.problem.Error() }
func (v vanished) Unwrap() []error { return []error{v.problem, errVanished} }

func (c *Client) wentAway() error {
	return vanished{api.NewError(api.CodeFailed, "the manager on %s went away before it answered; its log (manager.log in the data directory) may say why", c.socket)}
}

// unreachable is the error for a connection that came to nothing.
func (c *Client) unreachable(err error) error {
	var e *api.Error
	var op *net.OpError
	var uerr *url.Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.Canceled): // and not by our caller
		return vanished{api.NewError(api.CodeFailed, "the connection to the manager on %s broke off", c.socket)}
	case isAbsent(err):
		return api.NewError(api.CodeNoManager, "no manager is running (nobody answers on %s); start one with `syspulse daemon`", c.socket)
	case errors.Is(err, os.ErrPermission):
		return api.NewError(api.CodeForbidden, "you may not talk to the manager on %s: it belongs to another user; become that user (or root), or give your own --data-dir", c.socket)
	case errors.As(err, &op) && op.Op == "dial" && isBusy(err):
		return api.NewError(api.CodeFailed, "the manager on %s is too busy to take another connection; try again", c.socket)
	case errors.Is(err, context.DeadlineExceeded):
		return api.NewError(api.CodeFailed, "what listens on %s doesn't answer: the manager hangs, or it is no manager", c.socket)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isReset(err),
		strings.Contains(err.Error(), "server closed idle connection"): // net/http doesn't export it
		return c.wentAway()
	case errors.As(err, &op) && op.Op == "dial":
		return api.NewError(api.CodeFailed, "can't reach the manager on %s: %v", c.socket, op.Err)
	case errors.As(err, &uerr) && c.known.Load(): // the answer is torn
		return c.wentAway()
	case errors.As(err, &uerr):
		return api.NewError(api.CodeFailed, "what listens on %s is no manager, or its answer can't be read: %v", c.socket, uerr.Err)
	}
	return api.NewError(api.CodeFailed, "talking to the manager on %s: %v", c.socket, err)
}

// send makes one request. The caller closes the answer's body. A question
// that a manager died over is asked once more: that changes nothing, and tells
// whether there is another manager, or none. While a stream is followed, the
// next manager is waited for; but a command that may have arrived is never sent
// again.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	began := time.Now()
	alive := began // when there was a manager last
	asked := 0
	for wait := time.Millisecond; ; wait = min(2*wait, maxWait) {
		resp, err := c.sendOnce(ctx, method, path, query, in)
		switch {
		case errors.Is(err, api.ErrReplacing) && time.Since(began) < answerTimeout:
			// Nothing was done. The next manager's connections are others.
			c.Close()
			wait = min(wait, 5*time.Millisecond)
		case errors.Is(err, errVanished) && method == http.MethodGet && (asked == 0 || c.following.Load() > 0):
			asked++
			alive = time.Now()
		case errors.Is(err, api.ErrNoManager) && c.following.Load() > 0 && time.Since(alive) < c.patience:
			// Nothing was sent.
		default:
			return resp, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// finishPath is where a followed stream is asked to come to its end.
const finishPath = "/v1/logs/finish"

func (c *Client) sendOnce(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("can't encode the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	u := "http://syspulse" + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, fmt.Errorf("can't make the request: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	// A request that is canceled when its answer has just come may take the
	// connection with it that the next one is using by then (net/http puts it
	// back before). This is the one that we cancel.
	req.Close = path == finishPath
	resp, err := c.http.Do(req)
	if err != nil {
		if cause := ctx.Err(); cause != nil && errors.Is(cause, context.Canceled) {
			return nil, cause
		}
		return nil, c.unreachable(err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var e api.Error
	if err != nil || json.Unmarshal(b, &e) != nil || e.Code == "" {
		return nil, api.NewError(api.CodeFailed, "what listens on %s is no syspulse manager: it answered %q", c.socket, resp.Status)
	}
	return nil, &e
}

// call makes one request and decodes its answer. quick ones are answered from
// memory; before another one a manager must have answered, so that what never
// will isn't waited for.
func call[T any](ctx context.Context, c *Client, quick bool, method, path string, query url.Values, in any) (T, error) {
	var out T
	if quick {
		short, cancel := context.WithTimeout(ctx, answerTimeout)
		defer cancel()
		ctx = short
	} else if err := c.greet(ctx); err != nil {
		return out, err
	}
	resp, err := c.send(ctx, method, path, query, in)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return out, nil
	}
	b, err := readAll(resp)
	if err != nil {
		if cause := ctx.Err(); errors.Is(cause, context.Canceled) {
			return out, cause
		}
		return out, c.unreachable(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, api.NewError(api.CodeFailed, "can't read the answer of the manager on %s: %v (is it another version? `syspulse ping` says)", c.socket, err)
	}
	return out, nil
}

// readAll reads a body into a buffer of its size, where that is told.
func readAll(resp *http.Response) ([]byte, error) {
	if n := resp.ContentLength; n >= 0 && n <= 64<<20 {
		b := make([]byte, n)
		_, err := io.ReadFull(resp.Body, b)
		return b, err
	}
	return io.ReadAll(resp.Body)
}

func (c *Client) greet(ctx context.Context) error {
	c.greeting.Lock()
	defer c.greeting.Unlock()
	if c.known.Load() {
		return nil
	}
	if _, err := c.Ping(ctx); err != nil {
		return err
	}
	c.known.Store(true)
	return nil
}

func selectorQuery(s api.Selector) url.Values {
	q := url.Values{}
	add := func(key string, values []string) {
		if len(values) > 0 {
			q[key] = values
		}
	}
	add("name", s.Names)
	add("tag", s.Tags)
	add("group", s.Groups)
	if s.All {
		q.Set("all", "true")
	}
	return q
}

func setTime(q url.Values, key string, t *time.Time) {
	if t != nil {
		q.Set(key, t.Format(time.RFC3339Nano))
	}
}

// Ping implements [api.Manager].
func (c *Client) Ping(ctx context.Context) (api.Ping, error) {
	return call[api.Ping](ctx, c, true, http.MethodGet, "/v1/ping", nil, nil)
}

// Status implements [api.Manager].
func (c *Client) Status(ctx context.Context, query api.StatusQuery) ([]api.Daemon, error) {
	q := selectorQuery(query.Selector)
	setTime(q, "at", query.At)
	// The past is replayed, which may take a while.
	return call[[]api.Daemon](ctx, c, query.At == nil, http.MethodGet, "/v1/daemons", q, nil)
}

// Get implements [api.Manager].
func (c *Client) Get(ctx context.Context, query api.GetQuery) (api.Details, error) {
	if query.Name == "" || strings.HasPrefix(query.Name, ".") || strings.ContainsAny(query.Name, "/\x00") {
		return api.Details{}, api.NotFound(query.Name) // no name, and no segment of a path
	}
	q := url.Values{}
	setTime(q, "at", query.At)
	if query.Env {
		q.Set("env", "true")
	}
	return call[api.Details](ctx, c, query.At == nil, http.MethodGet, "/v1/daemons/"+url.PathEscape(query.Name), q, nil)
}

// Graph implements [api.Manager].
func (c *Client) Graph(ctx context.Context, query api.GraphQuery) (api.Graph, error) {
	return call[api.Graph](ctx, c, true, http.MethodGet, "/v1/graph", selectorQuery(query.Selector), nil)
}

// Add implements [api.Manager].
func (c *Client) Add(ctx context.Context, req api.AddRequest) ([]api.Result, error) {
	return call[[]api.Result](ctx, c, false, http.MethodPost, "/v1/daemons", nil, req)
}

// Apply implements [api.Manager].
func (c *Client) Apply(ctx context.Context, req api.ApplyRequest) ([]api.Change, error) {
	return call[[]api.Change](ctx, c, false, http.MethodPost, "/v1/apply", nil, req)
}

// Remove implements [api.Manager].
func (c *Client) Remove(ctx context.Context, req api.RemoveRequest) ([]api.Result, error) {
	return call[[]api.Result](ctx, c, false, http.MethodPost, "/v1/remove", nil, req)
}

// Start implements [api.Manager].
func (c *Client) Start(ctx context.Context, req api.ActionRequest) ([]api.Result, error) {
	return call[[]api.Result](ctx, c, false, http.MethodPost, "/v1/start", nil, req)
}

// Stop implements [api.Manager].
func (c *Client) Stop(ctx context.Context, req api.ActionRequest) ([]api.Result, error) {
	return call[[]api.Result](ctx, c, false, http.MethodPost, "/v1/stop", nil, req)
}

// Restart implements [api.Manager].
func (c *Client) Restart(ctx context.Context, req api.ActionRequest) ([]api.Result, error) {
	return call[[]api.Result](ctx, c, false, http.MethodPost, "/v1/restart", nil, req)
}

// Run implements [api.Manager].
func (c *Client) Run(ctx context.Context, req api.RunRequest) ([]api.Result, error) {
	return call[[]api.Result](ctx, c, false, http.MethodPost, "/v1/run", nil, req)
}

// Reload implements [api.Manager].
func (c *Client) Reload(ctx context.Context, req api.ReloadRequest) ([]api.Result, error) {
	return call[[]api.Result](ctx, c, false, http.MethodPost, "/v1/reload", nil, req)
}

// Signal implements [api.Manager].
func (c *Client) Signal(ctx context.Context, req api.SignalRequest) ([]api.Result, error) {
	return call[[]api.Result](ctx, c, false, http.MethodPost, "/v1/signal", nil, req)
}

// Export implements [api.Manager].
func (c *Client) Export(ctx context.Context) (api.State, error) {
	return call[api.State](ctx, c, false, http.MethodGet, "/v1/state", nil, nil)
}

// Import implements [api.Manager].
func (c *Client) Import(ctx context.Context, s api.State) ([]api.Result, error) {
	return call[[]api.Result](ctx, c, false, http.MethodPost, "/v1/state", nil, s)
}

// Upgrade implements [api.Manager].
func (c *Client) Upgrade(ctx context.Context, req api.UpgradeRequest) (api.Upgrade, error) {
	return call[api.Upgrade](ctx, c, false, http.MethodPost, "/v1/upgrade", nil, req)
}

// Shutdown implements [api.Manager]. It also waits until nobody answers on
// the socket any more, at most ten seconds after the manager's answer.
func (c *Client) Shutdown(ctx context.Context, req api.ShutdownRequest) error {
	if _, err := call[struct{}](ctx, c, false, http.MethodPost, "/v1/shutdown", nil, req); err != nil {
		return err
	}
	c.Close()
	giveUp := time.Now().Add(answerTimeout)
	for time.Now().Before(giveUp) {
		conn, err := dial(ctx, c.socket)
		if err != nil {
			return ctx.Err()
		}
		conn.Close()
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

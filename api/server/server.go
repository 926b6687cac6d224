// Package server speaks [api.Manager] over HTTP.
//
// Requests and answers are JSON; failures are RFC 9457 problem documents;
// logs and events are streams of JSON lines, or server-sent events where the
// client accepts those. openapi.yaml describes all of it.
package server

import (
	"context"
	_ "embed"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cyber-boost/syspulse/api"
)

// maxBody is how large a request may be: room for ten thousand daemons.
const maxBody = 16 << 20

// maxHeader is how large a request's line and headers may be: room for where ten
// thousand daemons' streams are resumed.
const maxHeader = 4 << 20

// maxDrain is how much more of a request that is too large is read, unseen.
const maxDrain = 1 << 30

// Times after which a client that doesn't go on is cut off. None limits how
// long an operation or a stream takes.
const (
	headerTimeout = 10 * time.Second
	bodyTimeout   = 30 * time.Second
	writeTimeout  = 30 * time.Second // of an answer that is no stream
	idleTimeout   = 2 * time.Minute
)

//go:embed openapi.yaml
var openAPI []byte

// Server answers clients of one manager.
type Server struct {
	manager api.Manager
	log     *slog.Logger
	http    http.Server
	routes  []route

	finishers finishers
	gate      gate

	mu      sync.Mutex     // held to close closing and to add to streams
	closing chan struct{}  // closed when no stream may go on
	why     error          // what ends them; valid once closing is closed
	streams sync.WaitGroup // the manager's part of each
}

// New is a server for m. It logs to log what its clients can't be told.
func New(m api.Manager, log *slog.Logger) *Server {
	s := &Server{manager: m, log: log, closing: make(chan struct{})}
	s.routes = s.table()
	s.http = http.Server{
		Handler:           s.handler(),
		MaxHeaderBytes:    maxHeader,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ConnContext:       withPeer,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s
}

// Serve answers the clients of l until Shutdown or Close, and then returns
// nil. It takes over l. It may be called for several listeners at once.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// EndStreams ends all streams, and refuses new ones, with CodeShuttingDown. It
// returns when the manager's part of them has ended, so that the manager can
// be closed while the socket still exists: whoever sees that vanish knows that
// all is over.
func (s *Server) EndStreams() { s.endStreams(api.ShuttingDown()) }

// CutStreams does it without telling the clients that it is the end: theirs
// break off, and they go on at the next manager.
func (s *Server) CutStreams() { s.endStreams(api.ErrInterrupted) }

func (s *Server) endStreams(why error) {
	s.mu.Lock()
	select {
	case <-s.closing:
	default:
		s.why = why
		close(s.closing)
	}
	s.mu.Unlock()
	s.streams.Wait()
}

// beginStream fails if no more may begin. Each that began ends with
// s.streams.Done.
func (s *Server) beginStream() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closing:
		return s.why
	default:
	}
	s.streams.Add(1)
	return nil
}

// Shutdown stops listening, ends the streams, and waits for the answers that
// are still being written, or for ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	s.EndStreams()
	return s.http.Shutdown(ctx)
}

// Close cuts every client off.
func (s *Server) Close() error {
	err := s.http.Close()
	s.EndStreams()
	return err
}

// route is one operation of the API.
type route struct {
	method, path string
	handle       func(w http.ResponseWriter, r *http.Request) error
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for _, rt := range s.routes {
		mux.HandleFunc(rt.method+" "+rt.path, func(w http.ResponseWriter, r *http.Request) {
			leave, err := s.gate.enter()
			if err == nil {
				defer leave()
				err = rt.handle(w, r.WithContext(context.WithValue(r.Context(), leaveKey{}, leave)))
			}
			if err != nil {
				s.fail(w, r, err)
			}
			// The answer is on its way before it counts as given.
			_ = http.NewResponseController(w).Flush()
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		methods := s.methods(r.URL.Path)
		if len(methods) > 0 {
			w.Header().Set("Allow", strings.Join(methods, ", ")) // RFC 9110, 15.5.6
		}
		s.fail(w, r, noRoute(r, methods))
	})
	return s.guard(mux)
}

// guard lets in whom the manager belongs to, and turns a panic into a problem.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tracked := &tracker{ResponseWriter: w}
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v == http.ErrAbortHandler {
				panic(v)
			}
			s.log.Error("a request made the server panic", "method", r.Method, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
			if tracked.began {
				panic(http.ErrAbortHandler) // the client must not take half an answer for a whole one
			}
			s.fail(tracked, r, api.NewError(api.CodeInternal, "the manager made a mistake answering %s %s; its log says more. It goes on", r.Method, r.URL.Path))
		}()
		if p, _ := r.Context().Value(peerKey{}).(peer); !allowed(p) {
			s.log.Warn("refused a client of another user", "uid", p.uid)
			s.fail(tracked, r, api.NewError(api.CodeForbidden, "this manager takes orders from uid %d and root only; you are uid %d", os.Geteuid(), p.uid))
			return
		}
		next.ServeHTTP(tracked, r)
	})
}

// tracker knows whether an answer has begun.
type tracker struct {
	http.ResponseWriter
	began bool
}

func (t *tracker) WriteHeader(status int) {
	t.began = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracker) Write(b []byte) (int, error) {
	t.began = true
	return t.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (t *tracker) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// methods are those that a path takes; none if there is no such path.
func (s *Server) methods(path string) []string {
	var methods []string
	for _, rt := range s.routes {
		if samePath(rt.path, path) {
			methods = append(methods, rt.method)
		}
	}
	slices.Sort(methods)
	return methods
}

func noRoute(r *http.Request, methods []string) error {
	if len(methods) > 0 {
		e := api.NewError(api.CodeNoRoute, "%s takes %s, not %s", r.URL.Path, strings.Join(methods, " and "), r.Method)
		e.Status, e.Title = http.StatusMethodNotAllowed, "No such method"
		return e
	}
	return api.NewError(api.CodeNoRoute, "there is no %s; GET /v1/openapi.yaml describes what there is", r.URL.Path)
}

// samePath reports whether path matches pattern, whose {name} is one segment.
func samePath(pattern, path string) bool {
	pre, post, wild := strings.Cut(pattern, "{name}")
	if !wild {
		return pattern == path
	}
	mid, ok := strings.CutPrefix(path, pre)
	if !ok {
		return false
	}
	mid, ok = strings.CutSuffix(mid, post)
	return ok && mid != "" && !strings.Contains(mid, "/")
}

package server

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
)

// table is every operation. A test holds it against openapi.yaml.
func (s *Server) table() []route {
	m := s.manager
	return []route{
		{"GET", "/v1/openapi.yaml", func(w http.ResponseWriter, r *http.Request) error {
			return s.write(w, http.StatusOK, "application/yaml", openAPI)
		}},
		{"GET", "/v1/ping", func(w http.ResponseWriter, r *http.Request) error {
			return answer(s, w)(m.Ping(r.Context()))
		}},
		{"GET", "/v1/daemons", func(w http.ResponseWriter, r *http.Request) error {
			q := queryOf(r)
			sq := api.StatusQuery{Selector: q.selector(), At: q.time("at")}
			if err := q.done(); err != nil {
				return err
			}
			list, err := m.Status(r.Context(), sq)
			return answer(s, w)(notNil(list), err)
		}},
		{"GET", "/v1/daemons/{name}", func(w http.ResponseWriter, r *http.Request) error {
			q := queryOf(r)
			gq := api.GetQuery{Name: spec.CanonicalName(r.PathValue("name")), At: q.time("at"), Env: q.bool("env")}
			if err := q.done(); err != nil {
				return err
			}
			return answer(s, w)(m.Get(r.Context(), gq))
		}},
		{"GET", "/v1/graph", func(w http.ResponseWriter, r *http.Request) error {
			q := queryOf(r)
			gq := api.GraphQuery{Selector: q.selector()}
			if err := q.done(); err != nil {
				return err
			}
			return answer(s, w)(m.Graph(r.Context(), gq))
		}},
		{"POST", "/v1/daemons", post(s, checkAdd, m.Add)},
		{"POST", "/v1/apply", post(s, checkApply, m.Apply)},
		{"POST", "/v1/start", post(s, checkAction, m.Start)},
		{"POST", "/v1/stop", post(s, checkAction, m.Stop)},
		{"POST", "/v1/restart", post(s, checkAction, m.Restart)},
		{"POST", "/v1/remove", post(s, checkRemove, m.Remove)},
		{"POST", "/v1/run", post(s, checkRun, m.Run)},
		{"POST", "/v1/reload", post(s, checkReload, m.Reload)},
		{"POST", "/v1/signal", post(s, checkSignal, m.Signal)},
		{"GET", "/v1/events", func(w http.ResponseWriter, r *http.Request) error {
			q := queryOf(r)
			eq := api.EventQuery{
				Names: q.list("name"), Limit: q.int("limit", 50), Since: q.time("since"), Follow: q.bool("follow"),
				After: q.number("after"), Resumable: q.bool("resumable"),
			}
			canonical(eq.Names)
			if err := q.done(); err != nil {
				return err
			}
			id := func(e api.Event) string { return strconv.FormatUint(e.Seq, 10) }
			return stream(s, w, r, "journal", id, func(ctx context.Context) (iter.Seq2[api.Event, error], error) {
				return m.Events(ctx, eq)
			})
		}},
		{"GET", "/v1/logs", func(w http.ResponseWriter, r *http.Request) error {
			q := queryOf(r)
			lq := api.LogQuery{
				Selector: q.selector(), Lines: q.int("lines", 50), Follow: q.bool("follow"), Streams: q.streams("stream"),
				SkipUnfinished: q.bool("skip_unfinished"), After: q.list("after"), Resumable: q.bool("resumable"),
			}
			words := q.list("finish")
			if err := q.done(); err != nil {
				return err
			}
			if len(lq.After) == 0 {
				if err := checkSelector(&lq.Selector); err != nil {
					return err
				}
			}
			if len(words) > 0 {
				finish, forget, err := s.finishers.add(words[0])
				if err != nil {
					return err
				}
				defer forget()
				lq.Finish = finish
			}
			id := func(l api.LogLine) string { return l.Cursor }
			return stream(s, w, r, "line", id, func(ctx context.Context) (iter.Seq2[api.LogLine, error], error) {
				return m.Logs(ctx, lq)
			})
		}},
		{"POST", "/v1/logs/finish", func(w http.ResponseWriter, r *http.Request) error {
			var req struct {
				Finish string `json:"finish"`
			}
			if err := body(w, r, &req, false); err != nil {
				return err
			}
			if err := s.finishers.finish(req.Finish); err != nil {
				return err
			}
			w.WriteHeader(http.StatusNoContent)
			return nil
		}},
		{"GET", "/v1/state", func(w http.ResponseWriter, r *http.Request) error {
			st, err := m.Export(r.Context())
			st.Daemons, st.Groups = notNil(st.Daemons), notNil(st.Groups)
			return answer(s, w)(st, err)
		}},
		{"POST", "/v1/state", post(s, checkState, m.Import)},
		{"POST", "/v1/upgrade", func(w http.ResponseWriter, r *http.Request) error {
			var req api.UpgradeRequest
			if err := body(w, r, &req, true); err != nil {
				return err
			}
			if req.Binary != "" && !filepath.IsAbs(req.Binary) {
				return api.Invalid("binary must be an absolute path, not " + strconv.Quote(req.Binary))
			}
			return answer(s, w)(m.Upgrade(r.Context(), req))
		}},
		{"POST", "/v1/shutdown", func(w http.ResponseWriter, r *http.Request) error {
			var req api.ShutdownRequest
			if err := body(w, r, &req, true); err != nil {
				return err
			}
			if err := m.Shutdown(r.Context(), req); err != nil {
				return err
			}
			w.WriteHeader(http.StatusNoContent)
			return nil
		}},
	}
}

// post decodes a request, checks it, and answers with what do makes of it.
func post[Wire, Req, Item any](s *Server, check func(*Wire) (Req, error), do func(context.Context, Req) ([]Item, error)) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		var wire Wire
		if err := body(w, r, &wire, false); err != nil {
			return err
		}
		req, err := check(&wire)
		if err != nil {
			return err
		}
		items, err := do(r.Context(), req)
		return answer(s, w)(notNil(items), err)
	}
}

// answer takes the two results of a Manager's method.
func answer(s *Server, w http.ResponseWriter) func(v any, err error) error {
	return func(v any, err error) error {
		if err != nil {
			return err
		}
		return s.reply(w, v)
	}
}

// notNil makes JSON's [] of no items.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// query reads the parameters of a request, and remembers what is wrong.
type query struct {
	values   url.Values
	known    []string
	problems []string
}

func queryOf(r *http.Request) *query {
	values, err := url.ParseQuery(r.URL.RawQuery)
	q := &query{values: values}
	if err != nil {
		q.problems = append(q.problems, "the query can't be read: "+err.Error())
	}
	return q
}

func (q *query) list(key string) []string {
	q.known = append(q.known, key)
	return q.values[key]
}

func (q *query) one(key string) (string, bool) {
	list := q.list(key)
	if len(list) > 1 {
		q.problems = append(q.problems, key+" is given more than once")
	}
	if len(list) == 0 {
		return "", false
	}
	return list[0], true
}

func (q *query) bool(key string) bool {
	v, ok := q.one(key)
	if !ok || v == "false" {
		return false
	}
	if v != "true" && v != "" {
		q.problems = append(q.problems, fmt.Sprintf("%s must be true or false, not %q", key, v))
	}
	return true
}

func (q *query) int(key string, def int) int {
	v, ok := q.one(key)
	if !ok {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		q.problems = append(q.problems, fmt.Sprintf("%s must be an integer (negative: all), not %q", key, v))
	}
	return n
}

// number is nil if it is not given.
func (q *query) number(key string) *uint64 {
	v, ok := q.one(key)
	if !ok {
		return nil
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		q.problems = append(q.problems, fmt.Sprintf("%s must be a number, 0 or more, not %q", key, v))
		return nil
	}
	return &n
}

func (q *query) time(key string) *time.Time {
	v, ok := q.one(key)
	if !ok {
		return nil
	}
	t, err := time.Parse(time.RFC3339, v)
	if err != nil {
		q.problems = append(q.problems, fmt.Sprintf("%s must be a time such as 2006-01-02T15:04:05Z (a + is written %%2B), not %q", key, v))
		return nil
	}
	return &t
}

func (q *query) streams(key string) []api.Stream {
	var out []api.Stream
	for _, v := range q.list(key) {
		if v != string(api.Stdout) && v != string(api.Stderr) {
			q.problems = append(q.problems, fmt.Sprintf("%s must be stdout or stderr, not %q", key, v))
			continue
		}
		out = append(out, api.Stream(v))
	}
	return out
}

func (q *query) selector() api.Selector {
	s := api.Selector{Names: q.list("name"), Tags: q.list("tag"), Groups: q.list("group"), All: q.bool("all")}
	canonical(s.Names)
	canonical(s.Groups)
	return s
}

// done is the error of all that was wrong, unknown parameters too.
func (q *query) done() error {
	for key := range q.values {
		if !slices.Contains(q.known, key) {
			q.problems = append(q.problems, fmt.Sprintf("unknown parameter %q; known are %s", key, strings.Join(q.known, ", ")))
		}
	}
	if len(q.problems) == 0 {
		return nil
	}
	slices.Sort(q.problems)
	return api.Invalid(strings.Join(q.problems, "; "), q.problems...)
}

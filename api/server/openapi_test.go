package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/apitest"
	"github.com/cyber-boost/syspulse/supervision"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

func document(t *testing.T) (*openapi3.T, routers.Router) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return doc, router
}

func TestRoutesAndDocumentAreTheSame(t *testing.T) {
	doc, _ := document(t)
	var described, served []string
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	for _, rt := range New(apitest.New(), slog.New(slog.DiscardHandler)).routes {
		served = append(served, rt.method+" "+rt.path)
	}
	slices.Sort(described)
	slices.Sort(served)
	if !slices.Equal(described, served) {
		t.Errorf("described: %v\nserved:    %v", described, served)
	}
}

// Every answer is what the document says, and every request that is answered
// well is one that the document allows.
func TestAnswersAreAsDescribed(t *testing.T) {
	_, router := document(t)
	fake := apitest.New()
	s := New(fake, slog.New(slog.DiscardHandler))
	ctx := context.WithValue(context.Background(), peerKey{}, peer{known: true})
	do := func(method, path, body string, status int) {
		t.Helper()
		var in io.Reader
		if body != "" {
			in = strings.NewReader(body)
		}
		req := httptest.NewRequest(method, "http://syspulse"+path, in).WithContext(ctx)
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, req)
		if w.Code != status {
			t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
		if status == http.StatusMethodNotAllowed || strings.HasSuffix(path, "/nowhere") {
			return // not described, by nature
		}
		rt, params, err := router.FindRoute(req)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		input := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: rt, Options: &openapi3filter.Options{IncludeResponseStatus: true}}
		if status < 300 {
			if body != "" {
				req.Body = io.NopCloser(strings.NewReader(body))
			}
			if err := openapi3filter.ValidateRequest(ctx, input); err != nil {
				t.Errorf("%s %s: %v", method, path, err)
			}
		}
		bodies := [][]byte{w.Body.Bytes()}
		contentType := w.Header().Get("Content-Type")
		if contentType == "application/x-ndjson" {
			bodies = bytes.Split(bytes.TrimSuffix(w.Body.Bytes(), []byte("\n")), []byte("\n"))
		}
		for _, b := range bodies {
			if contentType == "application/x-ndjson" {
				schema := rt.Operation.Responses.Status(200).Value.Content[contentType].Schema.Value
				var v any
				if err := json.Unmarshal(b, &v); err != nil {
					t.Fatalf("%s %s: %v in %s", method, path, err, b)
				}
				if err := schema.VisitJSON(v); err != nil {
					t.Errorf("%s %s: %v", method, path, err)
				}
				continue
			}
			out := &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: w.Code, Header: w.Header(), Options: input.Options}
			out.SetBodyBytes(b)
			if err := openapi3filter.ValidateResponse(ctx, out); err != nil {
				t.Errorf("%s %s: %v\n%s", method, path, err, b)
			}
		}
	}

	do("GET", "/v1/daemons", "", 200)
	do("POST", "/v1/daemons", `{"daemons": [{"spec": {"name": "web", "command": ["true"], "env": {"SECRET": "x"}}, "source": "/x.sys"}]}`, 200)
	do("POST", "/v1/daemons", `{"daemons": [{"spec": {"name": "web", "command": ["false"]}}]}`, 409)
	do("POST", "/v1/daemons", `{"daemons": [{}]}`, 400)
	do("GET", "/v1/ping", "", 200)
	do("GET", "/v1/daemons", "", 200)
	do("GET", "/v1/daemons?name=web&at=2026-01-02T03:04:05Z", "", 200)
	do("POST", "/v1/daemons", `{"daemons": [{"spec": {"name": "site", "command": ["true"], "group": "g", "depends_on": [{"name": "web"}, {"name": "gone"}]}}]}`, 200)
	do("GET", "/v1/graph", "", 200)
	do("GET", "/v1/graph?name=web&tag=x&group=y&all=true", "", 200)
	do("GET", "/v1/graph?name=nobody", "", 404)
	do("POST", "/v1/start", `{"names": ["web", "nobody"], "wait": true, "timeout_secs": 1.5}`, 200)
	do("POST", "/v1/start", `{"all": 1}`, 400)
	fake.Print("web", api.Stdout, "hello")
	do("GET", "/v1/logs?name=web&stream=stdout&lines=1", "", 200)
	do("GET", "/v1/logs?name=web&resumable=true&lines=1", "", 200)
	do("GET", "/v1/logs?after=web/stdout/0&resumable=true", "", 200)
	do("GET", "/v1/logs?after=x", "", 400)
	do("GET", "/v1/logs?name=nobody", "", 404)
	do("POST", "/v1/reload", `{"names": ["web", "nobody"]}`, 200)
	do("POST", "/v1/reload", `{}`, 400)
	do("POST", "/v1/run", `{"names": ["web", "nobody"]}`, 200)
	do("POST", "/v1/run", `{}`, 400)
	do("POST", "/v1/signal", `{"names": ["web"], "signal": "HUP"}`, 200)
	do("POST", "/v1/restart", `{"tags": ["x"], "groups": ["y"], "all": true}`, 200)
	do("GET", "/v1/daemons/web", "", 200)
	do("GET", "/v1/daemons/web?env=true", "", 200)
	do("GET", "/v1/daemons/nobody", "", 404)
	do("POST", "/v1/stop", `{"names": ["web"], "force": true}`, 200)
	fake.Set("web", func(r *supervision.Record) { r.Reason = "because"; r.State = supervision.Failed })
	do("GET", "/v1/daemons", "", 200)
	do("POST", "/v1/apply", `{"daemons": [{"spec": {"name": "web", "command": ["other"]}}], "dry_run": true}`, 200)
	do("GET", "/v1/events?limit=-1", "", 200)
	do("GET", "/v1/events?limit=-1&after=2&resumable=true", "", 200)
	do("GET", "/v1/events?after=-1", "", 400)
	do("GET", "/v1/state", "", 200)
	do("POST", "/v1/state", `{"version": 1, "daemons": [{"spec": {"name": "b", "command": ["true"]}, "wanted": "running"}], "groups": []}`, 200)
	do("POST", "/v1/remove", `{"names": ["web"], "force": true, "purge": true}`, 200)
	do("POST", "/v1/shutdown", "", 204)
	do("POST", "/v1/shutdown", `{"keep_daemons": true}`, 204)
	do("GET", "/v1/openapi.yaml", "", 200)
	do("PUT", "/v1/ping", "", 405)
	do("GET", "/v1/nowhere", "", 404)
	do("GET", "/v1/daemons?nmae=x", "", 400)
	ctx = context.WithValue(context.Background(), peerKey{}, peer{known: true, uid: 4242})
	do("GET", "/v1/ping", "", 403)
}

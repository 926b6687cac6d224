package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/apitest"
	"github.com/cyber-boost/syspulse/api/client"
	"github.com/cyber-boost/syspulse/api/server"
	"github.com/cyber-boost/syspulse/spec"
)

// rig is a server over a fake manager, and a client of it.
type rig struct {
	*apitest.Fake
	socket string
	client *client.Client
	server *server.Server
	log    *bytes.Buffer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	before := runtime.NumGoroutine()
	r := &rig{Fake: apitest.New(), socket: socketPath(t), log: new(bytes.Buffer)}
	l, err := server.Listen(r.socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.server = server.New(r.Fake, slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelInfo})))
	done := make(chan error)
	go func() { done <- r.server.Serve(l) }()
	r.client = client.New(r.socket)
	t.Cleanup(func() {
		r.client.Close()
		r.server.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		settle(t, before)
	})
	return r
}

// settle waits until no goroutine is left but those there were before. The
// test's own deadline ends a wait that never ends.
func settle(t *testing.T, before int) {
	t.Helper()
	for runtime.NumGoroutine() > before {
		if d, ok := t.Deadline(); ok && !nowBefore(d) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines too many:\n%s", runtime.NumGoroutine()-before, buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
}

func (r *rig) add(t *testing.T, names ...string) {
	t.Helper()
	var req api.AddRequest
	for _, name := range names {
		d, err := spec.New(name, []string{"true"})
		if err != nil {
			t.Fatal(err)
		}
		d.Tags = []string{"t"}
		req.Daemons = append(req.Daemons, api.Registration{Spec: d})
	}
	if _, err := r.Fake.Add(context.Background(), req); err != nil {
		t.Fatal(err)
	}
}

// raw is an HTTP client of the socket.
func (r *rig) raw() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return connect(r.socket) },
	}}
}

func (r *rig) request(t *testing.T, method, path, body string) (int, string, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, "http://syspulse"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.raw().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), b
}

func TestBadRequestsSayWhatIsWrongAndWhere(t *testing.T) {
	r := newRig(t)
	r.add(t, "web")
	for _, test := range []struct {
		method, path, body string
		status             int
		code               api.Code
		want               string
	}{
		{"POST", "/v1/start", `{"names": ["web"`, 400, api.CodeInvalid, "line 1, column 17: the JSON ends in the middle"},
		{"POST", "/v1/start", "{\n \"names\": \"web\"}", 400, api.CodeInvalid, "line 2, column 16: names must be an array, not a string"},
		{"POST", "/v1/start", `["web"]`, 400, api.CodeInvalid, "it must be an object, not an array"},
		{"POST", "/v1/start", `null`, 400, api.CodeInvalid, "must be a JSON object"},
		{"POST", "/v1/start", `{"nmaes": ["web"]}`, 400, api.CodeInvalid, `unknown field "nmaes"`},
		{"POST", "/v1/start", `{"names": ["web"]} {}`, 400, api.CodeInvalid, "something follows"},
		{"POST", "/v1/start", `{"names": [1]}`, 400, api.CodeInvalid, "must be a string, not a number"},
		{"POST", "/v1/start", `hello`, 400, api.CodeInvalid, "line 1, column 2: invalid character 'h'"},
		{"POST", "/v1/start", "", 400, api.CodeInvalid, "no body"},
		{"POST", "/v1/start", `{}`, 400, api.CodeInvalid, "which daemons?"},
		{"POST", "/v1/start", `{"all": true, "timeout_secs": -1}`, 400, api.CodeInvalid, "timeout_secs must be 0 or more"},
		{"POST", "/v1/signal", `{"names": ["web"]}`, 400, api.CodeInvalid, "which signal?"},
		{"POST", "/v1/daemons", `{"daemons": [{}]}`, 400, api.CodeInvalid, "daemons[0]: spec is missing"},
		{"POST", "/v1/daemons", `{"daemons": [{"spec": {"name": "x"}}]}`, 400, api.CodeInvalid, "command"},
		{"POST", "/v1/daemons", `{"daemons": [{"spec": {"name": "x", "command": ["a"], "comand": 1}}]}`, 400, api.CodeInvalid, "comand"},
		{"POST", "/v1/daemons", `{"daemons": [{"spec": {"name": "../x", "command": ["a"]}}]}`, 400, api.CodeInvalid, "../x"},
		{"POST", "/v1/daemons", `{"daemons": [{"spec": {"name": "x", "command": ["a"]}}, {"spec": {"name": "X", "command": ["a"]}}]}`, 400, api.CodeInvalid, "its name is that of daemons[0]"},
		{"POST", "/v1/state", `{"version": 1, "daemons": [{"spec": {"name": "x", "command": ["a"]}, "wanted": "up"}]}`, 400, api.CodeInvalid, "wanted must be"},
		{"POST", "/v1/state", `{"daemons": []}`, 400, api.CodeInvalid, "version is missing"},
		{"POST", "/v1/state", `{"version": 99, "daemons": []}`, 400, api.CodeInvalid, "newer syspulse"},
		{"POST", "/v1/start", `{"names": ["` + strings.Repeat("x", 17<<20) + `"]}`, 413, api.CodeTooLarge, "larger than 16 MiB"},
		{"GET", "/v1/daemons/nobody", "", 404, api.CodeNotFound, `no daemon is called "nobody"`},
		{"GET", "/v1/daemons?nmae=x", "", 400, api.CodeInvalid, `unknown parameter "nmae"`},
		{"GET", "/v1/daemons?at=yesterday", "", 400, api.CodeInvalid, "at must be a time"},
		{"GET", "/v1/logs?all=true&lines=ten", "", 400, api.CodeInvalid, "lines must be an integer"},
		{"GET", "/v1/logs?name=web&stream=stdin", "", 400, api.CodeInvalid, "stdout or stderr"},
		{"GET", "/v1/logs", "", 400, api.CodeInvalid, "which daemons?"},
		{"GET", "/v1/logs?name=nobody", "", 404, api.CodeNotFound, "nobody"},
		{"GET", "/v1/daemons?%zz", "", 400, api.CodeInvalid, "query can't be read"},
		{"GET", "/v1/nothing", "", 404, api.CodeNoRoute, "there is no /v1/nothing"},
		{"DELETE", "/v1/daemons", "", 405, api.CodeNoRoute, "takes GET and POST, not DELETE"},
		{"PUT", "/v1/daemons/web", "", 405, api.CodeNoRoute, "takes GET, not PUT"},
	} {
		t.Run(test.method+test.path+test.want, func(t *testing.T) {
			status, contentType, b := r.request(t, test.method, test.path, test.body)
			var e api.Error
			if err := json.Unmarshal(b, &e); err != nil {
				t.Fatalf("%v in %s", err, b)
			}
			if status != test.status || e.Status != test.status || e.Code != test.code || contentType != "application/problem+json" {
				t.Errorf("status %d, %s, in the problem %d %s", status, contentType, e.Status, e.Code)
			}
			if !strings.Contains(e.Detail, test.want) {
				t.Errorf("detail: %s\nwant:   %s", e.Detail, test.want)
			}
			if _, err := r.client.Ping(context.Background()); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestRequestThatBreaksOff(t *testing.T) {
	r := newRig(t)
	c, err := connect(r.socket)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "POST /v1/start HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"names\":")
	c.Close()
	if _, err := r.client.Ping(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// A client that closes its side for writing still reads: an empty answer with
// status 200 would tell it that its cut-off request was done.
func TestRequestThatIsCutOffIsAnswered(t *testing.T) {
	r := newRig(t)
	c, err := connect(r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		t.Skip("a named pipe has no sides to close")
	}
	fmt.Fprint(c, "POST /v1/start HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"names\":")
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if resp.StatusCode != 400 || !strings.Contains(string(b), "ends after 9 bytes") {
		t.Errorf("%s, %v: %s", resp.Status, err, b)
	}
}

func TestWrongMethodIsToldTheRightOnes(t *testing.T) {
	r := newRig(t)
	for path, want := range map[string]string{"/v1/daemons": "GET, POST", "/v1/start": "POST", "/v1/daemons/web": "GET"} {
		c, err := connect(r.socket)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "DELETE %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Allow"); resp.StatusCode != 405 || got != want {
			t.Errorf("%s: %s, Allow: %q, want %q", path, resp.Status, got, want)
		}
		c.Close()
	}
}

func TestGarbageInsteadOfHTTP(t *testing.T) {
	r := newRig(t)
	c, err := connect(r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "\x00\x01garbage\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 400 {
		t.Fatalf("%v %v", resp, err)
	}
}

func TestPanicIsAProblemAndLogged(t *testing.T) {
	r := newRig(t)
	r.add(t, "web")
	for _, op := range []string{"ping", "status", "logs", "stop"} {
		r.PanicOn = op
		var err error
		switch op {
		case "ping":
			_, err = r.client.Ping(context.Background())
		case "status":
			_, err = r.client.Status(context.Background(), api.StatusQuery{})
		case "logs":
			_, err = r.client.Logs(context.Background(), api.LogQuery{Selector: api.Selector{All: true}})
		case "stop":
			_, err = r.client.Stop(context.Background(), api.ActionRequest{Selector: api.Selector{All: true}})
		}
		if api.CodeOf(err) != api.CodeInternal {
			t.Errorf("%s: %v", op, err)
		}
		if !strings.Contains(r.log.String(), "the test wants "+op+" to panic") {
			t.Errorf("%s: not in the log", op)
		}
	}
}

func TestClientGetsTheManagersErrors(t *testing.T) {
	r := newRig(t)
	r.add(t, "web")
	ctx := context.Background()
	if _, err := r.client.Get(ctx, api.GetQuery{Name: "nobody"}); !errors.Is(err, api.ErrNotFound) {
		t.Error(err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "a//b", "\x00"} {
		if _, err := r.client.Get(ctx, api.GetQuery{Name: name}); !errors.Is(err, api.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	other, err := spec.New("web", []string{"false"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.client.Add(ctx, api.AddRequest{Daemons: []api.Registration{{Spec: other}}})
	var e *api.Error
	if !errors.As(err, &e) || e.Code != api.CodeConflict || e.Daemon != "web" {
		t.Error(err)
	}
	results, err := r.client.Start(ctx, api.ActionRequest{Selector: api.Selector{Names: []string{"web", "nobody"}}})
	if err != nil || len(results) != 2 || !results[0].OK || !results[0].Changed || results[1].Code != api.CodeNotFound || results[1].State != nil {
		t.Errorf("%+v %v", results, err)
	}
}

func TestNamesOfAnyScriptArrive(t *testing.T) {
	r := newRig(t)
	r.add(t, "データ-1", "api.v2", "größe_20")
	for _, name := range []string{"データ-1", "api.v2", "größe_20"} {
		d, err := r.client.Get(context.Background(), api.GetQuery{Name: name})
		if err != nil || d.Name != name {
			t.Errorf("%s: %+v %v", name, d.Name, err)
		}
	}
}

func TestThousandClientsAtOnce(t *testing.T) {
	r := newRig(t)
	r.add(t, "web")
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			c := client.New(r.socket)
			defer c.Close()
			list, err := c.Status(context.Background(), api.StatusQuery{})
			// A client waits ten seconds for its answer, which is short on a machine
			// that has other tests to run. It may ask again; what it must not get is
			// a refusal, or something wrong.
			for try := 0; try < 5 && err != nil && strings.Contains(err.Error(), "doesn't answer"); try++ {
				list, err = c.Status(context.Background(), api.StatusQuery{})
			}
			if err != nil || len(list) != 1 {
				t.Errorf("%v %v", list, err)
			}
		})
	}
	wg.Wait()
}

func TestFollowerGetsEverythingAfterItsCall(t *testing.T) {
	r := newRig(t)
	r.add(t, "web")
	r.Print("web", api.Stdout, "before")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	lines, err := r.client.Logs(ctx, api.LogQuery{Selector: api.Selector{All: true}, Lines: 0, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for i := range 1000 {
			r.Print("web", api.Stdout, fmt.Sprint(i))
		}
	}()
	n := 0
	for l, err := range lines {
		if err != nil {
			t.Fatal(err)
		}
		if l.Line != fmt.Sprint(n) {
			t.Fatalf("line %d is %q", n, l.Line)
		}
		if n++; n == 1000 {
			break
		}
	}
	waitStreams(t, r, 0)
}

func TestFollowerThatHangsUpFreesItsStream(t *testing.T) {
	r := newRig(t)
	r.add(t, "web")
	for range 20 {
		c, err := connect(r.socket)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "GET /v1/logs?all=true&follow=true HTTP/1.1\r\nHost: x\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		c.Close()
	}
	waitStreams(t, r, 0)
}

func TestFollowerThatDoesNotReadFreesItsStreamWhenItGoes(t *testing.T) {
	r := newRig(t)
	r.add(t, "web")
	c, err := connect(r.socket)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "GET /v1/logs?all=true&follow=true HTTP/1.1\r\nHost: x\r\n\r\n")
	for range 20000 {
		r.Print("web", api.Stdout, strings.Repeat("x", 100))
	}
	if _, err := r.client.Ping(context.Background()); err != nil {
		t.Fatal(err)
	}
	c.Close()
	waitStreams(t, r, 0)
}

func waitStreams(t *testing.T, r *rig, n int) {
	t.Helper()
	for r.Streams() != n {
		runtime.Gosched() // the test's deadline ends this
	}
}

func TestShutdownEndsStreamsWithAnError(t *testing.T) {
	r := newRig(t)
	r.add(t, "web")
	for _, idle := range []bool{true, false} {
		if !idle {
			r.Print("web", api.Stdout, "something")
		}
	}
	lines, err := r.client.Logs(context.Background(), api.LogQuery{Selector: api.Selector{All: true}, Lines: 1, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	down := make(chan error, 1)
	var last error
	for l, err := range lines {
		if err != nil {
			last = err
			break
		}
		if l.Line != "something" {
			t.Errorf("%+v", l)
		}
		go func() { down <- r.server.Shutdown(context.Background()) }()
	}
	if !errors.Is(last, api.ErrShuttingDown) {
		t.Errorf("the stream ended with %v", last)
	}
	r.client.Close()
	if err := <-down; err != nil {
		t.Error(err)
	}
}

func TestServerSentEvents(t *testing.T) {
	r := newRig(t)
	r.add(t, "web")
	req, _ := http.NewRequest("GET", "http://syspulse/v1/events?name=web", nil)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := r.raw().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.Header.Get("Content-Type") != "text/event-stream" || !strings.HasPrefix(string(b), "id: 1\nevent: journal\ndata: {\"seq\":1,") || !strings.HasSuffix(string(b), "}\n\n") {
		t.Errorf("%s\n%s", resp.Header, b)
	}
}

func TestClientThatGivesUpIsReturnedAtOnce(t *testing.T) {
	r := newRig(t)
	r.add(t, "web")
	r.Block = make(chan struct{}) // never
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		_, err := r.client.Stop(ctx, api.ActionRequest{Selector: api.Selector{All: true}})
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestListenReplacesWhatNobodyAnswers(t *testing.T) {
	path := socketPath(t)
	if runtime.GOOS == "windows" {
		t.Skip("a named pipe ends with its process")
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if _, err := client.New(path).Ping(context.Background()); !errors.Is(err, api.ErrNoManager) {
		t.Errorf("client: %v", err)
	}
	l2, err := server.Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l2.Close()
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", fi.Mode(), err)
	}
	if _, err := server.Listen(path, nil); err == nil || !strings.Contains(err.Error(), "running already") {
		t.Errorf("a second manager: %v", err)
	}
}

func TestListenRefusesWhatIsNoSocket(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("pipes have their own name space")
	}
	path := filepath.Join(t.TempDir(), "s")
	os.WriteFile(path, []byte("precious"), 0o600)
	if _, err := server.Listen(path, nil); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("%v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Error("the file is gone")
	}
	if _, err := client.New(path).Ping(context.Background()); !errors.Is(err, api.ErrNoManager) {
		t.Errorf("client: %v", err)
	}
}

func TestNoSocket(t *testing.T) {
	_, err := client.New(socketPath(t)).Start(context.Background(), api.ActionRequest{})
	if !errors.Is(err, api.ErrNoManager) || !strings.Contains(err.Error(), "syspulse daemon") {
		t.Error(err)
	}
}

func TestWhatListensIsNoManager(t *testing.T) {
	path := socketPath(t)
	l, err := server.Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "SSH-2.0-OpenSSH\r\n\r\n")
			c.Close()
		}
	}()
	_, err = client.New(path).Ping(context.Background())
	if api.CodeOf(err) != api.CodeFailed {
		t.Error(err)
	}
}

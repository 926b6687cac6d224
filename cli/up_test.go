package cli

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/apitest"
	"github.com/cyber-boost/syspulse/api/client"
	"github.com/cyber-boost/syspulse/supervision"
)

const twoDaemons = `
[[daemon]]
name = "a"
command = ["true"]
[[daemon]]
name = "bb"
command = ["true"]
`

func sysFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.sys")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// until waits for a state; the test's deadline ends a wait that never ends.
func until(f *apitest.Fake, name string, s supervision.State) {
	for f.State(name) != s {
		runtime.Gosched()
	}
}

// What waits for a daemon's last words holds back all that came later.
func TestUpTellsEventsInTheirOrder(t *testing.T) {
	s := newShell(t)
	file := sysFile(t, twoDaemons)
	s.add("a", "bb")
	go func() {
		until(s.Fake, "a", supervision.Running)
		until(s.Fake, "bb", supervision.Running)
		s.Exit("a", 1)
		s.Print("bb", api.Stdout, "still here")
		s.Exit("bb", 3)
	}()
	s.run("up", file, "--json")
	var last uint64
	for line := range strings.Lines(s.stdout) {
		var e struct {
			Type string
			Seq  uint64
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if e.Type != "event" {
			continue
		}
		if e.Seq <= last {
			t.Errorf("%d after %d in\n%s", e.Seq, last, s.stdout)
		}
		last = e.Seq
	}
	if last == 0 {
		t.Errorf("no events in %s", s.stdout)
	}
}

func TestUpEndsWhenAllHaveEnded(t *testing.T) {
	s := newShell(t)
	file := sysFile(t, twoDaemons)
	go func() {
		until(s.Fake, "a", supervision.Running)
		until(s.Fake, "bb", supervision.Running)
		s.Print("a", api.Stdout, "hello")
		s.Print("bb", api.Stderr, "oops")
		s.Exit("a", 0)
		s.Exit("bb", 3)
	}()
	code := s.run("up", file)
	for _, want := range []string{"a  | hello\n", "bb | oops\n", "a  | -- started, pid", "bb | -- exited with code 3\n", "bb | -- failed\n"} {
		if !strings.Contains(s.stdout, want) {
			t.Errorf("no %q in\n%s", want, s.stdout)
		}
	}
	if code != 1 || s.msg != "syspulse: bb failed\n" {
		t.Errorf("%d %s", code, s.msg)
	}
	if n := s.Streams(); n != 0 {
		t.Errorf("%d streams are left open", n)
	}
	if len(s.Shutdowns()) != 0 {
		t.Error("a manager that it didn't start was shut down")
	}
}

func TestUpExitWith(t *testing.T) {
	for code, end := range map[int]func(*apitest.Fake){
		0: func(f *apitest.Fake) { f.Exit("a", 0) },
		7: func(f *apitest.Fake) { f.Exit("a", 7) },
	} {
		s := newShell(t)
		go func() {
			until(s.Fake, "bb", supervision.Running)
			until(s.Fake, "a", supervision.Running)
			end(s.Fake)
		}()
		if got := s.run("up", sysFile(t, twoDaemons), "--exit-with", "a"); got != code {
			t.Errorf("%d, want %d: %s", got, code, s.msg)
		}
		if st := s.State("bb"); st != supervision.Stopped {
			t.Errorf("the other is %s", st)
		}
	}
}

// What ran before an up is not stopped by its end.
func TestUpStopsOnlyWhatItStarted(t *testing.T) {
	s := newShell(t)
	file := sysFile(t, twoDaemons)
	if code := s.run("add", "--file", file); code != 0 {
		t.Fatal(s.msg)
	}
	s.run("start", "bb")
	go func() {
		until(s.Fake, "a", supervision.Running)
		s.Exit("a", 0)
	}()
	s.run("up", file, "--exit-with", "a")
	if st := s.State("bb"); st != supervision.Running {
		t.Errorf("bb is %s\n%s", st, s.stdout)
	}
}

func TestUpDetachedWaits(t *testing.T) {
	s := newShell(t)
	s.want(0, "started a\nstarted bb\n", "", "up", "-d", sysFile(t, twoDaemons))
	s.Hook = func(_, name string) error { return errors.New("it ended at once") }
	s.want(1, "", "a: it ended at once", "up", "-d", sysFile(t, twoDaemons))
}

// fakeRunning is the fake as a manager in this process.
type fakeRunning struct {
	*apitest.Fake
	closed sync.Once
	onEnd  func()
}

func (f *fakeRunning) Done() <-chan struct{} { return f.Ended() }
func (f *fakeRunning) Err() error            { return nil }
func (f *fakeRunning) Close()                { f.closed.Do(f.onEnd) }

func (f *fakeRunning) Upgrades() <-chan *os.File { return nil }
func (f *fakeRunning) Replace(*os.File) error    { return errors.ErrUnsupported }

// hosted is an app whose manager is in its own process.
func hosted(t *testing.T, f *apitest.Fake) (a *app, closed *bool) {
	dir, err := os.MkdirTemp("", "sp") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("SYSPULSE_DATA_DIR", dir)
	closed = new(bool)
	return &app{stdout: &buffer{}, stderr: &buffer{}, start: func(o ManagerOptions) (RunningManager, error) {
		if o.DataDir != dir || o.Logger == nil {
			t.Errorf("%+v", o)
		}
		return &fakeRunning{Fake: f, onEnd: func() { *closed = true }}, nil
	}}, closed
}

func TestUpIsTheManagerWhereNoneRuns(t *testing.T) {
	f := apitest.New()
	a, closed := hosted(t, f)
	go func() {
		until(f, "a", supervision.Running)
		until(f, "bb", supervision.Running)
		// Others can talk to it meanwhile.
		socket, err := a.socket()
		if err != nil {
			t.Error(err)
		}
		c := client.New(socket)
		if _, err := c.Ping(context.Background()); err != nil {
			t.Error(err)
		}
		c.Close()
		f.Exit("a", 0)
		f.Exit("bb", 0)
	}()
	if code := a.run(context.Background(), []string{"up", sysFile(t, twoDaemons)}); code != 0 {
		t.Errorf("%d %s", code, a.stderr)
	}
	if len(f.Shutdowns()) != 1 || !*closed {
		t.Errorf("shutdowns: %v, closed: %v", f.Shutdowns(), *closed)
	}
}

func TestDaemonAppliesItsFilesAndEndsByShutdown(t *testing.T) {
	f := apitest.New()
	a, closed := hosted(t, f)
	socket, err := a.socket()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		until(f, "bb", supervision.Stopped) // registered
		c := client.New(socket)
		defer c.Close()
		if err := c.Shutdown(context.Background(), api.ShutdownRequest{}); err != nil {
			t.Error(err)
		}
	}()
	if code := a.run(context.Background(), []string{"daemon", "--file", sysFile(t, twoDaemons)}); code != 0 {
		t.Errorf("%d %s", code, a.stderr)
	}
	if !*closed {
		t.Error("the manager was not closed")
	}
	if log := a.stderr.(*buffer).String(); !strings.Contains(log, "2 new") || !strings.Contains(log, "has ended") {
		t.Errorf("%s", log)
	}
	if _, err := client.New(socket).Ping(context.Background()); !errors.Is(err, api.ErrNoManager) {
		t.Error(err)
	}
}

func TestManagerThatGaveUpExitsWith70(t *testing.T) {
	f := apitest.New()
	a, _ := hosted(t, f)
	start := a.start
	a.start = func(o ManagerOptions) (RunningManager, error) {
		m, err := start(o)
		return &broken{RunningManager: m, done: make(chan struct{})}, err
	}
	if code := a.run(context.Background(), []string{"daemon"}); code != 70 {
		t.Errorf("%d %s", code, a.stderr)
	}
}

// broken is a manager that can't go on.
type broken struct {
	RunningManager
	once sync.Once
	done chan struct{}
}

func (b *broken) Done() <-chan struct{} {
	b.once.Do(func() { close(b.done) })
	return b.done
}
func (b *broken) Err() error { return errors.New("the root failed too often") }

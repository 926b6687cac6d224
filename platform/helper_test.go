//go:build unix

package platform

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// The test binary is its own helper: with SPHELPER set it is one of these
// programs instead.
var helpers = map[string]func([]string) int{}

func TestMain(m *testing.M) {
	if f := helpers[os.Getenv("SPHELPER")]; f != nil {
		os.Exit(f(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// patience bounds waits that end by themselves; only a broken test gets there.
const patience = 20 * time.Second

var incarnations atomic.Int64

func newIncarnation() string {
	return fmt.Sprintf("test-%d-%06d", os.Getpid(), incarnations.Add(1)) // they sort
}

// modes run a test with and without cgroups.
func modes(t *testing.T, f func(t *testing.T, h Host)) {
	t.Helper()
	t.Run("tree", func(t *testing.T) { f(t, newHost(t, Options{NoCgroups: true})) })
	t.Run("cgroup", func(t *testing.T) {
		h := newHost(t, Options{})
		needCgroups(t, h)
		f(t, h)
	})
}

func newHost(t testing.TB, o Options) Host {
	t.Helper()
	if o.DataDir == "" {
		o.DataDir = t.TempDir()
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// start starts a command with what it needs to be found again at the test's end.
func start(t testing.TB, h Host, c Command) Process {
	t.Helper()
	if c.Incarnation == "" {
		c.Incarnation = newIncarnation()
	}
	if c.Env == nil {
		c.Env = Environment(os.Environ(), nil, "")
	}
	p, err := h.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, p) })
	return p
}

func sh(t testing.TB, h Host, script string, args ...string) Process {
	t.Helper()
	return start(t, h, Command{Args: append([]string{"/bin/sh", "-c", script, "sh"}, args...)})
}

// output starts a command with a pipe as its stdout and returns its lines.
func output(t testing.TB, h Host, c Command) (Process, *lines) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdout = w
	p := start(t, h, c)
	w.Close()
	t.Cleanup(func() { r.Close() })
	return p, &lines{t, bufio.NewScanner(r)}
}

type lines struct {
	t testing.TB
	s *bufio.Scanner
}

func (l *lines) next() string {
	l.t.Helper()
	if !l.s.Scan() {
		l.t.Fatalf("output ended: %v", l.s.Err())
	}
	return l.s.Text()
}

func awaitExit(t testing.TB, p Process) Exit {
	t.Helper()
	c := make(chan Exit, 2)
	p.OnExit(func(e Exit) { c <- e })
	return receive(t, c, "exit")
}

func awaitEmpty(t testing.TB, p Process) {
	t.Helper()
	c := make(chan struct{}, 2)
	p.OnEmpty(func() { c <- struct{}{} })
	receive(t, c, "empty tree")
	if !p.Empty() {
		t.Fatal("OnEmpty was called but Empty is false")
	}
}

func receive[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s within %v", what, patience)
		panic("unreachable")
	}
}

func write(t testing.TB, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func asStartError(t testing.TB, err error) *StartError {
	t.Helper()
	var se *StartError
	if !errors.As(err, &se) {
		t.Fatalf("not a StartError: %v", err)
	}
	return se
}

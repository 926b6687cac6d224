package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
)

// screen is a terminal with one program on it.
type screen struct {
	t    *testing.T
	cmd  *exec.Cmd
	mu   sync.Mutex
	cond *sync.Cond
	text string
	done bool
}

func (s *session) onScreen(columns uint16, env string, args ...string) *screen {
	s.t.Helper()
	master, slave := openPTY(s.t)
	s.t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		s.t.Fatal(err)
	}
	c := &screen{t: s.t, cmd: exec.Command(s.bin, append([]string{"--data-dir", s.data}, args...)...)}
	c.cond = sync.NewCond(&c.mu)
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = slave, slave, slave
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	c.cmd.Env = append(os.Environ(), env)
	if err := c.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	slave.Close()
	late := time.AfterFunc(patience, func() { _ = c.cmd.Process.Kill() })
	s.t.Cleanup(func() { late.Stop() })
	go func() {
		for buf := make([]byte, 4096); ; {
			n, err := master.Read(buf) // EIO once nobody has the other end
			c.mu.Lock()
			c.text += string(buf[:n])
			c.done = err != nil
			c.cond.Broadcast()
			c.mu.Unlock()
			if err != nil {
				if !errors.Is(err, syscall.EIO) && err != io.EOF {
					c.t.Error(err)
				}
				return
			}
		}
	}()
	return c
}

// await waits until the screen was sent something.
func (c *screen) await(pattern string) {
	c.t.Helper()
	re := regexp.MustCompile(pattern)
	c.mu.Lock()
	defer c.mu.Unlock()
	for !re.MatchString(c.text) {
		if c.done {
			c.t.Fatalf("%q never came:\n%q", pattern, c.text)
		}
		c.cond.Wait()
	}
}

// end waits for the program and gives all that was sent.
func (c *screen) end() string {
	c.t.Helper()
	if err := c.cmd.Wait(); err != nil {
		c.t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.done {
		c.cond.Wait()
	}
	return strings.ReplaceAll(c.text, "\r\n", "\n")
}

// What takes a while shows on a terminal how far it has come, in one line that is
// gone in the end.
func TestProgress(t *testing.T) {
	s := newSession(t)
	s.start("daemon")
	gate := filepath.Join(t.TempDir(), "gate")
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Those that are slow wait for a file: to become ready, or to end.
	var req api.AddRequest
	add := func(name string, needs ...string) *spec.Daemon {
		d, err := spec.New(name, []string{"sleep", "1000"})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range needs {
			d.DependsOn = append(d.DependsOn, spec.Dependency{Name: n})
		}
		req.Daemons = append(req.Daemons, api.Registration{Spec: d})
		return d
	}
	for i := range 30 {
		add(fmt.Sprintf("quick-%02d", i))
	}
	for i := range 6 {
		d := add(fmt.Sprintf("slow-%d", i))
		d.Command = []string{"sh", "-c", `trap 'while test -e "$0"; do sleep 0.05; done; exit 0' TERM; while test -e "$0"; do sleep 0.05; done; echo is ready; while :; do sleep 0.05; done`, gate}
		d.Ready = &spec.Ready{Type: "log", Pattern: "is ready"}
	}
	add("web", "slow-0")
	s.client.Await(func() bool { return true })
	if _, err := s.client.Add(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	open := func() {
		if err := os.Remove(gate); err != nil {
			t.Fatal(err)
		}
	}
	shut := func() {
		if err := os.WriteFile(gate, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	c := s.onScreen(80, "TERM=xterm", "start", "--all", "--wait")
	c.await(`starting 30/37, 0s … waiting for slow-0, slow-1, slow-2 \(\+3\)`)
	c.await(`starting 30/37, 1s …`) // nothing has happened, but time
	open()
	before, after, _ := strings.Cut(c.end(), "started ")
	if !strings.HasSuffix(before, "\r\x1b[K") || strings.Contains(after, "\x1b[K") || strings.Count(after, "\n") != 37 {
		t.Errorf("it isn't gone before the results:\n%q\n%q", before, after)
	}

	// It fits in a line of any terminal.
	shut()
	c = s.onScreen(24, "TERM=xterm", "stop", "--all")
	c.await(`stopping \d+/37`)
	open()
	text, _, _ := strings.Cut(c.end(), "stopped ")
	for _, line := range strings.Split(text, "\r\x1b[K") {
		if n := len([]rune(line)); n >= 24 || strings.Contains(line, "\n") {
			t.Errorf("%d columns: %q", n, line)
		}
	}

	// A daemon that waits for another one says for which.
	shut()
	c = s.onScreen(80, "TERM=xterm", "start", "web", "--wait")
	c.await(`starting web, \d+s … waiting for slow-0`)
	open()
	c.end()

	// Nor does it write where that isn't wanted, or isn't understood.
	shut()
	quiet := s.onScreen(80, "TERM=xterm", "stop", "slow-0", "--quiet")
	json := s.onScreen(80, "TERM=xterm", "stop", "slow-0", "--json")
	dumb := s.onScreen(80, "TERM=dumb", "stop", "slow-0")
	c = s.onScreen(80, "TERM=xterm", "stop", "slow-0")
	c.await(`stopping slow-0, 1s …`)
	open()
	c.end()
	if text := quiet.end(); text != "" {
		t.Errorf("--quiet: %q", text)
	}
	if text := json.end(); strings.Contains(text, "\x1b") || !strings.HasPrefix(text, "[") {
		t.Errorf("--json: %q", text)
	}
	if text := dumb.end(); text != "stopped slow-0\n" {
		t.Errorf("on a dumb terminal: %q", text)
	}

	shut()
	if _, err := s.client.Start(t.Context(), api.ActionRequest{Selector: api.Selector{Names: []string{"slow-1"}}}); err != nil {
		t.Fatal(err)
	}
	c = s.onScreen(80, "TERM=xterm", "shutdown")
	c.await(`stopping 36/37, \d+s … waiting for slow-1`)
	open()
	c.end()
}

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/client"
	"github.com/cyber-boost/syspulse/supervision"
)

// session is a manager's data directory and the binary to work on it with.
type session struct {
	t         *testing.T
	bin, data string
	client    *client.Client
}

func newSession(t *testing.T) *session {
	t.Helper()
	dir := t.TempDir()
	bin, err := exec.LookPath("syspulse") // this test's own binary, see TestMain
	if err != nil {
		t.Fatal(err)
	}
	s := &session{t: t, bin: bin, data: filepath.Join(dir, "data")}
	s.client = client.New(api.SocketPath(s.data))
	t.Cleanup(s.client.Close)
	t.Cleanup(func() { endManagers(dir) })
	return s
}

// start starts a command in the background.
func (s *session) start(args ...string) *running {
	s.t.Helper()
	r := &running{t: s.t, name: strings.Join(args, " "), cmd: exec.Command(s.bin, append([]string{"--data-dir", s.data}, args...)...)}
	r.cond = sync.NewCond(&r.mu)
	r.cmd.Stderr = &r.stderr
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		in := bufio.NewScanner(out)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			r.mu.Lock()
			r.lines = append(r.lines, in.Text())
			r.cond.Broadcast()
			r.mu.Unlock()
		}
		r.mu.Lock()
		r.over = true
		r.cond.Broadcast()
		r.mu.Unlock()
	}()
	s.t.Cleanup(func() { r.cmd.Process.Kill() })
	return r
}

func (s *session) run(args ...string) string {
	s.t.Helper()
	out, err := exec.Command(s.bin, append([]string{"--data-dir", s.data}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// manager is the pid of the manager that answers.
func (s *session) manager() int {
	for {
		ping, err := s.client.Ping(s.t.Context())
		if err == nil {
			return ping.PID
		}
		if !errors.Is(err, api.ErrNoManager) && api.CodeOf(err) != api.CodeFailed {
			s.t.Fatal(err)
		}
		time.Sleep(tryAgain)
	}
}

// kill kills the manager.
func (s *session) kill() {
	if err := syscall.Kill(s.manager(), syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
}

// running is a command whose output is watched.
type running struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	stderr bytes.Buffer

	mu    sync.Mutex
	cond  *sync.Cond // of what follows
	lines []string
	over  bool
}

// await waits until ok is true of the lines there are, and gives it those that
// came since the last call first.
func (r *running) await(ok func(line string) bool) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for seen := 0; ; r.cond.Wait() {
		for ; seen < len(r.lines); seen++ {
			if ok(r.lines[seen]) {
				return
			}
		}
		if r.over {
			r.t.Fatalf("%s has ended: %s", r.name, r.stderr.String())
		}
	}
}

// grow waits for n more lines.
func (r *running) grow(n int) {
	r.t.Helper()
	r.mu.Lock()
	have := len(r.lines)
	r.mu.Unlock()
	r.await(func(string) bool {
		have--
		return have < -n+1
	})
}

// wait waits for the end and gives all lines.
func (r *running) wait() ([]string, error) {
	r.mu.Lock()
	for !r.over {
		r.cond.Wait()
	}
	lines := r.lines
	r.mu.Unlock()
	return lines, r.cmd.Wait()
}

// count checks that lines are numbered from 1 on, and gives the last number.
func count(t *testing.T, who string, lines []string) int {
	t.Helper()
	for i, line := range lines {
		if line != fmt.Sprint(i+1) {
			t.Errorf("%s: line %d is %q", who, i+1, line)
			break
		}
	}
	return len(lines)
}

const writers = `
[[daemon]]
name = "writer"
working_dir = "WORK"
command = ["sh", "-c", '''
i=0
while ! [ -e end ]; do i=$((i+1)); echo $i; [ $((i%20)) != 0 ] || sleep 0.002; done
while ! [ -e ended ]; do sleep 0.01; done
''']

[[daemon]]
name = "crasher"
command = ["sh", "-c", "sleep 0.05; exit 1"]
restart_policy = { policy = "always", backoff_base_secs = 0 }
`

// Whoever follows lines, events or an up goes on when the manager is killed or
// replaced: nothing is missing, nothing comes twice, nothing is told of it. An
// orderly end of the manager is the end.
func TestFollowersOutliveManagers(t *testing.T) {
	t.Run("keeper", func(t *testing.T) { outlive(t, true, 5) }) // it starts each one later than the last
	t.Run("by hand", func(t *testing.T) { outlive(t, false, 20) })
}

func outlive(t *testing.T, keeper bool, kills int) {
	s := newSession(t)
	work := t.TempDir()
	file := filepath.Join(work, "writers.sys")
	if err := os.WriteFile(file, []byte(strings.Replace(writers, "WORK", work, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-q", "daemon"}
	if !keeper {
		args = append(args, "--no-keeper")
	}
	daemon := s.start(args...)
	s.manager()
	s.run("add", "--file", file)
	logs := s.start("logs", "-f", "-n", "all", "writer")
	events := s.start("events", "-f", "-n", "all", "--json")
	history := s.start("history", "-f", "-n", "all", "--json", "crasher")
	s.run("start", "--all")
	up := s.start("up", file)
	up.await(func(line string) bool { return strings.Contains(line, "its output follows") })

	for i := range kills {
		logs.grow(100)
		if keeper && i == kills/2 {
			before := s.manager()
			s.run("upgrade", "--binary", s.bin)
			if now := s.manager(); now != before {
				t.Errorf("upgraded from pid %d to %d", before, now)
			}
			continue
		}
		s.kill()
		if !keeper {
			daemon.wait()
			daemon = s.start(args...)
		}
	}
	logs.grow(100)
	events.grow(10)
	up.grow(100)

	if err := os.WriteFile(filepath.Join(work, "end"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("stop", "crasher")
	path := filepath.Join(s.data, "logs", "writer", "stdout.log")
	var size int64 = -1
	for { // until it has ended
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() == size {
			break
		}
		size = info.Size()
		time.Sleep(10 * tryAgain)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := count(t, path, strings.Fields(string(b)))
	journal := strings.Split(strings.TrimSpace(s.run("events", "-n", "all", "--json")), "\n")
	crashes := strings.Split(strings.TrimSpace(s.run("history", "-n", "all", "--json", "crasher")), "\n")
	last := func(lines []string) func(string) bool {
		return func(line string) bool { return line == lines[len(lines)-1] }
	}
	logs.await(last([]string{fmt.Sprint(all)}))
	events.await(last(journal))
	history.await(last(crashes))
	var started []string
	for _, line := range crashes {
		var e api.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Event == supervision.EventStarted {
			started = append(started, fmt.Sprint(*e.PID))
		}
	}
	var lines []string
	var told []string // the pids of the crasher that an up told of
	up.await(func(line string) bool {
		if n, ok := strings.CutPrefix(line, "writer  | "); ok && !strings.HasPrefix(n, "--") {
			lines = append(lines, n)
		} else if pid, ok := strings.CutPrefix(line, "crasher | -- started, pid "); ok {
			told = append(told, pid)
		}
		return slices.Contains(told, started[len(started)-1]) && slices.Contains(lines, fmt.Sprint(all))
	})
	first, err := strconv.Atoi(lines[0])
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range lines {
		if line != fmt.Sprint(first+i) {
			t.Errorf("%s: %q after %d", up.name, line, first+i-1)
			break
		}
	}
	same(t, up.name, told, started[max(0, slices.Index(started, told[0])):])

	s.run("shutdown")
	for _, follower := range []struct {
		*running
		want []string
	}{{logs, nil}, {events, journal}, {history, crashes}} {
		got, err := follower.wait()
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(follower.stderr.String(), "shutting down") {
			t.Errorf("%s: %v: %s", follower.name, err, follower.stderr.String())
		}
		if follower.want == nil {
			if n := count(t, follower.name, got); n != all {
				t.Errorf("%s: %d lines of %d", follower.name, n, all)
			}
			continue
		}
		same(t, follower.name, got[:min(len(got), len(follower.want))], follower.want)
	}
	up.wait()
	if _, err := daemon.wait(); err != nil {
		t.Error(err)
	}
}

// same compares what was followed with what there is.
func same(t *testing.T, who string, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			var g, w string
			if i < len(got) {
				g = got[i]
			}
			if i < len(want) {
				w = want[i]
			}
			t.Errorf("%s: item %d of %d is\n%s\nwant\n%s", who, i, len(want), g, w)
			return
		}
	}
}

// Without a keeper the next manager is one that somebody starts.
func TestFollowersAwaitTheNextManager(t *testing.T) {
	s := newSession(t)
	first := s.start("-q", "daemon", "--no-keeper")
	s.manager()
	next := filepath.Join(t.TempDir(), "next")
	s.run("add", "--name", "writer", "--command", "sh", "-c", "echo 1; while ! [ -e "+next+" ]; do sleep 0.01; done; echo 2; exec sleep 1000")
	logs := s.start("logs", "-f", "-n", "all", "writer")
	s.run("start", "writer")
	logs.await(func(line string) bool { return line == "1" })
	s.kill()
	first.wait()
	if err := os.WriteFile(next, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	second := s.start("-q", "daemon", "--no-keeper")
	s.manager()
	logs.await(func(line string) bool { return line == "2" })
	s.run("shutdown")
	if got, _ := logs.wait(); count(t, logs.name, got) != 2 {
		t.Errorf("%q", got)
	}
	second.wait()
}

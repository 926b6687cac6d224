//go:build unix

package probe

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cyber-boost/syspulse/platform"
)

var ids atomic.Int64

func host(t *testing.T) platform.Host {
	h, err := platform.New(platform.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func shell(h platform.Host, dir, target string) *Check {
	return &Check{
		Type: "command", Target: target, Timeout: patience, Host: h,
		Command: func() (platform.Command, error) {
			return platform.Command{
				Incarnation: "probe-test-" + strconv.FormatInt(ids.Add(1), 10), Dir: dir,
				Env: platform.Environment(os.Environ(), nil, dir, map[string]string{"WORD": "from env"}),
			}, nil
		},
	}
}

func TestCommand(t *testing.T) {
	h, dir := host(t), t.TempDir()
	for target, want := range map[string]string{
		"true": "",
		"test \"$WORD\" = 'from env' && test \"$(pwd -P)\" = \"$(cd " + dir + " && pwd -P)\"": "",
		"echo out; echo 'not  yet' >&2; echo; exit 3":                                         "exit code 3: not yet",
		"exit 1":                           "exit code 1",
		"kill -9 $$":                       "killed by SIGKILL",
		"no-such-program-here":             "exit code 127: ",
		"head -c 300000 /dev/zero; exit 4": "exit code 4",
		"i=0; while [ $i -lt 50 ]; do echo 50; i=$((i+1)); done; echo end; exit 5": "exit code 5: end",
	} {
		r := shell(h, dir, target).Run(t.Context())
		if r.OK != (want == "") || !strings.HasPrefix(r.Error, want) || want == "" && r.Error != "" || r.Lacking {
			t.Errorf("%s: %+v, want %q", target, r, want)
		}
	}
	if r := shell(h, filepath.Join(dir, "gone"), "true").Run(t.Context()); r.OK || r.Lacking || !strings.Contains(r.Error, "working_dir") {
		t.Errorf("%+v", r)
	}
}

// What a check leaves is ended, at the timeout and at its own end, wherever it
// went; also when somebody else has its pipe.
func TestCommandTree(t *testing.T) {
	h := host(t)
	pids := func(t *testing.T, dir string) (out []int) {
		files, err := filepath.Glob(filepath.Join(dir, "*.pid"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, pid)
		}
		return out
	}
	const family = `echo $$ > a.pid
sh -c 'trap "" TERM HUP; echo $$ > b.pid; sleep 9973 & echo $! > c.pid; wait' &
while ! test -s c.pid; do :; done
`
	hidden := strings.ReplaceAll(family, "sh -c", "setsid sh -c")
	for name, script := range map[string]string{"hanging": family + "wait", "hidden": hidden + "wait", "left": hidden + "echo bye; exit 1"} {
		if _, err := os.Stat("/usr/bin/setsid"); err != nil && script != family {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := shell(h, dir, script)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if name == "left" {
				if r := c.Run(ctx); r.Error != "exit code 1: bye" {
					t.Errorf("%+v", r)
				}
			} else {
				go func() {
					defer cancel()
					await(t, "the family", func() bool {
						fi, err := os.Stat(filepath.Join(dir, "c.pid"))
						return err == nil && fi.Size() > 0
					})
				}()
				if r := c.Run(ctx); r.OK || r.Error != context.Canceled.Error() {
					t.Errorf("%+v", r)
				}
			}
			for _, pid := range pids(t, dir) {
				// It is dead; who reaps it does so on a goroutine of its own.
				await(t, "the end", func() bool { return syscall.Kill(pid, 0) != nil })
			}
		})
	}
}

func TestCommandTimeout(t *testing.T) {
	c := shell(host(t), "", "echo so far; sleep 9973 & sleep 9973")
	c.Timeout = time.Second
	if r := c.Run(t.Context()); r.OK || !strings.HasPrefix(r.Error, "it did not end within 1s") || r.Took < c.Timeout {
		t.Errorf("%+v", r)
	}
}

// await waits for what nothing tells of.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%s never comes", what)
			return
		}
	}
}

func TestNothingIsLeft(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("counts descriptors in /proc")
	}
	h := host(t)
	address := silent(t)
	count := func() (fds, goroutines int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries), runtime.NumGoroutine()
	}
	round := func() {
		shell(h, "", "true").Run(t.Context())
		slow := shell(h, "", "sleep 9973 & sleep 9973")
		slow.Timeout = 20 * time.Millisecond
		slow.Run(t.Context())
		(&Check{Type: "tcp", Target: address, Timeout: patience}).Run(t.Context())
		(&Check{Type: "http", Target: "http://" + address, Timeout: 20 * time.Millisecond}).Run(t.Context())
	}
	round()
	fds, goroutines := count()
	for range 20 {
		round()
	}
	await(t, "the end of what a check needs", func() bool { // on goroutines of its own
		f, g := count()
		return f <= fds && g <= goroutines
	})
}

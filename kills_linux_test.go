package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/client"
)

// TestFiftyKills kills the manager of twenty daemons fifty times, as soon as it
// answers. Its keeper starts it again each time. Every daemon must be the same
// process in the end, and every line that the writers have written must be in
// their logs, once and in order. (The crash suite does this to everything that a
// manager does; this is the plain case.)
func TestFiftyKills(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "syspulse")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var file bytes.Buffer
	for i := range 20 {
		fmt.Fprintf(&file, "[[daemon]]\nname = \"d%02d\"\n", i)
		fmt.Fprintf(&file, "command = [\"sh\", \"-c\", \"i=0; while :; do i=$((i+1)); echo line $i; sleep 0.00%d; done\"]\n", 1+i%9)
	}
	sys := filepath.Join(dir, "many.sys")
	if err := os.WriteFile(sys, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	cmd := exec.Command(bin, "--data-dir", data, "-q", "daemon", "--file", sys)
	log := new(bytes.Buffer)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := client.New(api.SocketPath(data))
	ctx := context.Background()
	t.Cleanup(func() {
		_ = c.Shutdown(ctx, api.ShutdownRequest{Force: true})
		_ = cmd.Wait()
		c.Close()
		if t.Failed() {
			t.Log(log)
		}
	})
	deadline := time.Now().Add(2 * time.Minute)
	ping := func() api.Ping {
		for {
			p, err := c.Ping(ctx)
			if err == nil {
				return p
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
	}
	ping()
	if _, err := c.Start(ctx, api.ActionRequest{Selector: api.Selector{All: true}}); err != nil {
		t.Fatal(err)
	}
	status := func() map[string]api.Daemon {
		list, err := c.Status(ctx, api.StatusQuery{})
		if err != nil {
			t.Fatal(err)
		}
		out := make(map[string]api.Daemon)
		for _, d := range list {
			out[d.Name] = d
		}
		return out
	}
	before := status()
	for range 50 {
		p := ping()
		if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for ping().PID == p.PID {
		}
	}
	after := status()
	for name, was := range before {
		is := after[name]
		if is.PID == nil || was.PID == nil || *is.PID != *was.PID || !is.StartedAt.Equal(*was.StartedAt) || is.RestartCount != 0 {
			t.Errorf("%s was %v since %v, is %v since %v", name, was.PID, was.StartedAt, is.PID, is.StartedAt)
		}
	}
	if _, err := c.Stop(ctx, api.ActionRequest{Selector: api.Selector{All: true}}); err != nil {
		t.Fatal(err)
	}
	for name := range before {
		b, err := os.ReadFile(filepath.Join(data, "logs", name, "stdout.log"))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
		for i, l := range lines {
			if l != fmt.Sprint("line ", i+1) {
				t.Errorf("%s: line %d is %q", name, i+1, l)
				break
			}
		}
		if len(lines) < 100 {
			t.Errorf("%s has written %d lines only", name, len(lines))
		}
	}
}

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/client"
	"github.com/cyber-boost/syspulse/spec"
)

// TestCommandsAreSyncedBeforeTheyAreAcknowledged watches a manager's system
// calls: between the request of a command and its answer the journal has
// reached the disk.
func TestCommandsAreSyncedBeforeTheyAreAcknowledged(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace: apt-get install strace")
	}
	dir := t.TempDir()
	bin, trace, data := filepath.Join(dir, "syspulse"), filepath.Join(dir, "trace"), filepath.Join(dir, "data")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(strace, "-f", "-qq", "-s", "64", "-o", trace,
		"-e", "trace=read,write,fsync,fdatasync,msync", bin, "--data-dir", data, "-q", "daemon")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := client.New(api.SocketPath(data))
	defer c.Close()
	ctx := context.Background()
	for {
		if _, err := c.Ping(ctx); err == nil {
			break
		} else if !errors.Is(err, api.ErrNoManager) {
			t.Fatal(err)
		}
	}
	d, err := spec.New("one", []string{"sleep", "1000"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Add(ctx, api.AddRequest{Daemons: []api.Registration{{Spec: d}}}); err != nil {
		t.Fatal(err)
	}
	one := api.ActionRequest{Selector: api.Selector{Names: []string{"one"}}}
	for _, f := range []func(context.Context, api.ActionRequest) ([]api.Result, error){c.Start, c.Restart, c.Stop} {
		if r, err := f(ctx, one); err != nil || !r[0].OK {
			t.Fatal(r, err)
		}
	}
	if err := c.Shutdown(ctx, api.ShutdownRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}

	lines, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	// net/http reads the first byte of the next request ahead, alone.
	request := regexp.MustCompile(`read(\(| resumed).*"P?OST /v1/(\w+)`)
	synced := regexp.MustCompile(`(msync|fsync|fdatasync)(\(| resumed).* = 0$`)
	answer := regexp.MustCompile(`write\(.*"HTTP/1\.1 20[04]`)
	command, durable := "", false
	seen := map[string]bool{}
	for line := range strings.Lines(string(lines)) {
		line = strings.TrimSpace(line)
		switch {
		case request.MatchString(line):
			command, durable = request.FindStringSubmatch(line)[2], false
		case synced.MatchString(line):
			durable = true
		case command != "" && answer.MatchString(line):
			if !durable {
				t.Errorf("%s was acknowledged before it was synced", command)
			}
			seen[command] = true
			command = ""
		}
	}
	for _, want := range []string{"daemons", "start", "restart", "stop", "shutdown"} {
		if !seen[want] {
			t.Errorf("the trace has no %s and its answer", want)
		}
	}
}

//go:build unix

package actors

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
)

// hangs is a reload_command that tells its pid through a FIFO and never ends.
func (f *fixture) hangs() (command []string, pid func() int) {
	fifo := filepath.Join(f.dir, "reloading")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		f.t.Fatal(err)
	}
	return []string{"sh", "-c", fmt.Sprintf("echo $$ >%s; exec sleep 1000", fifo)}, func() int {
		b, err := os.ReadFile(fifo)
		if err != nil {
			f.t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			f.t.Fatal(err)
		}
		return n
	}
}

func TestAReloadThatHangsIsKilled(t *testing.T) {
	defer func(d time.Duration) { reloadTimeout = d }(reloadTimeout)
	reloadTimeout = 50 * time.Millisecond
	f := newFixture(t)
	f.add("web", func(d *spec.Daemon) { d.ReloadCommand = []string{"sleep", "1000"} }, "sleep", "1000")
	f.start("web")
	results, err := f.Reload(t.Context(), api.ReloadRequest{Selector: on("web").Selector})
	if err != nil || len(results) != 1 || results[0].OK || !strings.Contains(*results[0].Error, "did not end within 50ms and was killed") {
		t.Errorf("%+v, %v", results, err)
	}
}

// TestAReloadOutlivesWhoAskedForIt: as everything that was begun; but it ends with
// the manager.
func TestAReloadOutlivesWhoAskedForIt(t *testing.T) {
	f := newFixture(t)
	command, pid := f.hangs()
	f.add("web", func(d *spec.Daemon) { d.ReloadCommand = command }, "sleep", "1000")
	f.start("web")
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() { asked <- second(f.Reload(ctx, api.ReloadRequest{Selector: on("web").Selector})) }()
	p := pid()
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("it says %v", err)
	}
	if !alive(p) {
		t.Error("the command is gone")
	}
	f.shutdown()
	for deadline := time.Now().Add(20 * time.Second); alive(p); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the command outlives the manager")
		}
	}
}

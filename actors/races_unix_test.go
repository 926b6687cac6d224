//go:build unix

package actors

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/logs"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// TestEveryCommandIsAnswered sends a daemon what doesn't go together, all at
// once: each gets an answer, and what was removed stays so.
func TestEveryCommandIsAnswered(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for range 60 {
		d := f.add("web", nil, "sleep", "1000")
		var wg sync.WaitGroup
		ask := func(what string, do func() ([]api.Result, error)) {
			wg.Go(func() {
				if _, err := do(); ctx.Err() != nil {
					t.Errorf("%s is never answered: %v", what, err)
				}
			})
		}
		for range 3 {
			ask("start", func() ([]api.Result, error) { return f.Start(ctx, on("web")) })
			ask("remove", func() ([]api.Result, error) {
				return f.Remove(ctx, api.RemoveRequest{Selector: on("web").Selector, Force: true})
			})
			ask("stop", func() ([]api.Result, error) { return f.Stop(ctx, on("web")) })
			ask("add", func() ([]api.Result, error) {
				return f.Add(ctx, api.AddRequest{Daemons: []api.Registration{{Spec: d}}})
			})
			ask("signal", func() ([]api.Result, error) {
				return f.Signal(ctx, api.SignalRequest{Selector: on("web").Selector, Signal: "KILL"})
			})
		}
		wg.Wait()
		if t.Failed() {
			t.Fatal(f.log)
		}
		f.Remove(ctx, api.RemoveRequest{Selector: on("web").Selector, Force: true})
		if _, err := f.Get(ctx, api.GetQuery{Name: "web"}); api.CodeOf(err) != api.CodeNotFound {
			t.Fatalf("after remove: %v", err)
		}
	}
	if strings.Contains(f.log.String(), "an actor failed") {
		t.Error(f.log)
	}
}

// TestEndsTogether has a main process and its child end at the same moment:
// the end of the tree may overtake the news of the death.
func TestEndsTogether(t *testing.T) {
	f := newFixture(t)
	var names []string
	for i := range 8 {
		name := fmt.Sprint("d", i)
		names = append(names, name)
		f.add(name, always(0), "sh", "-c", "sleep 0.01 & exec sleep 0.01")
	}
	f.start(names...)
	for _, name := range names {
		f.until(name, "restarted often", func(d api.Details) bool { return d.RestartCount >= 25 })
	}
	f.stop(names...)
}

func TestAShutdownOutlivesWhoAskedForIt(t *testing.T) {
	f := newFixture(t)
	ready := filepath.Join(f.dir, "ready")
	if err := syscall.Mkfifo(ready, 0o600); err != nil {
		t.Fatal(err)
	}
	f.add("slow", func(d *spec.Daemon) { d.StopTimeout = 0.3 },
		"sh", "-c", fmt.Sprintf("trap '' TERM; echo >%s; while :; do sleep 1000; done", ready))
	f.start("slow")
	if _, err := os.ReadFile(ready); err != nil {
		t.Fatal(err)
	}
	ctx, hangUp := context.WithCancel(context.Background())
	left := make(chan error)
	go func() { left <- f.Shutdown(ctx, api.ShutdownRequest{}) }()
	f.untilState("slow", supervision.Stopping)
	hangUp()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Fatalf("whoever hung up was told %v", err)
	}
	select {
	case <-f.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the manager never ends")
	}
}

// TestAnAddIsDurable kills the manager right after add was answered.
func TestAnAddIsDurable(t *testing.T) {
	f := newFixture(t)
	for i := range 20 {
		name := fmt.Sprint("auto", i)
		f.add(name, autostart, "sleep", "1000")
		f.crash()
		f.begin()
		f.wants(name, supervision.WantRunning)
		f.untilState(name, supervision.Running)
	}
}

// TestOutputGoesOnAfterAFault fails the actor that owns the capture while the
// daemon runs on.
func TestOutputGoesOnAfterAFault(t *testing.T) {
	f := newFixture(t)
	file := filepath.Join(f.dir, "go")
	f.add("talker", nil, "sh", "-c", fmt.Sprintf("while [ ! -e %s ]; do sleep 0.01; done; echo still here; exec sleep 1000", file))
	f.start("talker")
	f.system.Root.Send(actor.NewPID(f.system.Address(), "manager/daemon/talker/log"), injected{"a fault in the log"})
	f.log.await(t, "a fault in the log")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path := logs.Path(f.dir, "talker", logs.Stdout)
	for deadline := time.Now().Add(20 * time.Second); ; {
		if b, _ := os.ReadFile(path); string(b) == "still here\n" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("its output is not captured any more")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestTheLastOutputOfWhatIsEnded: what a dead daemon left behind goes on to write
// while no manager lives, and is ended by the next one. What it wrote is in its
// pipe, and would be gone with it.
func TestTheLastOutputOfWhatIsEnded(t *testing.T) {
	f := newFixture(t)
	ready, first, second := filepath.Join(f.dir, "ready"), filepath.Join(f.dir, "first"), filepath.Join(f.dir, "second")
	for _, fifo := range []string{ready, first, second} {
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.add("forker", func(d *spec.Daemon) { d.StopTimeout = 3600 }, "sh", "-c", fmt.Sprintf(
		"setsid sh -c \"trap '' TERM; echo >%[1]s; read x <%[2]s; echo late; read x <%[3]s\" & read x <%[1]s; exit 3", ready, first, second))
	f.start("forker")
	f.untilState("forker", supervision.Stopping)
	f.crash()
	if err := os.WriteFile(first, nil, 0); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(second, os.O_WRONLY, 0) // once it is read, behind the line
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	f.begin()
	f.untilState("forker", supervision.Failed)
	if b, err := os.ReadFile(logs.Path(f.dir, "forker", logs.Stdout)); string(b) != "late\n" {
		t.Errorf("its log has %q, %v", b, err)
	}
}

// TestNothingIsAddedToARemoval: what comes while a daemon is being removed
// would be lost with it, so it is refused.
func TestNothingIsAddedToARemoval(t *testing.T) {
	f := newFixture(t)
	ready := filepath.Join(f.dir, "ready")
	if err := syscall.Mkfifo(ready, 0o600); err != nil {
		t.Fatal(err)
	}
	d := f.add("slow", func(d *spec.Daemon) { d.StopTimeout = 3600 },
		"sh", "-c", fmt.Sprintf("trap '' TERM; echo >%s; while :; do sleep 1000; done", ready))
	f.start("slow")
	if _, err := os.ReadFile(ready); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	removed := make(chan []api.Result, 1)
	go func() {
		r, _ := f.Remove(ctx, api.RemoveRequest{Selector: on("slow").Selector, Force: true})
		removed <- r
	}()
	f.untilState("slow", supervision.Stopping)
	changed := *d
	changed.Description = "another"
	for what, err := range map[string]error{
		"add":   second(f.Add(ctx, api.AddRequest{Daemons: []api.Registration{{Spec: d}}})),
		"apply": second(f.Apply(ctx, api.ApplyRequest{Daemons: []api.Registration{{Spec: &changed}}})),
	} {
		if api.CodeOf(err) != api.CodeConflict {
			t.Errorf("%s: %v", what, err)
		}
	}
	f.must(f.Stop(ctx, api.ActionRequest{Selector: on("slow").Selector, Force: true}))
	if r := <-removed; len(r) != 1 || !r[0].OK {
		t.Errorf("remove: %v", r)
	}
	f.must(f.Add(ctx, api.AddRequest{Daemons: []api.Registration{{Spec: d}}}))
}

func second[T any](_ T, err error) error { return err }

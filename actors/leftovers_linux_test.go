package actors

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/persist"
	"github.com/cyber-boost/syspulse/platform"
	"github.com/cyber-boost/syspulse/supervision"
)

// undying is a host on which nothing that is left behind can be ended for a
// while.
type undying struct {
	Host
	until *atomic.Bool
	tries *atomic.Int64
}

func (h undying) EndLeftovers(incarnation string, id supervision.Identity) (int, error) {
	if h.tries.Add(1); !h.until.Load() {
		return 0, errors.New("they don't die")
	}
	return h.Host.EndLeftovers(incarnation, id)
}

func (f *fixture) nothingDies() (lift *atomic.Bool, tries *atomic.Int64) {
	lift, tries = new(atomic.Bool), new(atomic.Int64)
	f.hinder = func(h Host) Host { return undying{h, lift, tries} }
	return lift, tries
}

// awaitGone waits until a process that was ended has been reaped, too.
func awaitGone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); alive(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d lives", pid)
		}
	}
}

// stuck waits until it was tried some times, in vain, to end what is left of web.
func (f *fixture) stuck(tries *atomic.Int64) api.Details {
	f.t.Helper()
	from := tries.Load()
	for deadline := time.Now().Add(20 * time.Second); tries.Load() < from+3; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("it is not tried again\n%s", f.log)
		}
	}
	f.untilState("web", supervision.Stopping)
	return f.until("web", "told why", func(d api.Details) bool { return d.Reason != nil && strings.Contains(*d.Reason, "they don't die") })
}

// Whatever can't be ended keeps its successor from starting, and status says so.
func TestNothingStartsBesideWhatIsLeft(t *testing.T) {
	f := newFixture(t)
	file := filepath.Join(f.dir, "left")
	f.add("web", always(0), "sh", "-c", "setsid sleep 1000 & echo $! >"+file+"; exec sleep 1000")
	f.start("web")
	main, left := *f.get("web").PID, pidIn(t, file)
	f.crash()
	kill(t, main)
	awaitGone(t, main) // or it is adopted while it dies

	lift, tries := f.nothingDies()
	f.begin()
	d := f.stuck(tries)
	if d.PID != nil || d.RestartCount != 0 || !alive(left) || d.Signal == nil || *d.Signal != "SIGKILL" {
		t.Errorf("while it waits: %+v", d.Daemon)
	}
	// So does the next manager.
	f.crash()
	f.begin()
	if d := f.stuck(tries); d.PID != nil || !alive(left) {
		t.Errorf("under another manager: %+v", d.Daemon)
	}
	lift.Store(true)
	d = f.untilState("web", supervision.Running)
	awaitGone(t, left)
	if d.RestartCount != 1 || d.Reason != nil {
		t.Errorf("afterwards: %+v", d.Daemon)
	}
	f.stop("web")
}

// The same where a manager was killed in the middle of a start, and the main
// process has come and gone since.
func TestNothingStartsBesideAnInterruptedStart(t *testing.T) {
	f := newFixture(t)
	file := filepath.Join(f.dir, "left")
	f.add("web", nil, "sleep", "1000")
	f.crash()
	host, err := platform.New(platform.Options{DataDir: f.dir})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	const incarnation = "come-and-gone"
	rec := supervision.Record{State: supervision.Starting, Wanted: supervision.WantRunning, Incarnation: incarnation}
	store, err := persist.Open(persist.Options{Dir: f.dir, BootID: host.BootID(), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	intent := supervision.Event{Time: time.Now(), Daemon: "web", Kind: supervision.EventStarting, Record: &rec}
	if err := errors.Join(store.Append([]supervision.Event{intent}), store.Close()); err != nil {
		t.Fatal(err)
	}
	p, err := host.Start(platform.Command{Incarnation: incarnation, Args: []string{"sh", "-c", "sleep 1000 & echo $! >" + file}, Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	p.OnExit(func(platform.Exit) { close(exited) })
	<-exited
	left := pidIn(t, file)
	p.Release()

	lift, tries := f.nothingDies()
	f.begin()
	if d := f.stuck(tries); d.PID != nil || !alive(left) {
		t.Errorf("while it waits: %+v", d.Daemon)
	}
	lift.Store(true)
	if d := f.untilState("web", supervision.Running); d.RestartCount != 0 {
		t.Errorf("afterwards: %+v", d.Daemon)
	}
	awaitGone(t, left)
	f.stop("web")
}

//go:build unix

package actors

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

func needs(names ...string) func(*spec.Daemon) {
	return func(d *spec.Daemon) {
		for _, name := range names {
			d.DependsOn = append(d.DependsOn, spec.Dependency{Name: name})
		}
	}
}

// deaf is a daemon that ends by a kill alone, far later than a test takes.
func deaf(change func(*spec.Daemon)) func(*spec.Daemon) {
	return func(d *spec.Daemon) {
		change(d)
		d.StopTimeout = 600
		d.Ready = &spec.Ready{Type: "log", Pattern: "up", Timeout: 20}
	}
}

const deafCommand = `trap "" TERM; echo up; while :; do sleep 1000; done`

// background makes a bulk command that goes on in the background.
func (f *fixture) background(command func() ([]api.Result, error)) <-chan []api.Result {
	done := make(chan []api.Result, 1)
	go func() {
		results, err := command()
		if err != nil {
			f.t.Error(err)
		}
		done <- results
	}()
	return done
}

func TestAMemberOfAStopThatIsRemovedMeanwhile(t *testing.T) {
	f := newFixture(t)
	f.add("db", nil, "sleep", "1000")
	f.add("web", deaf(needs("db")), "sh", "-c", deafCommand)
	f.must(f.Start(context.Background(), api.ActionRequest{Selector: api.Selector{Names: []string{"web"}}, Wait: true}))
	stopped := f.background(func() ([]api.Result, error) { return f.Stop(context.Background(), on("db")) })
	f.untilState("web", supervision.Stopping)
	removed := f.background(func() ([]api.Result, error) {
		return f.Remove(context.Background(), api.RemoveRequest{Selector: api.Selector{Names: []string{"web"}}, Force: true})
	})
	f.until("web", "being removed", func(api.Details) bool { return strings.Count(f.kinds("web"), "stopping") == 2 })
	f.must(f.Stop(context.Background(), api.ActionRequest{Selector: api.Selector{Names: []string{"web"}}, Force: true}))
	f.must(<-stopped, nil)
	<-removed
	if d := f.get("db"); d.State != supervision.Stopped || d.Wanted != supervision.WantStopped {
		t.Errorf("db: %+v", d.Daemon)
	}
}

// The later command counts: who is started again before its stop has begun isn't
// stopped, and whoever stops it is told.
func TestAStartBeneathAStop(t *testing.T) {
	f := newFixture(t)
	f.add("db", nil, "sleep", "1000")
	f.add("web", deaf(needs("db")), "sh", "-c", deafCommand)
	f.must(f.Start(context.Background(), api.ActionRequest{Selector: api.Selector{Names: []string{"web"}}, Wait: true}))
	pid := *f.get("db").PID
	stopped := f.background(func() ([]api.Result, error) { return f.Stop(context.Background(), on("db")) })
	f.untilState("web", supervision.Stopping)
	f.start("db")
	if r := <-stopped; len(r) != 1 || r[0].OK || r[0].Code != api.CodeConflict {
		t.Errorf("the stop: %s", asJSON(r))
	}
	if d := f.get("db"); d.State != supervision.Running || *d.PID != pid || d.Wanted != supervision.WantRunning {
		t.Errorf("db: %+v", d.Daemon)
	}
}

func TestRemovingAChainNeedsNoForce(t *testing.T) {
	f := newFixture(t)
	f.add("a", nil, "sleep", "1000")
	f.add("b", needs("a"), "sleep", "1000")
	f.add("c", needs("b"), "sleep", "1000")
	remove := func(names ...string) []api.Result {
		r, err := f.Remove(context.Background(), api.RemoveRequest{Selector: api.Selector{Names: names}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, r := range remove("a", "b") { // c keeps b, and that keeps a
		if r.OK || r.Code != api.CodeConflict {
			t.Errorf("%s", asJSON(r))
		}
	}
	f.must(remove("a", "b", "c"), nil)
}

func TestAStartThatWaitsAndAFailingCheck(t *testing.T) {
	f := newFixture(t)
	f.add("sick", func(d *spec.Daemon) {
		d.HealthCheck = &spec.HealthCheck{Type: "command", Target: "false", Interval: 0.05, Timeout: 5, Retries: 1, OnUnhealthy: "none"}
	}, "sleep", "1000")
	r, err := f.Start(context.Background(), api.ActionRequest{Selector: api.Selector{Names: []string{"sick"}}, Wait: true})
	if err != nil || len(r) != 1 || r[0].OK || !strings.Contains(*r[0].Error, "health check failed") {
		t.Errorf("%s %v", asJSON(r), err)
	}
}

// What counts as a success is a success for who waits, too.
func TestAOneShotWithACodeOfItsOwn(t *testing.T) {
	for _, codes := range [][]int{{0}, {0, 3}} {
		f := newFixture(t)
		file := filepath.Join(f.dir, "go")
		f.add("job", func(d *spec.Daemon) {
			d.RestartPolicy.SuccessExitCodes = codes
			d.Ready = &spec.Ready{Type: "log", Pattern: "never", Timeout: 20}
		}, "sh", "-c", `echo >"$0"; exit 3`, file)
		r, err := f.Start(context.Background(), api.ActionRequest{Selector: api.Selector{Names: []string{"job"}}, Wait: true})
		if err != nil || len(r) != 1 || r[0].OK != (len(codes) == 2) {
			t.Errorf("success is %v: %s %v", codes, asJSON(r), err)
		}
	}
}

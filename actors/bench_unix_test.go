//go:build unix

package actors

import (
	"context"
	"fmt"
	"sort"
	"syscall"
	"testing"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
)

func benchSystem(b *testing.B, n int, shape ...func(i int, d *spec.Daemon)) *System {
	s, err := Start(Options{DataDir: b.TempDir(), Version: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		s.Shutdown(context.Background(), api.ShutdownRequest{Force: true})
		s.Close()
	})
	var regs []api.Registration
	for i := range n {
		d, err := spec.New(fmt.Sprintf("d%04d", i), []string{"sleep", "100000"})
		if err != nil {
			b.Fatal(err)
		}
		d.RestartPolicy.Policy, d.RestartPolicy.BackoffBase = spec.RestartAlways, 0
		for _, f := range shape {
			f(i, d)
		}
		regs = append(regs, api.Registration{Spec: d})
	}
	if _, err := s.Add(context.Background(), api.AddRequest{Daemons: regs}); err != nil {
		b.Fatal(err)
	}
	return s
}

var all = api.ActionRequest{Selector: api.Selector{All: true}}

func (s *System) benchAll(b *testing.B, f func(context.Context, api.ActionRequest) ([]api.Result, error)) time.Duration {
	began := time.Now()
	results, err := f(context.Background(), all)
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range results {
		if !r.OK {
			b.Fatal(*r.Error)
		}
	}
	return time.Since(began)
}

// BenchmarkStart1000 starts 1,000 daemons: for the first time, when their
// directories, pipes and files are yet to be made, and again.
func BenchmarkStart1000(b *testing.B) {
	var first, again, stop time.Duration
	for b.Loop() {
		b.StopTimer()
		s := benchSystem(b, 1000)
		b.StartTimer()
		first += s.benchAll(b, s.Start)
		stop += s.benchAll(b, s.Stop)
		again += s.benchAll(b, s.Start)
		b.StopTimer()
		s.Shutdown(context.Background(), api.ShutdownRequest{Force: true})
		s.Close()
		b.StartTimer()
	}
	n := float64(b.N)
	b.ReportMetric(first.Seconds()/n, "s-first")
	b.ReportMetric(again.Seconds()/n, "s-again")
	b.ReportMetric(stop.Seconds()/n, "s-stop")
}

// BenchmarkStartInOrder starts 1,000 daemons again that depend on each other in one
// way or another, until the last one runs, beside as many that don't.
func BenchmarkStartInOrder(b *testing.B) {
	on := func(i int) []spec.Dependency { return []spec.Dependency{{Name: fmt.Sprintf("d%04d", i)}} }
	shapes := []struct {
		name  string
		shape func(i int, d *spec.Daemon)
	}{
		{"none", func(int, *spec.Daemon) {}},
		{"wide", func(i int, d *spec.Daemon) { // all on the first
			if i > 0 {
				d.DependsOn = on(0)
			}
		}},
		{"tree", func(i int, d *spec.Daemon) { // ten on each
			if i > 0 {
				d.DependsOn = on((i - 1) / 10)
			}
		}},
		{"deep", func(i int, d *spec.Daemon) { // each on the one before
			if i > 0 {
				d.DependsOn = on(i - 1)
			}
		}},
		{"group", func(_ int, d *spec.Daemon) { d.Group = "g" }},
	}
	for _, sh := range shapes {
		b.Run(sh.name, func(b *testing.B) {
			s := benchSystem(b, 1000, sh.shape)
			ready := func(ctx context.Context, req api.ActionRequest) ([]api.Result, error) {
				req.Wait = true
				return s.Start(ctx, req)
			}
			s.benchAll(b, ready)
			for b.Loop() {
				b.StopTimer()
				s.benchAll(b, s.Stop)
				b.StartTimer()
				s.benchAll(b, ready)
			}
		})
	}
}

// BenchmarkReplacement kills a daemon and takes the time until the journal
// tells that its replacement runs.
func BenchmarkReplacement(b *testing.B) {
	s := benchSystem(b, 1)
	s.benchAll(b, s.Start)
	status := func() (pid int) {
		list, err := s.Status(context.Background(), api.StatusQuery{})
		if err != nil {
			b.Fatal(err)
		}
		if list[0].PID == nil {
			return 0
		}
		return *list[0].PID
	}
	var took []float64
	pid := status()
	for b.Loop() {
		woken := s.ledger.changed.wait()
		began := time.Now()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		for old := pid; pid == old || pid == 0; pid = status() {
			<-woken
			woken = s.ledger.changed.wait()
		}
		took = append(took, float64(time.Since(began).Microseconds()))
	}
	sort.Float64s(took)
	b.ReportMetric(took[len(took)/2], "µs-median")
	b.ReportMetric(took[len(took)*99/100], "µs-p99")
}

// BenchmarkStatus1000 is the row of each of 1,000 daemons, in process.
func BenchmarkStatus1000(b *testing.B) {
	s := benchSystem(b, 1000)
	b.ReportAllocs()
	for b.Loop() {
		if list, err := s.Status(context.Background(), api.StatusQuery{}); err != nil || len(list) != 1000 {
			b.Fatal(len(list), err)
		}
	}
}

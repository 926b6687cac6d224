package platform

import (
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/spec"
)

// benchmarks run with and without cgroups.
func benchmarks(b *testing.B, f func(b *testing.B, h Host)) {
	b.Run("tree", func(b *testing.B) { f(b, newHost(b, Options{NoCgroups: true})) })
	b.Run("cgroup", func(b *testing.B) {
		h := newHost(b, Options{})
		if h.(*host).cgroups == "" {
			b.Skip("no cgroup can be made here")
		}
		f(b, h)
	})
}

func benchStart(b *testing.B, h Host, args ...string) Process {
	p, err := h.Start(Command{Incarnation: newIncarnation(), Args: args, Env: []string{"PATH=/bin:/usr/bin"}})
	if err != nil {
		b.Error(err)
		b.FailNow()
	}
	return p
}

// From Start to the end of the tree of a program that does nothing.
func BenchmarkStartToEnd(b *testing.B) {
	benchmarks(b, func(b *testing.B, h Host) {
		for b.Loop() {
			p := benchStart(b, h, "/bin/true")
			c := make(chan struct{})
			p.OnEmpty(func() { close(c) })
			<-c
			p.Release()
		}
	})
}

// The same by way of a launcher.
func BenchmarkLaunchToEnd(b *testing.B) {
	benchmarks(b, func(b *testing.B, h Host) {
		for b.Loop() {
			p, err := h.Start(Command{Incarnation: newIncarnation(), Args: []string{"/bin/true"}, Env: []string{"PATH=/bin:/usr/bin"}, WatchdogPID: true})
			if err != nil {
				b.Fatal(err)
			}
			c := make(chan struct{})
			p.OnEmpty(func() { close(c) })
			<-c
			p.Release()
		}
	})
}

// 1,000 programs that stay, started at once.
func BenchmarkStart1000(b *testing.B) {
	benchmarks(b, func(b *testing.B, h Host) {
		for b.Loop() {
			procs := make([]Process, 1000)
			var wg sync.WaitGroup
			for i := range procs {
				wg.Go(func() { procs[i] = benchStart(b, h, "/bin/sleep", "9973") })
			}
			wg.Wait()
			b.StopTimer()
			if tasks, err := os.ReadDir("/proc/self/task"); err == nil {
				b.ReportMetric(float64(len(tasks)), "threads")
			}
			for _, p := range procs {
				c := make(chan struct{})
				_ = p.Kill()
				p.OnEmpty(func() { close(c) })
				<-c
				p.Release()
			}
			b.StartTimer()
		}
	})
}

// From SIGKILL to OnExit and, in it, the answer of Empty.
func BenchmarkKillToExit(b *testing.B) {
	benchmarks(b, func(b *testing.B, h Host) {
		var sum time.Duration
		n := 0
		for b.Loop() {
			b.StopTimer()
			p := benchStart(b, h, "/bin/sleep", "9973")
			c := make(chan time.Time, 1)
			p.OnExit(func(Exit) {
				if !p.Empty() {
					b.Error("not empty")
				}
				c <- time.Now()
			})
			b.StartTimer()
			t := time.Now()
			if err := p.Signal("KILL", spec.KillMain); err != nil {
				b.Fatal(err)
			}
			sum += (<-c).Sub(t)
			n++
			b.StopTimer()
			p.Release()
			b.StartTimer()
		}
		b.ReportMetric(float64(sum.Microseconds())/float64(n), "µs/exit")
	})
}

// The bare system calls, to compare with.
func BenchmarkBareForkExec(b *testing.B) {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(null)
	for b.Loop() {
		e, _ := theEngine()
		e.beginFork() // keeps the reaper away
		pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{
			Files: []uintptr{uintptr(null), uintptr(null), uintptr(null)}, Sys: &syscall.SysProcAttr{Setsid: true},
		})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
			b.Fatal(err)
		}
		e.endFork()
	}
}

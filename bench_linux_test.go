package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/client"
)

// These benchmarks run the real binary with 1,000 real daemons, as
// docs/BENCHMARKS.md tells.

const benchDaemons = 1000

type benchManager struct {
	b      *testing.B
	bin    string
	dir    string
	cmd    *exec.Cmd
	client *client.Client
}

func newBenchManager(b *testing.B) *benchManager {
	m := &benchManager{b: b, dir: b.TempDir()}
	m.bin = filepath.Join(m.dir, "syspulse")
	if out, err := exec.Command("go", "build", "-o", m.bin, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	var file bytes.Buffer
	for i := range benchDaemons {
		fmt.Fprintf(&file, "[[daemon]]\nname = \"d%04d\"\ncommand = [\"sleep\", \"100000\"]\n", i)
		fmt.Fprintf(&file, "restart_policy = { policy = \"always\", backoff_base_secs = 0 }\n")
	}
	sys := filepath.Join(m.dir, "bench.sys")
	if err := os.WriteFile(sys, file.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	m.cmd = exec.Command(m.bin, "--data-dir", filepath.Join(m.dir, "data"), "-q", "daemon", "--file", sys)
	m.cmd.Stderr = os.Stderr
	if err := m.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	m.client = client.New(api.SocketPath(filepath.Join(m.dir, "data")))
	b.Cleanup(func() {
		_ = m.client.Shutdown(context.Background(), api.ShutdownRequest{Force: true})
		_ = m.cmd.Wait()
		m.client.Close()
	})
	for {
		list, err := m.client.Status(context.Background(), api.StatusQuery{})
		if err == nil && len(list) == benchDaemons {
			return m
		}
		if m.cmd.Process.Signal(syscall.Signal(0)) != nil {
			b.Fatal("the manager is gone")
		}
	}
}

func (m *benchManager) run(args ...string) time.Duration {
	m.b.Helper()
	cmd := exec.Command(m.bin, append([]string{"--data-dir", filepath.Join(m.dir, "data")}, args...)...)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if err != nil {
		m.b.Fatalf("%v: %v\n%s", args, err, out)
	}
	return took
}

func median(ds []time.Duration) float64 {
	sort.Slice(ds, func(i, j int) bool { return ds[i] < ds[j] })
	return ds[len(ds)/2].Seconds()
}

// BenchmarkCommandStart is `syspulse start --all` of 1,000 daemons, process
// start included: for the first time, and again.
func BenchmarkCommandStart(b *testing.B) {
	var first, again []time.Duration
	for b.Loop() {
		b.StopTimer()
		m := newBenchManager(b)
		b.StartTimer()
		first = append(first, m.run("start", "--all"))
		m.run("stop", "--all")
		again = append(again, m.run("start", "--all"))
		b.StopTimer()
		m.run("shutdown")
		b.StartTimer()
	}
	b.ReportMetric(median(first), "s-first")
	b.ReportMetric(median(again), "s-again")
}

// BenchmarkCommandStatus is `syspulse status` of 1,000 running daemons,
// process start included.
func BenchmarkCommandStatus(b *testing.B) {
	m := newBenchManager(b)
	m.run("start", "--all")
	var took []time.Duration
	for b.Loop() {
		took = append(took, m.run("status"))
	}
	b.ReportMetric(median(took)*1000, "ms-median")
}

// BenchmarkFootprint is the proportional memory of the manager and its keeper
// with 1,000 running daemons, and their processor time over an idle minute.
func BenchmarkFootprint(b *testing.B) {
	m := newBenchManager(b)
	m.run("start", "--all")
	m.run("status")
	p := m.ping()
	for b.Loop() {
		before := cpuTime(b, p.PID) + cpuTime(b, *p.KeeperPID)
		time.Sleep(60 * time.Second) // the measured minute, not a wait for something
		b.ReportMetric(100*(cpuTime(b, p.PID)+cpuTime(b, *p.KeeperPID)-before).Seconds()/60, "%cpu-idle")
		b.ReportMetric(pss(b, p.PID)/1024, "MB-pss")
		b.ReportMetric(pss(b, *p.KeeperPID)/1024, "MB-pss-keeper")
		b.ReportMetric(threads(b, p.PID), "threads")
	}
}

// BenchmarkCommandCrash is from a kill -9 of the manager of 1,000 daemons until
// `status` of all of them has been answered by the next: by a client that asks at
// once, and waits in the socket's queue.
func BenchmarkCommandCrash(b *testing.B) {
	m := newBenchManager(b)
	m.run("start", "--all")
	var took []time.Duration
	for b.Loop() {
		p := m.ping()
		time.Sleep(time.Until(p.StartedAt.Add(2 * time.Second))) // a keeper lets one wait that dies young
		began := time.Now()
		if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		for m.ping().PID == p.PID {
		}
		list, err := m.client.Status(context.Background(), api.StatusQuery{})
		if err != nil || len(list) != benchDaemons {
			b.Fatalf("%d daemons, %v", len(list), err)
		}
		took = append(took, time.Since(began))
	}
	b.ReportMetric(median(took)*1000, "ms-median")
}

// BenchmarkCommandUpgrade is the longest time without an answer to a client that
// asks all the time, while the manager of 1,000 daemons is replaced.
func BenchmarkCommandUpgrade(b *testing.B) {
	m := newBenchManager(b)
	m.run("start", "--all")
	var gaps []time.Duration
	for b.Loop() {
		done := make(chan struct{})
		go func() {
			defer close(done)
			m.run("upgrade")
		}()
		var gap time.Duration
		last := time.Now()
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
			}
			m.ping()
			now := time.Now()
			gap = max(gap, now.Sub(last))
			last = now
		}
		gaps = append(gaps, gap)
	}
	b.ReportMetric(median(gaps)*1000, "ms-gap-median")
	b.ReportMetric(gaps[len(gaps)-1].Seconds()*1000, "ms-gap-longest")
}

func (m *benchManager) ping() api.Ping {
	for {
		p, err := m.client.Ping(context.Background())
		if err == nil {
			return p
		}
	}
}

func statusField(b *testing.B, file, key string) float64 {
	data, err := os.ReadFile(file)
	if err != nil {
		b.Skip(err)
	}
	s := bufio.NewScanner(bytes.NewReader(data))
	for s.Scan() {
		if rest, ok := strings.CutPrefix(s.Text(), key+":"); ok {
			n, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatalf("%s has no %s", file, key)
	return 0
}

// pss is in KiB.
func pss(b *testing.B, pid int) float64 {
	return statusField(b, fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss")
}

func threads(b *testing.B, pid int) float64 {
	return statusField(b, fmt.Sprintf("/proc/%d/status", pid), "Threads")
}

// cpuTime is from /proc/PID/stat, in ticks of 10 ms.
func cpuTime(b *testing.B, pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Skip(err)
	}
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

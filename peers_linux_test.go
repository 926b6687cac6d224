package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// peer is a supervisor that the benchmarks start with n programs, each of
// which tells its pid through a pipe as its first act.
type peer struct {
	name string
	// prepare writes what the supervisor needs, and returns the command that
	// runs it in the foreground, the one that starts all programs, and the one
	// that succeeds once the supervisor answers.
	prepare func(b *testing.B, dir string, n int, program string) (run, start, ping *exec.Cmd)
}

var peers = []peer{
	{"syspulse", func(b *testing.B, dir string, n int, program string) (run, start, ping *exec.Cmd) {
		bin := filepath.Join(dir, "syspulse")
		if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		var sys strings.Builder
		for i := range n {
			fmt.Fprintf(&sys, "[[daemon]]\nname = \"p%d\"\ncommand = [\"sh\", %q]\nrestart_policy = { policy = \"always\", backoff_base_secs = 0 }\n", i, program)
		}
		file := filepath.Join(dir, "peer.sys")
		writeFile(b, file, sys.String())
		cmd := func(args ...string) *exec.Cmd {
			return exec.Command(bin, append([]string{"--data-dir", filepath.Join(dir, "data"), "-q"}, args...)...)
		}
		return cmd("daemon", "--file", file), cmd("start", "--all"), cmd("ping")
	}},
	{"supervisord", func(b *testing.B, dir string, n int, program string) (run, start, ping *exec.Cmd) {
		if _, err := exec.LookPath("supervisord"); err != nil {
			b.Skip("not installed: apt-get install supervisor")
		}
		var conf strings.Builder
		fmt.Fprintf(&conf, "[supervisord]\nlogfile=%[1]s/log\npidfile=%[1]s/pid\nchildlogdir=%[1]s\nminfds=%[2]d\n", dir, 4*n+100)
		fmt.Fprintf(&conf, "[unix_http_server]\nfile=%[1]s/sock\n[supervisorctl]\nserverurl=unix://%[1]s/sock\n", dir)
		fmt.Fprintf(&conf, "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n")
		fmt.Fprintf(&conf, "[program:p]\nprocess_name=p%%(process_num)d\nnumprocs=%d\ncommand=sh %s\nautostart=false\nautorestart=true\nstartsecs=0\n", n, program)
		file := filepath.Join(dir, "supervisord.conf")
		writeFile(b, file, conf.String())
		ctl := func(args ...string) *exec.Cmd {
			return exec.Command("supervisorctl", append([]string{"-c", file}, args...)...)
		}
		return exec.Command("supervisord", "-n", "-c", file), ctl("start", "all"), ctl("pid")
	}},
}

func writeFile(b *testing.B, name, text string) {
	b.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}

// peerRun is a supervisor at work.
type peerRun struct {
	b     *testing.B
	cmd   *exec.Cmd
	start *exec.Cmd
	pids  *bufio.Scanner
}

func runPeer(b *testing.B, p peer, n int) *peerRun {
	dir := b.TempDir()
	pipe := filepath.Join(dir, "pids")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		b.Fatal(err)
	}
	program := filepath.Join(dir, "program")
	writeFile(b, program, fmt.Sprintf("echo $$ >%s\nexec sleep 100000\n", pipe))
	run, start, ping := p.prepare(b, dir, n, program)
	f, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	if err := run.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = run.Process.Signal(syscall.SIGTERM)
		_ = run.Wait()
		f.Close()
	})
	for {
		again := exec.Command(ping.Path, ping.Args[1:]...)
		if again.Run() == nil {
			break
		}
	}
	return &peerRun{b: b, cmd: run, start: start, pids: bufio.NewScanner(f)}
}

// pid reads what the next program to start tells.
func (r *peerRun) pid() int {
	if !r.pids.Scan() {
		r.b.Fatal(r.pids.Err())
	}
	pid, err := strconv.Atoi(r.pids.Text())
	if err != nil {
		r.b.Fatal(err)
	}
	return pid
}

// startAll returns the pids of all n programs once the last has told its.
func (r *peerRun) startAll(n int) (pids []int, took time.Duration) {
	began := time.Now()
	if err := r.start.Start(); err != nil {
		r.b.Fatal(err)
	}
	for range n {
		pids = append(pids, r.pid())
	}
	took = time.Since(began)
	if err := r.start.Wait(); err != nil {
		r.b.Fatal(err)
	}
	return pids, took
}

// BenchmarkPeers runs the same programs under each supervisor in turn: how
// long until the last of 200 runs, from the kill of one to the first act of
// its replacement, and what the supervisor itself takes of memory and, idle,
// of the processor.
func BenchmarkPeers(b *testing.B) {
	const n = 200
	for _, p := range peers {
		b.Run(p.name, func(b *testing.B) {
			var starts, replacements []float64
			for b.Loop() {
				r := runPeer(b, p, n)
				pids, took := r.startAll(n)
				starts = append(starts, took.Seconds())
				for _, pid := range pids[:50] {
					began := time.Now()
					if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
						b.Fatal(err)
					}
					r.pid()
					replacements = append(replacements, time.Since(began).Seconds()*1000)
				}
				before := cpuTime(b, r.cmd.Process.Pid)
				const idle = 10 * time.Second
				time.Sleep(idle) // measured, not waited for
				b.ReportMetric(100*(cpuTime(b, r.cmd.Process.Pid)-before).Seconds()/idle.Seconds(), "%cpu-idle")
				b.ReportMetric(pss(b, r.cmd.Process.Pid)/1024, "MB-pss")
			}
			slices.Sort(starts)
			slices.Sort(replacements)
			b.ReportMetric(starts[len(starts)/2], "s-start")
			b.ReportMetric(replacements[len(replacements)/2], "ms-replace")
		})
	}
}

package persist

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cyber-boost/syspulse/supervision"
)

// The test binary runs itself as a child that writes a journal until it is
// killed. SYSPULSE_TEST_CHILD says what it does.
func TestMain(m *testing.M) {
	if what := os.Getenv("SYSPULSE_TEST_CHILD"); what != "" {
		child(what, os.Getenv("SYSPULSE_TEST_DIR"))
		return
	}
	os.Exit(m.Run())
}

func child(what, dir string) {
	must := func(err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	point, nth, _ := strings.Cut(what, ":")
	n, _ := strconv.Atoi(nth)
	opts := Options{Dir: dir, SnapshotEvery: 50, MaxEvents: 2000}
	opts.Faults.Point = func(name string) {
		if name != point {
			return
		}
		if n--; n <= 0 {
			kill(os.Getpid())
			select {}
		}
	}
	s, err := Open(opts)
	must(err)
	out := bufio.NewWriter(os.Stdout)
	if what == "sync" {
		must(s.Append([]supervision.Event{registered("web")}))
		fmt.Fprintln(os.Stderr, "before")
		must(s.Sync())
		fmt.Fprintln(os.Stderr, "after")
		return
	}
	// A daemon for each remainder of the number; a batch is of one number.
	for seq := s.Recovered().LastSeq; ; {
		size := 1 + int(seq%7)
		if seq%97 == 0 {
			size = 4000 // more than a transaction takes
		}
		events := make([]supervision.Event, size)
		for i := range events {
			name := fmt.Sprint("d", (seq+uint64(i))%10)
			events[i] = started(name, int(seq)+1)
			events[i].Detail = fmt.Sprint(size)
			if i%3 == 0 {
				events[i].Spec = registration(name)
			}
		}
		must(s.Append(events))
		seq = events[size-1].Seq
		fmt.Fprintln(out, "acked", seq)
		must(out.Flush())
	}
}

func kill(pid int) {
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		panic(err)
	}
}

// crash runs a child until it was killed after so many acknowledged batches,
// or killed itself, and returns the last number it acknowledged.
func crash(t *testing.T, dir, what string, batches int) uint64 {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SYSPULSE_TEST_CHILD="+what, "SYSPULSE_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acked uint64
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		word, n, _ := strings.Cut(lines.Text(), " ")
		if word != "acked" {
			t.Errorf("the child says: %s", lines.Text())
			break
		}
		if acked, err = strconv.ParseUint(n, 10, 64); err != nil {
			t.Fatal(err)
		}
		if batches--; batches == 0 {
			kill(cmd.Process.Pid)
		}
	}
	err = cmd.Wait()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !killed(ws) {
		t.Fatalf("the child was not killed: %v", err)
	}
	return acked
}

// verify checks what a killed child left: all that was acknowledged, in order,
// without a gap, and no part of a batch.
func verify(t *testing.T, dir string, acked uint64) {
	t.Helper()
	s := open(t, dir, func(o *Options) { o.MaxEvents = 2000 })
	defer closeStore(t, s)
	r := s.Recovered()
	if len(r.Notices) > 0 {
		t.Errorf("notices: %q", r.Notices)
	}
	if r.LastSeq < acked {
		t.Errorf("acknowledged up to %d, found up to %d", acked, r.LastSeq)
	}
	events := history(t, s, HistoryQuery{})
	for i, ev := range events {
		if want := r.LastSeq - uint64(len(events)-1-i); ev.Seq != want {
			t.Fatalf("event %d has number %d, want %d", i, ev.Seq, want)
		}
	}
	if len(events) == 0 {
		return
	}
	// Every batch carries the number before it plus one as pid, and its size.
	last := events[len(events)-1]
	size, _ := strconv.ParseUint(last.Detail, 10, 64)
	if first := uint64(last.Record.Process.PID); last.Seq != first+size-1 {
		t.Errorf("the last batch of %d begins with %d and ends with %d: only a part is there", size, first, last.Seq)
	}
	for _, d := range r.Daemons {
		if d.Registration == nil {
			t.Errorf("%s has no registration", d.Name)
		}
		for i := len(events) - 1; i >= 0; i-- {
			if events[i].Daemon == d.Name {
				if d.Seq != events[i].Seq || d.Record.Incarnation != events[i].Record.Incarnation {
					t.Errorf("%s is at event %d, its last one is %d", d.Name, d.Seq, events[i].Seq)
				}
				break
			}
		}
	}
}

func TestKillLosesNothing(t *testing.T) {
	t.Parallel()
	rounds := 25
	if testing.Short() {
		rounds = 8
	}
	dir := t.TempDir()
	var acked uint64
	for round := range rounds {
		acked = max(acked, crash(t, dir, "append", 1+round*7%90))
		verify(t, dir, acked)
	}
}

// Killed at a named point, at its first, second, ... occurrence, several times
// in the same directory.
func TestKillAtEachPoint(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"open", "replay", "commit", "batch", "snapshot", "trim"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var acked uint64
			for nth := range 4 {
				at := 1 + nth*nth
				if point == "open" || point == "replay" { // reached once
					at = 1
					acked = max(acked, crash(t, dir, "append", 20))
				}
				acked = max(acked, crash(t, dir, fmt.Sprintf("%s:%d", point, at), 0))
				if nth%2 == 1 {
					verify(t, dir, acked)
				}
			}
			verify(t, dir, acked)
		})
	}
}

// Sync returns after an fsync or msync and not before.
func TestSyncReachesTheDisk(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed (Debian: apt-get install strace)")
	}
	cmd := exec.Command(strace, "-f", "-y", "-e", "trace=fsync,fdatasync,msync,write", "-o", "/dev/stdout", os.Args[0])
	cmd.Env = append(os.Environ(), "SYSPULSE_TEST_CHILD=sync", "SYSPULSE_TEST_DIR="+t.TempDir())
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("strace can't trace here: %v", err)
	}
	_, rest, ok := strings.Cut(string(out), `"before\n"`)
	between, _, ok2 := strings.Cut(rest, `"after\n"`)
	if !ok || !ok2 {
		t.Fatalf("the trace lacks the marks:\n%s", out)
	}
	if !regexp.MustCompile(`sync\(\d+<[^>]*\.mem>\) += 0`).MatchString(between) {
		t.Errorf("no sync of the journal's log between the marks:\n%s", between)
	}
}

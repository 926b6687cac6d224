package platform

import (
	"os"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	line := "77 (a b) (c) R 2) S 5 6 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1"
	s, ok := parseStat([]byte(line))
	if want := (stat{pid: 77, state: 'S', ppid: 5, pgrp: 6, session: 7, start: 4242}); !ok || s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
	self, err := readStat(os.Getpid())
	if err != nil || self.pid != os.Getpid() || self.ppid != os.Getppid() || self.start == 0 {
		t.Errorf("%+v", self)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("77 (a b) (c) R 2) S 5 6 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1")
	f.Add("1 () Z")
	f.Add(")(")
	f.Fuzz(func(t *testing.T, line string) {
		s, ok := parseStat([]byte(line))
		if ok && s.state == 0 {
			t.Errorf("%q: %+v", line, s)
		}
	})
}

func FuzzMark(f *testing.F) {
	f.Add("A=1\x00SYSPULSE_INCARNATION=x\x00B=2\x00")
	f.Add("SYSPULSE_INCARNATION=")
	f.Fuzz(func(t *testing.T, environ string) {
		if m := markIn([]byte(environ)); m != "" && !strings.Contains(environ, IncarnationVariable+"="+m) {
			t.Errorf("%q in %q", m, environ)
		}
	})
}

// A pass never answers for a moment before the question.
func TestSnapshotIsNeverOlderThanTheQuestion(t *testing.T) {
	h := newHost(t, Options{NoCgroups: true}).(*host)
	for range 20 {
		p := sh(t, h, "exec sleep 9973")
		results := make(chan bool)
		for range 8 {
			go func() {
				found := false
				procs, err := h.scans.snapshot()
				if err != nil {
					t.Error(err)
				}
				for _, s := range procs {
					found = found || s.pid == p.Identity().PID && s.mark == p.Incarnation()
				}
				results <- found
			}()
		}
		for range 8 {
			if !<-results {
				t.Fatal("a process that runs is not in the snapshot")
			}
		}
		end(t, p)
	}
}

// In the middle of an exec a process has no environment to read its mark from.
// Who looks then waits, however long the exec takes on a busy machine.
func TestMarkIsSeenThroughExec(t *testing.T) {
	h := newHost(t, Options{NoCgroups: true}).(*host)
	script := write(t, "again", "exec /bin/sh \"$0\"\n", 0o755)
	var procs []Process
	for range 8 { // more than there are processors, so that some are preempted in their exec
		procs = append(procs, start(t, h, Command{Args: []string{"/bin/sh", script}}))
	}
	for range 30 {
		all, err := h.scans.snapshot()
		if err != nil {
			t.Fatal(err)
		}
		marks := make(map[int]string)
		for _, s := range all {
			marks[s.pid] = s.mark
		}
		for _, p := range procs {
			if got := marks[p.Identity().PID]; got != p.Incarnation() {
				t.Fatalf("process %d has the mark %q, want %q", p.Identity().PID, got, p.Incarnation())
			}
		}
	}
}

// A process without an environment is not taken for one in the middle of an exec.
func TestNoEnvironment(t *testing.T) {
	h := newHost(t, Options{NoCgroups: true}).(*host)
	p, out := output(t, h, Command{Args: []string{"/usr/bin/env", "-i", "/bin/sh", "-c", "echo ready; /bin/sleep 9973; :"}})
	out.next()
	if mark, known, _, err := readMark(p.Identity().PID, nil); mark != "" || !known || err != nil {
		t.Errorf("%q, %v, %v", mark, known, err)
	}
}

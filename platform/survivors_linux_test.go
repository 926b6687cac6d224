package platform

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/spec"
)

// What runs of incarnations that nobody remembers is found by the mark.
func TestSurvivors(t *testing.T) {
	modes(t, func(t *testing.T, h Host) {
		mode := "cgroup"
		if h.(*host).cgroups == "" {
			mode = "tree"
		}
		dir, id, half := t.TempDir(), newIncarnation(), newIncarnation()
		m, who, away := another(t, h, "manager", dir, mode, id, "setsid sleep 9973 & echo ready $!; wait")
		m2, _, left := another(t, h, "manager", dir, mode, half, "setsid sh -c '(sleep 9973 & echo ready $!)'; exit 3")
		for _, m := range []Process{m, m2} {
			if err := m.Signal("KILL", spec.KillMain); err != nil {
				t.Fatal(err)
			}
			awaitExit(t, m)
		}
		next := newHost(t, Options{DataDir: dir, NoCgroups: mode == "tree"})
		search := Search{Mine: func(in string) bool { return in == id || in == half }}
		got, err := next.Survivors(search)
		if err != nil || len(got) != 2 || got[0].Incarnation != id || got[0].Main != who || got[1].Incarnation != half {
			t.Errorf("%+v, %v; want %+v and one of %s", got, err, who, half)
		}
		search.Mine = func(string) bool { return false }
		if got, err := next.Survivors(search); err != nil || len(got) != 0 {
			t.Errorf("%+v, %v", got, err)
		}
		for _, id := range []string{id, half} {
			if _, err := next.EndLeftovers(id, Identity{}); err != nil {
				t.Error(err)
			}
		}
		if !dies(away) || !dies(left) {
			t.Error("they live")
		}
	})
}

// A server that wrote over its environment is known by its output.
func TestSurvivorsByOutput(t *testing.T) {
	h := newHost(t, Options{NoCgroups: true})
	path := filepath.Join(t.TempDir(), "web.stdout")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := start(t, h, Command{Args: []string{"/usr/bin/env", "-i", "/bin/sleep", "9973"}, Stdout: f})
	// Its exec of the second program is under way still.
	for {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(p.Identity().PID) + "/cmdline")
		if err != nil || strings.HasPrefix(string(b), "/bin/sleep") {
			break
		}
	}
	got, err := h.Survivors(Search{Mine: func(string) bool { return true }, Outputs: map[string]string{path: "web"}})
	if err != nil || len(got) == 0 || got[0].Output != "web" || got[0].Main != p.Identity() {
		t.Errorf("%+v, %v; want %+v", got, err, p.Identity())
	}
}

// Out of descriptors nothing can be learnt, and nothing must be concluded: least
// of all that a process is gone.
func TestOutOfDescriptors(t *testing.T) {
	needPidfds(t)
	modes(t, func(t *testing.T, h Host) {
		mode := "cgroup"
		if h.(*host).cgroups == "" {
			mode = "tree"
		}
		id, dir := newIncarnation(), t.TempDir()
		m, who, away := another(t, h, "manager", dir, mode, id, "setsid sleep 9973 & echo ready $!; wait")
		if err := m.Signal("KILL", spec.KillMain); err != nil {
			t.Fatal(err)
		}
		awaitExit(t, m)
		next := newHost(t, Options{DataDir: dir, NoCgroups: mode == "tree"})
		mine := sh(t, h, "setsid sleep 9973 & exit 3")
		if got, want := awaitExit(t, mine), (Exit{Known: true, Code: 3}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}

		withoutDescriptors(t, func() {
			var gone *GoneError
			if _, err := next.Adopt(who, id); err == nil || errors.As(err, &gone) {
				t.Errorf("Adopt: %v", err)
			}
			if _, err := next.Find(id); err == nil || errors.Is(err, ErrNotFound) {
				t.Errorf("Find: %v", err)
			}
			if n, err := next.EndLeftovers(id, who); err == nil {
				t.Errorf("EndLeftovers: %d", n)
			}
			if got, err := next.Survivors(Search{Mine: func(string) bool { return true }}); err == nil {
				t.Errorf("Survivors: %+v", got)
			}
			if mine.Empty() {
				t.Error("what it left behind counts as gone")
			}
		})
		p, err := next.Find(id)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Release()
		if err := errors.Join(p.Kill(), mine.Kill()); err != nil {
			t.Fatal(err)
		}
		awaitEmpty(t, p)
		awaitEmpty(t, mine)
		if !dies(away) {
			t.Error("it lives")
		}
	})
}

// withoutDescriptors runs f while no descriptor can be opened.
func withoutDescriptors(t *testing.T, f func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}

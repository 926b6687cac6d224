package platform

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cyber-boost/syspulse/launch"
)

// What a launcher starts is as what is started directly, but for what it was asked
// to do.
func TestLauncherLeavesNoTrace(t *testing.T) {
	// Everything that a process has from before its exec.
	const script = `echo "$0 $*"; umask; id; pwd
readlink /proc/$$/exe; cat /proc/$$/comm
set -- $(cat /proc/$$/stat); echo "session $6 of $1, nice ${19}"
grep -E '^(Groups|Cap|NoNewPrivs|Seccomp)' /proc/$$/status
cat /proc/$$/limits /proc/$$/oom_score_adj
sed 's,/[^/]*$,,' /proc/$$/cgroup
for fd in /proc/$$/fd/*; do echo "${fd##*/}"; done
tr '\0' '\n' < /proc/$$/environ`
	path := write(t, "script", "#!/bin/sh\n"+script, 0o755)
	noFirstLine := write(t, "plain", script, 0o755)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	umask := 0o137
	env := []string{"PATH=/bin:/usr/bin", "B=2", "@A=1", "EMPTY=", "no assignment",
		"GOMEMLIMIT=much", "GODEBUG=inittrace=1", "LD_PRELOAD=", "NOTIFY_SOCKET=@x", "WATCHDOG_USEC=5"}
	commands := map[string]Command{
		"plain":      {Args: []string{path, "a b", ""}},
		"long":       {Args: []string{path, strings.Repeat("x", 20_000), "", strings.Repeat("y", 20_000), ""}},
		"a shell's":  {Args: []string{noFirstLine, "x"}},
		"from PATH":  {Args: []string{"sh", "-c", script, "zero", "one"}},
		"signals":    {Args: []string{"grep", "^Sig[^Q]", "/proc/self/status"}}, // shells change theirs; SigQ is the user's
		"dir, umask": {Args: []string{path}, Dir: dir, Umask: &umask},
	}
	if os.Getuid() == 0 {
		nobody, err := LookupAccount("nobody")
		if err != nil {
			t.Fatal(err)
		}
		nobody.Groups = append(slices.Clone(nobody.Groups), 4242)
		commands["nobody"] = Command{Args: []string{"sh", "-c", script, "zero"}, Account: nobody, Dir: "/"}
		alone := *nobody
		alone.Groups = nil
		commands["no groups"] = Command{Args: []string{"sh", "-c", script, "zero"}, Account: &alone, Dir: "/"}
	}
	modes(t, func(t *testing.T, h Host) {
		for name, c := range commands {
			run := func(watchdog bool) (all []string) {
				c := c
				c.Incarnation = newIncarnation()
				c.Env, c.WatchdogPID = env, watchdog
				p, out := output(t, h, c)
				pid := regexp.MustCompile(`\b` + strconv.Itoa(p.Identity().PID) + `\b`)
				for out.s.Scan() {
					line := strings.ReplaceAll(out.s.Text(), c.Incarnation, "INCARNATION")
					all = append(all, pid.ReplaceAllString(line, "PID"))
				}
				return all
			}
			want := run(false)
			if name != "signals" {
				want = append(want, "WATCHDOG_PID=PID")
			}
			got := run(true)
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				for _, line := range got {
					if !slices.Contains(want, line) {
						t.Errorf("%s: by a launcher %q", name, line)
					}
				}
				for _, line := range want {
					if !slices.Contains(got, line) {
						t.Errorf("%s: directly %q", name, line)
					}
				}
				t.Errorf("%s: %d lines, %d directly", name, len(got), len(want))
			}
		}
	})
}

// WATCHDOG_PID takes the place of another one.
func TestWatchdogPID(t *testing.T) {
	h := newHost(t, Options{})
	p, out := output(t, h, Command{Args: []string{"/usr/bin/env"}, Env: []string{"WATCHDOG_PID=1"}, WatchdogPID: true})
	out.next() // the mark
	if got, want := out.next(), "WATCHDOG_PID="+strconv.Itoa(p.Identity().PID); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if out.s.Scan() {
		t.Errorf("and %s", out.s.Text())
	}
	if exit := awaitExit(t, p); exit != (Exit{Known: true}) {
		t.Errorf("%+v", exit)
	}
}

// A launcher that fails is reaped, and nothing of it is left open.
func TestFailedLauncherLeavesNothing(t *testing.T) {
	h := newHost(t, Options{}).(*host)
	count := func() (n int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	fail := func() {
		if _, err := h.Start(Command{Incarnation: newIncarnation(), Args: []string{"/no/such/program"}, WatchdogPID: true}); err == nil {
			t.Fatal("it started")
		}
	}
	fail()
	before := count()
	for range 20 {
		fail()
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors, then %d", before, after)
	}
	h.spawner.do(nil, func(th *spawnerThread) {
		if th.self < 0 {
			return
		}
		if n := openHere(t); n > 12 {
			t.Errorf("%d descriptors in the thread's table", n)
		}
	})
	if pid := peekDead(); pid != 0 {
		t.Errorf("process %d is not reaped", pid)
	}
}

// A launcher that dies before it executes anything is no start that succeeded.
func TestDeadLauncher(t *testing.T) {
	h := newHost(t, Options{NoCgroups: true}).(*host)
	var err error
	h.spawner.do(nil, func(th *spawnerThread) {
		h.beginFork()
		defer h.endFork()
		b := birth{path: "/bin/sh", args: []string{"sh"}, files: []int{h.null, h.null, h.null}}
		_, err = th.forkLauncher("/bin/true", b, launch.Launch{WatchdogPID: true})
	})
	if err == nil || !strings.Contains(err.Error(), "ended before") || !strings.Contains(err.Error(), "exit code 0") {
		t.Errorf("%v", err)
	}
}

package platform

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/spec"
)

func init() {
	// manager is another manager: it starts a shell script, says who that is,
	// and lives on until it is killed.
	helpers["manager"] = func(args []string) int {
		h, err := New(Options{DataDir: args[0], NoCgroups: args[1] == "tree"})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		p, err := h.Start(Command{Incarnation: args[2], Args: []string{"/bin/sh", "-c", args[3]}, Env: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("pid", p.Identity().PID)
		fmt.Println("start", p.Identity().StartTime)
		time.Sleep(time.Hour)
		return 0
	}
	// negligent is a parent that never waits.
	helpers["negligent"] = func(args []string) int {
		pid, err := syscall.ForkExec("/bin/sh", append([]string{"sh", "-c"}, args...), &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
		if err != nil {
			return 1
		}
		s, _ := readStat(pid)
		fmt.Println("pid", pid)
		fmt.Println("start", s.start)
		time.Sleep(time.Hour)
		return 0
	}
}

// another runs a helper that prints an identity, while what it started prints
// "ready" and a pid. That one is returned too.
func another(t *testing.T, h Host, helper string, args ...string) (p Process, who Identity, ready int) {
	t.Helper()
	p, out := output(t, h, Command{
		Args: append([]string{executable(t)}, args...),
		Env:  append(os.Environ(), "SPHELPER="+helper),
	})
	who.BootID = h.BootID()
	for range 3 {
		word, number, _ := strings.Cut(out.next(), " ")
		n, err := strconv.Atoi(number)
		switch {
		case err != nil:
			t.Fatalf("helper: %s %s", word, number)
		case word == "pid":
			who.PID = n
		case word == "start":
			who.StartTime = uint64(n)
		case word == "ready":
			ready = n
		}
	}
	return p, who, ready
}

func adopt(t *testing.T, h Host, id Identity, incarnation string) Process {
	t.Helper()
	p, err := h.Adopt(id, incarnation)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, p) })
	if p.Identity() != id {
		t.Fatalf("%+v, want %+v", p.Identity(), id)
	}
	return p
}

func TestAdoptFromLivingParent(t *testing.T) {
	needPidfds(t)
	modes(t, func(t *testing.T, h Host) {
		for how, want := range map[string]Exit{
			"exit 7":     {Known: true, Code: 7},
			"kill -9 $$": {Known: true, Signal: "SIGKILL"},
		} {
			id := newIncarnation()
			_, who, _ := another(t, h, "manager", t.TempDir(), "tree", id, "trap '"+how+"' TERM; echo ready 0; while :; do sleep 1 & wait; done")
			p := adopt(t, h, who, id)
			if p.Empty() {
				t.Error("a living process is no empty tree")
			}
			if err := p.Signal("SIGTERM", spec.KillMain); err != nil {
				t.Fatal(err)
			}
			got := awaitExit(t, p)
			if !exitInfoSupported() {
				want = Exit{}
			}
			if got != want {
				t.Errorf("%s: %+v, want %+v", how, got, want)
			}
			if err := p.Kill(); err != nil {
				t.Error(err)
			}
			awaitEmpty(t, p)
		}
	})
}

func exitInfoSupported() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var major, minor int
	fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return major > 6 || major == 6 && minor >= 15
}

// A manager is killed; the next one takes over what it left, with its whole tree.
func TestAdoptFromDeadManager(t *testing.T) {
	needPidfds(t)
	modes(t, func(t *testing.T, h Host) {
		mode := "cgroup"
		if h.(*host).cgroups == "" {
			mode = "tree"
		}
		id := newIncarnation()
		dir := t.TempDir()
		m, who, away := another(t, h, "manager", dir, mode, id, "setsid sleep 9973 & echo ready $!; wait")
		if err := m.Signal("KILL", spec.KillMain); err != nil {
			t.Fatal(err)
		}
		awaitExit(t, m)
		next := newHost(t, Options{DataDir: dir, NoCgroups: mode == "tree"})
		p := adopt(t, next, who, id)
		if _, err := readStat(away); err != nil {
			t.Fatal("the tree did not survive its manager")
		}
		if err := p.Signal("TERM", spec.KillMain); err != nil {
			t.Fatal(err)
		}
		if got, want := awaitExit(t, p), (Exit{Known: true, Signal: "SIGTERM"}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if p.Empty() {
			t.Error("its session is gone, its child is not, yet the tree counts as empty")
		}
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
		awaitEmpty(t, p)
		if !dies(away) {
			t.Errorf("%d lives", away)
		}
	})
}

func TestZombieThatNobodyReaps(t *testing.T) {
	needPidfds(t)
	h := newHost(t, Options{NoCgroups: true})
	_, who, _ := another(t, h, "negligent", "echo ready 0; sleep 9973; :")
	p := adopt(t, h, who, newIncarnation())
	if err := p.Signal("KILL", spec.KillMain); err != nil {
		t.Fatal(err)
	}
	killed := Exit{Known: true, Signal: "SIGKILL"}
	if got := awaitExit(t, p); got != killed {
		t.Errorf("%+v, want %+v", got, killed)
	}
	var gone *GoneError
	if _, err := h.Adopt(who, newIncarnation()); !errors.As(err, &gone) || gone.Exit == nil || *gone.Exit != killed {
		t.Errorf("a zombie was adopted: %v", err)
	}
}

func TestAdoptRefusesOthers(t *testing.T) {
	needPidfds(t)
	h := newHost(t, Options{NoCgroups: true})
	p, out := output(t, h, Command{Args: []string{"/bin/sh", "-c", "trap 'echo hit' TERM; echo ready; sleep 9973 & wait; wait"}})
	out.next()
	right := p.Identity()
	for name, change := range map[string]func(*Identity){
		"start time": func(id *Identity) { id.StartTime-- },
		"boot":       func(id *Identity) { id.BootID = "another" },
		"pid":        func(id *Identity) { id.PID = os.Getpid() },
		"init":       func(id *Identity) { id.PID = 1 },
		"none":       func(id *Identity) { *id = Identity{} },
		"no such":    func(id *Identity) { id.PID = 1 << 30 },
	} {
		id := right
		change(&id)
		var gone *GoneError
		if _, err := h.Adopt(id, p.Incarnation()); !errors.As(err, &gone) {
			t.Errorf("%s: %v, want a GoneError", name, err)
		}
	}
	// Nor does a signal to what once had the pid reach it.
	s, _ := readStat(right.PID)
	s.start--
	if n, err := signalMember(s, unix.SIGTERM); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := h.EndLeftovers(newIncarnation(), Identity{BootID: right.BootID, PID: right.PID, StartTime: right.StartTime + 1}); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if s, err := readStat(right.PID); err != nil || s.dead() {
		t.Error("it was killed")
	}
}

// The manager was killed after the fork, before it noted the pid.
func TestFind(t *testing.T) {
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
		p, err := next.Find(id)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Release()
		if p.Identity() != who {
			t.Errorf("%+v, want %+v", p.Identity(), who)
		}
		if away == who.PID {
			t.Error("the script is no good")
		}
		if _, err := next.Find(newIncarnation()); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
		awaitEmpty(t, p)
	})
}

func TestAge(t *testing.T) {
	h := newHost(t, Options{NoCgroups: true})
	before := h.Uptime()
	id := sh(t, h, "exec sleep 9973").Identity()
	after := h.Uptime()
	for range 3 {
		least, age, most := h.Uptime(), h.Age(id), h.Uptime()
		if most-age < before || least-age > after+time.Second/userHZ {
			t.Errorf("started at %v, by an age of %v; it was between %v and %v", least-age, age, before, after)
		}
		sh(t, h, "sleep 0.02") // to grow older
	}
	if got := h.Age(Identity{}); got != 0 {
		t.Errorf("nobody's age is %v", got)
	}
}

func TestEndLeftovers(t *testing.T) {
	modes(t, func(t *testing.T, h Host) {
		mode := "cgroup"
		if h.(*host).cgroups == "" {
			mode = "tree"
		}
		id, dir := newIncarnation(), t.TempDir()
		m, who, away := another(t, h, "manager", dir, mode, id, "setsid sh -c '(sleep 9973 & echo ready $!)'; exit 3")
		if fd, err := unix.PidfdOpen(who.PID, 0); err == nil {
			pollPidfd(fd, unix.POLLIN, int(patience.Milliseconds()))
			unix.Close(fd)
		}
		if err := m.Signal("KILL", spec.KillMain); err != nil {
			t.Fatal(err)
		}
		awaitExit(t, m)
		next := newHost(t, Options{DataDir: dir, NoCgroups: mode == "tree"})
		var gone *GoneError
		if _, err := next.Adopt(who, id); !errors.As(err, &gone) && !withoutPidfds {
			t.Fatalf("%+v: %v", who, err)
		}
		n, err := next.EndLeftovers(id, who)
		if n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if !dies(away) {
			t.Errorf("%d lives", away)
		}
	})
}

// Each script leaves a process that hides in another way and tells its pid.
var hiders = map[string]string{
	"double fork":        `(setsid sh -c 'sh -c "echo \$\$; exec sleep 9973" & exit' &)`,
	"wiped environment":  `(setsid env -i /bin/sh -c '/bin/sh -c "echo \$\$; exec /bin/sleep 9973" & exit' &)`,
	"session only":       `env -i /bin/sh -c 'echo $$; exec /bin/sleep 9973 >/dev/null 2>&1' &`,
	"child of an orphan": `(setsid sh -c 'sh -c "sh -c \"echo \\\$\\\$; exec sleep 9973\"; :" & exit' &)`,
}

func TestNothingIsLeft(t *testing.T) {
	modes(t, func(t *testing.T, h Host) {
		for name, script := range hiders {
			for _, first := range []string{"lives", "is dead"} {
				t.Run(name+"/first "+first, func(t *testing.T) {
					fifo := filepath.Join(t.TempDir(), "fifo")
					if err := unix.Mkfifo(fifo, 0o600); err != nil {
						t.Fatal(err)
					}
					r, err := os.OpenFile(fifo, os.O_RDWR, 0)
					if err != nil {
						t.Fatal(err)
					}
					defer r.Close()
					w, err := os.OpenFile(fifo, os.O_RDWR, 0)
					if err != nil {
						t.Fatal(err)
					}
					defer w.Close()
					end := "\nwait; sleep 9973"
					if first == "is dead" {
						end = "\necho bye"
					}
					p := start(t, h, Command{Args: []string{"/bin/sh", "-c", script + end}, Stdout: w})
					out := &lines{t, bufioScanner(r)}
					pid := 0
					for pid == 0 {
						pid, _ = strconv.Atoi(out.next())
					}
					if first == "is dead" {
						awaitExit(t, p)
						if p.Empty() {
							t.Error("the tree counts as empty")
						}
					}
					if err := p.Kill(); err != nil {
						t.Fatal(err)
					}
					awaitEmpty(t, p)
					if !dies(pid) {
						t.Errorf("%d lives", pid)
					}
				})
			}
		}
	})
}

// What other daemons orphaned is not ours.
func TestOthersOrphansAreLeftAlone(t *testing.T) {
	modes(t, func(t *testing.T, h Host) {
		other, out := output(t, h, Command{Args: []string{"/bin/sh", "-c", "(setsid sh -c 'sh -c \"echo \\$\\$; exec sleep 9973\" & exit' &); exit"}})
		orphan := out.pid()
		awaitExit(t, other)
		p := sh(t, h, "sleep 9973")
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
		awaitEmpty(t, p)
		if s, err := readStat(orphan); err != nil || s.dead() {
			t.Error("the other's orphan was killed")
		}
		if other.Empty() {
			t.Error("the other tree counts as empty")
		}
	})
}

// OnEmpty waits for what outlived the first process, without being asked again.
func TestOnEmptyWaits(t *testing.T) {
	modes(t, func(t *testing.T, h Host) {
		p, out := output(t, h, Command{Args: []string{"/bin/sh", "-c", "(setsid sh -c 'echo $$; read x <$0; echo bye' " + fifoIn(t) + " &)"}})
		out.pid()
		var order []string
		empty, exited := make(chan struct{}), make(chan struct{})
		p.OnExit(func(Exit) { order = append(order, "exit"); close(exited) })
		p.OnEmpty(func() { order = append(order, "empty"); close(empty) })
		receive(t, exited, "exit")
		select {
		case <-empty:
			t.Fatal("empty while one lives")
		default:
		}
		if err := p.Signal("TERM", spec.KillAll); err != nil {
			t.Fatal(err)
		}
		receive(t, empty, "empty")
		if want := []string{"exit", "empty"}; !slices.Equal(order, want) {
			t.Errorf("%v", order)
		}
	})
}

// A process whose first thread has ended looks dead in most of /proc.
func TestNotEmptyWithoutFirstThread(t *testing.T) {
	modes(t, func(t *testing.T, h Host) {
		c := Command{
			Args: []string{"/bin/sh", "-c", `(setsid "$0" &)`, executable(t)},
			Env:  Environment(append(os.Environ(), "SPHELPER=leaderless"), nil, ""),
		}
		p, out := output(t, h, c)
		if line := out.next(); line != "ready" {
			t.Fatal(line)
		}
		awaitExit(t, p)
		if p.Empty() {
			t.Error("it counts as dead")
		}
		if err := p.Signal("TERM", spec.KillAll); err != nil {
			t.Error(err)
		}
		awaitEmpty(t, p)
	})
}

func init() {
	if os.Getenv("SPHELPER") == "leaderless" {
		runtime.LockOSThread() // main runs on the first thread, then
	}
	helpers["leaderless"] = func([]string) int {
		go func() {
			for {
				b, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(os.Getpid()) + "/stat")
				if err == nil && bytes.Contains(b, []byte(") Z ")) {
					break
				}
				runtime.Gosched()
			}
			fmt.Println("ready")
			time.Sleep(time.Hour)
		}()
		syscall.Syscall(unix.SYS_EXIT, 0, 0, 0) // of the thread
		return 1
	}
}

// The list of orphans has those who live also while others in it are reaped.
func TestOrphansAreListedWhileOthersDie(t *testing.T) {
	h := newHost(t, Options{NoCgroups: true}).(*host)
	const script = `for i in 0 1 2 3 4 5 6 7 8 9; do for j in 0 1 2 3 4 5 6 7 8 9; do (setsid sleep 9973 &); done; done
(setsid sh -c 'echo $$; exec sleep 9973' &)
read x <"$0"`
	p, out := output(t, h, Command{Args: []string{"/bin/sh", "-c", script, fifoIn(t)}})
	last := out.pid()
	list := func() []int {
		all, err := h.orphanPIDs()
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	var all []int
	for len(all) <= 100 || !slices.Contains(all, last) { // until their parents have ended
		all = list()
	}
	others := slices.Clone(all)
	go func() {
		for _, pid := range others {
			if pid != last {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}()
	for len(all) > 1 {
		if all = list(); !slices.Contains(all, last) {
			t.Fatalf("%d is not among %v", last, all)
		}
	}
	if p.Empty() {
		t.Error("the tree counts as empty")
	}
}

// What is left of a tree may be in the middle of an exec, where it shows no mark.
// It is left all the same.
func TestNotEmptyDuringExec(t *testing.T) {
	modes(t, func(t *testing.T, h Host) {
		script := write(t, "again", "exec /bin/sh \"$0\"\n", 0o755)
		var procs []Process
		for range 4 {
			p := sh(t, h, "(setsid /bin/sh "+script+" &)")
			awaitExit(t, p)
			procs = append(procs, p)
		}
		for range 50 {
			for _, p := range procs {
				if p.Empty() {
					t.Fatal("the tree counts as empty")
				}
			}
		}
	})
}

// dies says whether a process is dead; one that is dying gets the time for it.
func dies(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err == unix.ESRCH
	}
	defer unix.Close(fd)
	return pollPidfd(fd, unix.POLLIN, 2000)
}

func fifoIn(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatTheChildInherits(t *testing.T) {
	h := newHost(t, Options{})
	read := func(c Command) string {
		t.Helper()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		c.Stdout, c.Stderr = w, w
		p := start(t, h, c)
		w.Close()
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		awaitExit(t, p)
		return strings.TrimSpace(string(b))
	}
	script := func(s string) Command { return Command{Args: []string{"/bin/sh", "-c", s}} }

	if got, want := read(script("ls /proc/$$/fd; :")), "0\n1\n2"; got != want {
		t.Errorf("descriptors %q", got)
	}
	if got := read(script("readlink /proc/$$/fd/0")); got != "/dev/null" {
		t.Errorf("stdin is %s", got)
	}
	started := theEngineUmask(t)
	if got, want := read(script("umask")), fmt.Sprintf("%04o", started); got != want {
		t.Errorf("umask %s, want %s", got, want)
	}
	own := 0o137
	c := script("umask")
	c.Umask = &own
	if got := read(c); got != "0137" {
		t.Errorf("umask %s, want 0137", got)
	}
	if got := unix.Umask(0o077); got != 0o077 {
		t.Errorf("the manager's umask is %#o", got)
	}
	if got := read(script("cut -d' ' -f1,5,6 /proc/$$/stat; echo $$ $$ $$")); len(strings.Split(got, "\n")) != 2 || strings.Split(got, "\n")[0] != strings.Split(got, "\n")[1] {
		t.Errorf("pid, group, session: %s", got)
	}
	if got := read(script("grep -E '^Sig(Blk|Ign):' /proc/self/status")); got != "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000" {
		t.Errorf("signals: %s", got)
	}
	if got := read(Command{Args: []string{"/usr/bin/env"}, Env: []string{"A=1", "SYSPULSE_INCARNATION=forged"}, Incarnation: "mine"}); got != "SYSPULSE_INCARNATION=mine\nA=1" {
		t.Errorf("environment: %s", got)
	}
	dir := t.TempDir()
	c = script("pwd")
	c.Dir = dir
	if got := read(c); got != dir {
		t.Errorf("directory %s, want %s", got, dir)
	}
	if os.Getuid() == 0 {
		u, err := user.Lookup("nobody")
		if err != nil {
			t.Skip(err)
		}
		a, err := LookupAccount("nobody")
		if err != nil {
			t.Fatal(err)
		}
		c = script("id -u; id -g; id -G; echo $HOME $USER $LOGNAME $SHELL")
		c.Account = a
		c.Env = Environment(os.Environ(), a, "")
		want := u.Uid + "\n" + u.Gid + "\n" + u.Gid + "\n" + strings.Join([]string{u.HomeDir, "nobody", "nobody", a.Shell}, " ")
		if got := read(c); got != want {
			t.Errorf("user: %q, want %q", got, want)
		}
		if c.Account, err = LookupAccount("nobody:daemon"); err != nil {
			t.Fatal(err)
		}
		if got := strings.Split(read(c), "\n"); got[1] != "1" {
			t.Errorf("group: %v", got)
		}
	}
}

func theEngineUmask(t *testing.T) int {
	e, err := theEngine()
	if err != nil {
		t.Fatal(err)
	}
	return e.spawner.umask
}

// What the manager's own starter ignored or blocked is not passed on.
func TestIgnoredSignalsAreNotInherited(t *testing.T) {
	h := newHost(t, Options{NoCgroups: true})
	_, out := output(t, h, Command{
		Args: []string{"/bin/sh", "-c", `trap "" HUP INT PIPE TSTP TTIN TTOU CONT USR1 WINCH; umask 026; exec "$0" "$@"`,
			executable(t), t.TempDir(), "tree", newIncarnation(), "echo umask $(umask); grep SigIgn /proc/self/status"},
		Env: append(os.Environ(), "SPHELPER=manager"),
	})
	var got []string
	for range 4 {
		line := out.next()
		if strings.HasPrefix(line, "Sig") || strings.HasPrefix(line, "umask") {
			got = append(got, line)
		}
	}
	if want := []string{"umask 0026", "SigIgn:\t0000000000000000"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A release forgets; it ends nothing and leaves nothing.
func TestReleaseLeavesNoTrace(t *testing.T) {
	h := newHost(t, Options{})
	run := func() {
		p := sh(t, h, "exit 3")
		awaitExit(t, p)
		awaitEmpty(t, p)
		p.Release()
	}
	run()
	before := descriptors(t)
	for range 50 {
		run()
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	if hh := h.(*host); len(hh.procs) != 0 {
		t.Errorf("%d processes are still known", len(hh.procs))
	} else if hh.cgroups != "" {
		entries, _ := os.ReadDir(hh.cgroups)
		for _, e := range entries {
			if e.IsDir() {
				t.Errorf("cgroup %s is left", e.Name())
			}
		}
	}
	// One that lives stays alive, and is reaped when it dies.
	p := sh(t, h, "exec sleep 9973")
	fd, err := unix.PidfdOpen(p.Identity().PID, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	p.Release()
	if pidfdDead(fd) {
		t.Fatal("Release ended it")
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	if !pidfdReaped(fd, int(patience.Milliseconds())) {
		t.Error("a zombie is left")
	}
	if dir := h.(*host).cgroupDir(p.Incarnation()); dir != "" {
		removeCgroup(dir)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// runAgain runs some of the tests in another process.
func runAgain(t *testing.T, tests string, c Command) {
	t.Helper()
	h := newHost(t, Options{NoCgroups: true})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c.Args = append(c.Args, "-test.v", "-test.run=^Test("+tests+")$")
	c.Stdout, c.Stderr = w, w
	p := start(t, h, c)
	w.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if exit := awaitExit(t, p); exit != (Exit{Known: true}) || !strings.Contains(string(out), "\nPASS") {
		t.Errorf("%+v\n%s", exit, out)
	}
}

// An ordinary user has no cgroup and may not read everything; the promises are
// the same.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("is one already")
	}
	a, err := LookupAccount("nobody")
	if err != nil {
		t.Skip(err)
	}
	// With a directory for what its tests make: ours may be closed to others.
	dir, err := os.MkdirTemp("", "platform")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, int(a.UID), int(a.GID))); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(executable(t))
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "platform.test")
	if err := os.WriteFile(exe, b, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(exe, 0o755); err != nil {
		t.Fatal(err)
	}
	runAgain(t, "Exit|ManyAtOnce|SignalModes|Adopt.*|Zombie.*|Find|Survivors.*|EndLeftovers|NotEmpty.*|OutOf.*|NothingIsLeft|Others.*|OnEmpty.*|WhatTheChildInherits|Release.*",
		Command{Args: []string{exe}, Env: Environment(os.Environ(), a, "/", map[string]string{"TMPDIR": dir}), Dir: "/", Account: a})
}

// A kernel without pidfds can still start, watch and end; only adoption needs them.
func TestWithoutPidfds(t *testing.T) {
	if withoutPidfds {
		t.Skip("they are off already")
	}
	runAgain(t, "Exit|ManyAtOnce|SignalModes|EndLeftovers|NotEmpty.*|NothingIsLeft|Others.*|OnEmpty.*|WhatTheChildInherits",
		Command{Args: []string{executable(t)}, Env: append(os.Environ(), "SYSPULSE_NO_PIDFDS=1")})
}

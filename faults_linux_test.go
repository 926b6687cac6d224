package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/client"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// What these tests do to a manager is real: a disk that is full, a limit that
// is reached, a signal that stops it.

// faulty is a manager as a process of its own, without a keeper.
type faulty struct {
	*client.Client
	t    *testing.T
	data string
	cmd  *exec.Cmd

	log string // where it logs to
}

// newFaulty starts a manager on a data directory. prelude is shell text that
// goes before it, such as a limit.
func newFaulty(t *testing.T, data, prelude string) *faulty {
	t.Helper()
	f := &faulty{t: t, data: data, log: filepath.Join(t.TempDir(), "manager.log"), Client: client.New(api.SocketPath(data))}
	f.begin(prelude)
	f.endWithTest()
	return f
}

// newFaultyFrom is a manager that cmd starts.
func newFaultyFrom(t *testing.T, data string, cmd *exec.Cmd) *faulty {
	t.Helper()
	f := &faulty{t: t, data: data, log: filepath.Join(t.TempDir(), "manager.log"), Client: client.New(api.SocketPath(data))}
	f.run(cmd)
	f.endWithTest()
	return f
}

func (f *faulty) endWithTest() {
	t := f.t
	t.Cleanup(func() {
		_ = f.cmd.Process.Signal(syscall.SIGCONT)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = f.Shutdown(ctx, api.ShutdownRequest{Force: true})
		_ = f.cmd.Process.Kill()
		ended := f.cmd.Wait()
		f.Close()
		if t.Failed() {
			log, _ := os.ReadFile(f.log)
			t.Logf("the manager ended: %v; its log:\n%s", ended, log)
		}
	})
}

func (f *faulty) begin(prelude string) {
	f.t.Helper()
	f.run(exec.Command("/bin/sh", "-c", prelude+"\nexec syspulse --data-dir \"$1\" --socket \"$2\" daemon --no-keeper", "sh", f.data, f.Socket()))
}

func (f *faulty) run(cmd *exec.Cmd) {
	f.t.Helper()
	log, err := os.OpenFile(f.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		f.t.Fatal(err)
	}
	defer log.Close()
	f.cmd = cmd
	f.cmd.Stderr = log
	if err := f.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.until("the manager answers", func() bool { _, err := f.Ping(f.t.Context()); return err == nil })
}

// kill ends the manager as kill -9 does.
func (f *faulty) kill() {
	f.t.Helper()
	if err := f.cmd.Process.Kill(); err != nil {
		f.t.Fatal(err)
	}
	_ = f.cmd.Wait()
}

func (f *faulty) until(what string, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(tryAgain) {
		if time.Now().After(end) {
			f.t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// add registers a daemon that runs a shell script.
func (f *faulty) add(name string, script string, change func(*spec.Daemon)) {
	f.t.Helper()
	d, err := spec.New(name, []string{"sh", "-c", script})
	if err != nil {
		f.t.Fatal(err)
	}
	if change != nil {
		change(d)
	}
	if _, err := f.Add(f.t.Context(), api.AddRequest{Daemons: []api.Registration{{Spec: d}}}); err != nil {
		f.t.Fatal(err)
	}
}

// alone is a script that holds a lock while it runs: a second copy fails, and
// leaves the file "twice".
func (f *faulty) alone(name, script string) string {
	lock := filepath.Join(filepath.Dir(f.log), name)
	return fmt.Sprintf("exec 9>%s.lock; flock -n 9 || { echo > %s.twice; exit 1; }; %s", lock, lock, script)
}

func (f *faulty) noneTwice() {
	f.t.Helper()
	if twice, _ := filepath.Glob(filepath.Join(filepath.Dir(f.log), "*.twice")); len(twice) > 0 {
		f.t.Errorf("ran twice at once: %q", twice)
	}
}

func always(d *spec.Daemon) {
	d.RestartPolicy.Policy, d.RestartPolicy.BackoffBase = spec.RestartAlways, 0
}

func named(names ...string) api.ActionRequest {
	return api.ActionRequest{Selector: api.Selector{Names: names}}
}

func (f *faulty) start(names ...string) {
	f.t.Helper()
	results, err := f.Start(f.t.Context(), named(names...))
	for _, r := range results {
		if !r.OK {
			err = errors.Join(err, errors.New(*r.Error))
		}
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *faulty) get(name string) api.Details {
	f.t.Helper()
	d, err := f.Get(f.t.Context(), api.GetQuery{Name: name})
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

func (f *faulty) pid(name string) int {
	f.t.Helper()
	d := f.get(name)
	if d.PID == nil {
		f.t.Fatalf("%s has no process: %+v", name, d.Daemon)
	}
	return *d.PID
}

func (f *faulty) warnings() string {
	f.t.Helper()
	p, err := f.Ping(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.Join(p.Warnings, "\n")
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// smallDisk mounts a tmpfs.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a tmpfs can't be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for b := make([]byte, 64<<10); len(b) > 0; {
		if _, err := f.Write(b); errors.Is(err, unix.ENOSPC) {
			b = b[:len(b)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// Everything that a dead manager left is damaged, and what it left behind is
// stale. What ran is adopted, once.
func TestDamagedStateEndToEnd(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, filepath.Join(t.TempDir(), "data"), "")
	names := []string{"one", "two", "three"}
	for _, n := range names {
		f.add(n, f.alone(n, "exec sleep 1000"), always)
	}
	f.add("rests", "exec sleep 1000", nil)
	f.start(names...)
	if err := syscall.Kill(f.pid("three"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.until("three is restarted", func() bool { d := f.get("three"); return d.RestartCount == 1 && d.State == supervision.Running })
	pids := map[string]int{}
	for _, n := range names {
		pids[n] = f.pid(n)
	}
	wanted := filepath.Join(f.data, "registrations", ".wanted.json")
	f.until("the plain copies are written", func() bool { _, err := os.Stat(wanted); return err == nil })
	f.kill()

	err := filepath.WalkDir(filepath.Join(f.data, "state"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			err = os.WriteFile(path, []byte("this was a journal once, and now it is not"), 0o600)
		}
		return err
	})
	err = errors.Join(err,
		os.Truncate(wanted, 5),
		os.WriteFile(filepath.Join(f.data, "lock"), []byte("1\n"), 0o600)) // the pid of somebody else
	if err != nil {
		t.Fatal(err)
	}
	f.begin("")
	for _, n := range names {
		f.until(n+" is adopted", func() bool { return f.get(n).Adopted })
		if got := f.pid(n); got != pids[n] {
			t.Errorf("%s has pid %d, had %d", n, got, pids[n])
		}
	}
	if d := f.get("rests"); d.State != supervision.Stopped {
		t.Errorf("rests: %+v", d.Daemon)
	}
	if w := f.warnings(); !strings.Contains(w, "set aside") || !strings.Contains(w, "taken over") {
		t.Errorf("ping does not say what was found: %q", w)
	}
	events, err := f.Events(t.Context(), api.EventQuery{Limit: -1})
	if err != nil {
		t.Fatal(err)
	}
	told := false
	for ev, err := range events {
		if err != nil {
			t.Fatal(err)
		}
		told = told || ev.Event == "manager_notice" && ev.Detail != nil && strings.Contains(*ev.Detail, "set aside")
	}
	if !told {
		t.Error("the history does not say what was found")
	}
	if aside, _ := filepath.Glob(filepath.Join(f.data, "state.damaged-*", "state", "*")); len(aside) == 0 {
		t.Error("nothing was set aside")
	}
	f.noneTwice()
}

// The disk fills up while the journal takes more than 1,000 events a second, a
// manager starts on it, and it gets room again.
func TestDiskIsFilled(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "80m")
	data, filler := filepath.Join(disk, "data"), filepath.Join(disk, "filler")
	f := newFaulty(t, data, "")
	f.add("steady", "exec sleep 1000", always)
	crashers := []string{"a", "b", "c", "d"}
	for _, n := range crashers {
		f.add(n, "exit 0", always)
	}
	f.start(append(crashers, "steady")...)
	pid := f.pid("steady")
	fill(t, filler)
	f.until("ping says that the disk is full", func() bool { return strings.Contains(f.warnings(), "is full") })
	before := f.get("a").RestartCount
	f.until("daemons go on", func() bool { return f.get("a").RestartCount > before+500 })

	// One more manager on the full disk; its predecessor's unwritten events
	// are lost, and nothing else.
	f.kill()
	f.begin("")
	f.until("steady is adopted", func() bool { return f.get("steady").Adopted })
	if got := f.pid("steady"); got != pid {
		t.Errorf("steady has pid %d, had %d", got, pid)
	}
	if w := f.warnings(); !strings.Contains(w, "is full") {
		t.Errorf("ping: %q", w)
	}
	if _, err := f.Stop(t.Context(), named(crashers...)); err != nil {
		t.Fatal(err)
	}

	// From here on nothing changes but the disk.
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	f.until("the journal is on disk again", func() bool { return f.warnings() == "" })
	f.kill()
	f.begin("")
	f.until("steady is adopted", func() bool { return f.get("steady").Adopted })
	for _, n := range crashers {
		if d := f.get(n); d.Wanted != supervision.WantStopped || d.State != supervision.Stopped {
			t.Errorf("%s was stopped on the full disk and is %+v", n, d.Daemon)
		}
	}
	if w := f.warnings(); w != "" || f.pid("steady") != pid {
		t.Errorf("ping: %q", w)
	}
}

// A manager starts on a read-only disk, and goes on when it is writable.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "80m")
	data := filepath.Join(disk, "data")
	tick := filepath.Join(t.TempDir(), "tick")
	f := newFaulty(t, data, "")
	f.add("steady", f.alone("steady", "while :; do if [ -e "+tick+" ]; then echo tick; rm "+tick+"; fi; sleep 0.02; done"), always)
	f.start("steady")
	pid, log := f.pid("steady"), f.get("steady").StdoutLog
	f.kill()
	remount := func(flags uintptr) {
		if err := unix.Mount("", disk, "", unix.MS_REMOUNT|flags, "size=80m"); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	// A socket can't be made there either.
	f.Client.Close()
	f.Client = client.New(filepath.Join(t.TempDir(), "socket"))
	f.begin("")
	f.until("steady is adopted", func() bool { return f.get("steady").Adopted })
	if got := f.pid("steady"); got != pid {
		t.Errorf("steady has pid %d, had %d", got, pid)
	}
	if w := f.warnings(); !strings.Contains(w, "read-only") {
		t.Errorf("ping: %q", w)
	}
	if err := os.WriteFile(tick, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.until("steady has spoken", func() bool { _, err := os.Stat(tick); return err != nil })

	remount(0)
	f.until("the journal is on disk again", func() bool { return f.warnings() == "" })
	f.until("its words are in the log", func() bool { b, _ := os.ReadFile(log); return string(b) == "tick\n" })
	f.kill()
	f.begin("")
	f.until("steady is adopted", func() bool { return f.get("steady").Adopted })
	if got := f.pid("steady"); got != pid {
		t.Errorf("steady has pid %d, had %d", got, pid)
	}
	f.noneTwice()
}

// A manager that is stopped for a while: nothing is lost of what happens.
func TestStoppedManager(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, filepath.Join(t.TempDir(), "data"), "")
	f.add("quiet", "exec sleep 1000", nil)
	f.add("chatty", "i=0; while :; do i=$((i+1)); echo line $i; done", nil)
	f.start("quiet", "chatty")
	const dying = 40
	var names []string
	for i := range dying {
		names = append(names, "d"+strconv.Itoa(i))
		f.add(names[i], fmt.Sprintf("trap 'exit %d' TERM; while :; do sleep 1000 & wait; done", i), nil)
	}
	f.start(names...)
	pids := make([]int, dying)
	for i, n := range names {
		pids[i] = f.pid(n)
	}
	quiet, chatty := f.pid("quiet"), f.pid("chatty")

	if err := f.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	f.until("the chatty one waits", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", chatty))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(b), "pipe_write")
	})
	for i, pid := range pids {
		sig := syscall.SIGTERM
		if i%2 == 0 {
			sig = syscall.SIGKILL
		}
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	for _, pid := range pids {
		f.until("it is dead", func() bool {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return err != nil || strings.Contains(string(b), ") Z ")
		})
	}
	if err := f.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for i, n := range names {
		f.until(n+" is over", func() bool { return f.get(n).PID == nil })
		d := f.get(n)
		killed := d.Signal != nil && *d.Signal == "SIGKILL"
		exited := d.ExitCode != nil && *d.ExitCode == i
		if i%2 == 0 && !killed || i%2 == 1 && !exited {
			t.Errorf("%s: %+v", n, d.Daemon)
		}
	}
	if f.pid("quiet") != quiet || f.pid("chatty") != chatty {
		t.Error("a daemon was replaced")
	}
	if _, err := f.Stop(t.Context(), api.ActionRequest{Selector: api.Selector{Names: []string{"chatty"}}, Force: true}); err != nil {
		t.Fatal(err)
	}
	// No line is lost or doubled.
	b, err := os.ReadFile(f.get("chatty").StdoutLog)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		if want := "line " + strconv.Itoa(n); strings.TrimSuffix(line, "\n") != want && strings.HasSuffix(line, "\n") {
			t.Fatalf("line %d is %q", n, line)
		}
	}
}

// Descriptors run out: what runs goes on, the manager answers and says why the
// rest doesn't run, and it does once there are descriptors again.
func TestOutOfDescriptors(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, filepath.Join(t.TempDir(), "data"), "")
	var was unix.Rlimit
	if err := unix.Prlimit(f.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		t.Fatal(err)
	}
	limit := func(n uint64) {
		t.Helper()
		if err := unix.Prlimit(f.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: was.Max}, nil); err != nil {
			t.Fatal(err)
		}
	}
	limit(64) // Go's runtime raises what is set before
	f.add("steady", f.alone("steady", "exec sleep 1000"), retried)
	f.start("steady")
	pid := f.pid("steady")
	var short []string
	for i := 0; len(short) < 3; i++ {
		name := "d" + strconv.Itoa(i)
		f.add(name, f.alone(name, "exec sleep 1000"), retried)
		_, _ = f.Start(t.Context(), named(name)) // it fails in the end, and is tried again
		if d := f.get(name); d.PID == nil {
			short = append(short, name)
			if d.State != supervision.Backoff || d.Reason == nil || !strings.Contains(*d.Reason, "descriptors") {
				t.Errorf("%+v", d.Daemon)
			}
		}
	}
	// Whoever comes now is answered, too.
	other := client.New(f.Socket())
	if _, err := other.Status(t.Context(), api.StatusQuery{}); err != nil {
		t.Error(err)
	}
	other.Close()

	// None is left at all, and somebody dies.
	limit(1)
	if err := syscall.Kill(f.pid("d0"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.until("its end is noticed", func() bool { return f.get("d0").State != supervision.Running })
	limit(was.Cur)
	for _, name := range append(short, "d0") {
		f.until(name+" runs", func() bool { return f.get(name).State == supervision.Running })
	}
	if f.pid("steady") != pid {
		t.Error("steady was replaced")
	}
	f.noneTwice()
}

// retried is restarted soon, for ever.
func retried(d *spec.Daemon) {
	d.RestartPolicy.Policy, d.RestartPolicy.BackoffBase, d.RestartPolicy.BackoffMax = spec.RestartAlways, 0.05, 0.1
}

// An ordinary user has no more processes: what runs goes on, and the rest
// follows when there are some again.
func TestOutOfProcesses(t *testing.T) {
	needRoot(t)
	t.Parallel()
	const uid = 64321 // nobody's, so that its processes can be counted
	dir := t.TempDir()
	path, err := exec.LookPath("syspulse")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data, bin := filepath.Join(dir, "data"), filepath.Join(dir, "syspulse")
	err = errors.Join(os.WriteFile(bin, b, 0o755), os.Mkdir(data, 0o700), os.Chown(data, uid, uid),
		os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "--data-dir", data, "daemon", "--no-keeper")
	cmd.Dir, cmd.Env = "/", append(os.Environ(), "HOME="+data)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	f := newFaultyFrom(t, data, cmd)
	f.add("steady", "exec sleep 1000", retried)
	f.start("steady")
	pid := f.pid("steady")
	f.add("late", "exec sleep 1000", retried)

	prlimit, err := exec.LookPath("prlimit")
	if err != nil {
		t.Skip("needs prlimit of util-linux")
	}
	limit := func(n string) {
		t.Helper()
		// As the same user: root may lack the capability in a container.
		set := exec.Command(prlimit, "--pid", strconv.Itoa(cmd.Process.Pid), "--nproc="+n+":")
		set.SysProcAttr = cmd.SysProcAttr
		if out, err := set.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &was); err != nil {
		t.Fatal(err)
	}
	limit("1")
	_, _ = f.Start(t.Context(), named("late"))
	if d := f.get("late"); d.State != supervision.Backoff || d.Reason == nil || !strings.Contains(*d.Reason, "out of processes") {
		t.Errorf("%+v", d.Daemon)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.until("steady waits", func() bool { return f.get("steady").State == supervision.Backoff })
	limit(strconv.FormatUint(was.Cur, 10))
	for _, name := range []string{"late", "steady"} {
		f.until(name+" runs", func() bool { return f.get(name).State == supervision.Running })
	}
}

// Many short lives: the manager neither grows nor leaks. SYSPULSE_TEST_EXITS
// is how many there are; docs/RELIABILITY.md has the figures of 100,000.
func TestManyExits(t *testing.T) {
	t.Parallel()
	exits := int64(2000)
	if s := os.Getenv("SYSPULSE_TEST_EXITS"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		exits = n
	}
	f := newFaulty(t, filepath.Join(t.TempDir(), "data"), "")
	var names []string
	for i := range 16 {
		names = append(names, "d"+strconv.Itoa(i))
		f.add(names[i], "exit 0", always)
	}
	proc := fmt.Sprintf("/proc/%d/", f.cmd.Process.Pid)
	// Without those of the journal's tables, which come and go.
	descriptors := func() (n int) {
		all, err := os.ReadDir(proc + "fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range all {
			if path, err := os.Readlink(proc + "fd/" + fd.Name()); err == nil && !strings.HasPrefix(path, filepath.Join(f.data, "state")) {
				n++
			}
		}
		return n
	}
	anonymous := func() (kib int) {
		b, err := os.ReadFile(proc + "status")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), "RssAnon:")
		_, _ = fmt.Sscan(rest, &kib)
		return kib
	}
	count := func() (n int64) {
		all, err := f.Status(t.Context(), api.StatusQuery{})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range all {
			n += d.RestartCount
		}
		return n
	}
	life := func(until int64) {
		f.start(names...)
		for end := time.Now().Add(time.Hour); count() < until && time.Now().Before(end); time.Sleep(tryAgain) {
		}
		if _, err := f.Stop(t.Context(), named(names...)); err != nil {
			t.Fatal(err)
		}
	}
	life(exits / 4)
	fds, kib := descriptors(), anonymous()
	life(exits)
	if n := count(); n < exits {
		t.Fatalf("%d exits, want %d", n, exits)
	}
	t.Logf("%d exits: descriptors %d and then %d, memory %d KiB and then %d", count(), fds, descriptors(), kib, anonymous())
	if n := descriptors(); n > fds+2 {
		t.Errorf("%d descriptors, before %d", n, fds)
	}
	if n := anonymous(); n > kib+24<<10 {
		t.Errorf("%d KiB of memory, before %d", n, kib)
	}
}

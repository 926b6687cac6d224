//go:build unix

package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newCapturer(t testing.TB, dir string) *Capturer {
	t.Helper()
	c, err := New(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func me() StreamOptions { return StreamOptions{UID: os.Getuid(), GID: os.Getgid()} }

func open(t testing.TB, c *Capturer, daemon string) *Capture {
	t.Helper()
	k, err := c.Open(daemon, me())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func writers(t testing.TB, k *Capture) (stdout, stderr *os.File) {
	t.Helper()
	stdout, stderr, err := k.Writers()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdout.Close(); stderr.Close() })
	return stdout, stderr
}

// helper runs one of helpers.
func helper(t testing.TB, name string, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "LOGS_TEST="+name), env...)
	cmd.Stderr = os.Stderr
	t.Cleanup(func() {
		if cmd.Process != nil && cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return cmd
}

func stdin(t testing.TB, cmd *exec.Cmd) io.Closer {
	t.Helper()
	w, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func contents(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// grown returns a channel that is signalled when bytes came.
func grown(t testing.TB, k *Capture, s Stream) <-chan struct{} {
	ch := make(chan struct{}, 1)
	t.Cleanup(k.Notify(s, func(Event) {
		select {
		case ch <- struct{}{}:
		default:
		}
	}))
	return ch
}

// until waits for a condition that a growing file can bring about.
func until(ch <-chan struct{}, condition func() bool) {
	for !condition() {
		<-ch
	}
}

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return -1
	}
	return info.Size()
}

func TestBothStreams(t *testing.T) {
	c := newCapturer(t, t.TempDir())
	k := open(t, c, "web")
	stdout, stderr := writers(t, k)
	fmt.Fprint(stdout, "to stdout\n")
	fmt.Fprint(stderr, "to stderr\n")
	if err := k.Drain(); err != nil {
		t.Fatal(err)
	}
	out, err := k.Paths()
	if got := contents(t, out); got != "to stdout\n" {
		t.Errorf("stdout.log: %q", got)
	}
	if got := contents(t, err); got != "to stderr\n" {
		t.Errorf("stderr.log: %q", got)
	}
}

func TestModes(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	dir := filepath.Join(t.TempDir(), "data")
	c := newCapturer(t, dir)
	long := strings.Repeat("ä", 100)
	open(t, c, long)
	for path, want := range map[string]os.FileMode{
		"":                             os.ModeDir | 0o700,
		"run":                          os.ModeDir | 0o700,
		"logs":                         os.ModeDir | 0o700,
		"logs/" + long:                 os.ModeDir | 0o700,
		"logs/" + long + "/stdout.log": 0o600,
		"logs/" + long + "/stderr.log": 0o600,
		"run/" + long + ".stdout":      os.ModeNamedPipe | 0o600,
		"run/" + long + ".stderr":      os.ModeNamedPipe | 0o600,
	} {
		info, err := os.Lstat(filepath.Join(dir, path))
		if err != nil {
			t.Error(err)
		} else if info.Mode() != want {
			t.Errorf("%s: %v, want %v", path, info.Mode(), want)
		}
	}
}

// What is in the place of a FIFO, a log or a directory is refused, and not
// followed, written to or removed.
func TestPlanted(t *testing.T) {
	for _, at := range []string{"run/d.stdout", "run/d.stderr", "logs/d/stdout.log", "logs/d/stderr.log", "logs/d"} {
		for kind, plant := range map[string]func(path, victim string) error{
			"symlink":  func(path, victim string) error { return os.Symlink(victim, path) },
			"dangling": func(path, victim string) error { return os.Symlink(victim+"x", path) },
			"dir":      func(path, _ string) error { return os.Mkdir(path, 0o700) },
			"file":     func(path, _ string) error { return os.WriteFile(path, nil, 0o600) },
			"fifo":     func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
		} {
			is := strings.HasPrefix(at, "run/") && kind == "fifo" || strings.HasSuffix(at, ".log") && kind == "file" || at == "logs/d" && kind == "dir"
			if is { // what belongs there
				continue
			}
			t.Run(at+" "+kind, func(t *testing.T) {
				dir := t.TempDir()
				victim := filepath.Join(t.TempDir(), "victim")
				if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
					t.Fatal(err)
				}
				c := newCapturer(t, dir)
				path := filepath.Join(dir, at)
				if strings.HasPrefix(at, "logs/d/") {
					os.Mkdir(filepath.Join(dir, "logs/d"), 0o700)
				}
				if err := plant(path, victim); err != nil {
					t.Fatal(err)
				}
				before, _ := os.Lstat(path)
				_, err := c.Open("d", me())
				if err == nil || !strings.Contains(err.Error(), path) {
					t.Fatalf("opened, or an error that does not say where: %v", err)
				}
				after, _ := os.Lstat(path)
				if after == nil || !os.SameFile(before, after) {
					t.Error("it was removed")
				}
				if got := contents(t, victim); got != "precious" {
					t.Errorf("the victim is %q", got)
				}
				if _, err := os.Lstat(victim + "x"); err == nil {
					t.Error("a file was made through a dangling link")
				}
			})
		}
	}
}

func TestNames(t *testing.T) {
	c := newCapturer(t, t.TempDir())
	for _, name := range []string{"", ".", "..", "../x", "a/b", "a\x00b", strings.Repeat("x", 201)} {
		if _, err := c.Open(name, me()); err == nil {
			t.Errorf("%q was opened", name)
		}
	}
}

func compareLines(t *testing.T, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.SplitAfter(got, "\n"), strings.SplitAfter(want, "\n")
	for i := range w {
		if i >= len(g) || g[i] != w[i] {
			t.Fatalf("%d lines; line %d is %q, want %q", len(g)-1, i, append(g, "")[min(i, len(g))], w[i])
		}
	}
	t.Fatalf("%d lines, want %d", len(g)-1, len(w)-1)
}

// A daemon without a manager fills its pipe and waits; it goes on when a
// manager comes.
func TestDaemonWaits(t *testing.T) {
	dir := t.TempDir()
	c := newCapturer(t, dir)
	k := open(t, c, "d")
	stdout, _ := writers(t, k)
	path, _ := k.Paths()
	const total = 3 << 20
	daemon := helper(t, "chunks", "SIZE=1000", fmt.Sprint("TOTAL=", total))
	daemon.Stdout = stdout
	hold := stdin(t, daemon)
	c.Close()
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	// Full: for reading and writing it would be writable otherwise.
	for fds := []unix.PollFd{{Fd: int32(stdout.Fd()), Events: unix.POLLOUT}}; ; {
		if n, err := unix.Poll(fds, 0); n == 0 && err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if n := size(path); n != 0 {
		t.Fatalf("%d bytes were carried by nobody", n)
	}
	k = open(t, newCapturer(t, dir), "d")
	ch := grown(t, k, Stdout)
	until(ch, func() bool { return size(path) >= total })
	hold.Close()
	if err := daemon.Wait(); err != nil {
		t.Error(err)
	}
}

// The last words of a daemon are in the file when Drain returns.
func TestDrainAfterDeath(t *testing.T) {
	k := open(t, newCapturer(t, t.TempDir()), "d")
	path, errPath := k.Paths()
	for i := range 50 {
		stdout, stderr := writers(t, k)
		cmd := exec.Command("sh", "-c", fmt.Sprintf("echo out %d; echo err %d >&2", i, i))
		cmd.Stdout, cmd.Stderr = stdout, stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stdout.Close()
		stderr.Close()
		cmd.Wait()
		if err := k.Drain(); err != nil {
			t.Fatal(err)
		}
		if got, want := contents(t, path), fmt.Sprintf("out %d\n", i); !strings.HasSuffix(got, want) {
			t.Fatalf("%q does not end with %q", got, want)
		}
		if got, want := contents(t, errPath), fmt.Sprintf("err %d\n", i); !strings.HasSuffix(got, want) {
			t.Fatalf("%q does not end with %q", got, want)
		}
	}
}

// A daemon that runs as somebody else can open /dev/stdout again.
func TestReopenAsAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("needs /proc")
	}
	const nobody = 65534
	c := newCapturer(t, t.TempDir())
	k, err := c.Open("d", StreamOptions{UID: nobody, GID: nobody})
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := writers(t, k)
	cmd := exec.Command("sh", "-c", "id -u >/dev/stdout; echo err >/dev/stderr")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	k.Drain()
	out, errPath := k.Paths()
	if got := contents(t, out) + contents(t, errPath); got != "65534\nerr\n" {
		t.Errorf("%q", got)
	}
	// Opened again for another user, it is theirs.
	if _, err := c.Open("d", StreamOptions{UID: 1, GID: 1}); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(stdout.Fd()), &st); err != nil || st.Uid != 1 || st.Gid != 1 {
		t.Errorf("owner %d:%d, %v", st.Uid, st.Gid, err)
	}
}

func TestManyStreams(t *testing.T) {
	daemons := 1000
	if testing.Short() {
		daemons = 100
	}
	c := newCapturer(t, t.TempDir())
	type one struct {
		k              *Capture
		stdout, stderr *os.File
	}
	var all []one
	for i := range daemons {
		k := open(t, c, fmt.Sprint("d", i))
		stdout, stderr, err := k.Writers()
		if err != nil {
			t.Fatal(err)
		}
		defer stdout.Close()
		defer stderr.Close()
		all = append(all, one{k, stdout, stderr})
	}
	var want strings.Builder
	for round := range 20 {
		for i, d := range all {
			fmt.Fprintf(d.stdout, "%d %d\n", round, i)
			fmt.Fprintf(d.stderr, "%d %d\n", round, i)
		}
	}
	for i, d := range all {
		if err := d.k.Drain(); err != nil {
			t.Fatal(err)
		}
		want.Reset()
		for round := range 20 {
			fmt.Fprintf(&want, "%d %d\n", round, i)
		}
		out, errPath := d.k.Paths()
		if contents(t, out) != want.String() || contents(t, errPath) != want.String() {
			t.Fatalf("d%d: %q", i, contents(t, out))
		}
	}
}

// Whatever happens to the file, the bytes after it come to where the log is
// read.
func TestMeddledWith(t *testing.T) {
	for name, meddle := range map[string]func(t *testing.T, path string) (want string){
		"truncated": func(t *testing.T, path string) string {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
			return "after\n"
		},
		"cut": func(t *testing.T, path string) string {
			if err := os.Truncate(path, 3); err != nil {
				t.Fatal(err)
			}
			return "befafter\n"
		},
		"removed": func(t *testing.T, path string) string {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			return "after\n"
		},
		"removed with its directory": func(t *testing.T, path string) string {
			if err := os.RemoveAll(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
			return "after\n"
		},
		"appended to": func(t *testing.T, path string) string {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			fmt.Fprint(f, "meanwhile\n")
			return "before\nmeanwhile\nafter\n"
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := open(t, newCapturer(t, t.TempDir()), "d")
			stdout, _ := writers(t, k)
			path, _ := k.Paths()
			fmt.Fprint(stdout, "before\n")
			if err := k.Drain(); err != nil {
				t.Fatal(err)
			}
			want := meddle(t, path)
			fmt.Fprint(stdout, "after\n")
			if err := k.Drain(); err != nil {
				t.Fatal(err)
			}
			if got := contents(t, path); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestMovedAway(t *testing.T) {
	k := open(t, newCapturer(t, t.TempDir()), "d")
	stdout, _ := writers(t, k)
	path, _ := k.Paths()
	fmt.Fprint(stdout, "before\n")
	if err := k.Drain(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	// It is noticed while bytes come, at the latest after pathInterval.
	n := 0
	for size(path) < 0 {
		fmt.Fprintf(stdout, "%d\n", n)
		n++
		k.Drain()
	}
	k.Drain()
	var want bytes.Buffer
	want.WriteString("before\n")
	for i := range n {
		fmt.Fprintf(&want, "%d\n", i)
	}
	compareLines(t, contents(t, path+".1")+contents(t, path), want.String())
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	c := newCapturer(t, dir)
	k := open(t, c, "d")
	if err := k.Remove(false); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "run")); len(left) > 0 {
		t.Errorf("left in run: %v", left)
	}
	if _, err := os.Stat(Path(dir, "d", Stdout)); err != nil {
		t.Error(err)
	}
	if err := c.Remove("d", true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(Dir(dir, "d")); !errors.Is(err, os.ErrNotExist) {
		t.Error("logs are left after a purge")
	}
	if _, _, err := k.Writers(); err == nil {
		t.Error("a removed capture gives writers")
	}
}

// A manager was killed in the middle of a removal.
func TestTidy(t *testing.T) {
	dir := t.TempDir()
	c := newCapturer(t, dir)
	for _, name := range []string{"kept", "gone", "gone.too"} {
		open(t, c, name).Close()
	}
	other := filepath.Join(dir, "run", "other.stdout") // is no FIFO
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Tidy(func(daemon string) bool { return daemon == "kept" }); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, _ := os.ReadDir(filepath.Join(dir, "run"))
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"kept.stderr", "kept.stdout", "other.stdout"}; !slices.Equal(left, want) {
		t.Errorf("left are %v, not %v", left, want)
	}
}

func TestRemovedFIFO(t *testing.T) {
	dir := t.TempDir()
	k := open(t, newCapturer(t, dir), "d")
	stdout, _ := writers(t, k)
	fmt.Fprint(stdout, "old\n")
	if err := os.Remove(filepath.Join(dir, "run", "d.stdout")); err != nil {
		t.Fatal(err)
	}
	stdout, _ = writers(t, k)
	fmt.Fprint(stdout, "new\n")
	path, _ := k.Paths()
	ch := grown(t, k, Stdout)
	until(ch, func() bool { return size(path) == int64(len("old\nnew\n")) })
	if got := contents(t, path); got != "old\nnew\n" {
		t.Errorf("%q", got)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(fds)
}

//go:build !logs_poll

package logs

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A manager is killed again and again while a daemon writes: what the daemon
// wrote is in the file, in order, once.
func TestKilledCapturers(t *testing.T) {
	lines, kills := 60_000, 40
	if testing.Short() {
		lines, kills = 20_000, 10
	}
	dir := t.TempDir()
	c := newCapturer(t, dir)
	k := open(t, c, "d")
	stdout, stderr := writers(t, k)
	path, _ := k.Paths()
	daemon := helper(t, "lines", fmt.Sprint("LINES=", lines))
	daemon.Stdout = stdout
	hold := stdin(t, daemon)
	c.Close() // from here on nobody reads
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	stdout.Close()
	stderr.Close()

	var want strings.Builder
	for i := range lines {
		want.WriteString(line(i))
	}
	for i := range kills {
		manager := helper(t, "capture", "DIR="+dir)
		stdin(t, manager)
		out, err := manager.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := manager.Start(); err != nil {
			t.Fatal(err)
		}
		if s, err := bufio.NewReader(out).ReadString('\n'); s != "ready\n" {
			t.Fatalf("%q, %v", s, err)
		}
		// Kill it at any moment of its share of the bytes, or soon after.
		enough := int64(want.Len()) * int64(i+1) / int64(kills+1)
		for size(path) < enough {
			time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
		}
		manager.Process.Kill()
		manager.Wait()
	}
	c = newCapturer(t, dir)
	k = open(t, c, "d")
	ch := grown(t, k, Stdout)
	until(ch, func() bool { return size(path) >= int64(want.Len()) })
	hold.Close()
	if err := daemon.Wait(); err != nil {
		t.Error(err)
	}
	if err := k.Drain(); err != nil {
		t.Error(err)
	}
	compareLines(t, contents(t, path), want.String())
}

// idle waits until every stream is armed and no worker is left.
func idle(c *Capturer) {
	for e := c.engine; ; runtime.Gosched() {
		e.mu.Lock()
		ok := e.workers == 0 && e.ready.len() == 0 && e.due.len() == 0
		for _, s := range e.streams {
			ok = ok && s.state == armed
		}
		e.mu.Unlock()
		if ok {
			return
		}
	}
}

// Quiet streams use no CPU, whatever they did before.
func TestQuietStreamsCostNothing(t *testing.T) {
	c := newCapturer(t, t.TempDir())
	for i := range 200 {
		stdout, stderr := writers(t, open(t, c, fmt.Sprint("d", i)))
		fmt.Fprintln(stdout, "hello")
		fmt.Fprintln(stderr, "hello")
	}
	idle(c)
	if n := c.engine.active.Load(); n != 0 {
		t.Errorf("%d streams count as active", n)
	}
	// Nothing is left that could wake it up: no alarm, no worker.
	var left unix.ItimerSpec
	if err := timerfdGettime(c.engine.timer, &left); err != nil {
		t.Fatal(err)
	}
	if left.Value.Nano() != 0 {
		t.Errorf("an alarm is set in %v", time.Duration(left.Value.Nano()))
	}
}

func timerfdGettime(fd int, spec *unix.ItimerSpec) error { return unix.TimerfdGettime(fd, spec) }

// On a full disk bytes wait in the pipe; the error is told; when there is
// room they are all there.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k,mode=700"); err != nil {
		t.Skipf("no tmpfs can be mounted: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	c := newCapturer(t, dir)
	k := open(t, c, "d")
	stdout, _ := writers(t, k)
	path, _ := k.Paths()
	filler := filepath.Join(dir, "filler")
	var want bytes.Buffer
	lines := func(n int) {
		for i := range n {
			l := line(want.Len() + i)
			want.WriteString(l)
			stdout.WriteString(l)
		}
	}
	lines(100)
	if err := k.Drain(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()
	for k.Err() == "" { // there may be room in the file's last page
		lines(100)
		k.Drain()
	}
	if !strings.Contains(k.Err(), "no space left") {
		t.Errorf("Err: %s", k.Err())
	}
	if err := k.Drain(); err == nil {
		t.Error("Drain says that all was written")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	// It recovers by itself.
	until(grown(t, k, Stdout), func() bool { return size(path) == int64(want.Len()) })
	compareLines(t, contents(t, path), want.String())
	if err := k.Drain(); err != nil || k.Err() != "" {
		t.Errorf("afterwards: %v, %q", err, k.Err())
	}
}

// A file system that can't splice is written to all the same.
func TestCopyInsteadOfSplice(t *testing.T) {
	k := open(t, newCapturer(t, t.TempDir()), "d")
	s := k.streams[Stdout]
	s.mu.Lock()
	// splice(2) refuses a file that is open for appending.
	if _, err := unix.FcntlInt(uintptr(s.file.fd), unix.F_SETFL, unix.O_APPEND); err != nil {
		t.Fatal(err)
	}
	s.mu.Unlock()
	stdout, _ := writers(t, k)
	path, _ := k.Paths()
	var want strings.Builder
	for i := range 10_000 {
		want.WriteString(line(i))
		stdout.WriteString(line(i))
	}
	if err := k.Drain(); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	copying := s.copying
	s.mu.Unlock()
	if !copying {
		t.Error("it was spliced")
	}
	compareLines(t, contents(t, path), want.String())
}

// Busy streams come in turn: none waits until another has ended, and one that
// writes a line now and then has it carried between those that write without
// an end.
func TestFairness(t *testing.T) {
	c := newCapturer(t, t.TempDir())
	var stop atomic.Bool
	defer stop.Store(true)
	for i := range 8 {
		k := open(t, c, fmt.Sprint("busy", i))
		stdout, _ := writers(t, k)
		path, _ := k.Paths()
		go func() {
			for b := bytes.Repeat([]byte("x"), 10_000); !stop.Load(); {
				if _, err := stdout.Write(b); err != nil {
					return
				}
				if size(path) > 64<<20 {
					os.Truncate(path, 0)
				}
			}
		}()
	}
	k := open(t, c, "seldom")
	stdout, _ := writers(t, k)
	path, _ := k.Paths()
	ch := grown(t, k, Stdout)
	for i := range 100 {
		fmt.Fprintln(stdout, "line")
		until(ch, func() bool { return size(path) >= int64(5*(i+1)) })
	}
	// Every busy one has been served meanwhile.
	for i := range 8 {
		k := open(t, c, fmt.Sprint("busy", i))
		if path, _ := k.Paths(); size(path) == 0 {
			until(grown(t, k, Stdout), func() bool { return size(path) > 0 })
		}
	}
}

// A pipe that was seen full is enlarged, one that was not is left.
func TestPipeIsEnlarged(t *testing.T) {
	dir := t.TempDir()
	c := newCapturer(t, dir)
	k := open(t, c, "d")
	stdout, stderr := writers(t, k)
	fmt.Fprintln(stderr, "few")
	b := make([]byte, 1000)
	for range 200_000 {
		stdout.Write(b)
		if pipeSize(t, stdout) > 64<<10 {
			break
		}
	}
	if got := pipeSize(t, stdout); os.Getuid() == 0 && got < rootPipe {
		t.Errorf("a full pipe has %d bytes", got)
	}
	if got := pipeSize(t, stderr); got != 64<<10 {
		t.Errorf("a quiet pipe has %d bytes", got)
	}
}

func pipeSize(t *testing.T, f *os.File) int {
	n, err := unix.FcntlInt(f.Fd(), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPipeBudget(t *testing.T) {
	b := pipeBudget{left: 2 * userPipe, taken: make(map[uint64]int)}
	const had = 64 << 10
	for id := range uint64(2) {
		if got := b.take(id, had); got != userPipe {
			t.Errorf("pipe %d: %d", id, got)
		}
	}
	if got := b.take(2, had); got != 0 {
		t.Errorf("past the budget: %d", got)
	}
	b.give(0)
	if got := b.take(2, had); got != userPipe {
		t.Errorf("after one was given back: %d", got)
	}
}

// What is opened is closed, and nothing goes on running.
func TestNothingIsLeft(t *testing.T) {
	dir := t.TempDir()
	newCapturer(t, dir).Close() // whatever the runtime opens once
	fds, goroutines := descriptors(t), runtime.NumGoroutine()
	for range 20 {
		c := newCapturer(t, dir)
		for i := range 20 {
			k := open(t, c, fmt.Sprint("d", i))
			stdout, stderr, err := k.Writers()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(stdout, "hello")
			stdout.Close()
			stderr.Close()
			switch i % 3 {
			case 0:
				k.Close()
			case 1:
				if err := k.Remove(true); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := c.Open("../x", me()); err == nil {
			t.Fatal("opened")
		}
		c.Close()
	}
	// Goroutines that have done all they do may need a moment to be gone.
	for runtime.NumGoroutine() > goroutines {
		runtime.Gosched()
	}
	if got := descriptors(t); got != fds {
		t.Errorf("%d descriptors, were %d", got, fds)
	}
}

// Four descriptors per daemon, besides those of the Capturer.
func TestDescriptorsPerDaemon(t *testing.T) {
	c := newCapturer(t, t.TempDir())
	before := descriptors(t)
	for i := range 50 {
		open(t, c, fmt.Sprint("d", i))
	}
	if got := descriptors(t) - before; got != 200 {
		t.Errorf("50 daemons take %d descriptors", got)
	}
}

// Open, write, drain, close and meddle from many goroutines at once.
func TestConcurrentUse(t *testing.T) {
	c := newCapturer(t, t.TempDir())
	done := make(chan struct{})
	for g := range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 200 {
				k, err := c.Open(fmt.Sprint("d", (g+i)%3), me())
				if err != nil {
					t.Error(err)
					return
				}
				stdout, stderr, err := k.Writers()
				if err != nil { // closed by another
					continue
				}
				fmt.Fprintln(stdout, "x")
				stdout.Close()
				stderr.Close()
				k.Drain()
				k.Err()
				if i%5 == 0 {
					k.Close()
				}
				if i%17 == 0 {
					k.Remove(true)
				}
			}
		}()
	}
	for range 8 {
		<-done
	}
}

package notify

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/keeper"
)

const patience = 20 * time.Second

const nobody = 65534

// The test binary is its own helper.
func TestMain(m *testing.M) {
	switch os.Getenv("NOTIFYHELPER") {
	case "":
		os.Exit(m.Run())
	case "send": // one datagram
		s, err := newSender(os.Getenv("NOTIFY_SOCKET"))
		if err == nil {
			err = s.send(strings.ReplaceAll(os.Args[1], "SELF", strconv.Itoa(os.Getpid())))
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		_, _ = io.Copy(io.Discard, os.Stdin) // stays until that ends
	case "flood": // as fast as it may, with descriptors
		null, _ := os.Open(os.DevNull)
		fds := slices.Repeat([]int{int(null.Fd())}, 200)
		s, err := newSender(os.Getenv("NOTIFY_SOCKET"))
		for err == nil || err == unix.ETOOMANYREFS {
			err = s.send("STATUS=flood", fds...)
		}
		fmt.Println(err)
	case "manager": // listens with what was kept, says where, and then what comes
		r, err := Open(Options{DataDir: os.Args[1], Store: keeper.Inherit()})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		var out sync.Mutex
		addr, err := r.Listen("web", Listener{Handle: func(m Message) {
			out.Lock()
			defer out.Unlock()
			fmt.Println(m.PID, m.Status)
			m.Done()
		}})
		fmt.Println(addr, err)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
}

// sender sends datagrams, and waits for room.
type sender struct {
	fd int
	to unix.SockaddrUnix
}

func newSender(addr string) (*sender, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	return &sender{fd, unix.SockaddrUnix{Name: addr}}, err
}

func (s *sender) send(text string, fds ...int) error {
	var oob []byte
	if fds != nil {
		oob = unix.UnixRights(fds...)
	}
	for {
		if err := unix.Sendmsg(s.fd, []byte(text), oob, &s.to, 0); err != unix.EINTR {
			return err
		}
	}
}

func helper(t *testing.T, what, addr string, uid uint32, args ...string) *exec.Cmd {
	t.Helper()
	// By this path, since the directory of a test binary is its owner's alone.
	c := &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{"helper"}, args...), Env: append(os.Environ(), "NOTIFYHELPER="+what, "NOTIFY_SOCKET="+addr), Stderr: os.Stderr}
	if uid != 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	return c
}

// sendAs sends one datagram from a process of a user, which lives to the end of
// the test.
func sendAs(t *testing.T, addr string, uid uint32, text string) (pid int) {
	t.Helper()
	c := helper(t, "send", addr, uid, text)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = c.Wait()
	})
	return c.Process.Pid
}

type rig struct {
	*Receiver
	log *logged
}

type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
	c  chan string
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.c <- string(b):
	default:
	}
	return l.b.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func open(t *testing.T, dir string) rig {
	t.Helper()
	l := &logged{c: make(chan string, 100)}
	r, err := Open(Options{DataDir: dir, Logger: slog.New(slog.NewTextHandler(l, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return rig{r, l}
}

// inbox is a listener that puts messages into a channel.
func inbox(l Listener) (Listener, chan Message) {
	c := make(chan Message, 1000)
	l.Handle = func(m Message) { c <- m }
	return l, c
}

func (r rig) listen(t *testing.T, daemon string, l Listener) (string, chan Message) {
	t.Helper()
	l, c := inbox(l)
	addr, err := r.Listen(daemon, l)
	if err != nil {
		t.Fatal(err)
	}
	return addr, c
}

func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s within %v", what, patience)
		panic("unreachable")
	}
}

func connect(t *testing.T, addr string) *sender {
	t.Helper()
	s, err := newSender(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

func send(t *testing.T, s *sender, text string, files ...*os.File) {
	t.Helper()
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	if err := s.send(text, fds...); err != nil {
		t.Fatal(err)
	}
}

// What systemd's own client says arrives, from whatever user it may.
func TestSystemdNotify(t *testing.T) {
	path, err := exec.LookPath("systemd-notify")
	if err != nil {
		t.Skip("systemd-notify is not installed")
	}
	r := open(t, t.TempDir())
	addr, messages := r.listen(t, "web", Listener{UID: nobody})
	for _, uid := range []uint32{0, nobody} {
		if uid != 0 && os.Getuid() != 0 {
			continue
		}
		c := exec.Command(path, "--ready", "--status=all is well")
		c.Env = append(os.Environ(), "NOTIFY_SOCKET="+addr)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, NoSetGroups: os.Getuid() != 0}}
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		m := receive(t, messages, "message")
		if !m.Ready || m.Status != "all is well" || m.UID != uid {
			t.Errorf("%+v", m)
		}
		m.Done() // it waits for that: its barrier
		if err := c.Wait(); err != nil {
			t.Errorf("%v: %s", err, out.String())
		}
	}
}

// Only root, the manager's user and the daemon's are heard.
func TestOtherUsersAreNotHeard(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	r := open(t, t.TempDir())
	addr, messages := r.listen(t, "web", Listener{UID: nobody})
	sendAs(t, addr, nobody-1, "READY=1")
	if line := receive(t, r.log.c, "log line"); !strings.Contains(line, "of user 65533 is neither") || !strings.Contains(line, "daemon=web") {
		t.Error(line)
	}
	sendAs(t, addr, nobody, "STATUS=mine")
	if m := receive(t, messages, "message"); m.Status != "mine" || m.UID != nobody {
		t.Errorf("%+v", m)
	}
	sendAs(t, addr, 0, "STATUS=root")
	if m := receive(t, messages, "message"); m.Status != "root" || m.UID != 0 {
		t.Errorf("%+v", m)
	}
}

// A barrier ends when everything before it is done, and not before.
func TestBarrier(t *testing.T) {
	r := open(t, t.TempDir())
	addr, messages := r.listen(t, "web", Listener{})
	c := connect(t, addr)
	barrier := func() (wait func() error) {
		pr, pw, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pr.Close() })
		send(t, c, "BARRIER=1", pw)
		pw.Close()
		return func() error { // nil at its end
			_ = pr.SetReadDeadline(time.Now().Add(patience))
			if _, err := pr.Read(make([]byte, 1)); err != io.EOF {
				return err
			}
			return nil
		}
	}
	held := func() int {
		r.Receiver.mu.Lock()
		s := r.sockets["web"]
		r.Receiver.mu.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.l.barriers)
	}
	if err := barrier()(); err != nil { // nothing is before it
		t.Fatal(err)
	}
	send(t, c, "READY=1")
	send(t, c, "STATUS=1")
	b := barrier()
	send(t, c, "STATUS=2")
	m1, m2, m3 := receive(t, messages, "READY"), receive(t, messages, "STATUS"), receive(t, messages, "STATUS")
	m1.Done()
	m1.Done() // counts once
	m3.Done() // comes after it, and doesn't count
	if n := held(); n != 1 {
		t.Fatalf("%d barriers are held", n)
	}
	m2.Done()
	if err := b(); err != nil {
		t.Fatal(err)
	}
	// Who listens anew, or no more, lets go of those who wait for what they never handle.
	send(t, c, "READY=1")
	b = barrier()
	receive(t, messages, "READY")
	_, messages = r.listen(t, "web", Listener{})
	if err := b(); err != nil {
		t.Fatal(err)
	}
	send(t, c, "READY=1")
	b = barrier()
	receive(t, messages, "READY")
	r.Unlisten("web")
	if err := b(); err != nil {
		t.Fatal(err)
	}
}

// Descriptors are closed, with whatever they come.
func TestDescriptorsAreClosed(t *testing.T) {
	r := open(t, t.TempDir())
	addr, messages := r.listen(t, "web", Listener{})
	c := connect(t, addr)
	for _, text := range []string{"READY=1", "FDSTORE=1\nFDNAME=x", "BARRIER=1\nREADY=1", "BARRIER=1", "\x00\x00", strings.Repeat("x", maxMessage+1)} {
		pr, pw, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		send(t, c, text, pw, pw)
		pw.Close()
		_ = pr.SetReadDeadline(time.Now().Add(patience))
		if _, err := pr.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%.20q: %v", text, err)
		}
		pr.Close()
	}
	// Of these, two were messages.
	if m := receive(t, messages, "message"); !m.Ready {
		t.Errorf("%+v", m)
	}
	if m := receive(t, messages, "message"); m.State != (State{}) {
		t.Errorf("%+v", m)
	}
	if len(messages) != 0 {
		t.Errorf("%+v", <-messages)
	}
	for _, want := range []string{"only assignment", "2 descriptors instead of one", "NUL", "longer than 4096"} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("the log doesn't say %q", want)
		}
	}
}

func TestMainPID(t *testing.T) {
	r := open(t, t.TempDir())
	addr, messages := r.listen(t, "web", Listener{})
	other := sendAs(t, addr, 0, "READY=1\nMAINPID=SELF")
	if m := receive(t, messages, "message"); !m.Ready || m.MainPID != other || m.PID != other {
		t.Errorf("%+v, from %d", m, other)
	}
}

// Heard waits for what was sent before, and only for that.
func TestHeard(t *testing.T) {
	r := open(t, t.TempDir())
	addr, messages := r.listen(t, "web", Listener{})
	heard := make(chan int, 10)
	r.Heard("web", patience, func() { heard <- 1 })
	receive(t, heard, "end of nothing")
	send(t, connect(t, addr), "STATUS=a")
	m := receive(t, messages, "message")
	r.Heard("web", patience, func() { heard <- 2 })
	for held := false; !held; time.Sleep(time.Millisecond) {
		s := r.sockets["web"]
		s.mu.Lock()
		held = len(s.l.barriers) > 0
		s.mu.Unlock()
	}
	send(t, connect(t, addr), "STATUS=b") // isn't waited for
	later := receive(t, messages, "message")
	select {
	case <-heard:
		t.Fatal("it didn't wait")
	default:
	}
	m.Done()
	if n := receive(t, heard, "end"); n != 2 {
		t.Fatal(n)
	}
	r.Heard("web", time.Millisecond, func() { heard <- 3 }) // who doesn't go on keeps nobody for ever
	receive(t, heard, "end of its patience")
	r.Heard("nobody", patience, func() { heard <- 4 })
	receive(t, heard, "end without a socket")
	later.Done()
}

// A new start forgets what was said before it; an adoption doesn't.
func TestFresh(t *testing.T) {
	r := open(t, t.TempDir())
	addr, messages := r.listen(t, "web", Listener{})
	c := connect(t, addr)
	fill := func() { // more than may be under way, so that some wait in the queue
		for i := range Window + 5 {
			send(t, c, fmt.Sprintf("STATUS=%d", i))
		}
	}
	fill()
	for range Window {
		receive(t, messages, "message")
	}
	_, again := r.listen(t, "web", Listener{})
	if m := receive(t, again, "message"); m.Status != strconv.Itoa(Window) {
		t.Errorf("%+v", m)
	}
	for range 4 {
		receive(t, again, "message")
	}
	_, stuck := r.listen(t, "web", Listener{})
	fill()
	for range Window {
		receive(t, stuck, "message")
	}
	_, fresh := r.listen(t, "web", Listener{Fresh: true})
	send(t, c, "STATUS=new")
	if m := receive(t, fresh, "message"); m.Status != "new" {
		t.Errorf("%+v", m)
	}
}

// The address is the same for the next manager, nobody else's, and nobody can keep
// a daemon from being started by sitting there.
func TestAddress(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	first, _ := r.listen(t, "web", Listener{})
	if again, _ := r.listen(t, "web", Listener{}); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	if other, _ := r.listen(t, "worker", Listener{}); other == first {
		t.Errorf("two have %s", first)
	}
	if other, _ := open(t, t.TempDir()).listen(t, "web", Listener{}); other == first {
		t.Errorf("two directories have %s", first)
	}
	info, err := os.Stat(filepath.Join(dir, "notify"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	r.Close()
	if _, err := r.Listen("web", Listener{}); err == nil {
		t.Error("it listens though it is closed")
	}
	r = open(t, dir)
	if again, _ := r.listen(t, "web", Listener{}); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	r.Unlisten("web")
	if err := connect(t, first).send("READY=1"); err != unix.ECONNREFUSED {
		t.Errorf("it can be reached though nobody listens: %v", err)
	}
	squatter, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: first, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	addr, messages := r.listen(t, "web", Listener{})
	if !strings.HasPrefix(addr, first+".") {
		t.Errorf("%s", addr)
	}
	send(t, connect(t, addr), "READY=1")
	if m := receive(t, messages, "message"); !m.Ready {
		t.Errorf("%+v", m)
	}

	// A file that is damaged is replaced; one that can't be had is no reason not to start.
	if err := os.WriteFile(filepath.Join(dir, "notify"), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if addr, _ := open(t, dir).listen(t, "web", Listener{}); addr == first || len(addr) != len(first) {
		t.Error(addr)
	}
	r = open(t, filepath.Join(dir, "none"))
	r.listen(t, "web", Listener{})
	if !strings.Contains(r.log.String(), "can't be kept") {
		t.Error("nothing is said about it")
	}
}

// What is sent while no manager lives is read by the next one.
func TestQueueSurvivesTheManager(t *testing.T) {
	dir := t.TempDir()
	holder, err := keeper.NewSocket() // this process is the keeper
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	raw, err := holder.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var sa unix.Sockaddr
	if err := raw.Control(func(fd uintptr) { sa, err = unix.Getsockname(int(fd)) }); err != nil {
		t.Fatal(err)
	}
	manager := func(extra []string, files ...*os.File) (*exec.Cmd, io.Closer, *bufio.Scanner) {
		c := helper(t, "manager", sa.(*unix.SockaddrUnix).Name, 0, dir)
		c.Env = append(c.Env, append(extra, "SYSPULSE_KEEPER="+strconv.Itoa(os.Getpid()))...)
		c.ExtraFiles = files
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c, in, bufio.NewScanner(out)
	}
	c, _, out := manager(nil)
	if !out.Scan() {
		t.Fatal("no address")
	}
	addr, _, _ := strings.Cut(out.Text(), " ")
	if !strings.HasPrefix(addr, "@syspulse-") {
		t.Fatal(out.Text())
	}
	// It has sent its descriptor before it said so.
	var name string
	var fds []int
	err = raw.Read(func(fd uintptr) bool {
		b, oob := make([]byte, 4096), make([]byte, 4096)
		n, oobn, _, _, err := unix.Recvmsg(int(fd), b, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if err != nil {
			return false
		}
		_, rest, _ := strings.Cut(string(b[:n]), "FDNAME=")
		name, _, _ = strings.Cut(rest, "\n")
		messages, _ := unix.ParseSocketControlMessage(oob[:oobn])
		for _, m := range messages {
			if got, err := unix.ParseUnixRights(&m); err == nil {
				fds = append(fds, got...)
			}
		}
		return true
	})
	if err != nil || len(fds) != 1 || len(name) == 0 || len(name) > keeper.MaxName {
		t.Fatal(err, fds, name)
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	from := connect(t, addr)
	for i := range 5 {
		send(t, from, fmt.Sprintf("STATUS=%d", i))
	}
	c, in, out := manager([]string{"LISTEN_FDS=1", "LISTEN_FDNAMES=" + name}, os.NewFile(uintptr(fds[0]), name))
	send(t, from, "STATUS=5")
	var got []string
	for len(got) < 7 && out.Scan() {
		got = append(got, out.Text())
	}
	want := []string{addr + " <nil>"}
	for i := range 6 {
		want = append(want, fmt.Sprintf("%d %d", os.Getpid(), i))
	}
	slices.Sort(got) // it listens before it says so
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	in.Close()
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// One that floods its socket is heard as fast as it is handled, and keeps nobody
// else waiting; nothing is left of its descriptors.
func TestFlood(t *testing.T) {
	r := open(t, t.TempDir())
	var got atomic.Int64
	full := make(chan []Message, 1)
	var held []Message
	flooded, err := r.Listen("flooded", Listener{Handle: func(m Message) {
		if held = append(held, m); got.Add(1) == Window {
			full <- held
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	c := helper(t, "flood", flooded, 0)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	}()
	waiting := receive(t, full, "full window")

	other, messages := r.listen(t, "other", Listener{})
	conn := connect(t, other)
	for range 2 * Window {
		send(t, conn, "WATCHDOG=1")
		m := receive(t, messages, "message")
		m.Done()
	}
	if n := got.Load(); n != Window {
		t.Errorf("%d messages are under way", n)
	}
	for _, m := range waiting[:Window/2] {
		m.Done()
	}
	// Goes on: whoever listens next gets what follows, and handles it at once.
	const many = 1000
	done := make(chan struct{})
	var n atomic.Int64
	if _, err := r.Listen("flooded", Listener{Handle: func(m Message) {
		m.Done()
		if n.Add(1) == many {
			close(done)
		}
	}}); err != nil {
		t.Fatal(err)
	}
	receive(t, done, "end of the flood")
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	if len(fds) > closable+2*maxFDs {
		t.Errorf("%d descriptors are open", len(fds))
	}
	r.Unlisten("flooded")
	for _, m := range waiting {
		m.Done() // of a listener that is gone
	}
}

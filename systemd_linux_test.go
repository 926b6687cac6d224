package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/client"
)

// systemd is a service manager, as far as a service sees it: sd_notify(3) with its
// descriptor store, sd_listen_fds(3), and who reaps what nobody else does.
type systemd struct {
	*faulty
	conn   *net.UnixConn
	notify string

	mu    sync.Mutex
	store []stored
	said  []said
}

type stored struct {
	name string
	fd   int
}

// said is a word of the service, and the process that it came from.
type said struct {
	word string
	pid  int
}

func newSystemd(t *testing.T) *systemd {
	t.Helper()
	dir := t.TempDir()
	s := &systemd{notify: filepath.Join(dir, "notify")}
	var err error
	if s.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.notify, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	raw, err := s.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	received := make(chan struct{})
	go func() {
		defer close(received)
		s.receive(t)
	}()
	t.Cleanup(func() {
		s.conn.Close()
		<-received
		for _, f := range s.store {
			unix.Close(f.fd)
		}
	})
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	s.faulty = &faulty{t: t, data: data, log: filepath.Join(dir, "manager.log"), Client: client.New(api.SocketPath(data))}
	return s
}

func (s *systemd) receive(t *testing.T) {
	b, oob := make([]byte, 4096), make([]byte, 4096)
	for {
		n, oobn, _, _, err := s.conn.ReadMsgUnix(b, oob)
		if err != nil {
			return
		}
		var fds []int
		pid := 0
		msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			t.Error(err)
			return
		}
		for i := range msgs {
			if rights, err := unix.ParseUnixRights(&msgs[i]); err == nil {
				fds = append(fds, rights...)
			} else if cred, err := unix.ParseUnixCredentials(&msgs[i]); err == nil {
				pid = int(cred.Pid)
			}
		}
		s.hear(strings.Split(string(b[:n]), "\n"), fds, pid)
	}
}

func (s *systemd) hear(lines []string, fds []int, pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := "stored" // systemd's, where none is given
	for _, l := range lines {
		if v, ok := strings.CutPrefix(l, "FDNAME="); ok {
			name = v
		}
	}
	for _, l := range lines {
		switch l {
		case "FDSTORE=1":
			for _, fd := range fds {
				unix.CloseOnExec(fd)
				s.store = append(s.store, stored{name, fd})
			}
			fds = nil
		case "FDSTOREREMOVE=1":
			s.store = slices.DeleteFunc(s.store, func(f stored) bool {
				if f.name == name {
					unix.Close(f.fd)
				}
				return f.name == name
			})
		}
		s.said = append(s.said, said{l, pid})
	}
	for _, fd := range fds { // a barrier's
		unix.Close(fd)
	}
}

// heard counts a word, and gives who said it last.
func (s *systemd) heard(word string) (n, pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.said {
		if w.word == word {
			n, pid = n+1, w.pid
		}
	}
	return n, pid
}

func (s *systemd) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, f := range s.store {
		names = append(names, f.name)
	}
	slices.Sort(names)
	return names
}

// start runs the service, which gets what is in the store. limit is its
// FileDescriptorStoreMax, "" if it has none.
func (s *systemd) start(limit string, args ...string) {
	s.t.Helper()
	cmd := exec.Command("/bin/sh", append([]string{"-c", `if [ "$LISTEN_FDS" ]; then export LISTEN_PID=$$; fi; exec syspulse "$@"`, "sh"}, args...)...)
	cmd.Env = append(os.Environ(), "SYSPULSE_DATA_DIR="+s.data, "NOTIFY_SOCKET="+s.notify)
	if limit != "" {
		cmd.Env = append(cmd.Env, "FDSTORE="+limit)
	}
	s.mu.Lock()
	var names []string
	for _, f := range s.store {
		fd, err := unix.FcntlInt(uintptr(f.fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			s.t.Fatal(err)
		}
		file := os.NewFile(uintptr(fd), f.name)
		defer file.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
		names = append(names, f.name)
	}
	s.mu.Unlock()
	if len(names) > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprint("LISTEN_FDS=", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	before, _ := s.heard("READY=1")
	s.cmd = cmd
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.until("READY=1", func() bool { n, _ := s.heard("READY=1"); return n > before })
}

func (s *systemd) daemons() []string {
	s.t.Helper()
	list, err := s.Status(s.t.Context(), api.StatusQuery{})
	if err != nil {
		s.t.Fatal(err)
	}
	var names []string
	for _, d := range list {
		names = append(names, d.Name)
	}
	return names
}

func (s *systemd) details(name string) api.Details {
	s.t.Helper()
	d, err := s.Get(s.t.Context(), api.GetQuery{Name: name})
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// A service manager with a descriptor store is all that a manager needs: it has no
// keeper, and yet nothing is lost when it is killed.
func TestSystemdTakesThePlaceOfTheKeeper(t *testing.T) {
	s := newSystemd(t)
	s.endWithTest()
	// Orphans come to us, as they come to init.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

	file, goOn := filepath.Join(s.data, "daemons.sys"), filepath.Join(s.data, "go")
	const steady = "[[daemon]]\nname = \"steady\"\ncommand = [\"sleep\", \"1000\"]\n"
	words := fmt.Sprintf("[[daemon]]\nname = \"words\"\ncommand = [\"sh\", \"-c\", \"until [ -e %s ]; do sleep 0.02; done; echo last words; exit 7\"]\n", goOn)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(steady + words)
	s.start("4096", "daemon", "--file", file)
	before, err := s.Ping(t.Context())
	if err != nil || before.KeeperPID != nil || before.PID != s.cmd.Process.Pid {
		t.Fatalf("%+v, %v; the service is %d", before, err, s.cmd.Process.Pid)
	}
	if results, err := s.Start(t.Context(), api.ActionRequest{Selector: api.Selector{All: true}}); err != nil || !results[0].OK || !results[1].OK {
		t.Fatal(results, err)
	}
	// The socket, the notes of a keeper, and of each daemon a pidfd and two FIFOs.
	const ofManager, ofDaemon = 2, 3
	s.until("all is stored", func() bool { return len(s.names()) == ofManager+2*ofDaemon })
	steadyPID, wordsPID := *s.details("steady").PID, *s.details("words").PID
	socket, err := os.Stat(s.Socket())
	if err != nil {
		t.Fatal(err)
	}

	s.kill()
	write(steady + words + strings.ReplaceAll(steady, "steady", "later"))
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	if pid, err := unix.Wait4(wordsPID, &ws, 0, nil); err != nil || pid != wordsPID || ws.ExitStatus() != 7 {
		t.Fatal(pid, err, ws)
	}
	early := make(chan error, 1)
	go func() { // waits in the socket's queue
		c := client.New(s.Socket())
		defer c.Close()
		_, err := c.Ping(context.Background())
		early <- err
	}()
	s.start("4096", "daemon", "--file", file)
	if err := <-early; err != nil {
		t.Error(err)
	}
	s.until("the death is noticed", func() bool { return s.details("words").State == "failed" })
	if d := s.details("words"); d.ExitCode == nil || *d.ExitCode != 7 || d.ExitKnown == nil || !*d.ExitKnown {
		t.Errorf("words ended with %v, known %v", d.ExitCode, d.ExitKnown)
	}
	if b, err := os.ReadFile(s.details("words").StdoutLog); err != nil || string(b) != "last words\n" {
		t.Errorf("words wrote %q, %v", b, err)
	}
	if d := s.details("steady"); d.PID == nil || *d.PID != steadyPID || !d.Adopted {
		t.Errorf("steady is %v, adopted %v", d.PID, d.Adopted)
	}
	if got := s.daemons(); !slices.Equal(got, []string{"steady", "words"}) {
		t.Errorf("the file was applied: %q", got)
	}
	if now, err := os.Stat(s.Socket()); err != nil || !os.SameFile(socket, now) {
		t.Errorf("the socket is another: %v", err)
	}
	s.until("what ended is dropped", func() bool { return len(s.names()) == ofManager+ofDaemon })

	// The store holds each thing once, whatever follows.
	names := s.names()
	for range 3 {
		s.kill()
		s.start("4096", "daemon", "--file", file)
	}
	s.until("the store is as before", func() bool { return slices.Equal(s.names(), names) })

	// After a shutdown nothing is left that would make the next one a successor.
	if err := s.Shutdown(t.Context(), api.ShutdownRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Error(err)
	}
	if n, _ := s.heard("STOPPING=1"); n == 0 {
		t.Error("STOPPING=1 was not said")
	}
	s.until("the store is empty", func() bool { return len(s.names()) == 0 })
	s.start("4096", "daemon", "--file", file)
	if got := s.daemons(); !slices.Contains(got, "later") {
		t.Errorf("the file was not applied: %q", got)
	}
}

// Without a descriptor store there is a keeper, which is the service, and passes
// on what the manager says of itself.
func TestAKeeperSpeaksForItsManager(t *testing.T) {
	s := newSystemd(t)
	s.endWithTest()
	s.start("", "daemon")
	ping, err := s.Ping(t.Context())
	keeper := s.cmd.Process.Pid
	if err != nil || ping.KeeperPID == nil || *ping.KeeperPID != keeper {
		t.Fatalf("%+v, %v; the service is %d", ping, err, keeper)
	}
	if n, pid := s.heard("READY=1"); n != 1 || pid != keeper {
		t.Errorf("READY=1 came %d times, from %d", n, pid)
	}
	if err := syscall.Kill(ping.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.until("another manager is ready", func() bool { n, _ := s.heard("READY=1"); return n == 2 })
	if n, _ := s.heard("STOPPING=1"); n != 0 {
		t.Error("a crash is no end")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Shutdown(ctx, api.ShutdownRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Error(err)
	}
	if n, pid := s.heard("STOPPING=1"); n != 1 || pid != keeper {
		t.Errorf("STOPPING=1 came %d times, from %d", n, pid)
	}
	if n, _ := s.heard("FDSTORE=1"); n != 0 {
		t.Error("descriptors were sent to who has no store")
	}
}

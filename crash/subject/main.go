//go:build linux

// Subject is the program of the crash suite's daemons: small, so that dozens
// of them may come and go all the time. It is called as
//
//	subject DIR NAME BEHAVIOUR
//
// and holds a lock of its name as long as anything of it lives; the members
// that it leaves behind hold the same one. A second copy that finds the lock
// taken says so in DIR/violations.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cyber-boost/syspulse/crash/trace"
)

// lockFD is where members get the lock.
const lockFD = 3

// ofdSetLock is F_OFD_SETLK of fcntl(2).
const ofdSetLock = 37

// member and between are the behaviours of what a daemon forks: the member
// itself, and the process that starts it and ends, so that it is an orphan.
const (
	member         = "member"
	stubbornMember = "stubborn-member"
	between        = "between:"
	bystander      = "bystander"
)

type subject struct {
	dir, name, incarnation string

	writer trace.Writer
	record *trace.Record
	lock   int

	mu sync.Mutex // held while a line is written and counted
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "subject is started by the crash suite")
		os.Exit(2)
	}
	s := &subject{dir: os.Args[1], name: os.Args[2], incarnation: os.Getenv("SYSPULSE_INCARNATION")}
	behaviour := os.Args[3]
	if len(behaviour) > len(between) && behaviour[:len(between)] == between {
		s.spawn(behaviour[len(between):], lockFD)
		os.Exit(0)
	}
	switch behaviour {
	case member, stubbornMember:
		s.lock, s.writer = lockFD, trace.Member
		syscall.CloseOnExec(lockFD)
		r, err := trace.Join(s.dir, s.name, s.incarnation)
		s.must(err)
		s.record = r
		if behaviour == stubbornMember {
			ignore()
		}
		s.steady(20 * time.Millisecond)
	}
	if behaviour == bystander {
		s.standBy()
	}
	s.takeLock()
	s.openRecord()
	s.run(behaviour)
}

// standBy is a process that is no daemon and has the pid that one had: nobody
// may signal it. It ends when its standard input does.
func (s *subject) standBy() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	go func() { s.violation("a process that is no daemon got %v", <-c) }()
	var b [1]byte
	_, _ = os.Stdin.Read(b[:])
	os.Exit(0)
}

func (s *subject) takeLock() {
	path := filepath.Join(s.dir, "locks", s.name)
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600)
	s.must(err)
	// Of the open file, as flock(2), so that members inherit it; unlike that it
	// can be asked for without being taken.
	lock := syscall.Flock_t{Type: syscall.F_WRLCK}
	if err := syscall.FcntlFlock(uintptr(fd), ofdSetLock, &lock); err != nil {
		others := s.others()
		time.Sleep(20 * time.Millisecond)
		still := syscall.FcntlFlock(uintptr(fd), ofdSetLock, &lock) != nil
		s.violation("ran twice at once: this copy (pid %d) finds the lock taken, and 20 ms later: %v. There are: %s", os.Getpid(), still, others)
	}
	s.lock = fd
}

// others lists the other processes of this name, for the report.
func (s *subject) others() string {
	var out []string
	paths, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range paths {
		cmdline, _ := os.ReadFile(p + "/cmdline")
		if pid := filepath.Base(p); pid == strconv.Itoa(os.Getpid()) || !strings.Contains(string(cmdline), "\x00"+s.dir+"\x00"+s.name+"\x00") {
			continue
		}
		stat, _ := os.ReadFile(p + "/stat")
		environ, _ := os.ReadFile(p + "/environ")
		_, incarnation, _ := strings.Cut(string(environ), "SYSPULSE_INCARNATION=")
		incarnation, _, _ = strings.Cut(incarnation, "\x00")
		cgroup, _ := os.ReadFile(p + "/cgroup")
		_, group, _ := strings.Cut(string(cgroup), "0::")
		f := strings.Fields(string(stat))
		out = append(out, strings.ReplaceAll(string(cmdline), "\x00", " ")+strings.Join(f[:min(6, len(f))], " ")+" incarnation "+incarnation+" cgroup "+strings.TrimSpace(group))
	}
	return strings.Join(out, "; ")
}

func (s *subject) openRecord() {
	revision, _ := strconv.Atoi(os.Getenv("REVISION"))
	r, err := trace.Create(s.dir, s.name, s.incarnation, revision)
	if errors.Is(err, fs.ErrExist) {
		s.violation("one incarnation was started twice, now as pid %d", os.Getpid())
	}
	s.must(err)
	s.record = r
}

// violation reports and ends.
func (s *subject) violation(format string, args ...any) {
	text := fmt.Sprintf("%s, incarnation %s: %s\n", s.name, s.incarnation, fmt.Sprintf(format, args...))
	path := filepath.Join(s.dir, "violations", s.name+"-"+strconv.Itoa(os.Getpid()))
	if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err == nil {
		_ = os.Rename(path+".tmp", path)
	}
	os.Exit(99)
}

// must reports what the suite itself got wrong.
func (s *subject) must(err error) {
	if err != nil {
		s.violation("the test daemon failed: %v", err)
	}
}

// say writes one line to each stream.
func (s *subject) say() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sayLocked()
}

func (s *subject) sayLocked() {
	for stream := range trace.Streams {
		line := []byte(trace.Line(s.incarnation, s.writer, s.record.Next(s.writer, stream)))
		for {
			n, err := syscall.Write(1+stream, line)
			if err == syscall.EINTR || err == syscall.EAGAIN {
				continue
			}
			s.must(err)
			if n != len(line) {
				s.violation("a write of %d bytes to a pipe wrote %d", len(line), n)
			}
			break
		}
		s.record.Wrote(s.writer, stream)
	}
}

// exit says its last words and ends; nothing is said behind them.
func (s *subject) exit(code int) {
	s.mu.Lock()
	s.sayLocked()
	s.record.Leave(code)
	os.Exit(code)
}

// kill is an exit by a signal.
func (s *subject) kill(sig syscall.Signal) {
	s.mu.Lock()
	s.sayLocked()
	s.record.Leave(-int(sig))
	_ = syscall.Kill(os.Getpid(), sig)
	wait()
}

// obey exits with code at SIGTERM.
func (s *subject) obey(code int) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	go func() {
		<-c
		s.exit(code)
	}()
}

// ignore drops what asks it to end.
func ignore() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
}

// wait waits for a signal. (Without a timer Go would call it a deadlock.)
func wait() {
	for {
		time.Sleep(time.Hour)
	}
}

// steady writes for ever.
func (s *subject) steady(every time.Duration) {
	for {
		s.say()
		time.Sleep(every/2 + rand.N(every))
	}
}

// spawn starts a process of its own session that has the lock.
func (s *subject) spawn(behaviour string, lock int) {
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"subject", s.dir, s.name, behaviour}, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2, uintptr(lock)},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	s.must(err)
	if behaviour[0] == between[0] {
		var ws syscall.WaitStatus
		for {
			if _, err := syscall.Wait4(pid, &ws, 0, nil); err != syscall.EINTR {
				break
			}
		}
	}
}

// notifyReady says READY=1 (sd_notify), more than once: without a keeper what is
// said while no manager lives is heard by nobody.
func (s *subject) notifyReady() {
	address := &net.UnixAddr{Net: "unixgram", Name: os.Getenv("NOTIFY_SOCKET")}
	go func() {
		for ; ; time.Sleep(300 * time.Millisecond) {
			if conn, err := net.DialUnix("unixgram", nil, address); err == nil {
				_, _ = conn.Write([]byte("READY=1"))
				conn.Close()
			}
		}
	}()
}

func (s *subject) run(behaviour string) {
	short := 20*time.Millisecond + rand.N(300*time.Millisecond)
	switch behaviour {
	case "writer":
		s.obey(0)
		s.steady(10 * time.Millisecond)
	case "flood": // bursts that fill its pipes
		s.obey(0)
		for {
			for range rand.N(3000) {
				s.say()
			}
			time.Sleep(rand.N(2 * time.Second))
		}
	case "quiet": // its last words are its only ones
		s.obey(5)
		wait()
	case "plain": // dies of SIGTERM
		s.steady(50 * time.Millisecond)
	case "stubborn":
		ignore()
		s.steady(30 * time.Millisecond)
	case "crasher":
		for end := time.Now().Add(short); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			s.say()
		}
		switch rand.N(4) {
		case 0:
			s.kill(syscall.SIGKILL)
		case 1:
			s.kill(syscall.SIGHUP)
		}
		s.exit(1 + rand.N(9))
	case "short":
		time.Sleep(short / 4)
		s.exit(0)
	case "flapper":
		s.exit(3)
	case "frail": // lives for some seconds
		s.obey(0)
		for end := time.Now().Add(time.Second + rand.N(5*time.Second)); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			s.say()
		}
		s.exit(1 + rand.N(9))
	case "notifier": // says that it is ready
		s.obey(0)
		time.Sleep(short / 4)
		s.notifyReady()
		s.steady(20 * time.Millisecond)
	case "migration": // completes, mostly
		s.say()
		time.Sleep(short)
		if rand.N(4) == 0 {
			s.exit(1)
		}
		s.exit(0)
	case "job": // a run, some of which are longer than the time between two
		s.obey(0)
		for end := time.Now().Add(rand.N(2500 * time.Millisecond)); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			s.say()
		}
		s.exit(0)
	case "short-job": // fails now and then
		s.say()
		time.Sleep(short / 2)
		s.exit(max(0, rand.N(4)-2))
	case "once":
		s.say()
		time.Sleep(short)
		s.exit(7)
	case "success": // completes with success
		s.say()
		s.exit(0)
	case "forker":
		s.spawn(between+member, s.lock)
		s.obey(0)
		s.steady(40 * time.Millisecond)
	case "deserter":
		s.spawn(between+member, s.lock)
		time.Sleep(short)
		s.exit(1)
	case "stubborn-deserter":
		ignore()
		s.spawn(between+stubbornMember, s.lock)
		time.Sleep(short)
		s.exit(4)
	case "never":
		s.violation("was started, and nobody wanted it")
	default:
		s.violation("has no behaviour %q", behaviour)
	}
}

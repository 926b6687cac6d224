package keeper

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rig is a keeper in this process, whose manager is this process, too.
func rig(t *testing.T) (*Store, *process, *os.File) {
	t.Helper()
	socket, err := NewSocket()
	if err != nil {
		t.Fatal(err)
	}
	k := &process{socket: socket, manager: os.Getpid(), pidfd: -1, done: make(chan int, 1)}
	s := Inherit()
	t.Cleanup(func() {
		s.Lost()
		socket.Close()
		k.mu.Lock()
		defer k.mu.Unlock()
		for len(k.table) > 0 {
			k.table.remove(k.table[0].name)
		}
	})
	return s, k, socket
}

func (k *process) names() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, names := k.table.pass()
	return names
}

// A keeper that doesn't listen, because it is stopped or slow, holds nobody up,
// and gets everything in order in the end.
func TestStoreDoesNotWaitForTheKeeper(t *testing.T) {
	s, k, socket := rig(t)
	if err := s.Adopt(1, socket); err != nil {
		t.Fatal(err)
	}
	const n = 1500 // more than the socket's queue holds
	var want []string
	for i := range n {
		name := fmt.Sprint("n", i)
		fd := openNull(t)
		s.Keep(name, fd)
		if i%3 == 0 {
			s.Drop(name)
		} else {
			want = append(want, name)
		}
		// Whatever could not be sent yet is safe from what the caller does now.
		closeFD(fd)
	}
	go k.receive()
	if !s.Barrier(time.Minute) {
		t.Fatal("the keeper has not taken everything")
	}
	if got := k.names(); got != strings.Join(want, ":") {
		t.Errorf("the keeper holds %.200s…, want %.200s…", got, strings.Join(want, ":"))
	}
}

// Daemons that start and end while the keeper is stopped cost nothing that stays.
func TestWhatEndsWhileTheKeeperIsStoppedLeavesNothing(t *testing.T) {
	s, k, socket := rig(t)
	if err := s.Adopt(1, socket); err != nil {
		t.Fatal(err)
	}
	stays := openNull(t)
	defer closeFD(stays)
	one := func(name string, and func()) {
		fd := openNull(t)
		s.Keep(name, fd)
		and()
		s.Drop(name)
		closeFD(fd)
	}
	nothing := func() {}
	one("first", nothing) // fills the socket, with those that follow
	for i := range 5000 {
		one(fmt.Sprint("n", i), func() {
			if i == 2500 {
				s.Keep("stays", stays)
			}
			if i%2 == 0 {
				one(fmt.Sprint("within", i), nothing)
			}
		})
	}
	s.mu.Lock()
	n := len(s.backlog.queue)
	s.mu.Unlock()
	if n > 10 {
		t.Errorf("%d datagrams wait", n)
	}
	go k.receive()
	if !s.Barrier(time.Minute) {
		t.Fatal("the keeper has not taken everything")
	}
	if got := k.names(); got != "stays" {
		t.Errorf("the keeper holds %q", got)
	}
}

// A keeper that takes the place of another gets what is held now.
func TestANewKeeperGetsEverything(t *testing.T) {
	s, first, socket := rig(t)
	go first.receive()
	if err := s.Adopt(1, socket); err != nil {
		t.Fatal(err)
	}
	a, b, c := openNull(t), openNull(t), openNull(t)
	s.Keep("a", a)
	s.Keep("b", b)
	closeFD(c)
	s.Drop("a")
	closeFD(a)
	s.Barrier(time.Minute)
	s.Lost()
	s.Keep("later", a) // while there is none
	s.Drop("later")

	socket2, err := NewSocket()
	if err != nil {
		t.Fatal(err)
	}
	defer socket2.Close()
	second := &process{socket: socket2, manager: os.Getpid(), pidfd: -1, done: make(chan int, 1)}
	go second.receive()
	if err := s.Adopt(2, socket2); err != nil {
		t.Fatal(err)
	}
	if !s.Barrier(time.Minute) {
		t.Fatal("no answer")
	}
	if got := second.names(); got != "b" {
		t.Errorf("the new keeper holds %q", got)
	}
	if s.KeeperPID() != 2 || !s.Keeps() {
		t.Error("the store doesn't know its new keeper")
	}
	s.Drop("b")
	s.Barrier(time.Minute)
	if got := second.names(); got != "" {
		t.Errorf("the new keeper still holds %q", got)
	}
}

// Only the manager may give and take.
func TestKeeperHeedsNobodyElse(t *testing.T) {
	s, k, socket := rig(t)
	k.manager = os.Getppid()
	go k.receive()
	if err := s.Adopt(1, socket); err != nil {
		t.Fatal(err)
	}
	fd := openNull(t)
	defer closeFD(fd)
	s.Keep("a", fd)
	if !s.Barrier(time.Minute) {
		t.Fatal("no answer") // what was sent is closed all the same
	}
	if got := k.names(); got != "" {
		t.Errorf("a stranger stored %q", got)
	}
}

// What nobody claims is dropped at both ends; what is claimed stays.
func TestSettle(t *testing.T) {
	s, k, socket := rig(t)
	go k.receive()
	if err := s.Adopt(1, socket); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	open := func(name string) int {
		fd, err := syscall.Open(filepath.Join(dir, name), syscall.O_CREAT|syscall.O_RDONLY|syscall.O_CLOEXEC, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	kept, stale, again := open("kept"), open("stale"), open("again")
	for name, fd := range map[string]int{"kept": kept, "stale": stale, "again": again, SocketName: open(SocketName), BinaryName: open(BinaryName)} {
		s.Keep(name, fd)
		s.inherit(name, fd) // as the next manager sees it
		s.held[name] = keptFD{fd: -1, stored: true}
	}
	fds := s.Claim("kept")
	if len(fds) != 1 || fds[0] != kept {
		t.Fatalf("claimed %v", fds)
	}
	s.Keep("kept", kept)
	other := open("other")
	s.Keep("again", other) // opened by its path
	s.Settle()
	s.Barrier(time.Minute)
	for _, name := range []string{SocketName, BinaryName} { // whose turn is yet to come
		if fds := s.Claim(name); len(fds) != 1 {
			t.Errorf("%s is %v", name, fds)
		}
	}
	if got := k.names(); !strings.Contains(got, "kept") || !strings.Contains(got, "again") || strings.Contains(got, "stale") || strings.Count(got, ":") != 3 {
		t.Errorf("the keeper holds %q", got)
	}
	// The keeper of this test has its copies in this process, too.
	for name, want := range map[string]int{"stale": 0, "again": 1, "kept": 2, "other": 1, SocketName: 2, BinaryName: 2} {
		if got := openTimes(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s is open %d times, want %d", name, got, want)
		}
	}
	if !s.Successor() {
		t.Error("who inherits is a successor")
	}
}

// openTimes is how many of this process's descriptors are of a file.
func openTimes(t *testing.T, path string) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if at, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && at == path {
			n++
		}
	}
	return n
}

// Who has to know that a descriptor is kept is told.
func TestSent(t *testing.T) {
	s, k, socket := rig(t)
	if err := s.Adopt(1, socket); err != nil {
		t.Fatal(err)
	}
	told := make(chan bool, 10)
	fd := openNull(t)
	name := ""
	for i := 0; ; i++ { // until the keeper's queue is full
		name = fmt.Sprint("n", i)
		s.Keep(name, fd)
		if !s.Sent(name, func() { told <- true }) {
			break
		}
	}
	if !s.Sent("n0", func() { t.Error("it was sent") }) {
		t.Error("the first one is not sent")
	}
	if !s.Sent("another", func() { t.Error("there is none") }) {
		t.Error("what isn't kept waits")
	}
	go k.receive()
	<-told
	if !s.Sent(name, func() {}) {
		t.Error("it waits still")
	}

	// A keeper that dies leaves nobody waiting.
	s.mu.Lock()
	s.waiting = append(s.waiting, func() { told <- true })
	s.mu.Unlock()
	s.Lost()
	<-told
}

package keeper

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func openNull(t *testing.T) int {
	t.Helper()
	fd, err := syscall.Open(os.DevNull, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func isOpen(fd int) bool {
	_, _, err := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
	return err == 0
}

func TestTableClosesWhatItLetsGo(t *testing.T) {
	var tab table
	a, b, c := openNull(t), openNull(t), openNull(t)
	tab.add(nameOf("x"), fdsOf(a))
	tab.add(nameOf("y"), fdsOf(b))
	tab.add(nameOf("x"), fdsOf(c))
	fds, names := tab.pass()
	if len(fds) != 3 || names != "x:y:x" {
		t.Fatalf("passes %v %q", fds, names)
	}
	tab.remove(nameOf("x"))
	if isOpen(a) || isOpen(c) || !isOpen(b) {
		t.Fatal("remove must close both of its name, and nothing else")
	}
	d := openNull(t)
	tab.set(nameOf("y"), fdsOf(d))
	if fd, ok := tab.find("y"); !ok || fd != d {
		t.Fatalf("y is %d, want %d", fd, d)
	}
	tab.remove(nameOf("y"))
	if len(tab) != 0 || isOpen(d) {
		t.Fatal("something is left")
	}
}

// More names than one variable holds: the rest is held on, and a manager does
// without.
func TestTablePassesWhatFits(t *testing.T) {
	var tab table
	long := strings.Repeat("n", MaxName)
	for range 4000 {
		tab.add(nameOf(long), fdsOf(1))
	}
	fds, names := tab.pass()
	if got := strings.Count(names, ":") + 1; got != len(fds) || len(names) > maxNames || len(fds) < 2500 {
		t.Fatalf("%d descriptors, %d names, %d bytes", len(fds), got, len(names))
	}
	if len(tab) != 4000 {
		t.Fatal("what was not passed must stay")
	}
}

func TestMessages(t *testing.T) {
	m := parseMessage([]byte("FDSTORE=1\nFDNAME=abc\nFDPOLL=0\n"))
	if !m.store || string(m.name) != "abc" || m.remove || m.ready {
		t.Errorf("%+v", m)
	}
	m = parseMessage([]byte("READY=1\nSTATUS=READY=0\nX_SYSPULSE_TRIAL=250"))
	if !m.ready || string(m.trial) != "250" || m.stopping {
		t.Errorf("%+v", m)
	}
	for name, want := range map[string]bool{"a": true, "": false, "a:b": false, "a b": false, "ü": false, strings.Repeat("x", 256): false} {
		if validName([]byte(name)) != want {
			t.Errorf("validName(%q) is %v", name, !want)
		}
	}
}

func closeFD(fd int) { syscall.Close(fd) }

func nameOf(s string) fdName {
	n, _ := toName([]byte(s))
	return n
}

func fdsOf(fds ...int) []int32 {
	out := make([]int32, len(fds))
	for i, fd := range fds {
		out[i] = int32(fd)
	}
	return out
}

// What is received leaves no garbage, and so the keeper stays as small as it is.
func TestReceivingAllocatesNothing(t *testing.T) {
	b := []byte("FDSTORE=1\nFDNAME=0123456789abcdef01234567\nFDPOLL=0")
	k := &process{table: make(table, 0, 16), quiet: time.AfterFunc(time.Hour, func() {})}
	defer k.quiet.Stop()
	var m message
	if n := testing.AllocsPerRun(100, func() {
		m = parseMessage(b)
		k.message(m, nil, 0)
		name, _ := toName(m.name)
		k.table.add(name, []int32{-1})
		k.table.remove(name)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

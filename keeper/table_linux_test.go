package keeper

import (
	"os"
	"strings"
	"syscall"
	"testing"
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
	tab.add("x", []int{a})
	tab.add("y", []int{b})
	tab.add("x", []int{c})
	fds, names := tab.pass()
	if len(fds) != 3 || names != "x:y:x" {
		t.Fatalf("passes %v %q", fds, names)
	}
	tab.remove("x")
	if isOpen(a) || isOpen(c) || !isOpen(b) {
		t.Fatal("remove must close both of its name, and nothing else")
	}
	d := openNull(t)
	tab.set("y", []int{d})
	if fd, ok := tab.find("y"); !ok || fd != d {
		t.Fatalf("y is %d, want %d", fd, d)
	}
	tab.remove("y")
	if len(tab) != 0 || isOpen(d) {
		t.Fatal("something is left")
	}
}

// More names than one variable holds: the rest is held on, and a manager does
// without.
func TestTablePassesWhatFits(t *testing.T) {
	var tab table
	long := strings.Repeat("n", 250)
	for range 1000 {
		tab.add(long, []int{1})
	}
	fds, names := tab.pass()
	if got := strings.Count(names, ":") + 1; got != len(fds) || len(names) > maxNames || len(fds) < 400 {
		t.Fatalf("%d descriptors, %d names, %d bytes", len(fds), got, len(names))
	}
	if len(tab) != 1000 {
		t.Fatal("what was not passed must stay")
	}
}

func TestMessages(t *testing.T) {
	m := parseMessage([]byte("FDSTORE=1\nFDNAME=abc\nFDPOLL=0\n"))
	if !m.store || m.name != "abc" || m.remove || m.ready {
		t.Errorf("%+v", m)
	}
	m = parseMessage([]byte("READY=1\nSTATUS=READY=0\nX_SYSPULSE_TRIAL=250"))
	if !m.ready || m.trial != "250" || m.stopping {
		t.Errorf("%+v", m)
	}
	for name, want := range map[string]bool{"a": true, "": false, "a:b": false, "a b": false, "ü": false, strings.Repeat("x", 256): false} {
		if validName(name) != want {
			t.Errorf("validName(%q) is %v", name, !want)
		}
	}
}

func closeFD(fd int) { syscall.Close(fd) }

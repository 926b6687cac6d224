package platform

import (
	"bufio"
	"os"
	"strconv"
	"testing"
)

func needCgroups(t *testing.T, h Host) {
	if h.(*host).cgroups == "" {
		t.Skip("no cgroup can be made here")
	}
}

// needPidfds skips what can't be had without them.
func needPidfds(t *testing.T) {
	t.Helper()
	if withoutPidfds {
		t.Skip("nothing is adopted without pidfds")
	}
}

// end kills what is left and waits for it, unless the test has let go of it.
func end(t testing.TB, p Process) {
	q := p.(*process)
	q.mu.Lock()
	released := q.released
	q.mu.Unlock()
	if released {
		return
	}
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
	p.OnExit(func(Exit) {})
	awaitEmpty(t, p)
	p.Release()
}

func bufioScanner(r *os.File) *bufio.Scanner { return bufio.NewScanner(r) }

func (l *lines) pid() int {
	l.t.Helper()
	n, err := strconv.Atoi(l.next())
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

func executable(t testing.TB) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

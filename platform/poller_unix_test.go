//go:build unix

package platform

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPoller(t *testing.T) {
	p, err := NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var fds [2]int
	if err := unix.Pipe(fds[:]); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	calls := make(chan Events, 10)
	w, err := p.Add(fds[0], Readable, func(ev Events) { calls <- ev })
	if err != nil {
		t.Fatal(err)
	}
	put := func() {
		t.Helper()
		if _, err := unix.Write(fds[1], []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	put()
	if ev := receive(t, calls, "event"); ev&Readable == 0 {
		t.Errorf("%#x", ev)
	}
	// Once only, though there is still something to read; then again when asked.
	put()
	if err := w.Rearm(Readable); err != nil {
		t.Fatal(err)
	}
	receive(t, calls, "event after Rearm")
	if len(calls) != 0 {
		t.Error("more calls than Rearms")
	}
	var buf [8]byte
	if _, err := unix.Read(fds[0], buf[:]); err != nil {
		t.Fatal(err)
	}
	if err := w.Rearm(Readable); err != nil {
		t.Fatal(err)
	}
	unix.Close(fds[1])
	if ev := receive(t, calls, "hangup"); ev&Hangup == 0 {
		t.Errorf("%#x", ev)
	}
	w.Remove()
	w.Remove()
	if err := w.Rearm(Readable); err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := p.Add(0, Readable, nil); err != os.ErrClosed {
		t.Errorf("%v", err)
	}
	if len(calls) != 0 {
		t.Error("called after Remove")
	}
}

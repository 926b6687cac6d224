package platform

import (
	"errors"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/spec"
)

func TestMember(t *testing.T) {
	h := newHost(t, Options{NoCgroups: true})
	inc := newIncarnation()
	_, out := output(t, h, Command{Incarnation: inc, Args: []string{"/bin/sh", "-c", "echo $$; sleep 9974 & echo $!; wait"}})
	stranger := sh(t, h, "exec sleep 9974")
	for range 2 {
		pid := out.pid()
		id, err := h.Member(inc, pid)
		if err != nil || id.PID != pid || id.StartTime == 0 || id.BootID != h.BootID() {
			t.Errorf("%d: %+v, %v", pid, id, err)
		}
	}
	for _, pid := range []int{stranger.Identity().PID, os.Getpid(), 1, 0, -1, 1 << 30} {
		if _, err := h.Member(inc, pid); !errors.Is(err, ErrNotFound) {
			t.Errorf("process %d is a member: %v", pid, err)
		}
	}
	if _, err := h.Member("nobody", os.Getpid()); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// Another member of the tree becomes the main process: while the first one lives,
// and when it has ended; in the same session and in its own.
func TestFollow(t *testing.T) {
	modes(t, func(t *testing.T, h Host) {
		for name, script := range map[string]string{
			"lives":       "sleep 9975 & echo $!; wait; sleep 9975",
			"ends":        "sleep 9975 & echo $!",
			"own session": "setsid sh -c 'echo $$; exec sleep 9975' &",
		} {
			t.Run(name, func(t *testing.T) {
				inc := newIncarnation()
				p, out := output(t, h, Command{Incarnation: inc, Args: []string{"/bin/sh", "-c", script}})
				pid := out.pid()
				if name != "lives" {
					awaitExit(t, p)
				}
				id, err := h.Member(inc, pid)
				if err != nil {
					t.Fatal(err)
				}
				q, err := h.Follow(p, id)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { end(t, q) })
				if q.Identity() != id {
					t.Fatalf("%+v, want %+v", q.Identity(), id)
				}
				if again, err := h.Adopt(id, inc); err != nil || again != q {
					t.Errorf("%v, %v: another one for the same", again, err)
				}
				if err := q.Signal("SIGCONT", spec.KillGroup); err != nil {
					t.Errorf("its group: %v", err)
				}
				if err := q.Signal("SIGUSR1", spec.KillMain); err != nil {
					t.Fatal(err)
				}
				if exit := awaitExit(t, q); exit.Signal != "SIGUSR1" {
					t.Errorf("it ended with %+v", exit)
				}
				if name == "lives" && q.Empty() {
					t.Error("the first process is forgotten")
				}
				if err := q.Kill(); err != nil {
					t.Error(err)
				}
				awaitEmpty(t, q)
			})
		}
	})
}

func TestFollowWhoIsGone(t *testing.T) {
	h := newHost(t, Options{NoCgroups: true})
	inc := newIncarnation()
	p, out := output(t, h, Command{Incarnation: inc, Args: []string{"/bin/sh", "-c", "sleep 9976 & echo $!; wait; sleep 9976"}})
	id, err := h.Member(inc, out.pid())
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Kill(id.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1); err != nil {
		t.Fatal(err)
	}
	var gone *GoneError
	if _, err := h.Follow(p, id); !errors.As(err, &gone) {
		t.Fatalf("process %s: %v", strconv.Itoa(id.PID), err)
	}
	if _, err := os.Stat("/proc/" + strconv.Itoa(p.Identity().PID)); err != nil {
		t.Error("the first process is not what it was:", err)
	}
	if err := p.Signal("SIGTERM", spec.KillMain); err != nil {
		t.Error(err)
	}
	awaitExit(t, p)
}

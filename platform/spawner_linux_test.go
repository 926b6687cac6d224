package platform

import (
	"bytes"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// What the manager holds is not copied with every fork. And what Go's runtime
// does on the threads that fork finds its descriptors there.
func TestSpawnerHasItsOwnTable(t *testing.T) {
	h := newHost(t, Options{}).(*host)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for range 100 {
		held := 0
		h.spawner.do(nil, func(th *spawnerThread) {
			if th.self < 0 {
				held = -1
				return
			}
			fd, err := th.fetch(int(w.Fd()))
			if err != nil {
				t.Error(err)
				return
			}
			defer th.drop(fd)
			if _, err := unix.Write(fd, []byte("x")); err != nil {
				t.Error(err)
			}
			held = openHere(t)
			runtime.GC() // stops the world, and asks the poller afterwards
		})
		if held < 0 {
			t.Skip("this system lets no thread leave the table")
		}
		if held > 12 {
			t.Fatalf("%d descriptors are copied with each fork", held)
		}
		if n, err := r.Read(make([]byte, 2)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
}

// openHere counts the descriptors of the calling thread. It does without package
// os, which notes what a test opens in a file that the thread may not have.
func openHere(t *testing.T) (n int) {
	fd, err := unix.Open("/proc/thread-self/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer unix.Close(fd)
	buf := make([]byte, 1<<16)
	size, err := unix.ReadDirent(fd, buf)
	if err != nil {
		t.Error(err)
	}
	_, n, _ = unix.ParseDirent(bytes.Clone(buf[:size]), -1, nil)
	return n
}

package platform

import (
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
			entries, err := os.ReadDir("/proc/thread-self/fd")
			if err != nil {
				t.Error(err)
			}
			held = len(entries)
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

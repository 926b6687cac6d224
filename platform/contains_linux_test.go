package platform

import (
	"os"
	"testing"
)

func TestContains(t *testing.T) {
	modes(t, func(t *testing.T, h Host) {
		// Itself, its child, and one with a session of its own.
		p, out := output(t, h, Command{Args: []string{"/bin/sh", "-c", `
echo $$
sleep 9973 & echo $!
setsid sh -c 'echo $$; exec sleep 9973' &
wait`}})
		stranger := sh(t, h, "exec sleep 9973")
		for range 3 {
			pid := out.pid()
			if !Contains(p, pid) {
				t.Errorf("process %d is not in the tree", pid)
			}
			if Contains(stranger, pid) {
				t.Errorf("process %d is in another's tree", pid)
			}
		}
		for _, pid := range []int{stranger.Identity().PID, os.Getpid(), 1, 0, -1, 1 << 30} {
			if Contains(p, pid) {
				t.Errorf("process %d is in the tree", pid)
			}
		}
	})
}

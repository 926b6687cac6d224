//go:build failpoints && unix

package failpoint

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// The test's own binary is the process that is armed: it reaches ForkBefore
// three times.
func TestMain(m *testing.M) {
	if os.Getenv("FAILPOINT_CHILD") == "" {
		os.Exit(m.Run())
	}
	var pid int
	if fmt.Sscan(os.Getenv("FAILPOINT_CHILD"), &pid); pid > 1 {
		Peer(pid)
	}
	for i := range 3 {
		Hit(ForkAfter)
		Hit(ForkBefore)
		fmt.Println("passed", i+1)
	}
}

// run gives how often an armed process passed the point, and whether it was
// killed there.
func run(t *testing.T, arming string, peer int) (passed int, killed bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprint("FAILPOINT_CHILD=", peer), "SYSPULSE_FAILPOINT="+arming)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(out); s.Scan(); {
		passed++
	}
	cmd.Wait()
	return passed, cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

func TestNthHitKills(t *testing.T) {
	for n := 1; n <= 4; n++ {
		passed, killed := run(t, fmt.Sprintf("fork.before:%d", n), 1)
		if want := min(n-1, 3); passed != want || killed != (n <= 3) {
			t.Errorf("armed for time %d: passed %d times, killed %v", n, passed, killed)
		}
	}
	if passed, killed := run(t, "commit.before:1", 1); passed != 3 || killed {
		t.Errorf("another point killed: passed %d times, killed %v", passed, killed)
	}
}

func TestPeerIsKilled(t *testing.T) {
	for arming, self := range map[string]bool{"fork.before:2:peer": false, "fork.before:2:both": true} {
		peer := exec.Command("/bin/sleep", "100")
		if err := peer.Start(); err != nil {
			t.Fatal(err)
		}
		if _, killed := run(t, arming, peer.Process.Pid); killed != self {
			t.Errorf("%s: killed itself: %v", arming, killed)
		}
		peer.Wait()
		if sig := peer.ProcessState.Sys().(syscall.WaitStatus).Signal(); sig != syscall.SIGKILL {
			t.Errorf("%s: the peer ended with %v", arming, peer.ProcessState)
		}
	}
}

func TestFileFiresOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "arm")
	if passed, killed := run(t, "@"+file, 1); passed != 3 || killed {
		t.Errorf("without the file: passed %d times, killed %v", passed, killed)
	}
	if err := os.WriteFile(file, []byte("fork.before:2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if passed, killed := run(t, "@"+file, 1); passed != 1 || !killed {
		t.Errorf("passed %d times, killed %v", passed, killed)
	}
	if fired, _ := filepath.Glob(file + ".fired.*"); len(fired) != 1 {
		t.Errorf("fired: %v", fired)
	}
	if passed, killed := run(t, "@"+file, 1); passed != 3 || killed {
		t.Errorf("the second time: passed %d times, killed %v", passed, killed)
	}
}

func TestBadArmingIsRefused(t *testing.T) {
	for _, arming := range []string{"fork.before", "fork.before:0", "fork.before:x", "fork.before:1:all"} {
		if passed, killed := run(t, arming, 1); passed != 0 || killed {
			t.Errorf("%q: passed %d times, killed %v", arming, passed, killed)
		}
	}
}

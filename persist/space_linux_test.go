package persist

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// tmpfs mounts a small disk.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a tmpfs")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a tmpfs can't be mounted here: %v", err)
	}
	t.Cleanup(func() {
		// A store that was abandoned still has maps there.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fillUp takes all space there is.
func fillUp(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for b := make([]byte, 64<<10); ; {
		n, err := f.Write(b)
		if errors.Is(err, unix.ENOSPC) {
			if n == 0 && len(b) == 1 {
				return nil
			}
			b = b[:max(1, len(b)/2)]
		} else if err != nil {
			return err
		}
	}
}

// Another program fills the disk while events are written; a write through a
// memory map would then be SIGBUS and end this test.
func TestRealDiskIsFilled(t *testing.T) {
	mnt := tmpfs(t, "48m")
	dir, filler := filepath.Join(mnt, "data"), filepath.Join(mnt, "filler")
	small := func(o *Options) { o.ReserveBytes = 8 << 20 }
	s := open(t, dir, small)
	appendTo(t, s, registered("web"))
	pid := 0
	write := func(n int) {
		for range n {
			pid++
			appendTo(t, s, started("web", pid))
		}
	}
	write(2000)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- fillUp(filler) }()
	write(30_000)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if s.Degraded() == "" {
		t.Fatal("the disk is full and nothing is said")
	}
	t.Log(s.Degraded())
	if err := s.Close(); err == nil {
		t.Error("Close on a full disk kept quiet")
	} else {
		t.Log(err)
	}

	// A manager starts on the full disk, goes on, and recovers.
	s = open(t, dir, small)
	r := s.Recovered()
	t.Logf("%q", r.Notices)
	if len(r.Daemons) != 1 || r.Daemons[0].Registration == nil || s.Degraded() == "" {
		t.Fatalf("recovered %+v", r)
	}
	write(500)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if !s.Retry() {
		t.Fatalf("there is room and still: %s", s.Degraded())
	}
	write(5000)
	if err := s.Sync(); err != nil {
		t.Error(err)
	}
	closeStore(t, s)
	r = open(t, dir, small).Recovered()
	if len(r.Notices) > 0 || r.Daemons[0].Record.Process.PID != pid {
		t.Errorf("recovered %+v", r)
	}
}

func TestReadOnlyDataDirectory(t *testing.T) {
	mnt := tmpfs(t, "48m")
	dir := filepath.Join(mnt, "data")
	closeStore(t, open(t, dir))
	s := open(t, dir)
	appendTo(t, s, registered("web"), started("web", 3))
	closeStore(t, s)
	if err := unix.Mount("", mnt, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	r := s.Recovered()
	t.Logf("%q", r.Notices)
	if s.Degraded() == "" || len(r.Daemons) != 1 || r.Daemons[0].Record.Process.PID != 3 {
		t.Fatalf("recovered %+v", r)
	}
	appendTo(t, s, started("web", 4))
	if err := unix.Mount("", mnt, "", unix.MS_REMOUNT, "size=48m"); err != nil {
		t.Fatal(err)
	}
	if !s.Retry() {
		t.Fatalf("it can be written and still: %s", s.Degraded())
	}
	closeStore(t, s)
	if r := open(t, dir).Recovered(); r.Daemons[0].Record.Process.PID != 4 || len(r.Notices) > 0 {
		t.Errorf("recovered %+v", r)
	}
}

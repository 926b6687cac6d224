package persist

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// disk is an ext4 file system in a file. What the kernel has not written out
// yet is not in the file: a copy of it is what a power cut leaves.
type disk struct {
	t     *testing.T
	image string
	mnt   string
}

func attachDisk(t *testing.T, image string) *disk {
	t.Helper()
	out, err := exec.Command("losetup", "--find", "--show", image).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device is to be had: %v: %s", err, out)
	}
	loop := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "--detach", loop).Run() })
	d := &disk{t: t, image: image, mnt: t.TempDir()}
	// Nothing is written out by time alone.
	if err := unix.Mount(loop, d.mnt, "ext4", 0, "commit=600"); err != nil {
		t.Skipf("ext4 can't be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(d.mnt, unix.MNT_DETACH) })
	return d
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a disk")
	}
	for _, tool := range []string{"losetup", "mkfs.ext4"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	image := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 64<<20)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return attachDisk(t, image)
}

// cut copies what the disk has.
func (d *disk) cut() string {
	d.t.Helper()
	path := filepath.Join(d.t.TempDir(), "cut")
	from, err := os.Open(d.image)
	if err != nil {
		d.t.Fatal(err)
	}
	defer from.Close()
	to, err := os.Create(path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// The power is cut at any write of the journal and in between: what a Sync had
// returned for is there.
func TestPowerCut(t *testing.T) {
	d := newDisk(t)
	type moment struct {
		at     string
		image  string
		synced uint64
		names  int // daemons registered by then
	}
	var (
		moments []moment
		synced  uint64
		names   int
		due     string // the point at which the power is to be cut next
	)
	want := []string{"commit", "batch", "snapshot", "trim", "commit", "commit", "snapshot", "trim", "commit"}
	cut := func(at string) { moments = append(moments, moment{at, d.cut(), synced, names}) }
	s := open(t, filepath.Join(d.mnt, "data"), func(o *Options) {
		o.SnapshotEvery, o.MaxEvents, o.ReserveBytes = 300, 1000, 4<<20
		o.Faults.Point = func(name string) {
			if name == due {
				due = ""
				cut(name)
			}
		}
	})
	pid := 0
	for i := 0; len(want) > 0 || due != ""; i++ {
		if due == "" {
			due, want = want[0], want[1:]
		}
		ev := registered(fmt.Sprint("d", i))
		events := appendTo(t, s, ev)
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		synced, names = events[0].Seq, i+1
		if i%5 == 0 {
			cut("synced")
		}
		// Not synced: any part of it may be there.
		n := 40
		if i%4 == 3 {
			n = 4000
		}
		batch := events[:0:0]
		for range n {
			pid++
			batch = append(batch, started(fmt.Sprint("d", pid%names), pid))
		}
		appendTo(t, s, batch...)
	}
	cut("end")
	t.Logf("%d cuts, %d events", len(moments), s.lastSeq)
	for i, m := range moments {
		t.Run(fmt.Sprintf("%d %s", i, m.at), func(t *testing.T) {
			after := attachDisk(t, m.image)
			s := open(t, filepath.Join(after.mnt, "data"), func(o *Options) { o.ReserveBytes = 4 << 20 })
			r := s.Recovered()
			if r.LastSeq < m.synced {
				t.Errorf("event %d was synced, the last one there is %d; notices %q", m.synced, r.LastSeq, r.Notices)
			}
			have := make(map[string]bool)
			for _, d := range r.Daemons {
				have[d.Name] = d.Registration != nil
			}
			for n := range m.names {
				if !have[fmt.Sprint("d", n)] {
					t.Errorf("d%d is lost; notices %q", n, r.Notices)
				}
			}
			appendTo(t, s, registered("new"))
			closeStore(t, s)
		})
	}
}

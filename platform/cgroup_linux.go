package platform

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupBase is the cgroup v2 directory under which each incarnation has its own.
// No controller is needed in it: it serves to find and kill what a daemon forked.

// findCgroupBase makes the directory for this manager below the manager's own
// cgroup; "" if there is no cgroup v2 or no right to write there, which is what
// most ordinary users have.
func findCgroupBase(dataDir string) string {
	mount, root := cgroupMount()
	own := cgroupOf("self")
	if mount == "" || own == "" {
		return ""
	}
	rel, ok := strings.CutPrefix(own, strings.TrimSuffix(root, "/"))
	if !ok {
		return "" // what is mounted here is another part of the tree
	}
	// A manager that an earlier one's cgroup holds (started by a daemon) nests; fine.
	if abs, err := filepath.Abs(dataDir); err == nil {
		dataDir = abs
	}
	sum := sha256.Sum256([]byte(dataDir))
	base := filepath.Join(mount, rel, "syspulse-"+hex.EncodeToString(sum[:6]))
	if err := os.Mkdir(base, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return ""
	}
	if unix.Access(base, unix.W_OK) != nil {
		return ""
	}
	// What earlier managers could not remove; a populated one refuses. None of
	// these is of an incarnation yet to come, so nobody has to wait for it.
	entries, _ := os.ReadDir(base)
	go func() {
		for _, e := range entries {
			if e.IsDir() {
				removeCgroup(filepath.Join(base, e.Name()))
			}
		}
	}()
	return base
}

// cgroupMount finds where cgroup v2 is mounted and which part of it is (proc_pid_mountinfo(5)).
func cgroupMount() (mount, root string) {
	b, err := readProc("/proc/self/mountinfo", nil)
	if err != nil {
		return "", ""
	}
	for line := range strings.Lines(string(b)) {
		before, after, ok := strings.Cut(line, " - ")
		f := strings.Fields(before)
		if ok && len(f) >= 5 && strings.HasPrefix(after, "cgroup2 ") {
			return unescapeMount(f[4]), unescapeMount(f[3])
		}
	}
	return "", ""
}

// unescapeMount undoes the octal escapes of mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// cgroupPIDs lists the living processes of a cgroup and of those below it; none
// if it is gone. It fails only if it could not look.
func cgroupPIDs(dir string) ([]int, error) {
	b, err := readProc(dir+"/cgroup.procs", nil)
	if IsLack(err) {
		return nil, fmt.Errorf("the cgroup %s can't be looked at: %w", dir, err)
	}
	if err != nil {
		return nil, nil
	}
	out := parsePIDs(b)
	forSubgroups(dir, func(sub string) {
		more, e := cgroupPIDs(sub)
		out = append(out, more...)
		err = errors.Join(err, e)
	})
	return out, err
}

// cgroupPopulated is false if the cgroup is gone, too. What it can't look at is
// populated as far as it knows.
func cgroupPopulated(dir string) bool {
	populated, err := cgroupState(dir)
	return err != nil || populated
}

// cgroupState fails only if it could not look.
func cgroupState(dir string) (populated bool, err error) {
	var buf [1024]byte
	b, err := readProc(dir+"/cgroup.events", buf[:])
	if IsLack(err) {
		return false, err
	}
	return err == nil && bytes.Contains(b, []byte("populated 1")), nil
}

// cgroupKill kills everything in the cgroup at once (Linux 5.14).
func cgroupKill(dir string) error {
	fd, err := unix.Open(dir+"/cgroup.kill", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("1"))
	return err
}

// removeCgroup removes a cgroup and those below it, unless something is in them,
// which it reports.
func removeCgroup(dir string) (busy bool) {
	err := unix.Rmdir(dir)
	if err == unix.EBUSY {
		forSubgroups(dir, func(sub string) { removeCgroup(sub) })
		err = unix.Rmdir(dir)
	}
	return err == unix.EBUSY
}

// removeDeadCgroup removes the cgroup of what has ended. The kernel lists nobody
// who is dying, and still counts them.
func removeDeadCgroup(dir string) {
	if !removeCgroup(dir) {
		return
	}
	go func() {
		for pause := time.Millisecond; pause < leftoverWait; pause *= 2 {
			time.Sleep(pause)
			if !removeCgroup(dir) {
				return
			}
		}
	}()
}

func forSubgroups(dir string, f func(string)) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || st.Nlink <= 2 {
		return // a directory has a link for each one below it
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			f(filepath.Join(dir, e.Name()))
		}
	}
}

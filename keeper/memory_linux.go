package keeper

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
)

// staySmall is called first. One processor is enough for what is to be done, and
// the runtime makes a thread, with stacks, for each that it may use.
func staySmall() {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(50)
}

// UnmapBinary gives back the pages of the binary that only the start, or a burst,
// has needed: the kernel maps generously around each that is touched, and the
// runtime touches all of its tables once. What is needed again comes back from the
// page cache. Nothing that was written to is in these mappings: they are read-only.
func UnmapBinary() {
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		f := strings.Fields(line) // address, permissions, offset, device, inode, path
		if len(f) < 6 || f[5] != exe || f[1][1] == 'w' {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 == nil && err2 == nil && end > start {
			_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, uintptr(start), uintptr(end-start), syscall.MADV_DONTNEED)
		}
	}
}

package persist

import (
	"bufio"
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// pageOut takes tables out of the process's resident memory: Badger maps them,
// and those that it wrote itself are resident whole. What is read of them
// later is mapped again.
//
// MADV_PAGEOUT (Linux 5.4) never changes what memory holds, so it does no harm
// if a table is unmapped meanwhile and something else is at its address. (That
// is why it is not MADV_DONTNEED.)
func (s *Store) pageOut() {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	dir := []byte(" " + s.stateDir + "/")
	lines := bufio.NewScanner(bytes.NewReader(maps))
	for lines.Scan() {
		line := lines.Bytes()
		if !bytes.Contains(line, dir) || !bytes.HasSuffix(line, []byte(".sst")) {
			continue
		}
		addrs, _, _ := bytes.Cut(line, []byte(" "))
		lo, hi, _ := bytes.Cut(addrs, []byte("-"))
		from, err1 := strconv.ParseUint(string(lo), 16, 64)
		to, err2 := strconv.ParseUint(string(hi), 16, 64)
		if err1 != nil || err2 != nil || to <= from {
			continue
		}
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(from), uintptr(to-from), unix.MADV_PAGEOUT)
	}
}

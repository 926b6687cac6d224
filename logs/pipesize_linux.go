//go:build !logs_poll

package logs

import (
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	rootPipe = 1 << 20   // the most that pipe-max-size lets anybody have by default
	userPipe = 256 << 10 // leaves room for others in a user's budget
)

// pipeBudget is what the pipes of this manager may be enlarged by. Root has
// no limit. All pipes of an ordinary user together may have pipe-user-pages-soft
// pages (64 MiB by default; pipe(7)); past it each new one, in whatever
// program of that user, is made with two. So we take half of it at most.
type pipeBudget struct {
	mu        sync.Mutex
	privilege bool
	left      int // bytes
	taken     map[uint64]int
}

func (b *pipeBudget) init() {
	b.privilege = os.Geteuid() == 0
	b.taken = make(map[uint64]int)
	pages := 16384
	if text, err := os.ReadFile("/proc/sys/fs/pipe-user-pages-soft"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			pages = n
		}
	}
	if pages == 0 { // no limit
		pages = 1 << 18
	}
	b.left = pages * os.Getpagesize() / 2
}

// take answers to what size a stream's pipe may be enlarged; 0 if it may not.
func (b *pipeBudget) take(id uint64, size int) int {
	if b.privilege {
		return rootPipe
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if size >= userPipe || b.left < userPipe-size {
		return 0
	}
	b.left -= userPipe - size
	b.taken[id] += userPipe - size
	return userPipe
}

// give takes back what a stream was given.
func (b *pipeBudget) give(id uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += b.taken[id]
	delete(b.taken, id)
}

// enlarge makes the pipe larger if it is full now.
func (s *stream) enlarge() {
	// For reading and writing, a pipe polls as writable unless it is full.
	// Its bytes don't tell: lines that don't fill a page leave room nobody
	// can use.
	fds := []unix.PollFd{{Fd: int32(s.fifo), Events: unix.POLLOUT}}
	if n, err := unix.Poll(fds, 0); err != nil || n != 0 {
		return
	}
	to := s.e.pipes.take(s.id, s.size)
	if to <= s.size {
		s.fixed = true
		return
	}
	size, err := unix.FcntlInt(uintptr(s.fifo), unix.F_SETPIPE_SZ, to)
	if err != nil { // EPERM: past a budget, which is normal for an ordinary user
		s.e.pipes.give(s.id)
		s.fixed = true
		return
	}
	s.size = size
	s.fixed = size >= to
}

//go:build unix

package logs

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/failpoint"
)

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// copy moves bytes by read and write, where there is no splice or the file
// system refuses it. Bytes that were read and can't be written are held, and
// are lost if the manager is killed then.
func (s *stream) copy() (int, error) {
	buf := s.held
	if len(buf) == 0 {
		p := copyBuffers.Get().(*[]byte)
		defer copyBuffers.Put(p)
		var n int
		err := retry(func() (err error) {
			n, err = unix.Read(s.fifo, *p)
			return err
		})
		if err == unix.EAGAIN {
			return 0, nil
		}
		if err != nil {
			return 0, os.NewSyscallError("read", err)
		}
		buf = (*p)[:n]
	}
	failpoint.Hit(failpoint.LogCopied)
	written := 0
	for len(buf) > 0 {
		n, err := unix.Pwrite(s.file.fd, buf, s.file.pos)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			s.held = append([]byte(nil), buf...)
			return written, fmt.Errorf("%s: %w", s.file.path, err)
		}
		buf = buf[n:]
		s.file.pos += int64(n)
		written += n
	}
	s.held = nil
	return written, nil
}

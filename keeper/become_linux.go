package keeper

import (
	"os"
	"syscall"
)

// Offered reports whether this process may have a keeper: it has none yet (nor
// a service manager that holds descriptors), and the system can have one.
func (s *Store) Offered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid == 0 && !s.keeps && !s.successor
}

// Become makes this process a keeper whose managers run with args. It returns
// only if that failed. [Inherit] must have been called, and nothing been opened.
func (s *Store) Become(args []string) error {
	env := os.Environ()
	if s.addr != "" {
		env = append(env, "NOTIFY_SOCKET="+s.addr)
	}
	return os.NewSyscallError("execve", syscall.Exec("/proc/self/exe", append([]string{"syspulse", Argument}, args...), env))
}

//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/keeper"
)

// process is a manager or a keeper, which need not be a child of the suite.
type process struct{ pid, fd int }

// openProcess is nil if there is no such process.
func openProcess(pid int) *process {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	return &process{pid, fd}
}

func (p *process) close() { unix.Close(p.fd) }

// kill ends it as nothing else does, and returns once it is dead.
func (p *process) kill() {
	_ = unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0) // it may be dead
	p.await(patience)
}

// await reports whether it is dead, or will be before so long.
func (p *process) await(limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	for {
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(time.Until(deadline).Milliseconds(), 0)))
		if err != unix.EINTR {
			return n > 0
		}
	}
}

func (p *process) dead() bool { return p.await(0) }

// find looks which manager and which keeper of this data directory live.
func (s *suite) find() {
	s.manager, s.keeper = s.stillThere(s.manager), s.stillThere(s.keeper)
	if s.manager != nil && (s.keeper != nil || !s.options.keeper) {
		return
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		s.fatal("%v", err)
	}
	mark := []byte("\x00" + s.data + "\x00")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil || !bytes.Contains(b, mark) {
			continue
		}
		args := strings.Split(string(b), "\x00")
		which := &s.manager
		if s.options.keeper && (args[1] == keeper.Argument || pid == s.launched.cmd.Process.Pid) {
			which = &s.keeper
		}
		if *which == nil {
			*which = openProcess(pid)
		}
	}
}

// recognize corrects what find took for the manager and its keeper: a child
// that one of them is forking looks the same until it execs.
func (s *suite) recognize(p api.Ping) {
	s.find()
	if s.manager != nil && s.manager.pid != p.PID {
		s.manager.close()
		s.manager = openProcess(p.PID)
	}
	if p.KeeperPID != nil && s.keeper != nil && s.keeper.pid != *p.KeeperPID {
		s.keeper.close()
		s.keeper = openProcess(*p.KeeperPID)
	}
}

// stillThere forgets one that is dead, or was a child that has become somebody
// else.
func (s *suite) stillThere(p *process) *process {
	if p == nil {
		return nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
	if p.dead() || err == nil && len(b) > 0 && !bytes.Contains(b, []byte("\x00"+s.data+"\x00")) {
		p.close()
		return nil
	}
	return p
}

package platform

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

const szomb = 5 // SZOMB of sys/proc.h

// table reads the process table.
func table() []proc {
	all, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return nil
	}
	out := make([]proc, 0, len(all))
	for i := range all {
		q := proc{stat: statOf(&all[i])}
		if !q.dead() {
			q.session, _ = unix.Getsid(q.pid)
			q.mark = readMark(q.pid)
		}
		out = append(out, q)
	}
	return out
}

func readStat(pid int) (stat, bool) {
	k, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil || int(k.Proc.P_pid) != pid {
		return stat{}, false
	}
	return statOf(k), true
}

func statOf(k *unix.KinfoProc) stat {
	s := stat{
		pid: int(k.Proc.P_pid), ppid: int(k.Eproc.Ppid), pgrp: int(k.Eproc.Pgid), state: 'R',
		start: uint64(k.Proc.P_starttime.Sec)*1e6 + uint64(k.Proc.P_starttime.Usec),
	}
	if k.Proc.P_stat == szomb {
		s.state = 'Z'
	}
	return s
}

// readMark finds the incarnation mark behind the arguments in kern.procargs2
// (sysctl(3)): a count, the path, the arguments, the environment.
func readMark(pid int) string {
	b, err := unix.SysctlRaw("kern.procargs2", pid)
	if err != nil || len(b) < 4 {
		return ""
	}
	argc := int(binary.LittleEndian.Uint32(b))
	_, b, _ = bytes.Cut(b[4:], []byte{0})
	b = bytes.TrimLeft(b, "\x00")
	for ; argc > 0 && len(b) > 0; argc-- {
		_, b, _ = bytes.Cut(b, []byte{0})
	}
	for len(b) > 0 {
		var kv []byte
		kv, b, _ = bytes.Cut(b, []byte{0})
		if v, ok := bytes.CutPrefix(kv, []byte(IncarnationVariable+"=")); ok {
			return string(v)
		}
	}
	return ""
}

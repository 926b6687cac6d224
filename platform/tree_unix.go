//go:build unix

package platform

import "errors"

// stat is what the process table says of a process.
type stat struct {
	pid     int
	state   byte // Z and X are dead
	ppid    int
	pgrp    int
	session int
	start   uint64 // Linux: clock ticks since boot; else microseconds since 1970
	kernel  bool   // a thread of the kernel's own
}

// procKey names a process beyond reuse of its pid on this boot.
type procKey struct {
	pid   int
	start uint64
}

func (s stat) key() procKey { return procKey{s.pid, s.start} }

func (s stat) dead() bool { return s.state == 'Z' || s.state == 'X' || s.state == 'x' }

// proc is a process as a pass over the process table saw it.
type proc struct {
	stat
	mark   string    // its incarnation mark
	files  [2]fileID // descriptors 1 and 2, of those without a mark
	unsure bool      // it was in the middle of an exec, where its mark can't be read
}

// fileID names a file with a name; zero is none.
type fileID struct{ dev, ino uint64 }

// closure is what seed chooses and all that descends from it, without the dead,
// and without self and what is below it.
func closure(procs []proc, seed func(*proc) bool, self int) []stat {
	const unknown, no, yes = 0, 1, 2
	at := make(map[int]int, len(procs))
	for i := range procs {
		at[procs[i].pid] = i
	}
	verdict := make([]byte, len(procs))
	var judge func(i, depth int) byte
	judge = func(i, depth int) byte {
		if verdict[i] != unknown {
			return verdict[i]
		}
		v := byte(no)
		switch s := &procs[i]; {
		case s.pid == self:
		case seed(s):
			v = yes
		case depth < len(procs): // a pass that saw a pid twice in motion could hold a circle
			if parent, ok := at[s.ppid]; ok && s.ppid != s.pid {
				v = judge(parent, depth+1)
			}
		}
		verdict[i] = v
		return v
	}
	var out []stat
	for i := range procs {
		if !procs[i].dead() && judge(i, 0) == yes {
			out = append(out, procs[i].stat)
		}
	}
	return out
}

// sweeps bounds the passes of one sweep. What has SIGKILL pending cannot fork, so
// two or three passes are the rule; only a fork bomb that outruns the sweep gets here.
const sweeps = 200

// sweep calls f once for each member until a pass meets no new one, and returns
// the sum of what f returned. That members could not see all is an error if it was
// so to the last.
func sweep(members func() ([]stat, error), f func(stat) (int, error)) (int, error) {
	seen := make(map[procKey]bool)
	n, err := 0, error(nil)
	for range sweeps {
		fresh := false
		found, blind := members()
		for _, m := range found {
			if seen[m.key()] {
				continue
			}
			seen[m.key()], fresh = true, true
			did, e := f(m)
			n += did
			if e != nil {
				err = errors.Join(err, e)
			}
		}
		if !fresh {
			return n, errors.Join(err, blind)
		}
	}
	return n, errors.Join(err, errors.New("new processes appear faster than they can be signalled"))
}

// foundEmpty notes a look's result and returns it.
func (n *notices) foundEmpty(empty bool) bool {
	if empty {
		n.mu.Lock()
		n.empty = true
		n.mu.Unlock()
	}
	return empty
}

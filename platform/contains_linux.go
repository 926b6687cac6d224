package platform

import (
	"slices"
	"strconv"
	"strings"
)

// deepest bounds the way from a process up to the first one of its tree.
const deepest = 64

// Contains says whether a process is one of p's tree, by what it and those above
// it show. It reads a few files for each of these, never the whole process
// table. The answer is about who has the number now; false also if it can't be
// learnt.
func Contains(p Process, pid int) bool {
	q, ok := p.(*process)
	if !ok {
		return false
	}
	return q.contains(pid)
}

func (q *process) contains(pid int) bool {
	for range deepest {
		if pid <= 1 || pid == q.host.selfPID {
			return false
		}
		s, err := readStat(pid)
		switch {
		case err != nil, s.start < q.since:
			return false // whoever is of the tree came after its first process
		case pid == q.id.PID:
			return s.start == q.id.StartTime
		case s.session == q.session && q.session > 1 && !q.isExited():
			return true
		case slices.Contains(strings.Split(cgroupOf(strconv.Itoa(pid)), "/"), q.incarnation):
			return true
		}
		if mark, _, _, err := readMark(pid, nil); err == nil && mark == q.incarnation {
			return true
		}
		for _, f := range outputsOf(pid) {
			if f != (fileID{}) && slices.Contains(q.fifos, f) {
				return true
			}
		}
		pid = s.ppid
	}
	return false
}

package platform

import (
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

func (h *host) Survivors(search Search) ([]Survivor, error) {
	inCgroup := make(map[int]string) // incarnations by pid
	if h.cgroups != "" {
		entries, err := os.ReadDir(h.cgroups)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !search.Mine(e.Name()) {
				continue
			}
			pids, err := cgroupPIDs(filepath.Join(h.cgroups, e.Name()))
			if err != nil {
				return nil, err
			}
			for _, pid := range pids {
				inCgroup[pid] = e.Name()
			}
		}
	}
	outputs := make(map[fileID]string, len(search.Outputs))
	for path, what := range search.Outputs {
		if id := namedFIFO(path); id != (fileID{}) {
			outputs[id] = what
		}
	}
	all, err := pids()
	if err != nil {
		return nil, err
	}
	found := make(map[Survivor][]stat)
	var buf []byte
	for _, pid := range all {
		if pid == h.selfPID {
			continue
		}
		who := Survivor{Incarnation: inCgroup[pid]}
		if who.Incarnation == "" {
			if who.Incarnation, buf, err = readMark(pid, buf); err != nil {
				return nil, err
			}
			switch {
			case who.Incarnation == "":
				who.Output = outputAmong(pid, outputs)
			case !search.Mine(who.Incarnation):
				continue
			}
		}
		if who == (Survivor{}) {
			continue
		}
		s, err := readStat(pid)
		if IsLack(err) {
			return nil, err
		}
		if err == nil && !s.dead() {
			found[who] = append(found[who], s)
		}
	}
	return survivors(found, h.bootID, func(s *stat) time.Duration {
		const ticks = 100 // USER_HZ, the same everywhere
		return h.Uptime() - time.Duration(s.start)*(time.Second/ticks)
	}), nil
}

// outputAmong is which of some FIFOs is an output of a process; "" if none.
func outputAmong(pid int, outputs map[fileID]string) string {
	if len(outputs) == 0 {
		return ""
	}
	for _, fd := range []string{"1", "2"} {
		var st unix.Stat_t
		err := unix.Stat("/proc/"+strconv.Itoa(pid)+"/fd/"+fd, &st)
		if err == nil && outputs[fileID{st.Dev, st.Ino}] != "" {
			return outputs[fileID{st.Dev, st.Ino}]
		}
	}
	return ""
}

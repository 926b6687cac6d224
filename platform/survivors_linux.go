package platform

import (
	"cmp"
	"os"
	"path/filepath"
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
	procs, err := h.scans.snapshot()
	if err != nil {
		return nil, err
	}
	// Somebody in an endless exec is left out: one doubt must not void the rest.
	found := make(map[Survivor][]stat)
	for i := range procs {
		q := &procs[i]
		if q.pid == h.selfPID || q.dead() {
			continue
		}
		who := Survivor{Incarnation: cmp.Or(inCgroup[q.pid], q.mark)}
		if who.Incarnation == "" {
			who.Output = cmp.Or(outputs[q.files[0]], outputs[q.files[1]])
		} else if !search.Mine(who.Incarnation) {
			continue
		}
		if who != (Survivor{}) {
			found[who] = append(found[who], q.stat)
		}
	}
	return survivors(found, h.bootID, h.Age), nil
}

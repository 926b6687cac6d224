//go:build unix

package actors

import (
	"testing"

	"github.com/cyber-boost/syspulse/platform"
	"github.com/cyber-boost/syspulse/supervision"
)

// A journal that has lost its tail may say that a daemon waits which runs: the
// incarnation is the same. It is taken over, not started beside itself.
func TestReclaimWhatHasStoppedWaiting(t *testing.T) {
	rec := supervision.Record{State: supervision.Starting, Wanted: supervision.WantRunning, Waiting: true, Incarnation: "i1"}
	s := platform.Survivor{Incarnation: "i1", Main: supervision.Identity{BootID: "b", PID: 7, StartTime: 8}}
	if expected(&rec, &s) {
		t.Error("a process of what has forked nothing is expected")
	}
	e := entry{rec: rec}
	if keep := choose(&rec, []platform.Survivor{s}); keep == nil {
		t.Fatal("it is not kept")
	} else {
		resume(&e, keep, 0)
	}
	if e.rec.Waiting || e.rec.State != supervision.Running || e.rec.Process != s.Main {
		t.Errorf("%+v", e.rec)
	}
}

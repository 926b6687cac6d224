package actors

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/cyber-boost/syspulse/api"
)

// TestADaemonCostsNoThread starts many daemons: neither threads nor goroutines
// grow with them.
func TestADaemonCostsNoThread(t *testing.T) {
	f := newFixture(t)
	for i := range 200 {
		f.add(fmt.Sprint("d", i), nil, "sleep", "1000")
	}
	threads := func() int {
		entries, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before, goroutines := threads(), runtime.NumGoroutine()
	f.must(f.Start(context.Background(), api.ActionRequest{Selector: api.Selector{All: true}}))
	// The runtime makes some when those it has are busy with the disk; one for each
	// daemon would be 200.
	if n := threads() - before; n > 50 {
		t.Errorf("%d more threads with 200 daemons", n)
	}
	if n := runtime.NumGoroutine() - goroutines; n > 50 {
		t.Errorf("%d more goroutines with 200 daemons", n)
	}
}

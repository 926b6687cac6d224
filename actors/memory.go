package actors

import (
	"os"
	"runtime/debug"
	"time"

	"github.com/cyber-boost/syspulse/keeper"
)

// gcPercent is how much the heap may grow over what lives before it is
// collected. Go's 100 % would start a thousand daemons a tenth faster, and 200 %
// a little more, but what a burst scatters over the heap stays: 3 MB more each,
// for as long as the manager runs. GOGC overrides it.
const gcPercent = 40

// quietAfter is how long after the last commit a burst counts as over.
const quietAfter = 5 * time.Second

// staySmall makes the process hold no more memory than it needs.
func staySmall() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// settle gives the memory of a burst back to the system once it is over: a
// bulk start leaves twice of what the manager then needs, and an idle process
// would collect it never.
func (t *tree) settle() {
	t.alarms.set(&t.quiet, quietAfter, func() {
		go func() {
			debug.FreeOSMemory()
			keeper.UnmapBinary() // the collection has touched much of it
		}()
	})
}

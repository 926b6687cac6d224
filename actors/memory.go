package actors

import (
	"os"
	"runtime/debug"
	"time"
)

// gcPercent is how much the heap may grow over what lives before it is
// collected. In a bulk start the manager and a thousand programs compete for
// the processors, and collecting at Go's 100 % takes a tenth of them; what it
// costs in memory is given back once the burst is over. GOGC overrides it.
const gcPercent = 200

// quietAfter is how long after the last commit a burst counts as over.
const quietAfter = 5 * time.Second

// collectSeldom sets gcPercent.
func collectSeldom() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// settle gives the memory of a burst back to the system once it is over: a
// bulk start leaves twice of what the manager then needs, and an idle process
// would collect it never.
func (t *tree) settle() {
	t.alarms.set(&t.quiet, quietAfter, func() { go debug.FreeOSMemory() })
}

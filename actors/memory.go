package actors

import (
	"os"
	"runtime/debug"
	"time"
)

// gcPercent is how much the heap may grow over what lives before it is
// collected. What lives is small and seldom changes, so collecting sooner than
// Go's 100 % costs little and keeps the manager small. GOGC overrides it.
const gcPercent = 50

// quietAfter is how long after the last commit a burst counts as over.
const quietAfter = 5 * time.Second

// frugal makes the process hold no more memory than it needs.
func frugal() {
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

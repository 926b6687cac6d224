//go:build !failpoints

package failpoint

// Enabled says whether this build has failpoints.
const Enabled = false

// Hit marks that a point is reached.
func Hit(Point) {}

// Peer names the process that an armed point may kill: to a manager its
// keeper, to a keeper its manager. 0 is none.
func Peer(pid int) {}

// Sabotaged says whether a fault is to be built in.
func Sabotaged(f Fault) bool { return false }

// Tune is a limit that a test may have changed; else it is usual.
func Tune(limit string, usual int) int { return usual }

// Package keeper is the small process beside the manager, and the manager's
// side of what they say to each other.
//
// The keeper starts the manager, starts it again when it died, and meanwhile
// holds the descriptors that must not be closed: the FIFOs of the daemons'
// output, with the bytes in them; the pidfds, which say how a daemon ended; the
// socket of the API, where clients wait; the binary that runs. It is the child
// subreaper: what dies while no manager lives is reaped by it, and how it ended
// is noted for the next one.
//
// It speaks the protocol of systemd's descriptor store, so that systemd can take
// its place: the manager sends datagrams to $NOTIFY_SOCKET with FDSTORE=1,
// FDNAME= and the descriptors, or FDSTOREREMOVE=1 (sd_notify(3),
// sd_pid_notify_with_fds(3)), and its successor gets them as LISTEN_FDS and
// LISTEN_FDNAMES (sd_listen_fds(3)).
//
// It must be too small to fail. It has no database, no parser and no listener;
// it never waits for the manager, and the manager never waits for it. It is this
// binary under another first argument, and runs in this package's init, before
// the packages that only a manager needs have made their tables: that is most of
// its memory. (The order is fixed: the Go specification, "Program
// initialization", has packages initialized by import path as soon as those they
// import are.) So this package imports nothing but what needs none of them: the
// standard library's os and syscall.
package keeper

import (
	"time"

	"github.com/cyber-boost/syspulse/failpoint"
)

// Argument is the first argument that makes this binary a keeper. The arguments
// of the manager follow.
const Argument = "__keeper"

// Variables by which a keeper and its manager find each other. Daemons inherit
// no variable of this prefix.
const (
	// keeperVariable is the keeper's pid, for its child.
	keeperVariable = "SYSPULSE_KEEPER"
	// managerVariable is the pid of a manager that runs already, for a keeper
	// that this one has made.
	managerVariable = "SYSPULSE_KEEPER_OF"
	// rollbackVariable tells a manager how the new binary of an upgrade ended,
	// in whose place it was started.
	rollbackVariable = "SYSPULSE_ROLLBACK"
	// BinaryVariable is the path that the manager was started by. What is
	// running may be another file by now.
	BinaryVariable = "SYSPULSE_BINARY"
)

// Descriptors of a keeper that a running manager has made.
const (
	socketFD  = 3 // where datagrams arrive
	managerFD = 4 // pidfd of the manager
)

// firstFD is the first descriptor that is passed on (sd_listen_fds(3)).
const firstFD = 3

// MaxName is how many bytes a name in the store may have. The keeper has room
// for so many beside each descriptor; what is longer is not kept.
const MaxName = 43

// Names in the store. Others are the incarnation, for its pidfd, and what
// [FIFOName] gives.
const (
	// SocketName is the socket of the API.
	SocketName = "api"
	// BinaryName is the binary that a manager is started from.
	BinaryName = "exe"
	// ExitsName is where the keeper notes how processes ended.
	ExitsName = "exits"
)

// TrialTime is how long a binary that took over a manager's process has to
// answer clients, and must live, until the one before it is given up.
const TrialTime = 10 * time.Second

// Trial is TrialTime, or what a test has put in its place.
func Trial() time.Duration {
	return time.Duration(failpoint.Tune("trial-ms", int(TrialTime/time.Millisecond))) * time.Millisecond
}

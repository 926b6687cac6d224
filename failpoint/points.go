// Package failpoint names the moments at which the crash suite kills a manager
// or its keeper, so that each of them is tried for certain instead of by luck.
//
// In a normal build every function here is empty and inlined: nothing of it is
// in the binary. With the build tag failpoints one point can be armed from
// outside, by the environment variable SYSPULSE_FAILPOINT:
//
//	POINT:N          at the N-th time that POINT is reached, the process kills
//	                 itself with SIGKILL: no deferred function runs, no buffer
//	                 is written
//	POINT:N:peer     it kills its peer (see [Peer]) instead, and goes on
//	POINT:N:both     it kills its peer and then itself
//	@FILE            one of the above is read from FILE, if that exists, when
//	                 the process starts. FILE is renamed to FILE.fired.PID
//	                 before the kill, so it happens once, however often a
//	                 keeper starts the process again, and can be told from a
//	                 death of another cause
//
// Two more variables belong to the suite. SYSPULSE_SABOTAGE names faults to be
// built in, separated by commas: the suite must find every one of them (see
// [Sabotaged]). SYSPULSE_TUNE changes limits, so that what is rare in life is
// frequent in a test (see [Tune]).
package failpoint

// Point is a moment in the life of a manager or a keeper.
type Point string

// The points. Each is a moment in which something is done and something that
// belongs to it is not.
const (
	// A start: the intent is in the journal.
	ForkBefore Point = "fork.before" // nothing is forked
	ForkAfter  Point = "fork.after"  // the daemon runs, its pid is in no event

	// An end.
	ExitSeen    Point = "exit.seen"    // the process is reaped, its last words are in its pipes
	ExitDrained Point = "exit.drained" // the last words are in the log, the exit is in no event

	// A commit of events.
	CommitBefore Point = "commit.before" // nothing is written
	CommitPart   Point = "commit.part"   // the first of several transactions is
	CommitAfter  Point = "commit.after"  // all is written, nobody knows
	CommitSynced Point = "commit.synced" // it is on disk
	CommitAcked  Point = "commit.acked"  // a command may be acknowledged; its client has heard nothing

	// The plain copies of the registrations.
	CopiesBefore  Point = "copies.before"  // their events are committed, no file is written
	CopiesTemp    Point = "copies.temp"    // all files are written under other names
	CopiesRenamed Point = "copies.renamed" // one file, perhaps of several, has its name
	CopiesWritten Point = "copies.written" // the files are there, the mark is old

	// A snapshot of the state, and the end of the oldest events.
	SnapshotBefore Point = "snapshot.before" // it is due
	SnapshotAfter  Point = "snapshot.after"  // it is committed, the mark is old
	SnapshotMark   Point = "snapshot.mark"   // the mark is written under another name
	TrimBefore     Point = "trim.before"     // it is due
	TrimAfter      Point = "trim.after"      // it is committed
	CompactBefore  Point = "compact.before"  // tables are about to be merged
	CompactAfter   Point = "compact.after"   // they are

	// Output on its way from a pipe to a file.
	LogBefore Point = "log.before" // bytes are in the pipe
	LogCopied Point = "log.copied" // where there is no splice: bytes are in memory alone
	LogAfter  Point = "log.after"  // bytes are in the file, nobody knows
	LogDrain  Point = "log.drain"  // of a daemon that ended, before its last bytes are moved

	// A manager that begins.
	RecoverBegin   Point = "recover.begin"   // it has looked at nothing yet
	RecoverReplay  Point = "recover.replay"  // the journal is open, not read
	RecoverState   Point = "recover.state"   // the state is read
	RecoverLook    Point = "recover.look"    // a daemon of the manager before is about to be looked for
	RecoverAdopted Point = "recover.adopted" // it was found; that is in no event
	RecoverLost    Point = "recover.lost"    // it was not, what it left is ended; that is in no event
	RecoverAll     Point = "recover.all"     // every daemon is looked after, no event says so
	RecoverDone    Point = "recover.done"    // it is in the journal that a manager has begun
	RecoverServe   Point = "recover.serve"   // clients are about to be answered

	// A shutdown.
	ShutdownBegin    Point = "shutdown.begin"    // no daemon is told
	ShutdownGone     Point = "shutdown.gone"     // all have ended; no event says that it was clean
	ShutdownRecorded Point = "shutdown.recorded" // an event does
	ShutdownClosed   Point = "shutdown.closed"   // the journal is closed, the process lives

	// The keeper, by itself.
	KeeperBegin   Point = "keeper.begin"   // it has started nothing
	KeeperForked  Point = "keeper.forked"  // the manager runs, the keeper has noted nothing
	KeeperReaped  Point = "keeper.reaped"  // it has taken an exit code, and told it to nobody
	KeeperDied    Point = "keeper.died"    // it has seen its manager's death, and started no other
	KeeperStored  Point = "keeper.stored"  // it was given descriptors and has not said so
	KeeperRemoved Point = "keeper.removed" // it has let go of descriptors and has not said so

	// What keeper and manager hand to each other.
	HandoverSend    Point = "handover.send"    // the manager has made a descriptor that it has not handed over
	HandoverSent    Point = "handover.sent"    // it has, and goes on without an answer
	HandoverTake    Point = "handover.take"    // a new manager was given everything and has looked at nothing
	HandoverTaken   Point = "handover.taken"   // it goes on from it
	HandoverExits   Point = "handover.exits"   // it knows the exits that the keeper saw; no event does
	HandoverReplace Point = "handover.replace" // a manager without a keeper is about to make a new one

	// A manager that is replaced by another binary.
	UpgradeBegin   Point = "upgrade.begin"   // it was asked to
	UpgradeProved  Point = "upgrade.proved"  // the new binary has proved itself
	UpgradeExec    Point = "upgrade.exec"    // the next thing is the exec; after that comes HandoverTake
	UpgradeTrusted Point = "upgrade.trusted" // it has lasted long enough
)

// Fault is a mistake that can be built in, to prove that the suite finds it.
type Fault string

// The faults.
const (
	NoIntent    Fault = "no-intent"    // a start is not in the journal before the fork
	EarlyAnswer Fault = "early-answer" // commits are answered before they are made
	NoIdentity  Fault = "no-identity"  // any process with the right pid is adopted
	NoLeftovers Fault = "no-leftovers" // what a dead daemon of a dead manager left is not ended
	NoSplice    Fault = "no-splice"    // output is read and written instead of spliced
	NoOrder     Fault = "no-order"     // nothing waits for what it depends on
	NoAlong     Fault = "no-along"     // the others of a group run on when one is restarted
	CountAgain  Fault = "count-again"  // a manager counts again the restarts that one before it counted
)

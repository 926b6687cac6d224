// Package supervision decides. It holds the state model of a daemon, the
// restart policies and the strategies that protoactor's supervisors follow.
// Decisions are pure functions of (policy, history, now): nothing in here
// starts a process, writes a byte or reads a clock.
package supervision

import (
	"time"

	"github.com/cyber-boost/syspulse/spec"
)

// State is where a daemon stands.
type State string

// The states, as the command line shows them.
const (
	Stopped   State = "stopped"
	Starting  State = "starting"
	Running   State = "running"
	Stopping  State = "stopping"
	Failed    State = "failed"
	Scheduled State = "scheduled"
	Backoff   State = "backoff"
)

// Wanted is what the user asked of a daemon.
type Wanted string

// The wanted states.
const (
	WantRunning Wanted = "running"
	WantStopped Wanted = "stopped"
)

// Health is what the probes say.
type Health string

// The health values.
const (
	HealthUnknown       Health = "unknown"
	HealthHealthy       Health = "healthy"
	HealthUnhealthy     Health = "unhealthy"
	HealthNotConfigured Health = "not_configured"
)

// After is what happens to a daemon once it has stopped.
type After string

// What may follow a stop.
const (
	AfterNone   After = ""       // it stays stopped
	AfterStart  After = "start"  // a restart, or a start during stopping
	AfterRemove After = "remove" // its registration is removed
	AfterPolicy After = "policy" // its restart policy decides: what is left of a dead daemon is being ended
	AfterFail   After = "fail"   // it is failed, for Cause
)

// Exit is how an incarnation ended.
type Exit struct {
	Known  bool   // false: nobody could learn the code
	Code   int    // valid if Known and Signal is empty
	Signal string // "SIGKILL" and the like; empty if it exited
}

// Identity names a process beyond reuse of its pid.
type Identity struct {
	BootID    string // of the boot it was started on
	PID       int
	StartTime uint64 // in the platform's own unit (Linux: clock ticks since boot)
}

// Record is the event-sourced state of one daemon. Every event carries the
// record that results from it, so replay is: the last one counts. A Record is
// a value; it is never changed once it was handed out.
type Record struct {
	State  State
	Wanted Wanted
	Reason string // why it is in this state, for people; empty if nothing is to be said

	Incarnation string   // id of the current or last incarnation; empty before the first
	Process     Identity // zero before the pid is known, and after its end was recorded
	StartedAt   time.Time
	StoppedAt   time.Time
	UpSince     time.Duration // StartedAt on the platform's boot clock; steps of the wall clock don't touch it
	Leftovers   bool          // the main process is dead, others of its tree are left
	Waiting     bool          // state starting: for what it depends on; nothing was forked yet
	Ready       bool          // it said so, or its check did; without `ready`: exec succeeded
	Adopted     bool

	Exited   bool // LastExit is valid
	LastExit Exit

	Completed bool   // it exited by itself and with success, and was not started since
	Cause     string // state stopping: why the manager itself ends it, which makes that a failure

	RestartCount int64 // automatic restarts since registration
	Attempt      int   // restarts that count against max_retries, as of the event; see AttemptAfter
	Health       Health

	NextRestartAt time.Time // state backoff: when
	NextRunAt     time.Time // of a schedule, without jitter; zero unless it is armed
	Queued        bool      // another run follows the one under way
	After         After     // state stopping: what follows
	Along         string    // the member of its group that it was stopped along with, and starts again with
	Ended         bool      // stop, down or Ctrl-C ended it: autostart plays no part until it is started again

	// Of a group, which has nothing else but Reason, and State, failed or none.
	Firings *Firings
}

// AttemptAfter is Attempt of a daemon that has been up for so long: 0 once it has
// cooled down. Nothing happens at that moment, so no event tells of it (that would
// take a timer for each daemon); whoever asks about a running one asks with its
// uptime, and its exit records the answer.
func (r *Record) AttemptAfter(up time.Duration, p spec.RestartPolicy) int {
	if CooledDown(p, up) {
		return 0
	}
	return r.Attempt
}

// Kind names what happened.
type Kind string

// The events of a daemon's life. Their names are public (history, events).
const (
	EventRegistered    Kind = "registered"
	EventChanged       Kind = "changed" // another spec
	EventRemoved       Kind = "removed"
	EventWanted        Kind = "wanted"   // a command changed what is wanted
	EventWaiting       Kind = "waiting"  // for what it depends on
	EventStarting      Kind = "starting" // start intent, before the fork
	EventStarted       Kind = "started"  // exec succeeded, the pid is known
	EventReady         Kind = "ready"
	EventMain          Kind = "main_process" // another process of its tree is the main one now
	EventAdopted       Kind = "adopted"
	EventStartFailed   Kind = "start_failed"
	EventExited        Kind = "exited"
	EventBackoff       Kind = "backoff"
	EventStopping      Kind = "stopping"
	EventStopped       Kind = "stopped"
	EventScheduled     Kind = "scheduled" // a run is over, skipped or planned
	EventFailed        Kind = "failed"
	EventHealth        Kind = "health"
	EventGroupRestart  Kind = "group_restart" // of a group: a member is restarted by its policy
	EventGroupFailed   Kind = "group_failed"  // of a group: that was one too many
	EventManagerStart  Kind = "manager_started"
	EventManagerStop   Kind = "manager_stopped"
	EventManagerNotice Kind = "manager_notice" // something the manager found or could not do
)

// Event is one line of the journal.
type Event struct {
	Seq    uint64 // set by the journal, rising by one
	Time   time.Time
	Daemon string // empty for the manager's own events
	Kind   Kind
	Detail string // for people: the cause, the exit, what was found

	Record *Record       // what results; nil for the manager's events and for removed
	Spec   *Registration // registered and changed only
}

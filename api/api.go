// Package api is the language between a manager and its clients: the JSON
// values, the errors and the operations.
//
// [Manager] is the seam. The actor tree implements it; package server speaks
// it over HTTP on a Unix socket (a named pipe on Windows); package client
// implements it again at the other end. So code that is written against
// Manager works in the manager's own process and in any other.
package api

import (
	"context"
	"iter"
	"time"

	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// Manager is everything that can be asked of a manager. Its methods may be
// called from any goroutine. They honour ctx: when it ends they return its
// error soon, but what they began (a stop, a start) goes on.
//
// A method fails as a whole with an [*Error], or with ctx's error. Bulk
// operations report each daemon's outcome in a [Result] instead; they fail as
// a whole only if nothing could be tried. A name in a selector that is not
// registered is a Result with [CodeNotFound]; for Status, Get, Events and Logs
// it is an error.
type Manager interface {
	// Ping says who answers. It must not wait for anything.
	Ping(ctx context.Context) (Ping, error)

	// Status lists the selected daemons, sorted by name. The zero query is
	// all of them.
	Status(ctx context.Context, q StatusQuery) ([]Daemon, error)
	// Get is the details of one daemon.
	Get(ctx context.Context, q GetQuery) (Details, error)
	// Graph is the order in which daemons start. A name that isn't registered
	// is an error unless a daemon depends on it.
	Graph(ctx context.Context, q GraphQuery) (Graph, error)

	// Add registers daemons, all or none. A name that is known: identical is
	// a Result that is OK and not Changed; a different one is a CodeConflict
	// error that names the daemon and registers nothing.
	// Those with autostart are then started; Add doesn't wait for them. The same
	// goes for the declarations of groups, which have no Result.
	Add(ctx context.Context, req AddRequest) ([]Result, error)
	// Apply makes the daemons and groups what req says. If anything of req is refused,
	// nothing is changed. Daemons that req doesn't name are left alone, but for
	// req.Prune. What changed in a way that a process has to be started for, and
	// runs, is restarted: those that depend on others stop before them and start
	// after. Apply waits for their stops, and not for their starts. What is pruned is stopped and
	// removed after all else, and is waited for. The changes are in the order of
	// req, daemons before groups, behind them what is removed, by name.
	// What is the same already is not touched, so a manager that is killed in the
	// middle is put right by the same request again.
	Apply(ctx context.Context, req ApplyRequest) ([]Change, error)
	// Remove takes registrations away. What isn't stopped, failed or
	// scheduled, and what others depend on, is refused unless req.Force.
	Remove(ctx context.Context, req RemoveRequest) ([]Result, error)

	// Start wants daemons running, and what they depend on. It returns when
	// exec has succeeded or failed; where something is waited for, when that
	// is recorded; with req.Wait when they are ready.
	// Results hold what was pulled in as well, after what was asked for.
	Start(ctx context.Context, req ActionRequest) ([]Result, error)
	// Stop wants daemons stopped, and returns when nothing of them is left.
	// What depends on them stops first and stays wanted; it is not in the
	// results.
	Stop(ctx context.Context, req ActionRequest) ([]Result, error)
	// Restart stops and starts daemons, without their dependents.
	Restart(ctx context.Context, req ActionRequest) ([]Result, error)
	// Run begins a run of daemons that have a schedule, armed or not. It returns
	// when exec has succeeded or failed, or where something is waited for. One
	// without a schedule is a Result with CodeConflict.
	Run(ctx context.Context, req RunRequest) ([]Result, error)
	// Reload has daemons read their configuration again: by their
	// reload_command, which it waits for, at most 90 seconds, or else by their
	// reload_signal. One that has neither, or isn't running, is a Result with
	// CodeConflict.
	Reload(ctx context.Context, req ReloadRequest) ([]Result, error)
	// Signal sends any signal to the first process of each daemon.
	Signal(ctx context.Context, req SignalRequest) ([]Result, error)

	// Events are the journal's, oldest first. When the call returns the
	// stream is subscribed: with q.Follow no later event is missed. A stream
	// that is followed fails with [ErrInterrupted] if the manager can't go on;
	// that of a client goes on at the next manager instead.
	// A stream ends after an error, when the loop over it is left, and when
	// ctx ends; the last one frees it even if it was never looped over. It
	// may be looped over once.
	Events(ctx context.Context, q EventQuery) (iter.Seq2[Event, error], error)
	// Logs are the selected daemons' lines. Everything said of Events holds.
	Logs(ctx context.Context, q LogQuery) (iter.Seq2[LogLine, error], error)

	// Export is every registration and wanted state.
	Export(ctx context.Context) (State, error)
	// Import registers what Export gave, all or none, by the rules of Add,
	// and starts what is wanted running.
	Import(ctx context.Context, s State) ([]Result, error)

	// Upgrade replaces the manager by the binary that is on disk now, as the
	// same process; no daemon is touched. It returns when that binary has
	// proved itself; the replacement follows at once.
	Upgrade(ctx context.Context, req UpgradeRequest) (Upgrade, error)

	// Shutdown ends the manager. It returns when the daemons have ended (with
	// KeepDaemons, when all is written); the process exits soon after.
	// A second call while one waits speeds it up if it has Force.
	Shutdown(ctx context.Context, req ShutdownRequest) error
}

// Selector picks daemons: those named, those with any of the tags, those in
// any of the groups, or all. What it lists adds up.
type Selector struct {
	Names  []string `json:"names,omitempty"`
	Tags   []string `json:"tags,omitempty"`
	Groups []string `json:"groups,omitempty"`
	All    bool     `json:"all,omitempty"`
}

// IsZero reports whether s picks nothing.
func (s Selector) IsZero() bool {
	return !s.All && len(s.Names) == 0 && len(s.Tags) == 0 && len(s.Groups) == 0
}

// Daemon is one row of status. What doesn't apply is nil (null in JSON).
type Daemon struct {
	Name          string             `json:"name"`
	State         supervision.State  `json:"state"`
	Wanted        supervision.Wanted `json:"wanted"`
	Reason        *string            `json:"reason"`
	WaitingFor    []string           `json:"waiting_for"` // never null
	PID           *int               `json:"pid"`
	StartedAt     *time.Time         `json:"started_at"`
	StoppedAt     *time.Time         `json:"stopped_at"`
	UptimeSecs    *float64           `json:"uptime_secs"`
	Ready         bool               `json:"ready"`
	ExitCode      *int               `json:"exit_code"` // of the last end, kept while it runs again
	Signal        *string            `json:"signal"`    // SIGKILL and the like; then ExitCode is nil
	ExitKnown     *bool              `json:"exit_known"`
	RestartCount  int64              `json:"restart_count"`
	Attempt       int                `json:"attempt"`
	Adopted       bool               `json:"adopted"`
	Health        supervision.Health `json:"health"`
	Tags          []string           `json:"tags"` // never null
	Group         *string            `json:"group"`
	Description   *string            `json:"description"`
	Schedule      *string            `json:"schedule"`
	NextRunAt     *time.Time         `json:"next_run_at"`
	NextRestartAt *time.Time         `json:"next_restart_at"`
	StdoutLog     string             `json:"stdout_log"`
	StderrLog     string             `json:"stderr_log"`
	Warnings      []string           `json:"warnings"` // what this build doesn't act on; never null
}

// Details is what `status NAME` knows on top of a row.
type Details struct {
	Daemon
	Command     []string          `json:"command"`
	WorkingDir  *string           `json:"working_dir"`
	User        *string           `json:"user"`
	Source      *string           `json:"source"` // the .sys file it came from
	Incarnation *string           `json:"incarnation"`
	DependsOn   []string          `json:"depends_on"` // names; never null
	EnvKeys     []string          `json:"env_keys"`   // sorted; never null
	Env         map[string]string `json:"env"`        // null unless asked for
	HealthCheck *HealthCheck      `json:"health_check"`
	StatusText  *string           `json:"status_text"`  // the last STATUS= of its incarnation (sd_notify); a manager that begins has none
	NotifyState *string           `json:"notify_state"` // reloading, stopping: what it says that it does
}

// Graph is who depends on whom.
type Graph struct {
	Daemons []GraphDaemon `json:"daemons"` // by step, then by name; never null
	Groups  []GraphGroup  `json:"groups"`  // of the daemons, by name; never null
}

// GraphGroup is a group of daemons, declared or not.
type GraphGroup struct {
	Name        string   `json:"name"`
	Strategy    string   `json:"strategy"` // one_for_one, one_for_all, rest_for_one
	MaxRestarts *int     `json:"max_restarts"`
	WindowSecs  *float64 `json:"window_secs"`
	Restarts    int      `json:"restarts"` // those that count against max_restarts now
	Failed      bool     `json:"failed"`   // it is past that, and none of its members was restarted since
}

// GraphDaemon is a daemon among those that depend on each other, or a name that
// one depends on and nobody has.
type GraphDaemon struct {
	Name string `json:"name"`
	// Step is when it begins in a start of everything: 1 is what depends on
	// nothing; others wait for what they depend on, which is in earlier steps,
	// and for nothing else of those.
	Step       int                 `json:"step"`
	Registered bool                `json:"registered"`
	State      *supervision.State  `json:"state"` // nil unless it is registered, as Wanted
	Wanted     *supervision.Wanted `json:"wanted"`
	Group      *string             `json:"group"`
	WaitingFor []string            `json:"waiting_for"` // as in Daemon
	DependsOn  []GraphDependency   `json:"depends_on"`  // as written, whatever the query; never null
}

// GraphDependency is one thing that a daemon depends on.
type GraphDependency struct {
	Name       string  `json:"name"`
	Registered bool    `json:"registered"`
	Condition  *string `json:"condition"` // started, healthy, completed; nil if it follows from a daemon that isn't registered
	Met        bool    `json:"met"`       // now
}

// HealthCheck is what the checks of a daemon's health ask, and what came of the
// last ones. Those of an earlier incarnation stay until newer ones take their place;
// a manager that begins has none.
type HealthCheck struct {
	Type         string        `json:"type"` // http, tcp, command
	Target       string        `json:"target"`
	IntervalSecs float64       `json:"interval_secs"`
	Failures     int           `json:"failures"` // in a row; those in the start period don't count
	Results      []CheckResult `json:"results"`  // the newest first, five at most; never null
}

// CheckResult is the outcome of one check.
type CheckResult struct {
	At       time.Time `json:"at"` // when it began
	TookSecs float64   `json:"took_secs"`
	OK       bool      `json:"ok"`
	Error    *string   `json:"error"` // why it isn't OK
}

// NewDaemon is the row of a daemon's registration and record. The caller adds
// what neither holds: WaitingFor, UptimeSecs, NextRunAt, the log paths and
// Warnings.
func NewDaemon(reg *supervision.Registration, rec *supervision.Record) Daemon {
	d := Daemon{
		Name:         reg.Spec.Name,
		State:        rec.State,
		Wanted:       rec.Wanted,
		Reason:       optional(rec.Reason),
		WaitingFor:   []string{},
		StartedAt:    optionalTime(rec.StartedAt),
		StoppedAt:    optionalTime(rec.StoppedAt),
		Ready:        rec.Ready,
		RestartCount: rec.RestartCount,
		Attempt:      rec.Attempt,
		Adopted:      rec.Adopted,
		Health:       rec.Health,
		Tags:         append([]string{}, reg.Spec.Tags...),
		Group:        optional(reg.Spec.Group),
		Description:  optional(reg.Spec.Description),
		Schedule:     optional(reg.Spec.Schedule),
		Warnings:     []string{},
	}
	if rec.Process.PID != 0 {
		d.PID = new(rec.Process.PID)
	}
	if rec.Exited {
		d.ExitKnown = new(rec.LastExit.Known)
		switch {
		case !rec.LastExit.Known:
		case rec.LastExit.Signal != "":
			d.Signal = new(rec.LastExit.Signal)
		default:
			d.ExitCode = new(rec.LastExit.Code)
		}
	}
	d.NextRunAt = optionalTime(rec.NextRunAt)
	if rec.State == supervision.Backoff {
		d.NextRestartAt = optionalTime(rec.NextRestartAt)
	}
	return d
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Result is what a bulk operation did with one daemon.
type Result struct {
	Name  string             `json:"name"`
	OK    bool               `json:"ok"`
	State *supervision.State `json:"state"` // afterwards; nil if there is no such daemon
	Error *string            `json:"error"` // for people; nil if OK

	Code     Code     `json:"code,omitempty"`     // why it isn't OK
	Changed  bool     `json:"changed"`            // false: it was already so
	PulledIn bool     `json:"pulled_in"`          // started because another needs it
	Stderr   []string `json:"stderr,omitempty"`   // of a start or a reload_command that failed: the last lines it wrote (the latter to stdout, too)
	Warnings []string `json:"warnings,omitempty"` // what this build doesn't act on
}

// Done is the Result of a daemon that is now in state s; changed is false if
// it already was.
func Done(name string, s supervision.State, changed bool) Result {
	return Result{Name: name, OK: true, State: &s, Changed: changed}
}

// Failed is the Result of a daemon that is in state s and not as it should be.
// The code is that of err if it is an *Error, else CodeFailed.
func Failed(name string, s supervision.State, err error) Result {
	r := Result{Name: name, Error: new(err.Error()), Code: CodeOf(err)}
	if s != "" {
		r.State = &s
	}
	return r
}

// ChangeKind is what Apply does with one daemon.
type ChangeKind string

// The kinds of change.
const (
	ChangeAdded     ChangeKind = "added"
	ChangeChanged   ChangeKind = "changed"
	ChangeUnchanged ChangeKind = "unchanged"
	ChangeRemoved   ChangeKind = "removed"
)

// What a Change is of.
const (
	KindDaemon = "daemon"
	KindGroup  = "group" // its declaration
)

// Change is one daemon's part of an Apply, or one group's.
type Change struct {
	Kind     string     `json:"kind"`
	Name     string     `json:"name"`
	Change   ChangeKind `json:"change"`
	Keys     []string   `json:"keys"`     // of a changed one: which keys differ; never null
	Restart  bool       `json:"restart"`  // it ran, and is restarted
	Warnings []string   `json:"warnings"` // what this build doesn't act on; never null
}

// Ping identifies a manager.
type Ping struct {
	PID       int       `json:"pid"`
	KeeperPID *int      `json:"keeper_pid"` // nil without a keeper
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	Warnings  []string  `json:"warnings"` // what is wrong with the manager itself, such as a full disk; never null
}

// Event is one line of the journal, with the state that results from it.
type Event struct {
	Seq    uint64           `json:"seq"`
	Time   time.Time        `json:"time"`
	Daemon *string          `json:"daemon"` // nil for the manager's own, and those of groups
	Group  *string          `json:"group"`  // of those
	Event  supervision.Kind `json:"event"`
	Detail *string          `json:"detail"` // for people

	State         *supervision.State  `json:"state"` // nil for the manager's own and for removed, as all below
	Wanted        *supervision.Wanted `json:"wanted"`
	PID           *int                `json:"pid"`
	ExitCode      *int                `json:"exit_code"`
	Signal        *string             `json:"signal"`
	ExitKnown     *bool               `json:"exit_known"`
	RestartCount  *int64              `json:"restart_count"`
	Attempt       *int                `json:"attempt"`
	NextRestartAt *time.Time          `json:"next_restart_at"`
}

// EventPosition is the kind of an event that is not in the journal: it has
// nothing but the number behind which a stream begins, and the time.
const EventPosition supervision.Kind = "position"

// NewEvent is the public form of a journal event.
func NewEvent(e supervision.Event) Event {
	out := Event{Seq: e.Seq, Time: e.Time, Daemon: optional(e.Daemon), Event: e.Kind, Detail: optional(e.Detail)}
	if group, ok := supervision.IsGroup(e.Daemon); ok {
		out.Daemon, out.Group = nil, &group
		return out
	}
	if e.Record == nil {
		return out
	}
	d := NewDaemon(&supervision.Registration{Spec: &spec.Daemon{}}, e.Record)
	out.State, out.Wanted = &d.State, &d.Wanted
	out.PID, out.ExitCode, out.Signal, out.ExitKnown = d.PID, d.ExitCode, d.Signal, d.ExitKnown
	out.RestartCount, out.Attempt, out.NextRestartAt = &d.RestartCount, &d.Attempt, d.NextRestartAt
	return out
}

// Stream names one of a daemon's two outputs.
type Stream string

// The streams.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// LogLine is one line of output, without its line end, or a piece of one: a
// very long line comes in pieces, and so does one whose end is late.
type LogLine struct {
	Time   *time.Time `json:"time"` // when it was read; nil for what was already in the file
	Daemon string     `json:"daemon"`
	Stream Stream     `json:"stream"`
	Line   string     `json:"line"` // bytes that are not UTF-8 are U+FFFD in it

	Bytes     []byte `json:"bytes,omitempty"`     // the line as it is, if it is not UTF-8
	Partial   bool   `json:"partial,omitempty"`   // its end is yet to come
	Continues bool   `json:"continues,omitempty"` // it goes on with the last piece of this stream
	Notice    string `json:"notice,omitempty"`    // not of the daemon: a gap, such as a file that somebody cut

	Cursor string `json:"cursor,omitempty"` // where its stream goes on behind it; opaque; only if that was asked for

	// Positions are set if this is no line, but where reading begins. It has
	// nothing else then.
	Positions []LogPosition `json:"positions,omitzero"`
}

// LogPosition is where in a daemon's stream something begins.
type LogPosition struct {
	Daemon string `json:"daemon"`
	Stream Stream `json:"stream"`
	Cursor string `json:"cursor"`
}

// StatusQuery picks what Status lists. A zero Selector is everything.
type StatusQuery struct {
	Selector
	At *time.Time // as it was then; nil is now
}

// GetQuery picks one daemon.
type GetQuery struct {
	Name string
	At   *time.Time // as it was then; nil is now
	Env  bool       // with the values of its environment
}

// GraphQuery picks what Graph shows: the selected daemons, what they need and
// what needs them, directly or through others. A zero Selector is everything.
type GraphQuery struct {
	Selector
}

// Registration is a daemon as a client hands it over.
type Registration struct {
	Spec   *spec.Daemon `json:"spec"`
	Source string       `json:"source,omitempty"` // absolute path of its .sys file; empty if from the command line
}

// AddRequest registers daemons and groups.
type AddRequest struct {
	Daemons []Registration `json:"daemons"`
	Groups  []spec.Group   `json:"groups,omitempty"`
}

// ApplyRequest makes daemons and groups what it says.
type ApplyRequest struct {
	Daemons []Registration `json:"daemons"`
	Groups  []spec.Group   `json:"groups,omitempty"`
	DryRun  bool           `json:"dry_run,omitempty"` // only say what would change
	// Prune removes what came from one of these files (absolute paths; other
	// spellings of them count as well) and isn't among Daemons. What another
	// request names meanwhile stays. A group that isn't among Groups, and all of
	// whose daemons are in this request, is the default again.
	Prune []string `json:"prune,omitempty"`
}

// RemoveRequest removes daemons.
type RemoveRequest struct {
	Selector
	Force bool `json:"force,omitempty"` // stop first, the dependents too
	Purge bool `json:"purge,omitempty"` // their logs too
}

// ActionRequest starts, stops or restarts daemons.
type ActionRequest struct {
	Selector
	Force bool `json:"force,omitempty"` // stop and restart: kill at once
	Wait  bool `json:"wait,omitempty"`  // start and restart: until ready
	// Timeout limits Wait (nil: no limit), or for Stop stands in for
	// stop_timeout_secs (nil: as the file says). In seconds, not negative.
	// A Wait past it is a Result with CodeTimeout.
	Timeout *spec.Seconds `json:"timeout_secs,omitempty"`
}

// RunRequest runs what has a schedule.
type RunRequest struct {
	Selector
}

// ReloadRequest reloads daemons.
type ReloadRequest struct {
	Selector
}

// SignalRequest sends a signal.
type SignalRequest struct {
	Selector
	Signal string `json:"signal"` // a name with or without SIG, or a number
}

// EventQuery picks events.
type EventQuery struct {
	Names  []string   // nil is all, the manager's own too
	Limit  int        // the last so many that match; negative is all, 0 none
	Since  *time.Time // not older than this
	After  *uint64    // numbered higher than this
	Follow bool       // go on with what happens from now on

	// Resumable begins the stream with an event of kind EventPosition: whoever
	// was cut off goes on After the number of the last event it has.
	Resumable bool
}

// LogQuery picks lines.
type LogQuery struct {
	Selector
	Streams []Stream // nil is both
	Lines   int      // the last so many of each daemon and stream; negative is all, 0 none
	Follow  bool     // go on, across restarts of the daemon

	// With Follow:
	SkipUnfinished bool            // with 0 Lines: without the beginning of a line that isn't finished yet
	Finish         <-chan struct{} // once it is closed the stream ends, behind all that is written by then

	// Resumable gives each line a Cursor, and begins with an item that has the
	// Positions of all streams: whoever was cut off goes on After the last cursor
	// of each.
	Resumable bool
	// After is where to go on. These streams are read then, whatever else is
	// selected, and Lines plays no part.
	After []string
}

// State is what `state export` writes.
type State struct {
	Version int             `json:"version"` // of this format: StateVersion
	Daemons []ExportedState `json:"daemons"`
	Groups  []spec.Group    `json:"groups"`
}

// StateVersion is the version of the export format that this build writes.
const StateVersion = 1

// ExportedState is one daemon of an export.
type ExportedState struct {
	Registration
	Wanted supervision.Wanted `json:"wanted"`
}

// UpgradeRequest replaces the manager.
type UpgradeRequest struct {
	Binary string `json:"binary,omitempty"` // absolute path; "" is the one that the manager was started by
}

// Upgrade is what replaces the manager.
type Upgrade struct {
	Binary  string `json:"binary"`
	From    string `json:"from"` // versions
	Version string `json:"version"`
}

// ShutdownRequest ends the manager.
type ShutdownRequest struct {
	KeepDaemons bool `json:"keep_daemons,omitempty"` // they run on
	Force       bool `json:"force,omitempty"`        // kill what is left instead of waiting for it
}

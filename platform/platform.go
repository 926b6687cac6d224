// Package platform starts operating-system processes, notices their end,
// signals them and ends whole process trees. It knows nothing of daemons,
// policies or files: it is told what to run and says what became of it.
//
// A process is named by its [Identity], never by its pid alone: pids are
// reused. On Linux every signal goes through a pidfd, or is sent while the pid
// provably cannot have been given to another process.
//
// The package owns the process-wide state that cannot be shared: the umask
// (077 from the first [New] on), SIGCHLD and the reaping of children. Nothing
// else in the binary may fork (so no os/exec while a Host is open): a child that
// the package does not know is taken for an orphan and reaped.
package platform

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cyber-boost/syspulse/keeper"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// Identity names a process beyond the reuse of its pid.
type Identity = supervision.Identity

// Exit is how a process ended.
type Exit = supervision.Exit

// IncarnationVariable is the environment variable that marks every process of
// an incarnation, because children inherit it.
const IncarnationVariable = "SYSPULSE_INCARNATION"

// Command is what to start. Nothing in it is interpreted by a shell.
type Command struct {
	// Incarnation is the unique id of this start. It may hold letters, digits,
	// dot, dash and underscore: it is exported as SYSPULSE_INCARNATION and is
	// the name of the cgroup.
	Incarnation string
	// Args is the program and its arguments. A program without a slash is
	// looked up in the PATH of Env, a relative one with a slash against Dir.
	Args []string
	// Line is the command line instead of Args, as it is, for a program that
	// reads its own by rules of its own, as cmd.exe does. Windows only.
	Line string
	// Env is the whole environment, as [Environment] builds it. Start puts the
	// incarnation mark in front.
	Env []string
	// Dir is the working directory; "" is the manager's.
	Dir string
	// Account is whom to run as; nil is whom the manager runs as. Unix only.
	Account *Account
	// Stdout and Stderr become descriptors 1 and 2; nil is /dev/null. Start
	// takes O_NONBLOCK off them, since programs do not expect it. They stay
	// the caller's to close.
	Stdout, Stderr *os.File
	// Umask is the file mode creation mask; nil is the one the manager was
	// started with. Unix only.
	Umask *int
	// WatchdogPID sets WATCHDOG_PID to the process's own pid, by which it knows that
	// a watchdog is meant for it (sd_watchdog_enabled(3)). It costs another start of
	// this binary, some milliseconds. Linux only.
	WatchdogPID bool
	// Keep has the process's pidfd kept in Options.Store, under the incarnation
	// as its name, until Forget. Linux only.
	Keep bool
}

// Options configure a Host.
type Options struct {
	// DataDir sets the manager's processes apart from those of others; its
	// hash names the parent of the cgroups. It need not exist.
	DataDir string
	// NoCgroups makes a Linux Host do without cgroups, as it must for most
	// ordinary users. The environment variable SYSPULSE_NO_CGROUPS=1 does the same.
	NoCgroups bool
	// Store keeps what a successor of this manager needs to learn how the
	// processes ended that died before it came. Nil: nothing is kept.
	Store *keeper.Store
}

// Host starts and adopts processes. Its methods may be called concurrently.
type Host interface {
	// BootID names the time since the machine was started. Identities of
	// another boot are void.
	BootID() string

	// Uptime is the time since boot on a clock that steps of the wall clock
	// don't touch and that goes on during a suspend.
	Uptime() time.Duration

	// Age is how long ago a process of this boot was started, by its identity
	// alone: never more than it is, and less by what the system's unit of start
	// times leaves open (10 ms on Linux). 0 if the identity has no start time.
	Age(Identity) time.Duration

	// Start returns when exec has succeeded or failed. Its error is a
	// *StartError. The process leads a session of its own, reads /dev/null and
	// has no descriptors but 0, 1 and 2.
	Start(Command) (Process, error)

	// Adopt takes over a process that an earlier manager started. The error is
	// a *GoneError if it no longer exists or the pid is another process's now.
	// One that this Host started or adopted itself and did not release is the
	// same Process again, also when it has died since.
	Adopt(id Identity, incarnation string) (Process, error)

	// Find takes over the first process of an incarnation whose identity was
	// never learnt, because the manager died between fork and the note of it.
	// The error is ErrNotFound if there is none, and a *GoneError if it was kept,
	// has ended, and its exit is known.
	Find(incarnation string) (Process, error)

	// Member says who a process is that lives and belongs to the tree of an
	// incarnation, whether that has a Process here or not. The error is ErrNotFound
	// if there is none, or that can't be learnt.
	Member(incarnation string, pid int) (Identity, error)

	// Follow makes another member of its tree the main process: the one whose
	// end is told, and that is kept. It returns another Process for that tree
	// and releases p. The error is a *GoneError if that member is gone; then, as
	// with any error, p stays what it was. Linux only.
	Follow(p Process, id Identity) (Process, error)

	// EndLeftovers kills everything that is left of an incarnation whose first
	// process has died or was never known (then id is zero), and returns how
	// many processes it found. When it returns without an error they are dead.
	// Concurrent calls share their pass over the process table.
	EndLeftovers(incarnation string, id Identity) (int, error)

	// Survivors looks for what runs of incarnations that nobody remembers: by
	// their mark, by the cgroups of this data directory, and by outputs. It
	// looks at every process of the machine. Windows can't tell: there it
	// finds nothing. With an error nothing is known.
	Survivors(Search) ([]Survivor, error)

	// Forget ends the keeping of an incarnation whose end has been noted.
	Forget(incarnation string)

	// StartHelper starts another process of ours: not a daemon, with the
	// manager's identity and output, in a session of its own. files become its
	// descriptors 3 and on. f is called once, on a goroutine of the platform,
	// when it has died.
	StartHelper(args, env []string, files []*os.File, f func()) (pid int, err error)

	// OnDeath has f called once, on a goroutine of the platform, when a process
	// has died that is none of ours. The caller knows that pid is not reused
	// yet, its parent's for example.
	OnDeath(pid int, f func()) error

	// NewWallTimer returns a timer that is not set and calls f when it rings. f
	// must not block.
	NewWallTimer(f func(stepped bool)) WallTimer

	// PrepareExec gives back what this process has changed of itself and exec
	// passes on: the umask. resume takes it again, should exec fail.
	PrepareExec() (resume func())

	// Close lets go of everything and ends no process.
	Close() error
}

// Search says whom Survivors looks for.
type Search struct {
	// Mine tells the incarnations that count from those of other managers.
	Mine func(incarnation string) bool
	// Outputs are paths of FIFOs that give away by descriptor 1 or 2 who has
	// overwritten its environment (servers that set their title do), and what
	// Survivor.Output is for each.
	Outputs map[string]string
}

// Survivor is what is left of one incarnation.
type Survivor struct {
	Incarnation string        // empty if only an output tells of it
	Output      string        // the value of Search.Outputs; empty if its mark tells
	Main        Identity      // its first process; zero if that one is dead
	Age         time.Duration // of that process
}

// Process is the tree of processes that one Start began. Its methods may be
// called concurrently.
type Process interface {
	Identity() Identity
	Incarnation() string

	// OnExit has f called once, on a goroutine of the platform, when the first
	// process has died; also if that was before the call. f must not block.
	// A second call of OnExit replaces an f that was not called yet.
	OnExit(f func(Exit))

	// Signal sends a signal, by a name that ParseSignal knows. ErrDead if
	// nobody was there to get it.
	Signal(sig string, mode spec.KillMode) error

	// Kill sends SIGKILL to everything that is left of the tree, wherever it
	// hid. When it returns nil nothing of the tree can fork any more; OnExit
	// and OnEmpty tell when it is gone. Killing what is dead is no error.
	Kill() error

	// Empty says whether nothing of the tree is left. It is false while the
	// first process lives, and cheap where the tree was that process alone.
	Empty() bool

	// OnEmpty has f called once, on a goroutine of the platform, when Empty
	// has become true; also if that was before the call. It is never called
	// before OnExit's function has returned. f must not block. A second OnEmpty
	// replaces an f that was not called yet; its own is called in any case.
	OnEmpty(f func())

	// Release forgets the tree: descriptors are closed, an empty cgroup is
	// removed, no function is called any more. It ends no process.
	Release()
}

// ErrDead says that a signal had nobody to go to.
var ErrDead = errors.New("the process has ended")

// ErrNotFound says that no process carries an incarnation's mark.
var ErrNotFound = errors.New("no process of this incarnation")

// GoneError says that the process to adopt no longer exists.
type GoneError struct {
	Why  string // for people
	Exit *Exit  // how it ended; nil if that could not be learnt
	ID   Identity
}

func (e *GoneError) Error() string { return e.Why }

// Stage is the part of a start that failed.
type Stage string

// The stages of a start.
const (
	StageCommand    Stage = "command"     // the command itself makes no sense
	StageUser       Stage = "user"        // no such account, or no right to become it
	StageWorkingDir Stage = "working_dir" // missing or inaccessible
	StageProgram    Stage = "program"     // not found, not executable
	StageSystem     Stage = "system"      // out of something
)

// StartError says why a command could not be started.
type StartError struct {
	Stage  Stage
	Reason string // in words a user understands
	Err    error  // the cause, for errors.Is; may be nil
}

func (e *StartError) Error() string { return e.Reason }
func (e *StartError) Unwrap() error { return e.Err }

func startError(stage Stage, err error, format string, args ...any) *StartError {
	return &StartError{Stage: stage, Reason: fmt.Sprintf(format, args...), Err: err}
}

// checkCommand finds what no system could start.
func checkCommand(c *Command) *StartError {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return startError(StageCommand, nil, "the command is empty")
	}
	for _, s := range [][]string{c.Args, c.Env, {c.Dir}} {
		for _, v := range s {
			for i := range len(v) {
				if v[i] == 0 {
					return startError(StageCommand, nil, "the command, its environment or its working_dir contains a NUL byte")
				}
			}
		}
	}
	if !validIncarnation(c.Incarnation) {
		return startError(StageCommand, nil, "invalid incarnation id %q", c.Incarnation)
	}
	return nil
}

// validIncarnation holds ids to what is a safe file name everywhere.
func validIncarnation(id string) bool {
	if id == "" || len(id) > 128 || id[0] == '.' {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// Package cli is the command line: one file per command, each a client of the
// manager. Commands read their arguments and print; what they do is done by
// an [api.Manager].
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/client"
	"github.com/cyber-boost/syspulse/keeper"
	"github.com/cyber-boost/syspulse/persist"
)

// ManagerOptions say how a manager is started in this process.
type ManagerOptions struct {
	DataDir string // absolute
	Version string
	Logger  *slog.Logger
	// Store keeps what a successor needs; nil: nothing is kept.
	Store *keeper.Store
	// KeeperArgs are the arguments of managers that a keeper starts.
	KeeperArgs []string
	// Binary is the path by which this program was started; "": the manager
	// can't be replaced.
	Binary string
}

// RunningManager is a manager in this process.
type RunningManager interface {
	api.Manager
	// Done is closed when it has ended: after Shutdown, or because it can't
	// go on.
	Done() <-chan struct{}
	// Err is why, nil after Shutdown. Valid once Done is closed.
	Err() error
	// Upgrades gives a binary that is to take over this process.
	Upgrades() <-chan *os.File
	// Replace makes it this process. It returns only if that failed.
	Replace(*os.File) error
	// Close frees what it holds. It ends no daemon.
	Close()
}

// StartManager starts a manager in this process.
type StartManager func(ManagerOptions) (RunningManager, error)

// Main runs one command line (without the program's name) on the process's
// standard streams and returns the exit code.
func Main(args []string, start StartManager) int {
	log.SetOutput(io.Discard) // net/http's: what matters arrives as an error
	a := &app{
		start:  start,
		stdin:  os.Stdin,
		stdout: os.Stdout,
		stderr: os.Stderr,
		outTTY: term.IsTerminal(int(os.Stdout.Fd())) && enableColor(os.Stdout),
		errTTY: term.IsTerminal(int(os.Stderr.Fd())) && enableColor(os.Stderr),
	}
	a.inherit = keeper.Inherit
	a.ends = make(chan os.Signal, 8)
	signal.Notify(a.ends, endSignals...)
	ctx, stop := signal.NotifyContext(context.Background(), endSignals...)
	defer stop()
	a.unlisten = func() { stop(); signal.Stop(a.ends) }
	code := a.run(ctx, args)
	if a.store != nil {
		a.store.Exiting(code)
	}
	return code
}

// app is what the commands of one command line share.
type app struct {
	start          StartManager
	stdin          io.Reader
	stdout, stderr io.Writer
	outTTY, errTTY bool

	// The global flags.
	dataDirFlag, socketFlag string
	format                  string
	json                    bool
	noColor                 bool
	verbose, quiet          bool

	// What follows --command of add, as it was written.
	command    []string
	hasCommand bool

	// ends are the signals to end, from the first moment on; nil in tests.
	// unlisten gives them their default effect again.
	ends     chan os.Signal
	unlisten func()

	// inherit takes over what a manager before this one had kept; nil in tests.
	inherit func() *keeper.Store
	store   *keeper.Store // of the daemon command
	binary  string        // by which it was started

	// dial stands in for the client in tests.
	dial func(socket string) api.Manager
}

// run is one command line.
func (a *app) run(ctx context.Context, args []string) (code int) {
	defer func() {
		if v := recover(); v != nil {
			fmt.Fprintf(a.stderr, "syspulse: this should not have happened: %v\nPlease report it with what you did. `--verbose` shows where it was.\n", clean(fmt.Sprint(v)))
			if a.verbose {
				a.stderr.Write(debug.Stack())
			}
			code = exitFailed
		}
	}()
	args, a.command, a.hasCommand = splitCommand(args)
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var bad *usageError
	if errors.As(err, &bad) && bad.command == "" && cmd != nil {
		bad.command = commandPath(cmd)
	}
	// Flags that stand behind the one that was wrong weren't read.
	a.json = a.json || a.format == "json" || asksJSON(args)
	return a.fail(err)
}

func asksJSON(args []string) bool {
	for i, arg := range args {
		if arg == "--" {
			break
		}
		if arg == "--json" || arg == "--format=json" || arg == "--format" && i+1 < len(args) && args[i+1] == "json" {
			return true
		}
	}
	return false
}

// splitCommand takes from an add's arguments all that follows --command, so
// that nothing of it is read as a flag.
func splitCommand(args []string) (rest, command []string, found bool) {
	i := 0
	for i < len(args) && len(args[i]) > 0 && args[i][0] == '-' { // the global flags
		switch args[i] {
		case "--data-dir", "--socket", "--format":
			i++
		}
		i++
	}
	if i >= len(args) || args[i] != "add" {
		return args, nil, false
	}
	for i++; i < len(args); i++ {
		if args[i] == "--command" {
			return args[:i:i], args[i+1:], true
		}
		if first, ok := cutPrefix(args[i], "--command="); ok {
			return args[:i:i], append([]string{first}, args[i+1:]...), true
		}
	}
	return args, nil, false
}

const rootLong = `Syspulse runs daemons and keeps them running.

Describe them in a .sys file, and:

  syspulse init                 write a commented syspulse.sys to start from
  syspulse up syspulse.sys      run its daemons here, with their output

or with a manager in the background:

  syspulse up -d syspulse.sys   start the manager and the daemons
  syspulse status               see how they do
  syspulse shutdown             end all of it`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:                   "syspulse",
		DisableFlagsInUseLine: true,
		Short:                 "A daemon manager for every platform",
		Long:                  rootLong,
		SilenceErrors:         true,
		SilenceUsage:          true,
		Args:                  a.unknownCommand,
		RunE:                  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE:     func(*cobra.Command, []string) error { return a.settle() },
		CompletionOptions:     cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	f := root.PersistentFlags()
	f.SortFlags = false
	f.StringVar(&a.dataDirFlag, "data-dir", "", "where the manager keeps its state, `PATH` (default ~/.syspulse; also SYSPULSE_DATA_DIR)")
	f.StringVar(&a.socketFlag, "socket", "", "`PATH` of the manager's socket (default syspulse.sock in the data directory)")
	f.StringVar(&a.format, "format", "table", "print a `table|json`")
	f.BoolVar(&a.json, "json", false, "short for --format json")
	f.BoolVar(&a.noColor, "no-color", false, "no colours (also NO_COLOR; none where the output is no terminal)")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "say more")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "say errors only")
	root.SetFlagErrorFunc(flagError)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { io.WriteString(a.stdout, a.help(cmd)) })
	cobra.EnableCommandSorting = false // in the order of use
	root.InitDefaultHelpFlag()
	root.SetHelpCommand(&cobra.Command{Hidden: true, Use: "help [COMMAND]", Short: "Help about a command", RunE: func(cmd *cobra.Command, args []string) error {
		c, _, err := cmd.Root().Find(args)
		if err != nil || c == nil || c == cmd.Root() && len(args) > 0 {
			return a.unknownCommand(cmd.Root(), args)
		}
		return c.Help()
	}})
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "daemons", Title: "Daemons:"},
		&cobra.Group{ID: "look", Title: "Look:"},
		&cobra.Group{ID: "files", Title: "Files:"},
		&cobra.Group{ID: "manager", Title: "The manager:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			c.Flags().SortFlags = false
			c.DisableFlagsInUseLine = true
			root.AddCommand(c)
		}
	}
	add("run", a.cmdUp(), a.cmdDown(), a.cmdDaemon())
	add("daemons", a.cmdApply(), a.cmdAdd(), a.cmdStart(), a.cmdStop(), a.cmdRestart(), a.cmdRun(), a.cmdReload(), a.cmdSignal(), a.cmdRemove())
	add("look", a.cmdStatus(), a.cmdList(), a.cmdGraph(), a.cmdLogs(), a.cmdHistory(), a.cmdEvents())
	add("files", a.cmdInit(), a.cmdCheck())
	root.AddCommand(a.cmdProve())
	add("manager", a.cmdPing(), a.cmdUpgrade(), a.cmdShutdown(), a.cmdState(), a.cmdVersion(), a.cmdCompletion())
	return root
}

// settle makes sense of the global flags once they are read.
func (a *app) settle() error {
	switch a.format {
	case "table":
	case "json":
		a.json = true
	default:
		return usage("--format is table or json, not %q", a.format)
	}
	return nil
}

// dataDir is the absolute path of the manager's state.
func (a *app) dataDir() (string, error) {
	dir := a.dataDirFlag
	if dir == "" {
		dir = os.Getenv("SYSPULSE_DATA_DIR")
	}
	if dir == "" {
		return api.DefaultDataDir()
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("the data directory %s: %w", dir, err)
	}
	return abs, nil
}

// socket is the address of the manager.
func (a *app) socket() (string, error) {
	if a.socketFlag != "" {
		return api.FitSocket(a.socketFlag), nil
	}
	dir, err := a.dataDir()
	if err != nil {
		return "", err
	}
	return api.SocketPath(dir), nil
}

// grace is how long a command waits for a manager that nothing is known of:
// in `syspulse daemon & syspulse add …` both begin at once.
const grace = 400 * time.Millisecond

// startPatience is how long a manager may take from locking its data directory
// until it answers, before it counts as one that doesn't.
const startPatience = 10 * time.Second

// manager is the manager at the other end of the socket. One that is starting
// is waited for.
func (a *app) manager() (api.Manager, error) { return a.managerWithin(grace) }

// managerWithin is the manager at the other end of the socket. If nobody
// answers there, it is waited for while there is one that starts, and at least
// for grace.
func (a *app) managerWithin(grace time.Duration) (api.Manager, error) {
	socket, err := a.socket()
	if err != nil {
		return nil, err
	}
	if a.dial != nil {
		return a.dial(socket), nil
	}
	dir, err := a.dataDir()
	if err != nil {
		dir = "" // the socket was given, so there may be none
	}
	c := client.New(socket)
	began := sync.OnceValue(time.Now)
	c.Await(func() bool {
		return time.Since(began()) < grace || dir != "" && isStarting(dir, socket)
	})
	return c, nil
}

// isStarting reports whether a manager has locked a data directory recently,
// and may yet answer on a socket.
func isStarting(dir, socket string) bool {
	_, since, ok := persist.Holder(dir)
	if !ok || time.Since(since) > startPatience {
		return false
	}
	usual := api.SocketPath(dir)
	if usual == socket {
		return true
	}
	c := client.New(usual)
	defer c.Close()
	_, err := c.Ping(context.Background())
	return err != nil // else it listens there
}

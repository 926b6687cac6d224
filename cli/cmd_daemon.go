package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/keeper"
	"github.com/cyber-boost/syspulse/persist"
	"github.com/cyber-boost/syspulse/spec"
)

func (a *app) cmdDaemon() *cobra.Command {
	var (
		files      []string
		watch      bool
		noKeeper   bool
		background bool
	)
	cmd := &cobra.Command{
		Use:   "daemon [flags]",
		Short: "Run the manager, in the foreground",
		Long: `Run the manager, in the foreground: it keeps the daemons running and answers
all other commands. One data directory has one manager.

With --file, what the files hold is registered, and changed where it differs;
what they no longer hold stays. SIGHUP reads them again, and with --watch any
change of them does; if one is bad then, that is reported and nothing changes.
(Write a new file beside and rename it: no half of it is ever read.)

SIGTERM and SIGINT (Ctrl-C) stop the daemons and end the manager; a second one
kills what is left.`,
		Example:           "  syspulse daemon --file syspulse.sys --watch\n  syspulse daemon &",
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch && len(files) == 0 {
				return &usageError{message: "--watch: which file? Give it by --file", command: "daemon"}
			}
			if signal.Ignored(sigHangup) {
				_ = os.Setenv(nohupVariable, "1")
			}
			if a.inherit != nil {
				a.store = a.inherit()
				if a.binary = os.Getenv(keeper.BinaryVariable); a.binary == "" {
					a.binary = startedBy()
					_ = os.Setenv(keeper.BinaryVariable, a.binary)
				}
				if !noKeeper && a.store.Offered() {
					a.unlisten()
					if len(a.ends) > 0 {
						return nil // asked to end before anything began
					}
					err := a.store.Become(os.Args[1:])
					return fmt.Errorf("can't start the keeper: %w; --no-keeper does without", err)
				}
			}
			signals, stop := a.managerSignals()
			defer stop()
			log := a.foregroundLog()
			if background {
				dir, err := a.dataDir()
				if err != nil {
					return err
				}
				fileLog, f := a.fileLog(dir)
				defer f.Close()
				log = fileLog
			}
			var watching *fileWatch
			if watch { // from before they are read
				var err error
				if watching, err = watchFiles(files, log); err != nil {
					log.Error("the files can't be watched; SIGHUP has them read", "error", err)
				}
				defer watching.close()
			}
			set, err := a.loadAtStart(files, signals)
			if err != nil {
				return err
			}
			return a.runDaemon(cmd.Context(), log, signals, files, watching, set, noKeeper)
		},
	}
	cmd.Flags().StringArrayVar(&files, "file", nil, "register what this `FILE` holds (repeatable)")
	cmd.Flags().BoolVar(&watch, "watch", false, "read the files again when they change")
	cmd.Flags().BoolVar(&noKeeper, "no-keeper", false, "without a keeper beside it, which starts it again when it dies and loses nothing meanwhile (Linux)")
	cmd.Flags().BoolVar(&background, "background", false, "log to manager.log in the data directory")
	cmd.Flags().MarkHidden("background")
	cmd.MarkFlagFilename("file", "sys", "toml")
	return cmd
}

// startedBy is the path by which the user started this program, if what is there
// is this program: a symbolic link to the present version is followed anew at an
// upgrade.
func startedBy() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		return self
	}
	if path, err = filepath.Abs(path); err != nil {
		return self
	}
	a, err1 := os.Stat(self)
	b, err2 := os.Stat(path)
	if err1 != nil || err2 != nil || !os.SameFile(a, b) {
		return self
	}
	return path
}

// nohupVariable says that SIGHUP was ignored when a user started the manager, by
// nohup perhaps: then it stays when its terminal is gone. (The keeper listens to
// SIGHUP, so that its managers don't see that.)
const nohupVariable = "SYSPULSE_NOHUP"

// managerSignals is where the signals to a manager arrive. Those to end are there
// from the start of the process on.
func (a *app) managerSignals() (signals chan os.Signal, stop func()) {
	if signals = a.ends; signals == nil {
		signals = make(chan os.Signal, 8)
	}
	signal.Notify(signals, append([]os.Signal{sigHangup, sigUpgrade}, endSignals...)...)
	a.store.Listening()
	return signals, func() { signal.Stop(signals) }
}

// loadAtStart reads the files when a user has started this manager. One that
// was brought back goes on with what is registered. A file may be a pipe, or on
// a disk that doesn't answer: a signal to end is heeded meanwhile.
func (a *app) loadAtStart(files []string, signals chan os.Signal) (*spec.Set, error) {
	if len(files) == 0 || a.store.Successor() {
		return &spec.Set{}, nil
	}
	var set *spec.Set
	var err error
	read := make(chan struct{})
	go func() {
		defer close(read)
		set, err = load(files)
	}()
	var later []os.Signal
	for {
		select {
		case <-read:
			for _, sig := range later {
				signals <- sig // there is room: they came from there
			}
			return set, err
		case sig := <-signals:
			if slices.Contains(endSignals, sig) {
				return nil, fmt.Errorf("asked to end (%s) before the files were read", sig)
			}
			if !slices.Contains(later, sig) {
				later = append(later, sig)
			}
		}
	}
}

// load is spec.Load, and an empty set for no files.
func load(files []string) (*spec.Set, error) {
	if len(files) == 0 {
		return &spec.Set{}, nil
	}
	return spec.Load(files...)
}

// endSignals are those that end a manager.
var endSignals = []os.Signal{os.Interrupt, syscall.SIGTERM}

func (a *app) runDaemon(ctx context.Context, log *slog.Logger, signals <-chan os.Signal, files []string, watching *fileWatch, set *spec.Set, noKeeper bool) (err error) {
	// The command's own context ends at the first signal; a manager counts
	// them, and those of its first moments too.
	ctx = context.WithoutCancel(ctx)
	if a.store.Keeps() {
		// A panic is a death by signal then, and not an exit with a code that
		// means something else: the manager is started again.
		debug.SetTraceback("crash")
	}
	tty := watchTerminal()
	// Not signal.Ignore: daemons would inherit that.
	signal.Notify(make(chan os.Signal, 1), ignoredSignals...)

	h, err := a.openHost(log)
	if err != nil {
		return a.perhapsLater(err)
	}
	h.noKeeper = noKeeper
	defer h.close()
	log.Info("the manager runs", "pid", os.Getpid(), "version", Version(), "socket", h.socket)

	// Signals are listened to from here on, also while the files' daemons
	// start.
	var wg sync.WaitGroup
	defer wg.Wait()
	down := 0
	shutdown := func(why string) {
		down++
		a.store.Stopping()
		if down == 1 {
			log.Info("shutting down: the daemons are being stopped", "because", why)
		} else {
			log.Warn("killing what is left", "because", why)
		}
		force := down > 1
		wg.Go(func() {
			if err := h.Shutdown(ctx, api.ShutdownRequest{Force: force}); err != nil && !errors.Is(err, api.ErrShuttingDown) {
				log.Error("the shutdown failed", "error", err)
			}
		})
	}
	var refused error // by the manager, of files that are good in themselves
	applied := make(chan error, 1)
	paused := make(chan *os.File, 1)

	// Files are read and applied by one at a time, so that an older state of
	// them never comes after a newer one. A read may hang (a pipe, a disk that
	// doesn't answer): nothing waits for it but the next.
	type loaded struct {
		set *spec.Set
		err error
	}
	read := make(chan loaded, 1)
	reapplied := make(chan error, 1)
	busy, again := len(set.Files) > 0, ""
	reread := func(because string) {
		if busy {
			again = because
			return
		}
		busy, again = true, ""
		log.Info("reading the files again", "because", because, "files", len(files))
		go func() {
			set, err := load(files)
			read <- loaded{set, err}
		}()
	}
	rested := func() {
		if busy = false; again != "" && down == 0 {
			reread(again)
		}
	}
	if len(set.Files) > 0 {
		wg.Go(func() { applied <- applyFiles(ctx, h, set, log) })
	} else {
		h.serve()
	}
	for {
		select {
		case <-h.Done():
			if h.Err() == nil {
				a.store.Stopping()
				log.Info("the manager has ended")
			}
			if refused != nil && h.Err() == nil {
				return &codeError{exitUsage, fmt.Errorf("the files can't be applied: %w", refused)}
			}
			return h.end()
		case r := <-read:
			switch {
			case r.err != nil:
				log.Error("the files are bad; nothing was changed", "problems", r.err)
				rested()
			case len(r.set.Files) == 0 || down > 0:
				rested()
			default:
				wg.Go(func() { reapplied <- applyFiles(ctx, h, r.set, log) })
			}
		case err := <-reapplied:
			if err != nil {
				log.Error("the files were not applied", "error", err)
			}
			rested()
		case <-watching.changes():
			if down == 0 {
				reread("they changed")
			}
		case err := <-applied:
			if errors.Is(err, api.ErrConflict) || errors.Is(err, api.ErrInvalid) {
				refused = err
				shutdown("the files can't be applied")
				continue
			}
			if err != nil {
				log.Error("the files were not applied", "error", err)
			}
			h.serve() // whoever gets an answer finds the files' daemons
			rested()
		case f := <-h.Upgrades():
			wg.Go(func() {
				h.pause()
				paused <- f
			})
		case f := <-paused:
			// Here, where signals are heeded: none that has come is lost.
			switch {
			case len(signals) > 0:
				paused <- f
			case down > 0:
				f.Close()
				h.resume(api.ShuttingDown())
			default:
				h.replace(f)
			}
		case sig := <-signals:
			if sig == sigUpgrade {
				wg.Go(func() { _, _ = h.Upgrade(ctx, api.UpgradeRequest{}) }) // it logs what came of it
				continue
			}
			if sig != sigHangup {
				shutdown(sig.String())
				continue
			}
			if os.Getenv(nohupVariable) == "" && tty.hangup() {
				shutdown("its terminal is gone")
				continue
			}
			reread(sig.String())
		}
	}
}

// perhapsLater is the error of a manager that can't begin. For one that was
// brought back it is a reason to be brought back again: what its predecessor had
// may be lacking only now, and daemons run that have nobody else.
func (a *app) perhapsLater(err error) error {
	if !a.store.Successor() || !a.store.Keeps() || errors.Is(err, persist.ErrLocked) || errors.Is(err, persist.ErrNewerState) {
		return err
	}
	return &codeError{exitGivenUp, err}
}

// applyFiles makes the manager's daemons what files say, without prune.
func applyFiles(ctx context.Context, m api.Manager, set *spec.Set, log *slog.Logger) error {
	regs, groups := registrations(set)
	changes, err := m.Apply(ctx, api.ApplyRequest{Daemons: regs, Groups: groups})
	if err != nil {
		return err
	}
	for _, w := range set.Warnings() {
		log.Warn(w.String())
	}
	n := map[api.ChangeKind]int{}
	for _, c := range changes {
		if c.Kind == api.KindDaemon {
			n[c.Change]++
		}
		if c.Change == api.ChangeChanged {
			log.Info(changed(c), c.Kind, c.Name)
		}
	}
	log.Info(fmt.Sprintf("the files hold %s: %d new, %d changed, %d as before", count(len(regs), "daemon", "daemons"),
		n[api.ChangeAdded], n[api.ChangeChanged], n[api.ChangeUnchanged]))
	return nil
}

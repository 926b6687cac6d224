package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
)

// upDetached is up -d.
func (a *app) upDetached(ctx context.Context, set *spec.Set) error {
	m, err := a.managerWithin(0)
	if err != nil {
		return err
	}
	if _, err := m.Ping(ctx); errors.Is(err, api.ErrNoManager) {
		if err := a.startManager(ctx, m); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	regs, groups := registrations(set)
	changes, err := m.Apply(ctx, api.ApplyRequest{Daemons: regs, Groups: groups})
	if err != nil {
		return err
	}
	for _, c := range changes {
		if c.Change == api.ChangeChanged {
			a.say("%s", clean(nameOf(c)+": "+changed(c)))
		}
	}
	a.warn(set.Warnings())
	sel := api.Selector{Names: namesOf(set)}
	if len(sel.Names) == 0 {
		return a.nothing(api.Selector{All: true})
	}
	return a.act(ctx, starting, api.ActionRequest{Selector: sel, Wait: true}, api.Manager.Start, started)
}

func namesOf(set *spec.Set) []string {
	var names []string
	for _, d := range set.Daemons() {
		names = append(names, d.Name)
	}
	return names
}

// pingEvery is how often a manager that is starting is asked whether it runs.
// Nothing else tells on every platform.
const pingEvery = 10 * time.Millisecond

// startManager runs this binary as a manager in the background and returns
// when it answers.
func (a *app) startManager(ctx context.Context, m api.Manager) error {
	dir, err := a.dataDir()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("can't find this program to start a manager with: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("can't make the data directory: %w", err)
	}
	// What it says before it has a log, or in a crash, is in the log too.
	log, err := os.OpenFile(managerLog(dir), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("can't open the manager's log: %w", err)
	}
	defer log.Close()
	start, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("can't read the manager's log: %w", err)
	}
	argv := []string{"--data-dir", dir}
	if a.socketFlag != "" {
		argv = append(argv, "--socket", a.socketFlag)
	}
	if a.verbose {
		argv = append(argv, "--verbose")
	}
	cmd := exec.Command(self, append(argv, "daemon", "--background")...)
	cmd.Stderr = log
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("can't start a manager: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			// Another one may have begun at the same moment.
			if _, err := m.Ping(ctx); err == nil {
				return nil
			}
			said, _ := io.ReadAll(io.NewSectionReader(log, start, 1<<20))
			return errors.New("the manager ended at once: " + lastWords(said, managerLog(dir)))
		case <-ctx.Done():
			return ctx.Err() // a manager that comes up later does no harm
		case <-tick.C:
			if p, err := m.Ping(ctx); err == nil {
				a.say("started a manager in the background (pid %d); `syspulse shutdown` ends it", p.PID)
				return nil
			}
		}
	}
}

// lastWords is what a manager that failed said in plain text.
func lastWords(log []byte, path string) string {
	var text [][]byte
	for line := range bytes.Lines(log) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '{' {
			text = append(text, bytes.TrimPrefix(line, []byte("syspulse: ")))
		}
	}
	if len(text) == 0 {
		return "see " + path
	}
	return string(bytes.Join(text, []byte("\n")))
}

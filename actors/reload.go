package actors

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/platform"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// reloadTimeout is how long a reload_command may take, as systemd's ExecReload
// by default. Then it is killed.
var reloadTimeout = 90 * time.Second

// maxReloads is how many reload commands run at once.
const maxReloads = 16

// Reload implements [api.Manager]. A reload changes nothing of the daemon's
// record, so its actor isn't asked: the projection tells what runs, and a signal
// goes the way of all signals.
func (s *System) Reload(ctx context.Context, req api.ReloadRequest) ([]api.Result, error) {
	if req.IsZero() {
		return nil, api.Invalid("no daemon is selected; name some, or ask for all")
	}
	if s.ending.Load() {
		return nil, api.ShuttingDown()
	}
	sel, err := s.selected(ctx, req.Selector, nil)
	if err != nil {
		return nil, err
	}
	// A command goes on when whoever asked for it hangs up, but not beyond the
	// manager.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	results := make([]api.Result, len(sel.daemons))
	slots := make(chan struct{}, maxReloads)
	var wg sync.WaitGroup
	for i, d := range sel.daemons {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = s.reload(running, d)
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		cancel()
		close(done)
	}()
	go func() {
		select {
		case <-s.done:
			cancel()
		case <-done:
		}
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for _, err := range sel.unknown {
		results = append(results, api.Failed(err.Daemon, "", err))
	}
	return results, nil
}

func (s *System) reload(ctx context.Context, d selected) api.Result {
	failed := func(err error) api.Result { return api.Failed(d.name, d.rec.State, err) }
	reg := d.reg.Spec
	switch {
	case len(reg.ReloadCommand) == 0 && reg.ReloadSignal == "":
		return failed(api.Conflict(d.name, "%s can't be reloaded: it has neither reload_signal nor reload_command; write one into its file, or use `syspulse restart %s`", d.name, d.name))
	case d.rec.State != supervision.Running || d.rec.Process.PID == 0:
		return failed(api.Conflict(d.name, "%s is %s: there is nothing to reload", d.name, d.rec.State))
	case len(reg.ReloadCommand) == 0:
		results, err := s.Signal(ctx, api.SignalRequest{Selector: api.Selector{Names: []string{d.name}}, Signal: reg.ReloadSignal})
		if err != nil {
			return failed(err)
		}
		return results[0]
	}
	out, err := s.runReload(ctx, reg, d.rec.Process.PID)
	if err == nil {
		return api.Done(d.name, d.rec.State, true)
	}
	r := failed(fmt.Errorf("the reload_command of %s %w", d.name, err))
	r.Stderr = tail(out)
	return r
}

// runReload runs the reload_command of a daemon with its environment, directory
// and user, and with MAINPID, as systemd gives it to ExecReload. What it leaves
// behind is killed.
func (s *System) runReload(ctx context.Context, d *spec.Daemon, pid int) ([]byte, error) {
	if err := platform.SpareDescriptors(); err != nil {
		return nil, fmt.Errorf("can't be run: %w", err)
	}
	account, err := platform.LookupAccount(d.User)
	if err != nil {
		return nil, fmt.Errorf("can't be run: %w", err)
	}
	// No incarnation of the daemon: who looks for those must not find it.
	var id [8]byte
	rand.Read(id[:]) // never fails, see crypto/rand
	cmd, err := launchCommand(d, "reload-"+hex.EncodeToString(id[:]), "", account)
	if err != nil {
		return nil, fmt.Errorf("can't be run: %w", err)
	}
	cmd.Args, cmd.Keep = d.ReloadCommand, false
	cmd.Env = append(cmd.Env, "MAINPID="+strconv.Itoa(pid))
	short, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	out, exit, err := platform.Run(short, s.upgrade.host, cmd)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return out, fmt.Errorf("did not end within %v and was killed", reloadTimeout)
	case errors.Is(err, context.Canceled):
		return out, errors.New("was killed because the manager ends")
	case err != nil:
		return out, fmt.Errorf("can't be run: %w", err)
	case !exit.Known:
		return out, errors.New("ended, and nobody could learn its exit code")
	case exit.Signal != "" || exit.Code != 0:
		if lines := tail(out); len(lines) > 0 {
			return out, fmt.Errorf("%s: %s", exit, lines[len(lines)-1])
		}
		return out, fmt.Errorf("%s", exit)
	}
	return out, nil
}

// tail is the last lines of a command's output.
func tail(out []byte) []string {
	text := strings.TrimSpace(string(bytes.ToValidUTF8(out, []byte("\uFFFD"))))
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	return lines[max(0, len(lines)-lastWordsLines):]
}

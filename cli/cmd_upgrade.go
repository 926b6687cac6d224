package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/keeper"
	"github.com/cyber-boost/syspulse/persist"
)

func (a *app) cmdUpgrade() *cobra.Command {
	var binary string
	cmd := &cobra.Command{
		Use:   "upgrade [flags]",
		Short: "Replace the manager by the binary now on disk; daemons go on",
		Long: `Replace the manager by the binary that is on disk now, at the path by which
it was started. It stays the same process, and no daemon is touched.

The new binary proves itself first, with a copy of all registrations. If it
dies, or doesn't answer, within 10 seconds after it took over, the one before
it is started again.`,
		Example:           "  install -m 755 syspulse-new /usr/local/bin/syspulse && syspulse upgrade",
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if binary != "" {
				abs, err := filepath.Abs(binary)
				if err != nil {
					return err
				}
				binary = abs
			}
			m, err := a.manager()
			if err != nil {
				return err
			}
			before, err := m.Ping(ctx)
			if err != nil {
				return err
			}
			up, err := m.Upgrade(ctx, api.UpgradeRequest{Binary: binary})
			if err != nil {
				return err
			}
			after, err := awaitUpgrade(ctx, m, before)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(struct {
					api.Upgrade
					PID int `json:"pid"`
				}{up, after.PID})
			}
			if up.From == up.Version {
				a.say("the manager (pid %d) runs on in %s, version %s as before", after.PID, clean(up.Binary), clean(up.Version))
			} else {
				a.say("the manager (pid %d) runs on in %s: version %s, before it %s", after.PID, clean(up.Binary), clean(up.Version), clean(up.From))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&binary, "binary", "", "the `PATH` of another binary than that by which the manager was started")
	return cmd
}

// awaitUpgrade waits until the manager that was asked to has become another.
func awaitUpgrade(ctx context.Context, m api.Manager, before api.Ping) (api.Ping, error) {
	giveUp := time.Now().Add(keeper.TrialTime + 5*time.Second)
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		p, err := m.Ping(ctx)
		switch {
		case err != nil && (ctx.Err() != nil || errors.Is(err, api.ErrNoManager)):
			return p, err
		case err == nil && p.PID != before.PID:
			return p, fmt.Errorf("the new binary died when it took over; the one before it goes on, as pid %d: see the manager's log", p.PID)
		case err == nil && !p.StartedAt.Equal(before.StartedAt):
			return p, nil
		case time.Now().After(giveUp):
			return p, errors.New("the new binary has not taken over; the manager's log says why")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return api.Ping{}, ctx.Err()
		}
	}
}

// cmdProve is how a binary that is to take over answers the manager that asks
// for its proof.
func (a *app) cmdProve() *cobra.Command {
	return &cobra.Command{
		Use:    api.ProveArgument + " FILE",
		Hidden: true,
		Args:   args(1, 1, "FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			var p struct {
				Format int             `json:"format"`
				State  json.RawMessage `json:"state"`
			}
			if err := json.Unmarshal(b, &p); err != nil {
				return err
			}
			if p.Format > persist.StateFormat {
				return fmt.Errorf("the state on disk has format %d, and version %s knows formats up to %d", p.Format, Version(), persist.StateFormat)
			}
			if _, err := decodeState("the copy of the registrations", p.State); err != nil {
				return err
			}
			return a.printJSON(api.Proved{Syspulse: api.ProvedWord, Version: Version()})
		},
	}
}

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/supervision"
)

func (a *app) cmdStart() *cobra.Command {
	var (
		sel     selection
		wait    bool
		timeout timeoutFlag
	)
	cmd := &cobra.Command{
		Use:   "start NAME... [flags]",
		Short: "Start daemons",
		Long: `Start daemons, and what they depend on.

It returns when the programs run or could not be started, and with --wait when
they are ready. A daemon that runs already is fine.`,
		Example:           "  syspulse start web\n  syspulse start --all --wait --timeout 30",
		ValidArgsFunction: a.names(false),
		RunE: func(cmd *cobra.Command, names []string) error {
			s, err := sel.selector(cmd, names)
			if err != nil {
				return err
			}
			limit, err := timeout.value(cmd)
			if err != nil {
				return err
			}
			if limit != nil && !wait {
				return &usageError{message: "--timeout limits --wait; give both", command: "start"}
			}
			return a.act(cmd.Context(), starting, api.ActionRequest{Selector: s, Wait: wait, Timeout: limit}, api.Manager.Start, started)
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "until they are ready; a first exit before that is a failure")
	timeout.flag(cmd, "give up --wait after so many `SECS` (exit code 5)")
	sel.flags(cmd, true)
	a.completeSelection(cmd)
	return cmd
}

// act runs a bulk action and prints its results.
func (a *app) act(ctx context.Context, what doing, req api.ActionRequest, do func(api.Manager, context.Context, api.ActionRequest) ([]api.Result, error), done func(api.Result) string) error {
	m, err := a.manager()
	if err != nil {
		return err
	}
	var list []api.Result
	if err := a.whileWaiting(ctx, m, progress{what: what, selector: req.Selector, wait: req.Wait}, func() (err error) {
		list, err = do(m, ctx, req)
		return err
	}); err != nil {
		return err
	}
	if len(list) == 0 {
		return a.nothing(req.Selector)
	}
	return a.results(list, done)
}

// started says what became of a start.
func started(r api.Result) string {
	var s supervision.State
	if r.State != nil {
		s = *r.State
	}
	why := ""
	if r.PulledIn {
		why = " (it is needed)"
	}
	switch {
	case s == supervision.Scheduled && r.Changed:
		return r.Name + " runs at its next time"
	case s == supervision.Scheduled:
		return r.Name + " is scheduled already"
	case !r.Changed && s == supervision.Running:
		return r.Name + " is running already"
	case !r.Changed:
		return fmt.Sprintf("%s is %s already", r.Name, s)
	case s == supervision.Stopped:
		return "started " + r.Name + why + "; it has completed"
	case s == supervision.Starting, s == supervision.Backoff:
		return fmt.Sprintf("starting %s%s; it is %s, `syspulse status %s` says more", r.Name, why, s, r.Name)
	}
	return "started " + r.Name + why
}

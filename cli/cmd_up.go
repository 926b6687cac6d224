package cli

import (
	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/spec"
)

func (a *app) cmdUp() *cobra.Command {
	var (
		detached bool
		exitWith string
	)
	cmd := &cobra.Command{
		Use:   "up FILE... [flags]",
		Short: "Run a file's daemons, and show their output",
		Long: `Run a file's daemons, and show their output with a name before each line.

It ends when all of them have ended for good; the exit code is 1 if one failed.
Ctrl-C stops what it started, in reverse order; a second one kills.

It works in the manager that runs; if none does, it is the manager itself until
it ends. With -d it starts a manager in the background, waits until the daemons
are ready, and leaves it running.`,
		Example: `  syspulse up syspulse.sys
  syspulse up -d syspulse.sys
  syspulse up test.sys --exit-with tests`,
		Args:              args(1, -1, "which file? `syspulse init` writes one to start from"),
		ValidArgsFunction: sysFiles,
		RunE: func(cmd *cobra.Command, files []string) error {
			if detached && exitWith != "" {
				return &usageError{message: "--exit-with waits for an end, -d doesn't; give one of them", command: "up"}
			}
			set, err := spec.Load(files...)
			if err != nil {
				return err
			}
			if exitWith != "" {
				exitWith = spec.CanonicalName(exitWith)
				var known []string
				for _, d := range set.Daemons() {
					known = append(known, d.Name)
				}
				if !contains(known, exitWith) {
					message := "--exit-with: no daemon in there is called " + exitWith
					if near := spec.Nearest(exitWith, known); near != "" {
						message += "; did you mean " + near + "?"
					}
					return &usageError{message: message, command: "up"}
				}
			}
			if detached {
				return a.upDetached(cmd.Context(), set)
			}
			return a.up(cmd.Context(), set, exitWith)
		},
	}
	cmd.Flags().BoolVarP(&detached, "detach", "d", false, "leave them running, with a manager in the background")
	cmd.Flags().StringVar(&exitWith, "exit-with", "", "end when `NAME` has ended for good, with its exit code (128 + n for signal n)")
	return cmd
}

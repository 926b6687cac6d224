package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

func (a *app) cmdState() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "state export|import",
		Short: "Move a set-up to another machine",
		Long:  "Move a set-up to another machine: what is registered, and what is wanted running.",
		Example: `  syspulse state export > setup.json
  syspulse state import setup.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{message: "export or import?", command: "state"}
			}
			return a.unknownCommand(cmd, args)
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	export := &cobra.Command{
		Use:               "export",
		Short:             "Write registrations and wanted states as JSON",
		Long:              "Write registrations and wanted states as JSON. It holds the values of env.",
		Example:           "  syspulse state export > setup.json",
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := a.manager()
			if err != nil {
				return err
			}
			st, err := m.Export(cmd.Context())
			if err != nil {
				return err
			}
			e := json.NewEncoder(a.stdout)
			e.SetEscapeHTML(false)
			e.SetIndent("", "  ")
			return e.Encode(st)
		},
	}
	load := &cobra.Command{
		Use:     "import [FILE]",
		Short:   "Register what an export holds, and start what is wanted running",
		Long:    "Register what an export holds, all or none, and start what is wanted running. Without FILE, or if it is -, standard input is read.",
		Example: "  syspulse state import setup.json",
		Args:    args(0, 1, ""),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, b, err := a.readInput(args)
			if err != nil {
				return err
			}
			st, err := decodeState(name, b)
			if err != nil {
				return err
			}
			m, err := a.manager()
			if err != nil {
				return err
			}
			list, err := m.Import(cmd.Context(), st)
			if err != nil {
				return err
			}
			return a.results(list, func(r api.Result) string {
				if !r.Changed {
					return r.Name + " is registered already"
				}
				if r.State != nil && *r.State != supervision.Stopped {
					return fmt.Sprintf("registered %s; it is %s", r.Name, *r.State)
				}
				return "registered " + r.Name
			})
		},
	}
	for _, c := range []*cobra.Command{export, load} {
		c.DisableFlagsInUseLine = true
	}
	cmd.AddCommand(export, load)
	return cmd
}

// maxInput is how much of an export is read.
const maxInput = 16 << 20

func (a *app) readInput(args []string) (string, []byte, error) {
	in, name := a.stdin, "standard input"
	if len(args) > 0 && args[0] != "-" {
		name = args[0]
		f, err := os.Open(name)
		if err != nil {
			return name, nil, &codeError{exitUsage, fmt.Errorf("can't read the export: %w", err)}
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return name, nil, &codeError{exitUsage, fmt.Errorf("can't read %s: %w", name, err)}
	}
	if len(b) > maxInput {
		return name, nil, &codeError{exitUsage, fmt.Errorf("%s is larger than %d MiB; is it an export?", name, maxInput>>20)}
	}
	return name, b, nil
}

// decodeState reads an export; the manager checks the daemons in it.
func decodeState(name string, b []byte) (api.State, error) {
	var st api.State
	bad := func(format string, args ...any) error {
		return &codeError{exitUsage, fmt.Errorf("%s is no export of `syspulse state export`: %s", name, fmt.Sprintf(format, args...))}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&st); err != nil {
		return st, bad("%v", err)
	}
	if st.Version < 1 {
		return st, bad("it has no version")
	}
	if st.Version > api.StateVersion {
		return st, &codeError{exitUsage, fmt.Errorf("%s was written by a newer syspulse (format %d, this one reads up to %d)", name, st.Version, api.StateVersion)}
	}
	for i, d := range st.Daemons {
		if d.Spec == nil {
			return st, bad("daemons[%d] has no spec", i)
		}
		if _, err := d.Spec.Checked(); err != nil {
			var ps spec.Problems
			if ok := asProblems(err, &ps); ok {
				for j := range ps {
					ps[j].File = name
				}
				return st, ps
			}
			return st, err
		}
	}
	return st, nil
}

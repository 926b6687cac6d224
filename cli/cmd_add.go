package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
)

func (a *app) cmdAdd() *cobra.Command {
	var (
		files   []string
		name    string
		command string // taken out of the arguments before they are read
	)
	cmd := &cobra.Command{
		Use:   "add [--file FILE | --name NAME --command PROG ARGS...]",
		Short: "Register daemons",
		Long: `Register daemons: those of a file, or one that is given here. With nothing
given, the file is syspulse.sys, syspulse.toml, or the only .sys file here.

Everything after --command is taken as it is, flags too, so it comes last.
A daemon that is known and the same is fine. If it differs, nothing is
registered.`,
		Example: `  syspulse add --file web.sys
  syspulse add --name web --command python3 -m http.server 8000`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{message: fmt.Sprintf("%q is one argument too many; a file is given by --file %s", args[0], args[0]), command: "add"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			req, warnings, err := a.addRequest(files, name)
			if err != nil {
				return err
			}
			m, err := a.manager()
			if err != nil {
				return err
			}
			list, err := m.Add(cmd.Context(), req)
			if err != nil {
				return err
			}
			a.warn(warnings)
			return a.results(list, func(r api.Result) string {
				if !r.Changed {
					return r.Name + " is registered already"
				}
				return "registered " + r.Name
			})
		},
	}
	cmd.Flags().StringArrayVar(&files, "file", nil, "the .sys `FILE` (repeatable)")
	cmd.Flags().StringVar(&name, "name", "", "the `NAME` of the one daemon")
	cmd.Flags().StringVar(&command, "command", "", "its `PROG` and arguments; comes last")
	cmd.MarkFlagFilename("file", "sys", "toml")
	cmd.RegisterFlagCompletionFunc("name", cobra.NoFileCompletions)
	return cmd
}

func (a *app) addRequest(files []string, name string) (api.AddRequest, []spec.Warning, error) {
	bad := func(message string) error { return &usageError{message: message, command: "add"} }
	var req api.AddRequest
	switch {
	case len(files) > 0 && (name != "" || a.hasCommand):
		return req, nil, bad("give --file, or --name and --command, not both")
	case name != "" && !a.hasCommand:
		return req, nil, bad("--name needs --command PROG ARGS... behind it")
	case name == "" && a.hasCommand:
		return req, nil, bad("--command needs a --name before it")
	case a.hasCommand && (len(a.command) == 0 || a.command[0] == ""):
		return req, nil, bad("--command is empty; write the program and its arguments behind it")
	case a.hasCommand:
		d, err := spec.New(name, a.command)
		if err != nil {
			return req, nil, err
		}
		return api.AddRequest{Daemons: []api.Registration{{Spec: d}}}, append(spec.NotActedOn(d), spec.Doubtful(d)...), nil
	}
	if len(files) == 0 {
		found, err := findFile(".")
		if err != nil {
			return req, nil, err
		}
		a.say("reading %s", clean(found))
		files = []string{found}
	}
	set, err := spec.Load(files...)
	if err != nil {
		return req, nil, err
	}
	req.Daemons, req.Groups = registrations(set)
	return req, set.Warnings(), nil
}

// registrations are the daemons and groups of files, as the manager takes them.
func registrations(set *spec.Set) ([]api.Registration, []spec.Group) {
	var regs []api.Registration
	var groups []spec.Group
	for _, f := range set.Files {
		for _, d := range f.Daemons {
			regs = append(regs, api.Registration{Spec: d, Source: f.Path})
		}
	}
	for _, g := range set.Groups() {
		groups = append(groups, *g)
	}
	return regs, groups
}

// findFile is the file that is meant where none is given.
func findFile(dir string) (string, error) {
	for _, name := range []string{"syspulse.sys", "syspulse.toml"} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err == nil && !fi.IsDir() {
			return filepath.Join(dir, name), nil
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("can't look for a .sys file here: %w", err)
	}
	var found []string
	for _, e := range entries {
		if !e.IsDir() && filepath.Ext(e.Name()) == ".sys" {
			found = append(found, e.Name())
		}
	}
	switch len(found) {
	case 0:
		return "", usage("there is no .sys file here; give --file FILE, or write one with `syspulse init`")
	case 1:
		return filepath.Join(dir, found[0]), nil
	}
	return "", usage("which file? There are %s; give --file FILE", strings.Join(found, ", "))
}

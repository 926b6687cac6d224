package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/spec"
)

func (a *app) cmdCheck() *cobra.Command {
	return &cobra.Command{
		Use:               "check FILE...",
		Short:             "Say what is wrong with .sys files",
		Long:              "Say what is wrong with .sys files, all at once and where. Nothing is registered; no manager is needed.",
		Example:           "  syspulse check web.sys",
		Args:              args(1, -1, "which file? Give one or several"),
		ValidArgsFunction: sysFiles,
		RunE: func(_ *cobra.Command, paths []string) error {
			type fileJSON struct {
				Path    string   `json:"path"`
				Daemons []string `json:"daemons"`
				Groups  []string `json:"groups"`
			}
			type report struct {
				OK       bool           `json:"ok"`
				Files    []fileJSON     `json:"files"`
				Problems spec.Problems  `json:"problems"`
				Warnings []spec.Warning `json:"warnings"`
			}
			out := report{OK: true, Files: []fileJSON{}, Problems: spec.Problems{}, Warnings: []spec.Warning{}}
			set, err := spec.Load(paths...)
			if err == nil {
				if missing := set.Missing(); len(missing) > 0 {
					err = missing
				}
			}
			if err != nil {
				if a.json {
					out.OK = false
					errors.As(err, &out.Problems)
					if err := a.printJSON(out); err != nil {
						return err
					}
				}
				return err
			}
			for _, f := range set.Files {
				j := fileJSON{Path: f.Path, Daemons: []string{}, Groups: []string{}}
				for _, d := range f.Daemons {
					j.Daemons = append(j.Daemons, d.Name)
				}
				for _, g := range f.Groups {
					j.Groups = append(j.Groups, g.Name)
				}
				out.Files = append(out.Files, j)
			}
			if a.json {
				out.Warnings = append(out.Warnings, set.Warnings()...)
				return a.printJSON(out)
			}
			a.warn(set.Warnings())
			for _, f := range out.Files {
				a.say("%s: good, %s", clean(f.Path), count(len(f.Daemons), "daemon", "daemons"))
			}
			return nil
		},
	}
}

package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
)

func (a *app) cmdApply() *cobra.Command {
	var dryRun, prune bool
	cmd := &cobra.Command{
		Use:   "apply FILE... [flags]",
		Short: "Make the manager's daemons what files say",
		Long: `Make the manager's daemons what files say, and show the difference: what is
added (+), changed (~), unchanged (=) and removed (-). If anything is wrong with
a file, nothing is changed.

A changed daemon that runs is restarted, unless what changed is looked at by the
manager alone: tags, description, health and restart policies, log limits,
dependencies, groups and the like. What is unchanged keeps its process.

With --prune, daemons that came from one of these files and are no longer in
any of them are stopped and removed, after everything else; their logs stay. The declaration of
a group that is in none of them goes as well, if all of its daemons are.`,
		Example:           "  syspulse apply web.sys --dry-run\n  syspulse apply web.sys db.sys --prune",
		Args:              args(1, -1, "which file? Give one or several"),
		ValidArgsFunction: sysFiles,
		RunE: func(cmd *cobra.Command, paths []string) error {
			set, err := spec.Load(paths...)
			if err != nil {
				return err
			}
			var req api.ApplyRequest
			req.Daemons, req.Groups = registrations(set)
			req.DryRun = dryRun
			if prune {
				if req.Prune, err = prunable(set); err != nil {
					return err
				}
			}
			m, err := a.manager()
			if err != nil {
				return err
			}
			var changes []api.Change
			if err := a.whileWaiting(cmd.Context(), m, progress{what: applying, selector: api.Selector{Names: namesOf(set), All: prune}}, func() (err error) {
				changes, err = m.Apply(cmd.Context(), req)
				return err
			}); err != nil {
				return err
			}
			a.warn(set.Warnings())
			if a.json {
				if changes == nil {
					changes = []api.Change{}
				}
				return a.printJSON(changes)
			}
			a.changes(changes, dryRun)
			return nil
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would change")
	cmd.Flags().BoolVar(&prune, "prune", false, "remove what came from these files and is no longer in them")
	return cmd
}

// prunable are the paths of files, if each is one that can be told again: what
// came through one pipe has nothing to do with what comes through the next.
func prunable(set *spec.Set) ([]string, error) {
	var paths []string
	for _, f := range set.Files {
		if st, err := os.Stat(f.Path); err == nil && !st.Mode().IsRegular() {
			return nil, usage("--prune goes by the path of a file, and %s is none; write it to a file first", clean(f.Path))
		}
		paths = append(paths, f.Path)
	}
	return paths, nil
}

// How a kind of change is shown.
var changeLooks = map[api.ChangeKind]struct{ sign, color string }{
	api.ChangeAdded:     {"+", green},
	api.ChangeChanged:   {"~", yellow},
	api.ChangeUnchanged: {"=", dim},
	api.ChangeRemoved:   {"-", red},
}

// nameOf tells groups from daemons.
func nameOf(c api.Change) string {
	if c.Kind == api.KindGroup {
		return "group " + c.Name
	}
	return c.Name
}

// changes prints the difference that an apply made, or would make.
func (a *app) changes(list []api.Change, dryRun bool) {
	width := 0
	n := map[api.ChangeKind]int{}
	for _, c := range list {
		width = max(width, columns(clean(nameOf(c))))
		n[c.Change]++
	}
	for _, c := range list {
		look := changeLooks[c.Change]
		text := string(c.Change)
		if c.Change == api.ChangeChanged {
			text = changed(c)
			if dryRun && c.Restart {
				text = strings.TrimSuffix(text, ", restarted") + ", to be restarted"
			}
		}
		a.say("%s", a.paint(look.color, look.sign+" "+pad(clean(nameOf(c)), width)+"  "+clean(text)))
	}
	total := fmt.Sprintf("%d added, %d changed, %d unchanged, %d removed",
		n[api.ChangeAdded], n[api.ChangeChanged], n[api.ChangeUnchanged], n[api.ChangeRemoved])
	if dryRun {
		total += "; nothing was done, this is what would be"
	}
	a.say("%s", total)
}

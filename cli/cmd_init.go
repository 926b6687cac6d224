package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/spec"
)

func (a *app) cmdInit() *cobra.Command {
	return &cobra.Command{
		Use:     "init [PATH]",
		Short:   "Write a commented .sys file to start from",
		Long:    "Write a commented .sys file to start from, syspulse.sys unless told otherwise. A file that is there is left alone.",
		Example: "  syspulse init\n  syspulse init web.sys",
		Args:    args(0, 1, ""),
		RunE: func(_ *cobra.Command, args []string) error {
			path := "syspulse.sys"
			if len(args) > 0 {
				path = args[0]
			}
			if path == "" {
				return &usageError{message: "the path is empty", command: "init"}
			}
			if err := create(path, spec.Template()); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]string{"path": path})
			}
			a.say("wrote %s; edit it, then run it with `syspulse up %s`", clean(path), clean(path))
			return nil
		},
	}
}

// create writes a file that must not exist.
func create(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if fi, serr := os.Stat(path); err != nil && serr == nil && fi.IsDir() {
		return fmt.Errorf("%s is a directory; give the path of a file in it", path)
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already and was left alone; give another PATH", path)
	}
	if err != nil {
		return fmt.Errorf("can't write the file: %w", err)
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(path) // half a file
		return fmt.Errorf("can't write %s: %w", path, err)
	}
	return nil
}

package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker (-X) where a release is built.
var version = ""

// Version is this build's: the linker's, the module's, or the commit's.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	rev, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			rev = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+changes"
		}
	}
	if len(rev) > 12 {
		rev = rev[:12]
	}
	if rev == "" {
		return ""
	}
	return rev + dirty
}

func (a *app) cmdVersion() *cobra.Command {
	return &cobra.Command{
		Use:               "version",
		Short:             "Say which syspulse this is",
		Example:           "  syspulse version",
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			platform := runtime.GOOS + "/" + runtime.GOARCH
			if a.json {
				return a.printJSON(map[string]string{"version": Version(), "commit": commit(), "go": runtime.Version(), "platform": platform})
			}
			_, err := fmt.Fprintf(a.stdout, "syspulse %s (%s, %s)\n", Version(), runtime.Version(), platform)
			return err
		},
	}
}

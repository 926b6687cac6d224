// Syspulse is a daemon manager: a supervision tree of operating-system
// processes.
package main

import (
	"os"
	"runtime"

	"github.com/cyber-boost/syspulse/actors"
	"github.com/cyber-boost/syspulse/cli"
)

func main() {
	runtime.MemProfileRate = 0 // nobody reads the profile, and its table takes a megabyte
	os.Exit(cli.Main(os.Args[1:], func(o cli.ManagerOptions) (cli.RunningManager, error) {
		return actors.Start(actors.Options{DataDir: o.DataDir, Version: o.Version, Logger: o.Logger, Store: o.Store, KeeperArgs: o.KeeperArgs, Binary: o.Binary})
	}))
}

package actors

import (
	"fmt"
	"os"
	"strconv"

	"github.com/cyber-boost/syspulse/notify"
	"github.com/cyber-boost/syspulse/platform"
	"github.com/cyber-boost/syspulse/spec"
)

// launchCommand is what starts an incarnation of d. Its environment files are
// read anew each time.
func launchCommand(d *spec.Daemon, incarnation, address string, account *platform.Account) (platform.Command, error) {
	var layers []map[string]string
	for _, file := range d.EnvFile {
		vars, err := spec.ReadEnvFile(file)
		if err != nil {
			return platform.Command{}, err
		}
		layers = append(layers, vars)
	}
	layers = append(layers, d.Env)
	if address != "" {
		layers = append(layers, notify.Env(address, d.Watchdog.Duration()))
	}
	cmd := platform.Command{
		Incarnation: incarnation,
		Args:        d.Command,
		Env:         platform.Environment(os.Environ(), account, d.WorkingDir, layers...),
		Dir:         d.WorkingDir,
		Account:     account,
		Keep:        true,
		WatchdogPID: address != "" && d.Watchdog > 0,
	}
	if d.Umask != "" {
		m, err := strconv.ParseUint(d.Umask, 8, 12)
		if err != nil {
			return cmd, fmt.Errorf("umask %q is not an octal number", d.Umask)
		}
		umask := int(m)
		cmd.Umask = &umask
	}
	return cmd, nil
}

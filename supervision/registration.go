package supervision

import "github.com/cyber-boost/syspulse/spec"

// Registration is what is known of a daemon apart from its state.
type Registration struct {
	Spec   *spec.Daemon
	Source string // absolute path of the .sys file it came from; empty if from the command line
}

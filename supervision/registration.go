package supervision

import (
	"strings"

	"github.com/cyber-boost/syspulse/spec"
)

// Registration is what is known of a daemon apart from its state, or of a group
// that was declared.
type Registration struct {
	Spec   *spec.Daemon
	Group  *spec.Group // of a group; it has no Spec
	Source string      // of a daemon: absolute path of the .sys file it came from; empty if from the command line
}

// groupMark begins the names under which the journal has groups, beside those of
// daemons. No name that a user can choose begins with it.
const groupMark = "@"

// GroupKey is the name under which the journal has a group.
func GroupKey(group string) string { return groupMark + group }

// IsGroup tells the group that a name in the journal stands for from the daemons.
func IsGroup(name string) (group string, ok bool) { return strings.CutPrefix(name, groupMark) }

// Key is the name under which the journal has it.
func (r *Registration) Key() string {
	if r.Group != nil {
		return GroupKey(r.Group.Name)
	}
	return r.Spec.Name
}

package keeper

import "strings"

// The assignments of a datagram that keeper and manager use; those without X_
// are sd_notify(3)'s.
const (
	msgReady    = "READY=1"
	msgStopping = "STOPPING=1"
	msgStore    = "FDSTORE=1"
	msgRemove   = "FDSTOREREMOVE=1"
	msgBarrier  = "BARRIER=1"
	msgNoPoll   = "FDPOLL=0" // a pidfd hangs up when its process has died; that is when it is needed

	msgLeave = "X_SYSPULSE_LEAVE=1" // the keeper isn't needed any more

	keyName  = "FDNAME="
	keyTrial = "X_SYSPULSE_TRIAL=" // milliseconds in which another binary must prove itself
	keyExit  = "X_SYSPULSE_EXIT="  // the code with which the manager ends now
)

// maxFDs is how many descriptors one datagram may carry (SCM_MAX_FD of unix(7)).
const maxFDs = 253

// message is a datagram.
type message struct {
	ready, stopping, store, remove, barrier, leave bool

	name        string
	trial, exit string
}

func parseMessage(b []byte) message {
	var m message
	for line := range strings.SplitSeq(string(b), "\n") {
		switch {
		case line == msgReady:
			m.ready = true
		case line == msgStopping:
			m.stopping = true
		case line == msgStore:
			m.store = true
		case line == msgRemove:
			m.remove = true
		case line == msgLeave:
			m.leave = true
		case line == msgBarrier:
			m.barrier = true
		case strings.HasPrefix(line, keyName):
			m.name = line[len(keyName):]
		case strings.HasPrefix(line, keyTrial):
			m.trial = line[len(keyTrial):]
		case strings.HasPrefix(line, keyExit):
			m.exit = line[len(keyExit):]
		}
	}
	return m
}

// validName reports whether systemd would take a name (fdname_is_valid): up to
// 255 printable ASCII characters and no colon, which parts names from each other.
func validName(name string) bool {
	if name == "" || len(name) > 255 {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == ':' {
			return false
		}
	}
	return true
}

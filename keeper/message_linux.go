package keeper

import "bytes"

// The assignments of a datagram that keeper and manager use; those without X_
// are sd_notify(3)'s.
const (
	msgReady    = "READY=1"
	msgStopping = "STOPPING=1"
	msgStore    = "FDSTORE=1"
	msgRemove   = "FDSTOREREMOVE=1"
	msgBarrier  = "BARRIER=1"
	msgNoPoll   = "FDPOLL=0" // a pidfd hangs up when its process has died; that is when it is needed

	msgSignals = "X_SYSPULSE_SIGNALS=1" // signals reach the manager from now on

	msgLeave = "X_SYSPULSE_LEAVE=1" // the keeper isn't needed any more

	keyName  = "FDNAME="
	keyTrial = "X_SYSPULSE_TRIAL=" // milliseconds in which another binary must prove itself
	keyExit  = "X_SYSPULSE_EXIT="  // the code with which the manager ends now
)

// maxFDs is how many descriptors one datagram may carry (SCM_MAX_FD of unix(7)).
const maxFDs = 253

// message is a datagram. What it holds is part of the datagram's buffer.
type message struct {
	ready, stopping, store, remove, barrier, leave, signals bool

	name, trial, exit []byte
}

// parseMessage reads a datagram, without an allocation.
func parseMessage(b []byte) message {
	var m message
	for len(b) > 0 {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte{'\n'})
		switch string(line) {
		case msgReady:
			m.ready = true
		case msgStopping:
			m.stopping = true
		case msgStore:
			m.store = true
		case msgRemove:
			m.remove = true
		case msgLeave:
			m.leave = true
		case msgSignals:
			m.signals = true
		case msgBarrier:
			m.barrier = true
		}
		value(&m.name, line, keyName)
		value(&m.trial, line, keyTrial)
		value(&m.exit, line, keyExit)
	}
	return m
}

func value(to *[]byte, line []byte, key string) {
	if len(line) >= len(key) && string(line[:len(key)]) == key {
		*to = line[len(key):]
	}
}

// validName reports whether systemd would take a name (fdname_is_valid): printable
// ASCII and no colon, which parts names from each other. (It takes 255 bytes; we
// need fewer.)
func validName(name []byte) bool {
	if len(name) == 0 || len(name) > MaxName {
		return false
	}
	for _, c := range name {
		if c <= ' ' || c >= 0x7f || c == ':' {
			return false
		}
	}
	return true
}

package persist

import (
	"encoding/binary"
	"time"

	"github.com/cyber-boost/syspulse/supervision"
)

// The keys of the journal. Numbers are big-endian, so that keys sort by them.
//
//	'e' seq(8) time(8) daemon(4) contents(1)  an event
//	'f' daemon(4)                             base: its record before the oldest kept event
//	'g' daemon(4)                             base: its registration before the oldest kept event
//	'm' name                                  one of the meta keys below
//	'n' daemon(4)                             the daemon's name
//	's' daemon(4)                             snapshot: its record
//	't' daemon(4)                             snapshot: its registration
//
// An event's key alone tells whose it is, when it was and what is in it, so
// that one daemon's history and the state at a time are found without reading
// the other values. The number 0 is the manager itself.
//
// Snapshot: what startup begins with; it then replays the events after the
// mark metaSnapshot. Base: what the state at a past time begins with; it takes
// in the oldest events as they are deleted.
const (
	eventPrefix   = 'e'
	basePrefix    = 'f'
	baseRegPrefix = 'g'
	metaPrefix    = 'm'
	namePrefix    = 'n'
	snapPrefix    = 's'
	snapRegPrefix = 't'
	eventKeyLen   = 1 + 8 + 8 + 4 + 1
)

// The meta keys.
var (
	metaSnapshot = []byte("msnapshot") // Mark: events up to here are in the snapshot
	metaBase     = []byte("mbase")     // Mark: the newest deleted event
	metaManager  = []byte("mmanager")  // Manager, as of the snapshot
	metaBatch    = []byte("mbatch")    // Mark: a batch in several transactions begins here and is not complete
)

// daemonID stands for a daemon's name in keys.
type daemonID uint32

// contents says what an event holds.
type contents byte

const (
	hasRecord contents = 1 << iota
	hasRegistration
	isRemoval
)

func contentsOf(ev *supervision.Event) (c contents) {
	if ev.Record != nil {
		c |= hasRecord
	}
	if ev.Spec != nil {
		c |= hasRegistration
	}
	if ev.Kind == supervision.EventRemoved {
		c |= isRemoval
	}
	return c
}

// eventKey is what an event's key says.
type eventKey struct {
	seq      uint64
	nanos    int64 // since 1970, clamped
	daemon   daemonID
	contents contents
}

func (k eventKey) append(b []byte) []byte {
	b = append(b, eventPrefix)
	b = binary.BigEndian.AppendUint64(b, k.seq)
	b = binary.BigEndian.AppendUint64(b, uint64(k.nanos)^(1<<63)) // negative ones sort first
	b = binary.BigEndian.AppendUint32(b, uint32(k.daemon))
	return append(b, byte(k.contents))
}

// parseEventKey reports false for a key that is not an event's.
func parseEventKey(b []byte) (k eventKey, ok bool) {
	if len(b) != eventKeyLen || b[0] != eventPrefix {
		return k, false
	}
	return eventKey{
		seq:      binary.BigEndian.Uint64(b[1:]),
		nanos:    int64(binary.BigEndian.Uint64(b[9:]) ^ (1 << 63)),
		daemon:   daemonID(binary.BigEndian.Uint32(b[17:])),
		contents: contents(b[21]),
	}, true
}

// seqKey sorts before all keys of events from seq on.
func seqKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{eventPrefix}, seq)
}

func daemonKey(prefix byte, id daemonID) []byte {
	return binary.BigEndian.AppendUint32([]byte{prefix}, uint32(id))
}

func parseDaemonKey(b []byte) (daemonID, bool) {
	if len(b) != 5 {
		return 0, false
	}
	return daemonID(binary.BigEndian.Uint32(b[1:])), true
}

// clampNanos is t in nanoseconds since 1970, within what an int64 holds (1678
// to 2262).
func clampNanos(t time.Time) int64 {
	const most = int64(^uint64(0) >> 1)
	switch s := t.Unix(); {
	case s >= most/1e9:
		return most
	case s <= -most/1e9:
		return -most
	}
	return t.UnixNano()
}

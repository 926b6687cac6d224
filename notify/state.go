package notify

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// State is what a datagram assigns. What we have no use for (FDSTORE=1, X_…) is
// not in it.
type State struct {
	// At most one of these is true: the last in the datagram, as for systemd.
	Ready, Reloading, Stopping bool
	// Since is when the reload began, on CLOCK_MONOTONIC; 0 if it doesn't say.
	Since time.Duration

	Status    string // one line, valid UTF-8, of up to MaxStatus bytes
	HasStatus bool   // STATUS= was there; it may be empty

	Alive   bool // WATCHDOG=1
	Trigger bool // WATCHDOG=trigger: treat me as if the watchdog had run out

	// Watchdog is the interval to go on with from now; 0 with HasWatchdog is none.
	Watchdog    time.Duration
	HasWatchdog bool

	// ExtendTimeout: the timeout of the start, the reload or the stop that is under
	// way ends so long from now, if it would before. 0: nothing is said.
	ExtendTimeout time.Duration

	Errno int // of what made it fail; 0 is none
}

// MaxStatus bounds a status, in bytes.
const MaxStatus = 512

// maxMessage is the size of a datagram, in bytes: systemd's, which is what software
// is written for.
const maxMessage = 4096

var (
	errNothing = errors.New("it is empty")
	errNUL     = errors.New("it contains a NUL byte")
)

// parsed is a whole datagram.
type parsed struct {
	State
	mainPID int
	barrier bool // BARRIER=1 is in it
	alone   bool // and nothing else
}

// parse reads a datagram of KEY=value lines. A line that makes no sense is
// skipped; of several with one key the first counts. The error is about the whole.
func parse(b []byte) (parsed, error) {
	// Some send the NUL that ends the string, too.
	s := strings.TrimSuffix(string(b), "\x00")
	if strings.Contains(s, "\x00") {
		return parsed{}, errNUL
	}
	var p parsed
	var extended bool
	n := 0
	for line := range strings.SplitSeq(s, "\n") {
		if line == "" {
			continue
		}
		n++
		key, value, _ := strings.Cut(line, "=")
		switch key {
		case "READY", "RELOADING", "STOPPING":
			if value == "1" {
				p.Ready, p.Reloading, p.Stopping = key == "READY", key == "RELOADING", key == "STOPPING"
			}
		case "MONOTONIC_USEC":
			if d, ok := micros(value); ok && p.Since == 0 {
				p.Since = d
			}
		case "STATUS":
			if !p.HasStatus {
				p.Status, p.HasStatus = clean(value), true
			}
		case "WATCHDOG":
			p.Alive = p.Alive || value == "1"
			p.Trigger = p.Trigger || value == "trigger"
		case "WATCHDOG_USEC":
			if d, ok := micros(value); ok && !p.HasWatchdog {
				p.Watchdog, p.HasWatchdog = d, true
			}
		case "MAINPID":
			if pid, err := strconv.ParseInt(value, 10, 32); err == nil && pid > 0 && p.mainPID == 0 {
				p.mainPID = int(pid)
			}
		case "EXTEND_TIMEOUT_USEC":
			if d, ok := micros(value); ok && !extended {
				p.ExtendTimeout, extended = d, true
			}
		case "ERRNO":
			if e, err := strconv.ParseInt(value, 10, 32); err == nil && e > 0 && p.Errno == 0 {
				p.Errno = int(e)
			}
		case "BARRIER":
			p.barrier = p.barrier || value == "1"
		}
	}
	if n == 0 {
		return parsed{}, errNothing
	}
	p.alone = n == 1
	return p, nil
}

// micros reads a number of microseconds; what is beyond a Duration is its most.
func micros(s string) (time.Duration, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, false
	}
	return time.Duration(min(n, math.MaxInt64/1000)) * time.Microsecond, true
}

// clean makes a status fit for a line of a terminal: what would not be printed, or
// would change what is, becomes one character that is seen.
func clean(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\t':
			r = ' '
		case !unicode.IsPrint(r):
			r = utf8.RuneError
		}
		if b.Len()+utf8.RuneLen(r) > MaxStatus {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

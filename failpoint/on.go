//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// Enabled says whether this build has failpoints.
const Enabled = true

var (
	armed    arming // does not change once the process has begun
	peer     atomic.Int64
	sabotage = strings.Split(os.Getenv("SYSPULSE_SABOTAGE"), ",")
	tuned    = strings.Split(os.Getenv("SYSPULSE_TUNE"), ",")
)

// arming is what SYSPULSE_FAILPOINT asks for.
type arming struct {
	point      Point
	left       atomic.Int64 // times until it happens
	peer, self bool         // who is killed
	file       string       // that it was read from
}

func init() {
	if err := armed.parse(os.Getenv("SYSPULSE_FAILPOINT")); err != nil {
		fmt.Fprintf(os.Stderr, "SYSPULSE_FAILPOINT: %v; write POINT:N, POINT:N:peer, POINT:N:both or @FILE\n", err)
		os.Exit(2)
	}
}

func (a *arming) parse(text string) error {
	if file, ok := strings.CutPrefix(text, "@"); ok {
		b, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		a.file, text = file, strings.TrimSpace(string(b))
	}
	if text == "" {
		return nil
	}
	f := strings.Split(text, ":")
	if len(f) < 2 || len(f) > 3 {
		return fmt.Errorf("%q is no arming", text)
	}
	n, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil || n < 1 {
		return fmt.Errorf("%q is no count of times", f[1])
	}
	a.self = true
	if len(f) == 3 {
		switch f[2] {
		case "peer":
			a.peer, a.self = true, false
		case "both":
			a.peer = true
		default:
			return fmt.Errorf("%q is nobody", f[2])
		}
	}
	a.point = Point(f[0])
	a.left.Store(n)
	return nil
}

// Hit marks that a point is reached.
func Hit(p Point) {
	if p != armed.point || armed.left.Add(-1) != 0 {
		return
	}
	if armed.file != "" && os.Rename(armed.file, armed.file+".fired."+strconv.Itoa(os.Getpid())) != nil {
		return // it has happened in another process
	}
	if pid := int(peer.Load()); armed.peer && pid > 1 {
		kill(pid)
	}
	if armed.self {
		kill(os.Getpid())
		select {} // until the signal is there
	}
}

// Peer names the process that an armed point may kill: to a manager its
// keeper, to a keeper its manager. 0 is none.
func Peer(pid int) { peer.Store(int64(pid)) }

// kill ends a process at once. What it was about to do is not done.
func kill(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill() // it may be dead
	}
}

// Sabotaged says whether a fault is to be built in.
func Sabotaged(f Fault) bool { return slices.Contains(sabotage, string(f)) }

// Tune is a limit that a test may have changed; else it is usual.
func Tune(limit string, usual int) int {
	for _, t := range tuned {
		name, value, _ := strings.Cut(t, "=")
		if n, err := strconv.Atoi(value); name == limit && err == nil {
			return n
		}
	}
	return usual
}

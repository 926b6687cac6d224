//go:build unix

package platform

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// rtmin is the first real-time signal as the C library counts: it keeps the
// kernel's first two (32 and 33) for itself.
const rtmin, rtmax = 34, 64

// ParseSignal knows SIGTERM, term, TERM, 15, SIGRTMIN+1 and the like.
func ParseSignal(name string) (unix.Signal, error) {
	s := strings.ToUpper(strings.TrimSpace(name))
	if n, err := strconv.Atoi(s); err == nil {
		if n >= 1 && n <= rtmax {
			return unix.Signal(n), nil
		}
		return 0, fmt.Errorf("no such signal: %s", name)
	}
	s = "SIG" + strings.TrimPrefix(s, "SIG")
	if n := unix.SignalNum(s); n != 0 {
		return n, nil
	}
	for prefix, base := range map[string]int{"SIGRTMIN": rtmin, "SIGRTMAX": rtmax} {
		rest, ok := strings.CutPrefix(s, prefix)
		if !ok {
			continue
		}
		n, err := 0, error(nil)
		if rest != "" {
			n, err = strconv.Atoi(rest)
		}
		if base += n; err == nil && base >= rtmin && base <= rtmax {
			return unix.Signal(base), nil
		}
	}
	return 0, fmt.Errorf("no such signal: %s", name)
}

// SignalName is the canonical name: SIGTERM, SIGRTMIN+1.
func SignalName(sig unix.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	if sig == rtmin {
		return "SIGRTMIN"
	}
	if sig > rtmin && sig <= rtmax {
		return "SIGRTMIN+" + strconv.Itoa(int(sig)-rtmin)
	}
	return "SIG" + strconv.Itoa(int(sig))
}

// exitOf turns a wait status into an Exit.
func exitOf(ws unix.WaitStatus) Exit {
	if ws.Signaled() {
		return Exit{Known: true, Signal: SignalName(ws.Signal())}
	}
	return Exit{Known: true, Code: ws.ExitStatus()}
}

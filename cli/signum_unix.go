//go:build !windows

package cli

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The real-time signals as the C library counts them, see signal(7).
const rtmin, rtmax = 34, 64

// signalNumber is n for a signal's canonical name, 0 if it is unknown.
func signalNumber(name string) int {
	for edge, first := range map[string]int{"SIGRTMIN": rtmin, "SIGRTMAX": rtmax} {
		rest, ok := strings.CutPrefix(name, edge)
		if !ok {
			continue
		}
		if rest == "" {
			return first
		}
		if n, err := strconv.Atoi(rest); err == nil && first+n >= rtmin && first+n <= rtmax {
			return first + n
		}
		return 0
	}
	return int(unix.SignalNum(name))
}

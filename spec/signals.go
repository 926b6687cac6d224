package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// signalNames are those of all platforms: which of them this one has is seen
// when one is sent.
var signalNames = []string{
	"SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1",
	"SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP",
	"SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR",
	"SIGSYS", "SIGEMT", "SIGINFO",
}

// signalAliases are second names.
var signalAliases = map[string]string{"SIGIOT": "SIGABRT", "SIGCLD": "SIGCHLD", "SIGPOLL": "SIGIO"}

// signalNumbers are those that POSIX fixes, for hints.
var signalNumbers = map[int]string{1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 6: "SIGABRT", 9: "SIGKILL", 14: "SIGALRM", 15: "SIGTERM"}

// maxRealtime is the largest n of SIGRTMIN+n with glibc, which keeps two of
// the kernel's 32 real-time signals for itself (signal(7)).
const maxRealtime = 30

// CanonicalSignal is the name of a signal in its full form, SIGTERM, from any
// spelling: with or without SIG, in any case. Real-time signals are
// SIGRTMIN+n and SIGRTMAX-n, n from 0 to 30. Numbers are refused, since they
// differ between platforms.
func CanonicalSignal(name string) (string, error) {
	s, hint := canonicalSignal(name)
	if s == "" {
		return "", fmt.Errorf("%s is no signal; %s", quote(name), hint)
	}
	return s, nil
}

func canonicalSignal(name string) (signal, hint string) {
	s := strings.ToUpper(name)
	if !strings.HasPrefix(s, "SIG") {
		s = "SIG" + s
	}
	if a := signalAliases[s]; a != "" {
		s = a
	}
	if slices.Contains(signalNames, s) {
		return s, ""
	}
	for _, edge := range []string{"SIGRTMIN+", "SIGRTMAX-"} {
		if s == edge[:len(edge)-1] {
			return s, ""
		}
		if digits, ok := strings.CutPrefix(s, edge); ok {
			n, err := strconv.ParseUint(digits, 10, 16)
			if err != nil || n > maxRealtime {
				return "", fmt.Sprintf("%s0 to %s%d are known", edge, edge, maxRealtime)
			}
			if n == 0 {
				return edge[:len(edge)-1], ""
			}
			return edge + strconv.Itoa(int(n)), ""
		}
	}
	if n, err := strconv.Atoi(name); err == nil {
		if known := signalNumbers[n]; known != "" {
			return "", fmt.Sprintf("write %q", known)
		}
		return "", `write its name, such as "SIGTERM": numbers differ between platforms`
	}
	if near := Nearest(s, signalNames); near != "" {
		return "", fmt.Sprintf("did you mean %q?", near)
	}
	return "", `names are such as "SIGTERM", "SIGINT", "SIGHUP" and "SIGUSR1"`
}

package spec

import "testing"

func TestCanonicalSignal(t *testing.T) {
	for in, want := range map[string]string{
		"SIGTERM": "SIGTERM", "term": "SIGTERM", "Int": "SIGINT", "sigusr1": "SIGUSR1", "SIGIOT": "SIGABRT", "cld": "SIGCHLD", "POLL": "SIGIO",
		"info": "SIGINFO", "RTMIN": "SIGRTMIN", "sigrtmin+3": "SIGRTMIN+3", "RTMIN+0": "SIGRTMIN", "RTMAX-1": "SIGRTMAX-1", "SIGRTMIN+30": "SIGRTMIN+30", "SIGRTMIN+03": "SIGRTMIN+3",
	} {
		got, err := CanonicalSignal(in)
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v", in, got, err)
		}
		if again, err := CanonicalSignal(got); err != nil || again != got {
			t.Errorf("%s: again %q, %v", got, again, err)
		}
	}
	for in, want := range map[string]string{
		"":          `"" is no signal; names are such as "SIGTERM", "SIGINT", "SIGHUP" and "SIGUSR1"`,
		"SIG":       `"SIG" is no signal; names are such as "SIGTERM", "SIGINT", "SIGHUP" and "SIGUSR1"`,
		"9":         `"9" is no signal; write "SIGKILL"`,
		"15":        `"15" is no signal; write "SIGTERM"`,
		"10":        `"10" is no signal; write its name, such as "SIGTERM": numbers differ between platforms`,
		"SIGTREM":   `"SIGTREM" is no signal; did you mean "SIGTERM"?`,
		"RTMIN+31":  `"RTMIN+31" is no signal; SIGRTMIN+0 to SIGRTMIN+30 are known`,
		"RTMAX--1":  `"RTMAX--1" is no signal; SIGRTMAX-0 to SIGRTMAX-30 are known`,
		"SIG TERM":  `"SIG TERM" is no signal; did you mean "SIGTERM"?`,
		"TERM\x1b[": `"TERM\x1b[" is no signal; did you mean "SIGTERM"?`,
	} {
		if _, err := CanonicalSignal(in); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", in, err, want)
		}
	}
}

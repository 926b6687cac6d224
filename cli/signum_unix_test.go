//go:build !windows

package cli

import "testing"

func TestSignalNumber(t *testing.T) {
	for name, want := range map[string]int{
		"SIGTERM": 15, "SIGKILL": 9, "SIGRTMIN": 34, "SIGRTMIN+3": 37, "SIGRTMIN+30": 64, "SIGRTMAX": 64, "SIGRTMAX-1": 63,
		"SIGRTMIN+31": 0, "SIGRTMIN-1": 0, "SIGRTMAX+1": 0, "SIGRTMINx": 0, "SIGNONE": 0, "": 0,
	} {
		if got := signalNumber(name); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}

package spec

import "testing"

func TestNearest(t *testing.T) {
	known := []string{"start", "status", "stop", "restart"}
	for word, want := range map[string]string{"stauts": "status", "strat": "start", "stp": "stop", "STOP": "stop", "rest": "restart", "xyz": "", "b": ""} {
		if got := Nearest(word, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

package server_test

import (
	"testing"

	"github.com/cyber-boost/syspulse/api"
)

// A followed stream ends at its client's word, behind all that was written.
func TestFinishEndsAStreamBehindAllThatIsWritten(t *testing.T) {
	r := newRig(t)
	r.add(t, "a")
	finish := make(chan struct{})
	seq, err := r.client.Logs(t.Context(), api.LogQuery{Selector: api.Selector{All: true}, Follow: true, Finish: finish})
	if err != nil {
		t.Fatal(err)
	}
	r.Print("a", api.Stdout, "1")
	r.Print("a", api.Stdout, "2")
	var got []string
	for l, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, l.Line); len(got) == 1 {
			r.Print("a", api.Stdout, "3")
			close(finish)
		}
	}
	if len(got) != 3 || got[2] != "3" {
		t.Errorf("%q", got)
	}
}

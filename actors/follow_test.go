//go:build unix

package actors

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cyber-boost/syspulse/api"
)

// Streams that are followed end in order with a shutdown, and are interrupted
// by everything else.
func TestTheEndOfWhatIsFollowed(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(f *fixture)
		want error
	}{
		"shutdown": {func(f *fixture) { f.Shutdown(context.Background(), api.ShutdownRequest{}) }, api.ErrShuttingDown},
		"crash":    {func(f *fixture) { f.crash() }, api.ErrInterrupted},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.add("d", nil, "true")
			lines, err := f.Logs(t.Context(), api.LogQuery{Selector: api.Selector{All: true}, Follow: true})
			if err != nil {
				t.Fatal(err)
			}
			events, err := f.Events(t.Context(), api.EventQuery{Follow: true})
			if err != nil {
				t.Fatal(err)
			}
			test.end(f)
			var last error
			for _, last = range lines {
			}
			if !errors.Is(last, test.want) {
				t.Errorf("lines: %v", last)
			}
			for _, last = range events {
			}
			if !errors.Is(last, test.want) {
				t.Errorf("events: %v", last)
			}
		})
	}
}

// What one manager's stream gave is where the next one's goes on, though the
// daemon is removed meanwhile.
func TestGoOnAtTheNextManager(t *testing.T) {
	f := newFixture(t)
	f.add("d", nil, "sh", "-c", "for i in 1 2 3 4; do echo $i; done")
	f.start("d")
	f.untilState("d", "stopped")
	lines, err := f.Logs(t.Context(), api.LogQuery{Selector: api.Selector{Names: []string{"d"}}, Lines: -1, Resumable: true})
	if err != nil {
		t.Fatal(err)
	}
	after := map[api.Stream]string{}
	for l, err := range lines {
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range l.Positions {
			after[p.Stream] = p.Cursor
		}
		if l.Positions == nil {
			after[l.Stream] = l.Cursor
		}
		if l.Line == "2" {
			break
		}
	}
	if len(after) != 2 {
		t.Fatal(after)
	}
	seq := func(q api.EventQuery) (got []uint64) {
		t.Helper()
		events, err := f.Events(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for e, err := range events {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Seq)
		}
		return got
	}
	all := seq(api.EventQuery{Limit: -1})
	middle := all[len(all)/2]

	f.crash()
	f.begin()
	f.must(f.Remove(t.Context(), api.RemoveRequest{Selector: api.Selector{Names: []string{"d"}}}))
	got := ""
	lines, err = f.Logs(t.Context(), api.LogQuery{After: []string{after[api.Stdout], after[api.Stderr]}})
	if err != nil {
		t.Fatal(err)
	}
	for l, err := range lines {
		if err != nil {
			t.Fatal(err)
		}
		got += l.Line + l.Notice
		if l.Time == nil {
			t.Errorf("%q has no time", l.Line)
		}
	}
	if got != "34" {
		t.Errorf("%q", got)
	}
	if _, err := f.Logs(t.Context(), api.LogQuery{After: []string{"1/../stdout/0.0.0.0.0.0.0.0"}}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("a cursor that leads elsewhere: %v", err)
	}

	now := seq(api.EventQuery{Limit: -1})
	if got := seq(api.EventQuery{Limit: -1, After: &middle}); fmt.Sprint(got) != fmt.Sprint(now[middle:]) {
		t.Errorf("after %d: %v of %v", middle, got, now)
	}
	if got := seq(api.EventQuery{Names: []string{"d"}, Limit: -1, After: &now[len(now)-1]}); got != nil {
		t.Errorf("after the last: %v", got)
	}
	// The journal doesn't have what it had: what this manager did is news.
	lost := uint64(1 << 40)
	if got := seq(api.EventQuery{Limit: -1, After: &lost}); fmt.Sprint(got) != fmt.Sprint(now[len(all):]) {
		t.Errorf("after what is lost: %v of %v", got, now)
	}
	if got := seq(api.EventQuery{Limit: 2, Resumable: true}); len(got) != 3 || got[0] != got[1]-1 {
		t.Errorf("a position, then two: %v", got)
	}
}

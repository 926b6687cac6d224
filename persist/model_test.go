package persist

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cyber-boost/syspulse/supervision"
)

// model is the plainest journal there is: all events, and nothing else.
type model struct{ events []supervision.Event }

func (m *model) at(t time.Time) []Daemon {
	state := make(map[string]*Daemon)
	for i := range m.events {
		ev := &m.events[i]
		if ev.Daemon == "" || ev.Time.After(t) {
			continue
		}
		if ev.Kind == supervision.EventRemoved {
			delete(state, ev.Daemon)
			continue
		}
		if state[ev.Daemon] == nil {
			state[ev.Daemon] = &Daemon{Name: ev.Daemon}
		}
		state[ev.Daemon].take(ev)
	}
	out := []Daemon{}
	for _, name := range slices.Sorted(maps.Keys(state)) {
		out = append(out, *state[name])
	}
	return out
}

func (m *model) history(q HistoryQuery) []supervision.Event {
	var out []supervision.Event
	for _, ev := range m.events {
		if (q.Daemon == "" || q.Daemon == ev.Daemon) && q.wants(ev.Seq, clampNanos(ev.Time)) {
			out = append(out, ev)
		}
	}
	if q.Limit > 0 && len(out) > q.Limit {
		out = out[len(out)-q.Limit:]
	}
	return out
}

// The store answers as the model does, whatever is appended, reopened,
// compacted or kept in memory in between, and with a clock that jumps.
func TestStoreBehavesAsItsModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		const maxEvents = 300
		full := false
		opts := Options{Dir: dir, SnapshotEvery: rapid.SampledFrom([]int{1, 2, 10, 40, 1000}).Draw(rt, "every"), MaxEvents: maxEvents}
		opts.Faults.Commit = func(int) error {
			if full {
				return errors.New("not now")
			}
			return nil
		}
		s, err := Open(opts)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { s.Close() }()
		m := new(model)
		now := epoch
		registered := make(map[string]bool)

		name := rapid.SampledFrom([]string{"a", "b", "ü", "web.1", "web-2"})
		oldest := func() uint64 { // of the events that must be there still
			return uint64(max(0, len(m.events)-maxEvents)) + 1
		}
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				events := make([]supervision.Event, rapid.IntRange(1, 120).Draw(rt, "n"))
				for i := range events {
					now = now.Add(time.Duration(rapid.IntRange(-20, 100).Draw(rt, "step")) * time.Second)
					n := name.Draw(rt, "name")
					rec := &supervision.Record{State: supervision.Running, RestartCount: int64(len(m.events) + i)}
					ev := supervision.Event{Time: now, Daemon: n, Kind: supervision.EventStarted, Record: rec}
					switch k := rapid.IntRange(0, 19).Draw(rt, "kind"); {
					case !registered[n] || k == 0:
						ev.Kind, ev.Spec = supervision.EventRegistered, registration(n)
						ev.Spec.Source = fmt.Sprint("/", len(m.events)+i)
						registered[n] = true
					case k == 1:
						ev.Kind, ev.Record = supervision.EventRemoved, nil
						registered[n] = false
					case k == 2:
						ev = supervision.Event{Time: now, Kind: supervision.EventManagerNotice, Detail: "hm"}
					}
					events[i] = ev
				}
				if err := s.Append(events); err != nil {
					rt.Fatal(err)
				}
				m.events = append(m.events, events...)
			},
			"reopen": func(rt *rapid.T) {
				full = false
				if err := s.Close(); err != nil {
					rt.Fatal(err)
				}
				if s, err = Open(opts); err != nil {
					rt.Fatal(err)
				}
				r := s.Recovered()
				if len(r.Notices) > 0 || r.LastSeq != uint64(len(m.events)) {
					rt.Fatalf("recovered up to %d of %d, notices %q", r.LastSeq, len(m.events), r.Notices)
				}
				want := m.at(time.Unix(1<<40, 0))
				if got := r.Daemons; !reflect.DeepEqual(append([]Daemon{}, got...), want) {
					rt.Fatalf("recovered\n got %+v\nwant %+v", got, want)
				}
			},
			"compact": func(rt *rapid.T) {
				if err := s.Compact(); err != nil && !full && !errors.Is(err, ErrDegraded) {
					rt.Fatal(err)
				}
			},
			"fail":  func(rt *rapid.T) { full = true },
			"works": func(rt *rapid.T) { full = false; s.Retry() },
			"": func(rt *rapid.T) {
				q := HistoryQuery{Limit: rapid.IntRange(0, 50).Draw(rt, "limit"), AfterSeq: oldest() - 1}
				if rapid.Bool().Draw(rt, "one") {
					q.Daemon = name.Draw(rt, "whose")
				}
				if rapid.Bool().Draw(rt, "since") {
					q.Since = epoch.Add(time.Duration(rapid.IntRange(0, 20000).Draw(rt, "when")) * time.Second)
				}
				if rapid.Bool().Draw(rt, "before") {
					q.BeforeSeq = uint64(rapid.IntRange(1, len(m.events)+2).Draw(rt, "seq"))
				}
				got, err := s.History(context.Background(), q)
				if want := m.history(q); err != nil || !(len(got) == 0 && len(want) == 0) && !reflect.DeepEqual(got, want) {
					rt.Fatalf("history %+v: %v\n got %+v\nwant %+v", q, err, got, want)
				}
				when := epoch.Add(time.Duration(rapid.IntRange(-100, 40*len(m.events)+100).Draw(rt, "at")) * time.Second)
				state, err := s.At(context.Background(), when)
				var before *BeforeError
				if errors.As(err, &before) {
					if len(m.events) <= maxEvents {
						rt.Fatal(err)
					}
					return
				}
				if err != nil {
					rt.Fatal(err)
				}
				// Of deleted events only the last of each daemon is known,
				// so with a clock that was set back these may differ.
				if before := m.jumped(oldest(), when); !before {
					if want := m.at(when); !reflect.DeepEqual(state, want) {
						rt.Fatalf("at %v\n got %+v\nwant %+v", when, state, want)
					}
				}
			},
		})
	})
}

// jumped reports whether an event that may be deleted is later than when.
func (m *model) jumped(oldest uint64, when time.Time) bool {
	return slices.ContainsFunc(m.events[:oldest-1], func(ev supervision.Event) bool { return ev.Time.After(when) })
}

package persist

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

var epoch = time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)

func open(t testing.TB, dir string, change ...func(*Options)) *Store {
	t.Helper()
	opts := Options{Dir: dir, BootID: "boot-1", Version: "1.2.3"}
	for _, c := range change {
		c(&opts)
	}
	s, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func registration(name string) *supervision.Registration {
	d := new(spec.Daemon) // with the defaults that a decoded one has
	err := json.Unmarshal([]byte(`{"name":"`+name+`","command":["/bin/sleep","inf"],"env":{"A":"1"}}`), d)
	if err != nil {
		panic(err)
	}
	return &supervision.Registration{Spec: d, Source: "/etc/" + name + ".sys"}
}

func registered(name string) supervision.Event {
	return supervision.Event{Time: epoch, Daemon: name, Kind: supervision.EventRegistered,
		Record: &supervision.Record{State: supervision.Stopped, Wanted: supervision.WantStopped}, Spec: registration(name)}
}

func started(name string, pid int) supervision.Event {
	return supervision.Event{Time: epoch, Daemon: name, Kind: supervision.EventStarted, Record: &supervision.Record{
		State: supervision.Running, Wanted: supervision.WantRunning, Incarnation: fmt.Sprintf("%s-%d", name, pid),
		Process:   supervision.Identity{BootID: "boot-1", PID: pid, StartTime: 77},
		StartedAt: epoch, UpSince: time.Minute, Health: supervision.HealthNotConfigured,
	}}
}

func appendTo(t testing.TB, s *Store, events ...supervision.Event) []supervision.Event {
	t.Helper()
	if err := s.Append(events); err != nil {
		t.Fatal(err)
	}
	return events
}

func history(t testing.TB, s *Store, q HistoryQuery) []supervision.Event {
	t.Helper()
	got, err := s.History(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStateIsFoundAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, dir)
	want := appendTo(t, s, registered("web"), started("web", 42), registered("gone"),
		supervision.Event{Time: epoch, Daemon: "gone", Kind: supervision.EventRemoved},
		supervision.Event{Time: epoch, Kind: supervision.EventManagerStart, Detail: "hello"})
	closeStore(t, s)

	for round := range 3 {
		s = open(t, dir)
		r := s.Recovered()
		if len(r.Notices) > 0 {
			t.Errorf("notices: %q", r.Notices)
		}
		if len(r.Daemons) != 1 || r.LastSeq != 5 || r.BootID != "boot-1" || r.Version != "1.2.3" || r.Clean {
			t.Fatalf("round %d: recovered %+v", round, r)
		}
		d := r.Daemons[0]
		if d.Name != "web" || d.Seq != 2 || !reflect.DeepEqual(d.Record, *want[1].Record) || !reflect.DeepEqual(d.Registration, want[0].Spec) {
			t.Errorf("round %d: recovered %+v", round, d)
		}
		if got := history(t, s, HistoryQuery{}); !reflect.DeepEqual(got, want) {
			t.Errorf("history\n got %+v\nwant %+v", got, want)
		}
		if got := history(t, s, HistoryQuery{Daemon: "gone", Limit: 1}); !reflect.DeepEqual(got, want[3:4]) {
			t.Errorf("history of one\n got %+v\nwant %+v", got, want[3:4])
		}
		closeStore(t, s)
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, dir)
	appendTo(t, s, registered("web"))
	err := filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if fi.IsDir() && fi.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %o", path, fi.Mode().Perm())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, err := Open(Options{Dir: dir})
	if !errors.Is(err, ErrLocked) {
		t.Fatalf("a second Open: %v", err)
	}
	t.Log(err)
	closeStore(t, s)
	open(t, dir) // the lock file is there still
}

func TestNewerStateIsRefused(t *testing.T) {
	dir := t.TempDir()
	closeStore(t, open(t, dir))
	if err := os.WriteFile(filepath.Join(dir, "state", "FORMAT"), []byte(`{"format":2,"version":"9.0.0"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Options{Dir: dir, Version: "1.2.3"})
	if !errors.Is(err, ErrNewerState) {
		t.Fatalf("Open: %v", err)
	}
	t.Log(err)
}

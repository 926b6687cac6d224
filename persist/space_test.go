package persist

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cyber-boost/syspulse/supervision"
)

// clock is a clock that is set by hand.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

// killedCopy is what the store would leave if it were killed now. It waits
// until nothing is at work in the background.
func killedCopy(t *testing.T, s *Store) string {
	t.Helper()
	s.copies.write()
	s.background.Wait()
	for deadline := time.Now().Add(10 * time.Second); ; {
		fids, err := s.wal.logs(s)
		if err != nil {
			t.Fatal(err)
		}
		if len(fids) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("there are still the logs %v", fids)
		}
		runtime.Gosched()
	}
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(dir, os.DirFS(s.opts.Dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFullDiskTurnsToMemoryAndBack(t *testing.T) {
	dir := t.TempDir()
	free, c := int64(1<<40), &clock{epoch}
	withClock := func(o *Options) {
		o.Now = c.now
		o.Faults.FreeSpace = func() (int64, error) { return free, nil }
		o.MaxPending = 3000
	}
	s := open(t, dir, withClock)
	appendTo(t, s, registered("web"), registered("old"))

	// A log whose blocks exist is written on; the next one is not begun.
	free = 1 << 20
	n := 0
	for ; s.Degraded() == "" && n < 20000; n++ {
		appendTo(t, s, started("web", n+1))
	}
	if s.Degraded() == "" {
		t.Fatal("the journal was written on a full disk")
	}
	t.Log(n, s.Degraded())
	if err := s.Sync(); !errors.Is(err, ErrDegraded) {
		t.Errorf("Sync: %v", err)
	}

	// In memory everything goes on, more than is kept of it.
	appendTo(t, s, registered("new"), supervision.Event{Time: epoch, Daemon: "old", Kind: supervision.EventRemoved})
	for i := range 4000 {
		appendTo(t, s, started("web", 100_000+i))
	}
	last := appendTo(t, s, started("new", 7))[0].Seq
	if got := history(t, s, HistoryQuery{Daemon: "web", Limit: 1}); len(got) != 1 || got[0].Record.Process.PID != 103_999 {
		t.Errorf("history: %+v", got)
	}
	if got, err := s.At(t.Context(), epoch); err != nil || len(got) != 2 || got[0].Name != "new" || got[0].Record.Process.PID != 7 {
		t.Errorf("At: %+v, %v", got, err)
	}

	// A second later there is room again.
	free = 1 << 40
	appendTo(t, s, started("new", 8))
	if s.Degraded() == "" {
		t.Error("it looked at the disk again within a second")
	}
	c.t = c.t.Add(2 * time.Second)
	appendTo(t, s, started("new", 9))
	if why := s.Degraded(); why != "" {
		t.Fatalf("there is room and still: %s", why)
	}
	if err := s.Sync(); err != nil {
		t.Error(err)
	}

	// What a kill would leave now.
	copied := killedCopy(t, s)
	s2 := open(t, copied)
	r := s2.Recovered()
	if len(r.Notices) > 0 || r.LastSeq != last+2 || len(r.Daemons) != 2 {
		t.Fatalf("recovered %+v", r)
	}
	if d := r.Daemons[0]; d.Name != "new" || d.Record.Process.PID != 9 || d.Registration == nil {
		t.Errorf("recovered %+v", d)
	}
	if d := r.Daemons[1]; d.Name != "web" || d.Record.Process.PID != 103_999 || d.Registration == nil {
		t.Errorf("recovered %+v", d)
	}
}

// A manager that starts on a full disk knows everything, in memory.
func TestOpenOnAFullDisk(t *testing.T) {
	dir := populate(t, 10)
	free := int64(1000)
	s := open(t, dir, func(o *Options) {
		o.Faults.FreeSpace = func() (int64, error) { return free, nil }
	})
	r := s.Recovered()
	t.Logf("%q", r.Notices)
	if s.Degraded() == "" || len(r.Daemons) != 10 || r.LastSeq != 1210 || r.Daemons[3].Record.State != supervision.Running || len(r.Notices) != 1 {
		t.Fatalf("degraded %q, recovered %+v", s.Degraded(), r)
	}
	appendTo(t, s, started("d3", 9000), registered("extra"))
	if s.Retry() {
		t.Error("Retry succeeded on a full disk")
	}
	free = 1 << 40
	if !s.Retry() {
		t.Fatalf("Retry: %s", s.Degraded())
	}
	if got := history(t, s, HistoryQuery{}); len(got) != 1212 {
		t.Errorf("%d events", len(got))
	}
	closeStore(t, s)
	r = open(t, dir).Recovered()
	if len(r.Notices) != 0 || len(r.Daemons) != 11 || r.Daemons[3].Record.Process.PID != 9000 || r.LastSeq != 1212 {
		t.Errorf("recovered %+v", r)
	}
}

// With the journal neither writable nor readable the plain copies count, and
// what happens then does not get in the way of what the journal has.
func TestOpenBlind(t *testing.T) {
	dir := populate(t, 10)
	free := int64(1000)
	hide := filepath.Join(dir, "hidden")
	path := filepath.Join(dir, "state", "MANIFEST")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(hide, b, 0o600), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "registrations", "d9.json")); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, func(o *Options) {
		o.Faults.FreeSpace = func() (int64, error) { return free, nil }
	})
	r := s.Recovered()
	t.Logf("%q", r.Notices)
	if len(r.Daemons) != 9 || r.Daemons[0].Registration == nil {
		t.Fatalf("recovered %+v", r.Daemons)
	}
	appendTo(t, s, started("d3", 9000), supervision.Event{Time: epoch, Daemon: "d4", Kind: supervision.EventRemoved}, registered("extra"))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	free = 1 << 40
	if !s.Retry() {
		t.Fatalf("Retry: %s", s.Degraded())
	}
	closeStore(t, s)
	s = open(t, dir)
	r = s.Recovered()
	var names []string
	for _, d := range r.Daemons {
		names = append(names, d.Name)
		if d.Registration == nil || d.Name == "d3" && d.Record.Process.PID != 9000 || d.Name == "d9" && d.Record.State != supervision.Running {
			t.Errorf("recovered %+v", d)
		}
	}
	if got, want := strings.Join(names, " "), "d0 d1 d2 d3 d5 d6 d7 d8 d9 extra"; got != want || len(r.Notices) > 0 {
		t.Errorf("recovered %s, want %s; notices %q", got, want, r.Notices)
	}
	if got := history(t, s, HistoryQuery{Daemon: "d3", Limit: 1}); len(got) != 1 || got[0].Record.Process.PID != 9000 {
		t.Errorf("history %+v", got)
	}
}

// Errors of the journal turn to memory as a full disk does.
func TestFailingJournal(t *testing.T) {
	dir := t.TempDir()
	var commitErr, syncErr error
	c := &clock{epoch}
	s := open(t, dir, func(o *Options) {
		o.Now = c.now
		o.Faults.Commit = func(int) error { return commitErr }
		o.Faults.Sync = func() error { return syncErr }
	})
	appendTo(t, s, registered("web"))
	syncErr = errors.New("the disk is on fire")
	if err := s.Sync(); !errors.Is(err, ErrDegraded) || !strings.Contains(err.Error(), "fire") {
		t.Errorf("Sync: %v", err)
	}
	appendTo(t, s, started("web", 1))
	syncErr, commitErr = nil, errors.New("no more")
	if s.Retry() || !strings.Contains(s.Degraded(), "no more") {
		t.Errorf("degraded: %s", s.Degraded())
	}
	appendTo(t, s, started("web", 2))
	commitErr = nil
	if !s.Retry() {
		t.Errorf("degraded: %s", s.Degraded())
	}
	closeStore(t, s)
	r := open(t, dir).Recovered()
	if len(r.Notices) > 0 || len(r.Daemons) != 1 || r.Daemons[0].Record.Process.PID != 2 || r.LastSeq != 3 {
		t.Errorf("recovered %+v", r)
	}
}

// A batch that fails in the middle is written whole later.
func TestBatchFailsInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	free := int64(1 << 40)
	s := open(t, dir, func(o *Options) {
		o.Faults.FreeSpace = func() (int64, error) { return free, nil }
		o.Faults.Point = func(name string) {
			if name == "batch" {
				free = 0
			}
		}
	})
	events := make([]supervision.Event, 15_000)
	for i := range events {
		events[i] = started(fmt.Sprint("d", i%50), i+1)
		if i < 50 {
			events[i].Spec = registration(events[i].Daemon)
		}
	}
	appendTo(t, s, events...)
	if s.Degraded() == "" {
		t.Fatal("it did not fail")
	}
	if got := history(t, s, HistoryQuery{Limit: 20}); len(got) != 20 || got[19].Seq != 15_000 {
		t.Errorf("history: %d events", len(got))
	}
	killed := killedCopy(t, s)
	if err := os.RemoveAll(filepath.Join(killed, "registrations")); err != nil { // else they are restored from there
		t.Fatal(err)
	}
	free = 1 << 40
	s.opts.Faults.Point = func(string) {}
	if !s.Retry() {
		t.Fatalf("degraded: %s", s.Degraded())
	}
	closeStore(t, s)
	if r := open(t, dir).Recovered(); len(r.Daemons) != 50 || r.LastSeq != 15_000 || len(r.Notices) > 0 {
		t.Errorf("%d daemons, up to event %d, notices %q", len(r.Daemons), r.LastSeq, r.Notices)
	}
	// Nothing of half a batch is seen. Its registrations may be, by their
	// plain copies, with numbers of their own.
	half := open(t, killed)
	if got := history(t, half, HistoryQuery{BeforeSeq: 15_001}); len(got) != 0 {
		t.Errorf("killed in the middle of a batch: %d events of it are there", len(got))
	}
}

func TestTooLargeAnEvent(t *testing.T) {
	s := open(t, t.TempDir())
	big := registered("big")
	big.Spec.Spec.Env["X"] = strings.Repeat("x", 300<<10)
	if err := s.Append([]supervision.Event{registered("web"), big}); err == nil {
		t.Error("it was taken")
	} else {
		t.Log(err)
	}
	if got := appendTo(t, s, registered("web")); got[0].Seq != 1 {
		t.Errorf("the next event is %d", got[0].Seq)
	}
}

//go:build unix

package actors

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/keeper"
	"github.com/cyber-boost/syspulse/persist"
	"github.com/cyber-boost/syspulse/platform"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// Whatever the journal has lost, what runs is taken over and nothing is started
// twice.
func TestLostJournal(t *testing.T) {
	read := func(t *testing.T, path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	write := func(t *testing.T, path string, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	logs := func(t *testing.T, dir string) []string {
		paths, err := filepath.Glob(filepath.Join(dir, "state", "*.mem"))
		if err != nil || len(paths) == 0 {
			t.Fatal(paths, err)
		}
		return paths
	}
	for name, harm := range map[string]func(t *testing.T, dir string){
		"all of it": func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "state")); err != nil {
				t.Fatal(err)
			}
		},
		"and what was wanted": func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "state")); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "registrations", ".wanted.json"), []byte("{"))
		},
		"its log": func(t *testing.T, dir string) {
			for _, path := range logs(t, dir) {
				write(t, path, make([]byte, len(read(t, path))))
			}
		},
		// Cut off where an entry ends, a log shows nothing of its loss.
		"its last part": func(t *testing.T, dir string) {
			for _, path := range logs(t, dir) {
				b := read(t, path)
				at := strings.LastIndex(string(b), "exited")
				if at < 0 {
					t.Fatal("no exit is in the log")
				}
				clear(b[at-40:])
				write(t, path, b)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.add("web", always(0), "sleep", "1000")
			f.add("idle", nil, "sleep", "1000")
			f.add("wiped", nil, "env", "-i", "sleep", "1000")
			f.start("web", "wiped")
			kill(t, *f.get("web").PID)
			web := f.until("web", "restarted", func(d api.Details) bool { return d.RestartCount == 1 && d.State == supervision.Running })
			wiped := f.get("wiped")
			if err := f.sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			// As a kill leaves it, and not as Close does.
			state, copied := filepath.Join(f.dir, "state"), filepath.Join(t.TempDir(), "state")
			if err := os.CopyFS(copied, os.DirFS(state)); err != nil {
				t.Fatal(err)
			}
			f.crash()
			if err := errors.Join(os.RemoveAll(state), os.Rename(copied, state)); err != nil {
				t.Fatal(err)
			}
			harm(t, f.dir)
			f.begin()
			got := f.until("web", "adopted", func(d api.Details) bool { return d.Adopted })
			if *got.PID != *web.PID || got.Wanted != supervision.WantRunning || !alive(*web.PID) {
				t.Errorf("adopted %+v, want %+v", got, web)
			}
			if d := web.StartedAt.Sub(*got.StartedAt); d < -2e9 || d > 2e9 {
				t.Errorf("started at %v, now %v", web.StartedAt, got.StartedAt)
			}
			if runtime.GOOS == "linux" {
				got := f.until("wiped", "adopted", func(d api.Details) bool { return d.Adopted })
				if *got.PID != *wiped.PID {
					t.Errorf("adopted %+v, want %+v", got, wiped)
				}
			}
			if d := f.get("idle"); d.State != supervision.Stopped || d.Wanted != supervision.WantStopped {
				t.Errorf("idle: %+v", d)
			}
			if text := f.log.String(); !strings.Contains(text, "is taken over") {
				t.Errorf("nothing is said:\n%s", text)
			}
			f.stop("web", "wiped")
			if alive(*web.PID) || alive(*wiped.PID) {
				t.Error("they were not stopped")
			}
		})
	}
}

// pidIn waits for a process to write its number into a file.
func pidIn(t *testing.T, file string) int {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		b, _ := os.ReadFile(file)
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && strings.HasSuffix(string(b), "\n") {
			return pid
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s holds no number", file)
		}
	}
}

// A stop that was under way when the journal was lost is finished.
func TestLostJournalDuringAStop(t *testing.T) {
	f := newFixture(t)
	file := filepath.Join(f.dir, "deaf") // it is, once this is there
	f.add("web", func(d *spec.Daemon) { d.StopTimeout = 600 }, "sh", "-c", "trap '' TERM; echo $$ >"+file+"; while :; do sleep 1; done")
	f.start("web")
	pid := pidIn(t, file)
	go f.System.Stop(t.Context(), on("web"))
	f.untilState("web", supervision.Stopping)
	f.crash() // writes the plain copies
	if err := os.RemoveAll(filepath.Join(f.dir, "state")); err != nil {
		t.Fatal(err)
	}
	f.begin()
	if d := f.get("web"); d.Wanted != supervision.WantStopped || d.State != supervision.Stopping || d.PID == nil || *d.PID != pid {
		t.Errorf("%+v", d)
	}
	kill(t, pid)
	f.untilState("web", supervision.Stopped)
}

// A manager that was killed between the fork and its note of it leaves a process
// that was started when it was, and not when it was found.
func TestStartedAtOfWhatIsFound(t *testing.T) {
	f := newFixture(t)
	f.add("web", nil, "sleep", "1000")
	f.crash()

	const incarnation = "forked-and-not-noted"
	host, err := platform.New(platform.Options{DataDir: f.dir})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	rec := supervision.Record{State: supervision.Starting, Wanted: supervision.WantRunning, Incarnation: incarnation}
	intent := supervision.Event{Time: time.Now(), Daemon: "web", Kind: supervision.EventStarting, Record: &rec}
	store, err := persist.Open(persist.Options{Dir: f.dir, BootID: host.BootID(), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(store.Append([]supervision.Event{intent}), store.Close()); err != nil {
		t.Fatal(err)
	}
	p, err := host.Start(platform.Command{Incarnation: incarnation, Args: []string{"sleep", "1000"}, Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	p.Release()
	time.Sleep(200 * time.Millisecond) // nobody manages it for a while

	begun := time.Now()
	f.begin()
	d := f.until("web", "adopted", func(d api.Details) bool { return d.Adopted })
	if *d.PID != p.Identity().PID || d.StartedAt.Before(intent.Time) || d.StartedAt.After(begun) {
		t.Errorf("process %d, started at %v; want %d, after %v and before %v", *d.PID, d.StartedAt, p.Identity().PID, intent.Time, begun)
	}
	if up := *d.UptimeSecs; up < 0.19 { // the system tells start times in units of 10 ms
		t.Errorf("up for %v s", up)
	}
	f.stop("web")
}

// TestMarksAreNames: under a longer name nothing would be kept.
func TestMarksAreNames(t *testing.T) {
	if id := newMarks(t.TempDir()).next("web"); len(id) > keeper.MaxName {
		t.Errorf("%q has %d bytes, and the keeper takes %d", id, len(id), keeper.MaxName)
	}
}

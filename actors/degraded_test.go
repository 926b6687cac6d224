//go:build unix

package actors

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/persist"
)

// A journal that could not be written is written again without anybody
// changing anything.
func TestJournalIsWrittenAgainByItself(t *testing.T) {
	var broken atomic.Bool
	f := &fixture{t: t, dir: t.TempDir()}
	f.faults = persist.Faults{Commit: func(int) error {
		if broken.Load() {
			return errors.New("the disk is on fire")
		}
		return nil
	}}
	f.begin()
	f.add("web", nil, "sleep", "1000")
	broken.Store(true)
	f.start("web")
	ping, err := f.Ping(t.Context())
	if err != nil || len(ping.Warnings) != 1 || !strings.Contains(ping.Warnings[0], "on fire") {
		t.Fatalf("ping: %+v, %v", ping, err)
	}
	pid := f.get("web").PID
	broken.Store(false)
	f.log.await(t, "the journal is on disk again")

	// What happened meanwhile is there, and so is the word of the trouble.
	events, err := f.Events(t.Context(), api.EventQuery{Limit: -1, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	for ev, err := range events {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Event == "manager_notice" && ev.Detail != nil && strings.Contains(*ev.Detail, "on fire") {
			break
		}
	}
	if ping, _ := f.Ping(t.Context()); ping.Warnings == nil || len(ping.Warnings) > 0 {
		t.Errorf("ping still warns: %q", ping.Warnings)
	}
	f.crash()
	f.begin()
	f.until("web", "adopted", func(d api.Details) bool { return d.Adopted })
	if got := f.get("web").PID; got == nil || pid == nil || *got != *pid {
		t.Errorf("adopted %v, want %v", got, pid)
	}
}

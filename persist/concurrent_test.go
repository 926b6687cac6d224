package persist

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/cyber-boost/syspulse/supervision"
)

// Readers see a prefix of what is appended, and whole batches, while a writer
// appends, snapshots, trims and rotates.
func TestReadersBesideTheWriter(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), func(o *Options) { o.SnapshotEvery, o.MaxEvents = 300, 3000 })
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				got, err := s.History(context.Background(), HistoryQuery{Limit: 500})
				if err != nil {
					t.Error(err)
					return
				}
				for j := 1; j < len(got); j++ {
					if got[j].Seq != got[j-1].Seq+1 {
						t.Errorf("event %d follows %d", got[j].Seq, got[j-1].Seq)
						return
					}
				}
				if n := len(got); n > 0 && got[n-1].Seq%10 != 0 {
					t.Errorf("a reader sees up to %d, in the middle of a batch", got[n-1].Seq)
				}
				if _, err := s.At(context.Background(), epoch.Add(time.Duration(i)*time.Hour)); err != nil && !strings.Contains(err.Error(), "goes back") {
					t.Error(err)
					return
				}
				s.Degraded()
			}
		})
	}
	for i := range 800 {
		size := 10
		if i%200 == 199 {
			size = 5000
		}
		events := make([]supervision.Event, size)
		for j := range events {
			events[j] = started(fmt.Sprint("d", j%7), j+1)
		}
		appendTo(t, s, events...)
		if i%50 == 0 {
			if err := s.Sync(); err != nil {
				t.Error(err)
			}
		}
	}
	cancel()
	wg.Wait()
	closeStore(t, s)
	if _, err := s.History(context.Background(), HistoryQuery{}); err != nil {
		t.Errorf("history after Close: %v", err)
	}
	if err := s.Append([]supervision.Event{registered("x")}); err != ErrClosed {
		t.Errorf("Append after Close: %v", err)
	}
}

// ours are the goroutines of the database and of the store.
func ours() (n int, stacks string) {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(g, "dgraph-io") || strings.Contains(g, "persist.(*") {
			n++
			stacks += g + "\n\n"
		}
	}
	return n, stacks
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	before, _ := ours()
	s := open(t, t.TempDir())
	appendTo(t, s, registered("web"))
	during, stacks := ours()
	t.Logf("an open store has %d goroutines:\n%s", during-before, stacks)
	closeStore(t, s)
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		after, stacks := ours()
		if after <= before {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines are left:\n%s", after-before, stacks)
		}
	}
}

// The journal stays bounded, and with it what it takes on disk.
func TestJournalIsBounded(t *testing.T) {
	s := open(t, t.TempDir(), func(o *Options) { o.MaxEvents = 2000 })
	for i := range 20 {
		appendTo(t, s, registered(fmt.Sprint("d", i)))
	}
	for i := range 60_000 {
		appendTo(t, s, started(fmt.Sprint("d", i%20), i+1))
	}
	if err := s.Compact(); err != nil {
		t.Fatal(err)
	}
	size, err := s.Size()
	if err != nil {
		t.Fatal(err)
	}
	if got := history(t, s, HistoryQuery{}); len(got) != 2000 {
		t.Errorf("%d events are kept", len(got))
	}
	tables, _ := filepath.Glob(filepath.Join(s.stateDir, "*.sst"))
	t.Logf("%d KiB in %d tables", size>>10, len(tables))
	if most := int64(16 << 20); size > most {
		t.Errorf("the journal takes %d KiB, more than %d", size>>10, most>>10)
	}
}

// Names that nothing refers to any more do not pile up.
func TestRemovedDaemonsAreForgotten(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, func(o *Options) { o.MaxEvents = 100 })
	for i := range 1000 {
		n := fmt.Sprint("d", i)
		appendTo(t, s, registered(n), supervision.Event{Time: epoch, Daemon: n, Kind: supervision.EventRemoved})
	}
	if len(s.names) > 400 {
		t.Errorf("%d names are kept", len(s.names))
	}
	closeStore(t, s)
	s = open(t, dir)
	if len(s.names) > 400 || len(s.Recovered().Daemons) > 0 {
		t.Errorf("%d names were kept", len(s.names))
	}
}

// The base, too, forgets a daemon whose removal is deleted.
func TestRemovalReachesTheBase(t *testing.T) {
	s := open(t, t.TempDir(), func(o *Options) { o.MaxEvents = 100 })
	many := func() {
		for i := range 1000 {
			appendTo(t, s, started("web", i+1))
		}
	}
	at := func() (names []string) {
		state, err := s.At(context.Background(), epoch)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range state {
			names = append(names, d.Name)
		}
		return names
	}
	appendTo(t, s, registered("web"), registered("gone"), started("gone", 5))
	many()
	if got := fmt.Sprint(at()); got != "[gone web]" {
		t.Errorf("before: %s", got)
	}
	appendTo(t, s, supervision.Event{Time: epoch, Daemon: "gone", Kind: supervision.EventRemoved})
	many()
	if got := fmt.Sprint(at()); got != "[web]" {
		t.Errorf("after: %s", got)
	}
	if len(s.names) != 1 {
		t.Errorf("names: %v", s.names)
	}
	left := 0
	err := s.db.View(func(txn *badger.Txn) error {
		count := func(*badger.Item) error { left++; return nil }
		return errors.Join(each(txn, basePrefix, nil, count), each(txn, baseRegPrefix, nil, count))
	})
	if err != nil || left != 2 {
		t.Errorf("the base has %d entries, want a record and a registration; %v", left, err)
	}
}

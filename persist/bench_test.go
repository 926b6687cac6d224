package persist

import (
	"context"
	"fmt"
	"testing"

	"github.com/cyber-boost/syspulse/supervision"
)

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := open(b, b.TempDir())
			events := make([]supervision.Event, n)
			appendTo(b, s, registered("web"))
			b.ReportAllocs()
			for b.Loop() {
				for i := range events {
					events[i] = started("web", i)
				}
				if err := s.Append(events); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/event")
		})
	}
}

func BenchmarkSync(b *testing.B) {
	s := open(b, b.TempDir())
	appendTo(b, s, registered("web"))
	for b.Loop() {
		appendTo(b, s, started("web", 1))
		if err := s.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// filled is a closed journal of 1,000 daemons and about so many events.
func filled(b *testing.B, events int) string {
	b.Helper()
	dir := b.TempDir()
	s := open(b, dir)
	batch := make([]supervision.Event, 0, 1000)
	for i := range 1000 {
		batch = append(batch, registered(fmt.Sprintf("daemon-%04d", i)))
	}
	appendTo(b, s, batch...)
	for n := 1000; n < events; n += 1000 {
		batch = batch[:0]
		for i := range 1000 {
			batch = append(batch, started(fmt.Sprintf("daemon-%04d", i), n+i))
		}
		appendTo(b, s, batch...)
	}
	closeStore(b, s)
	return dir
}

// BenchmarkOpen opens a journal of 1,000 daemons that was closed.
func BenchmarkOpen(b *testing.B) {
	for _, events := range []int{2000, 100_000} {
		b.Run(fmt.Sprint(events), func(b *testing.B) {
			dir := filled(b, events)
			for b.Loop() {
				s := open(b, dir)
				if len(s.Recovered().Daemons) != 1000 {
					b.Fatal("not all are there")
				}
				b.StopTimer()
				closeStore(b, s)
				b.StartTimer()
			}
		})
	}
}

func BenchmarkRegister1000(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		s := open(b, b.TempDir())
		batch := make([]supervision.Event, 0, 1000)
		for i := range 1000 {
			batch = append(batch, registered(fmt.Sprintf("daemon-%04d", i)))
		}
		b.StartTimer()
		appendTo(b, s, batch...)
		if err := s.Sync(); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		closeStore(b, s)
		b.StartTimer()
	}
}

func BenchmarkHistory(b *testing.B) {
	s := open(b, filled(b, 100_000))
	for name, q := range map[string]HistoryQuery{
		"last50":      {Limit: 50},
		"last50OfOne": {Limit: 50, Daemon: "daemon-0500"},
		"allOfOne":    {Daemon: "daemon-0500"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if got := history(b, s, q); len(got) < 50 {
					b.Fatal(len(got))
				}
			}
		})
	}
}

func BenchmarkAt(b *testing.B) {
	s := open(b, filled(b, 100_000))
	for b.Loop() {
		if got, err := s.At(context.Background(), epoch); err != nil || len(got) != 1000 {
			b.Fatal(len(got), err)
		}
	}
}

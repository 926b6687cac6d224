package platform

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// rings are what a timer's function is told.
type rings chan bool

func newRings() rings { return make(rings, 100) }

func (r rings) ring(stepped bool) { r <- stepped }

func TestLookTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clocks := bothClocks()
		var looks, ahead atomic.Int64 // ahead: of the wall clock, as somebody has set it
		clock := func() (time.Time, time.Duration) {
			wall, mono := clocks()
			looks.Add(1)
			return wall.Add(time.Duration(ahead.Load())), mono
		}
		calls := newRings()
		timer := newLookTimer(calls.ring, clock)
		now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		begin := time.Now()
		expect := func(what string, after time.Duration, stepped bool) {
			t.Helper()
			if got := <-calls; got != stepped {
				t.Errorf("%s: stepped is %v", what, got)
			}
			if took := time.Since(begin); took != after {
				t.Errorf("%s: after %v, want %v", what, took, after)
			}
			begin = time.Now()
		}

		timer.Set(now().Add(90 * time.Second))
		expect("a time to come", 90*time.Second, false)
		timer.Set(now().Add(-time.Hour))
		expect("a time that has passed", 0, false)
		timer.Set(now().Add(time.Hour))
		timer.Set(now().Add(time.Second))
		expect("an earlier one instead", time.Second, false)

		looks.Store(0)
		time.Sleep(24 * time.Hour)
		if looks.Load() != 0 || len(calls) != 0 {
			t.Errorf("%d looks, %d calls with nothing set", looks.Load(), len(calls))
		}
		begin = time.Now()
		ahead.Add(int64(time.Hour)) // while nothing is set: nobody is told
		timer.Set(now().Add(10 * time.Minute))
		expect("after an idle step", 10*time.Minute, false)

		timer.Set(now().Add(10 * time.Minute))
		time.Sleep(90 * time.Second)
		ahead.Add(-int64(time.Hour))
		expect("a step back", 2*time.Minute, true)
		timer.Set(now().Add(10 * time.Minute))
		time.Sleep(90 * time.Second)
		ahead.Add(int64(time.Hour))
		expect("a step forward", 2*time.Minute, true)
		timer.Set(now().Add(10 * time.Minute))
		ahead.Add(int64(2 * time.Second))
		timer.Set(now().Add(20 * time.Minute))
		expect("a step before another Set", 0, true)
		timer.Set(now().Add(3 * time.Minute))
		time.Sleep(30 * time.Second)
		for range 2 { // slewing
			ahead.Add(int64(300 * time.Millisecond))
			time.Sleep(time.Minute)
		}
		expect("slewing", 3*time.Minute-600*time.Millisecond, false)

		timer.Set(now().Add(time.Minute))
		timer.Clear()
		timer.Set(now().Add(time.Minute))
		timer.Close()
		timer.Set(now())
		time.Sleep(time.Hour)
		if len(calls) != 0 {
			t.Error("rang after Clear or Close")
		}
	})
}

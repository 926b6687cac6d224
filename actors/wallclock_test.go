package actors

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cyber-boost/syspulse/platform"
)

// fakeWallTimer rings when its test says so.
type fakeWallTimer struct {
	ring func(stepped bool)

	mu     sync.Mutex
	at     time.Time // zero: not set
	sets   int
	closed bool
}

func (f *fakeWallTimer) Set(at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.sets = at, f.sets+1
}

func (f *fakeWallTimer) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = time.Time{}
}

func (f *fakeWallTimer) Close() {
	f.Clear()
	f.closed = true
}

func (f *fakeWallTimer) goOff(stepped bool) {
	f.Clear()
	f.ring(stepped)
}

func newTestWallClock() (*wallClock, *fakeWallTimer) {
	timer := new(fakeWallTimer)
	w := newWallClock(func(ring func(bool)) platform.WallTimer {
		timer.ring = ring
		return timer
	})
	return w, timer
}

func TestWallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time passes only where the test sleeps
		w, timer := newTestWallClock()
		var calls []string
		note := func(name string) func(bool) {
			return func(stepped bool) { calls = append(calls, fmt.Sprint(name, " ", stepped)) }
		}
		expect := func(what string, want ...string) {
			t.Helper()
			if !slices.Equal(calls, want) {
				t.Errorf("%s: %q, want %q", what, calls, want)
			}
			calls = nil
		}
		armed := func(what string, want time.Time) {
			t.Helper()
			if !timer.at.Equal(want) {
				t.Errorf("%s: the timer is set to %v, want %v", what, timer.at, want)
			}
		}
		begin := wallNow()
		at := func(minute int) time.Time { return begin.Add(time.Duration(minute) * time.Minute) }
		var a, b, c, d wallAlarm

		w.set(&c, at(3), note("c"))
		armed("the first", at(3))
		w.set(&a, time.Now().Add(time.Minute), note("a"))
		armed("an earlier one", at(1))
		w.set(&d, at(4), note("d"))
		w.set(&b, at(2), note("b"))
		armed("later ones", at(1))
		if timer.sets != 2 {
			t.Errorf("set %d times", timer.sets)
		}
		timer.goOff(false)
		expect("too early")
		armed("too early", at(1))
		time.Sleep(2 * time.Minute)
		timer.goOff(false)
		expect("two are due, in order", "a false", "b false")
		armed("two are left", at(3))

		w.set(&c, at(6), note("c'"))
		armed("the first was put off", at(4))
		w.clear(&d)
		w.clear(&d)
		w.clear(&a)
		armed("one was cleared", at(6))
		timer.goOff(true)
		expect("a step", "c' true")
		armed("nothing is left after a step", time.Time{})

		w.set(&a, at(10), note("a"))
		w.set(&b, at(1), func(stepped bool) {
			note("b")(stepped)
			w.set(&b, at(9), note("b again"))
		})
		timer.goOff(true)
		expect("all are told of a step", "b true", "a true")
		armed("the one that set itself", at(9))

		// A ring that was on its way while something was set.
		w.ring(true)
		expect("a late ring", "b again true")
		armed("nothing is left after a late ring", time.Time{})

		w.set(&a, at(10), note("a"))
		w.clear(&a)
		armed("nothing is left", time.Time{})
		w.set(&a, at(10), note("a"))
		w.stop()
		w.clear(&a)
		w.set(&b, at(0), note("b"))
		w.ring(true)
		expect("after stop")
		if armed("after stop", time.Time{}); !timer.closed {
			t.Error("the timer was not closed")
		}
	})
}

// Everything that is set and not cleared is called, with a real timer.
func TestWallClockWithTheHostsTimer(t *testing.T) {
	h, err := platform.New(platform.Options{NoCgroups: true})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	w := newWallClock(h.NewWallTimer)
	defer w.stop()
	var rung sync.WaitGroup
	for i := range 200 {
		rung.Go(func() {
			var al wallAlarm
			done := make(chan struct{})
			w.set(&al, time.Now().Add(time.Hour), func(bool) {}) // dropped
			at := wallNow().Add(time.Duration(i%20) * time.Millisecond)
			var again func(bool)
			again = func(stepped bool) {
				switch {
				case stepped:
					w.set(&al, at, again)
				case wallNow().Before(at):
					t.Errorf("early by %v", time.Until(at))
					fallthrough
				default:
					close(done)
				}
			}
			w.set(&al, at, again)
			<-done
			w.clear(&al)
		})
	}
	rung.Wait()
}

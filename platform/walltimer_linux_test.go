package platform

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// setClock sets the machine's clock: it goes on by a nanosecond, which harms
// nobody and is a step like any other.
func setClock(t *testing.T) {
	t.Helper()
	// ADJ_NANO has the time's second field count nanoseconds.
	step := unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO, Time: unix.Timeval{Usec: 1}}
	if _, err := unix.Adjtimex(&step); err == unix.EPERM {
		t.Skip("may not set the clock")
	} else if err != nil {
		t.Fatal(err)
	}
}

func newTestTimer(t *testing.T) (*clockTimer, rings) {
	t.Helper()
	p, err := NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	calls := newRings()
	timer, err := newClockTimer(p, calls.ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(timer.Close)
	return timer, calls
}

func TestClockTimerRings(t *testing.T) {
	timer, calls := newTestTimer(t)
	expect := func(what string) {
		t.Helper()
		for receive(t, calls, what) { // somebody else has set the clock
			timer.Set(time.Now())
		}
	}
	at := time.Now().Round(0).Add(20 * time.Millisecond)
	timer.Set(at)
	expect("ring")
	if now := time.Now().Round(0); now.Before(at) {
		t.Errorf("rang %v early", at.Sub(now))
	}
	for _, past := range []time.Time{{}, time.Unix(0, 0), time.Now().Add(-time.Hour)} {
		timer.Set(past)
		expect("ring for a time that has passed")
	}
	timer.Set(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC))
	timer.Set(time.Now())
	expect("ring after it was set anew")

	timer.Set(time.Now().Add(time.Hour))
	timer.Clear()
	timer.Set(time.Now())
	expect("ring after Clear")
	timer.Close()
	timer.Close()
	timer.Set(time.Now())
	timer.Clear()
	if len(calls) != 0 {
		t.Error("rang too often")
	}
}

func TestClockTimerNoticesSteps(t *testing.T) {
	timer, calls := newTestTimer(t)
	far := time.Now().Add(100 * 365 * 24 * time.Hour)
	for range 3 {
		timer.Set(far)
		setClock(t)
		if !receive(t, calls, "ring at the step") {
			t.Fatal("rang as if the time had come")
		}
	}
	// With nothing set nobody looks; the next Set may tell.
	setClock(t)
	timer.Set(time.Now())
	receive(t, calls, "ring after a step with nothing set")
	timer.Set(far)
	timer.Clear()
	setClock(t)
	timer.Set(time.Now())
	receive(t, calls, "ring after a step once it was cleared")
	if len(calls) != 0 {
		t.Error("rang too often")
	}
}

// Steps and sets at the same time: none is left with a timer that forgot.
func TestClockTimerWithStepsAllTheTime(t *testing.T) {
	timer, calls := newTestTimer(t)
	setClock(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 2000 {
			step := unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO, Time: unix.Timeval{Usec: 1}}
			_, _ = unix.Adjtimex(&step)
		}
	}()
	for range 2000 {
		timer.Set(time.Now())
		receive(t, calls, "ring")
	}
	<-done
}

func TestHostHasAWallTimer(t *testing.T) {
	h, err := New(Options{NoCgroups: true})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	calls := newRings()
	timer := h.NewWallTimer(calls.ring)
	defer timer.Close()
	if _, ok := timer.(*clockTimer); !ok {
		t.Errorf("a %T", timer)
	}
	timer.Set(time.Now())
	receive(t, calls, "ring")
}

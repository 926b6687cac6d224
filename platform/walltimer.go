package platform

import (
	"sync"
	"time"
)

// WallTimer rings once at a time of day, or earlier when somebody sets the clock
// that tells it. Its function is called on a goroutine of the platform; it gets
// true if the clock was set or the machine was suspended, in which case the time
// may not have come. Either way the timer isn't set any more. A ring that is
// already on its way when Set, Clear or Close is called still comes. Methods may
// be called concurrently, and from the function.
type WallTimer interface {
	// Set sets the timer; what it was set to is dropped. A time that has passed
	// rings at once. The function is never called within Set, so that both may
	// take the same lock.
	Set(at time.Time)
	// Clear drops what the timer is set to. Nothing runs until the next Set.
	Clear()
	// Close ends the timer for good.
	Close()
}

// lookTimer is the WallTimer of systems that don't tell when the clock is set: a
// runtime timer, which counts on the monotonic clock, looks at the clock once a
// minute while it is set. A step is then noticed within the minute.
type lookTimer struct {
	f     func(stepped bool)
	clock func() (wall time.Time, mono time.Duration)

	mu     sync.Mutex
	timer  *time.Timer
	at     time.Time
	set    bool
	closed bool
	wall   time.Time     // at the last look
	mono   time.Duration // 〃
}

const lookEvery = time.Minute

// stepAtLeast is what the wall clock has to gain or lose against the monotonic one
// between two looks. Slewing stays below: a clock that adjtime(2) corrects goes
// wrong by at most 5 ms in a second, 0.3 s in a minute.
const stepAtLeast = time.Second

func newLookTimer(f func(stepped bool), clock func() (time.Time, time.Duration)) *lookTimer {
	t := &lookTimer{f: f, clock: clock}
	t.timer = time.AfterFunc(time.Hour, t.look)
	t.timer.Stop()
	return t
}

// bothClocks returns a function that tells the time of day and the time since the
// call, on clocks that don't depend on each other.
func bothClocks() func() (time.Time, time.Duration) {
	start := time.Now()
	return func() (time.Time, time.Duration) {
		now := time.Now()
		return now.Round(0), now.Sub(start)
	}
}

func (t *lookTimer) Set(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	if t.notice() {
		t.set = false
		t.timer.Stop()
		go t.f(true)
		return
	}
	t.at, t.set = at.Round(0), true
	t.timer.Reset(t.wait())
}

// notice looks at the clocks and reports whether the wall clock was set since the
// last look, if the timer was set then.
func (t *lookTimer) notice() bool {
	wall, mono := t.clock()
	gained := wall.Sub(t.wall) - (mono - t.mono)
	t.wall, t.mono = wall, mono
	return t.set && gained.Abs() >= stepAtLeast
}

func (t *lookTimer) wait() time.Duration { return min(max(t.at.Sub(t.wall), 0), lookEvery) }

func (t *lookTimer) look() {
	t.mu.Lock()
	if !t.set {
		t.mu.Unlock()
		return
	}
	stepped := t.notice()
	ring := stepped || !t.at.After(t.wall)
	if ring {
		t.set = false
	} else {
		t.timer.Reset(t.wait())
	}
	t.mu.Unlock()
	if ring {
		t.f(stepped)
	}
}

func (t *lookTimer) Clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set = false
	t.timer.Stop()
}

func (t *lookTimer) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set, t.closed = false, true
	t.timer.Stop()
}

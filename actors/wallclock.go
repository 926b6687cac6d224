package actors

import (
	"container/heap"
	"sync"
	"time"

	"github.com/cyber-boost/syspulse/platform"
)

// wallClock calls functions at times of day. However many are set, there is one
// timer of the system, and none while nothing is set. Safe for concurrent use.
//
// When the clock is set or the machine was suspended, times of day no longer mean
// what they did: then all functions are called at once, told so, and those who set
// them compute anew. This may come without need, even right after the set.
type wallClock struct {
	mu    sync.Mutex
	queue wallQueue
	timer platform.WallTimer
	due   time.Time // what timer is set to, zero if it is not
	done  bool
}

// wallAlarm is one entry; the zero value is not set.
type wallAlarm struct {
	at    time.Time
	f     func(stepped bool)
	index int // in the queue, from 1; 0 is not set
}

// newWallClock takes what makes the timer, [platform.Host]'s NewWallTimer.
func newWallClock(timer func(f func(stepped bool)) platform.WallTimer) *wallClock {
	w := &wallClock{}
	w.timer = timer(w.ring)
	return w
}

// set makes al call f(false) at that time of day or right after it, or f(true)
// before; then al is not set. What it was set to is dropped. A time that has passed
// is due at once. f must not block. It is never called within set.
func (w *wallClock) set(al *wallAlarm, at time.Time, f func(stepped bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return
	}
	al.at, al.f = at.Round(0), f // a monotonic reading would be compared instead
	if al.index == 0 {
		heap.Push(&w.queue, al)
	} else {
		heap.Fix(&w.queue, al.index-1)
	}
	w.arm()
}

// clear drops al. A call of its function may still be under way.
func (w *wallClock) clear(al *wallAlarm) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if al.index != 0 {
		heap.Remove(&w.queue, al.index-1)
		w.arm()
	}
}

// stop drops all alarms for good.
func (w *wallClock) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, al := range w.queue {
		al.index = 0
	}
	w.done, w.queue = true, nil
	w.timer.Close()
}

func (w *wallClock) arm() {
	switch {
	case w.done:
	case len(w.queue) == 0:
		w.due = time.Time{}
		w.timer.Clear()
	case !w.due.Equal(w.queue[0].at):
		w.due = w.queue[0].at
		w.timer.Set(w.due)
	}
}

func (w *wallClock) ring(stepped bool) {
	w.mu.Lock()
	w.due = time.Time{} // a timer that has rung is not set; if it was again since, once more does no harm
	var due []func(bool)
	for now := wallNow(); len(w.queue) > 0 && (stepped || !w.queue[0].at.After(now)); {
		due = append(due, heap.Pop(&w.queue).(*wallAlarm).f)
	}
	w.arm()
	w.mu.Unlock()
	for _, f := range due {
		f(stepped)
	}
}

type wallQueue []*wallAlarm

func (q wallQueue) Len() int           { return len(q) }
func (q wallQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q wallQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i+1, j+1
}

func (q *wallQueue) Push(x any) {
	al := x.(*wallAlarm)
	*q = append(*q, al)
	al.index = len(*q)
}

func (q *wallQueue) Pop() any {
	old := *q
	al := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	al.index = 0
	return al
}

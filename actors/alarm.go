package actors

import (
	"container/heap"
	"sync"
	"time"
)

// alarms call functions later. However many are set, there is one runtime
// timer. Time is monotonic. Safe for concurrent use.
type alarms struct {
	mu    sync.Mutex
	queue alarmQueue
	timer *time.Timer
	done  bool
}

// alarm is one entry; the zero value is not set.
type alarm struct {
	due   time.Time
	f     func()
	index int // in the queue, from 1; 0 is not set
}

func newAlarms() *alarms {
	a := &alarms{}
	a.timer = time.AfterFunc(time.Hour, a.ring)
	a.timer.Stop()
	return a
}

// set makes al call f after d; what it was set to before is dropped. f must
// not block.
func (a *alarms) set(al *alarm, d time.Duration, f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done {
		return
	}
	al.due, al.f = time.Now().Add(d), f
	if al.index == 0 {
		heap.Push(&a.queue, al)
	} else {
		heap.Fix(&a.queue, al.index-1)
	}
	a.arm()
}

// clear drops al. A call of its function may still be under way.
func (a *alarms) clear(al *alarm) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if al.index != 0 {
		heap.Remove(&a.queue, al.index-1)
		a.arm()
	}
}

// extend puts al off until d from now, if it is set and due before.
func (a *alarms) extend(al *alarm, d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if due := time.Now().Add(d); al.index != 0 && al.due.Before(due) {
		al.due = due
		heap.Fix(&a.queue, al.index-1)
		a.arm()
	}
}

// armed reports whether al is set and was not called yet.
func (a *alarms) armed(al *alarm) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return al.index != 0
}

// after calls f after d.
func (a *alarms) after(d time.Duration, f func()) { a.set(new(alarm), d, f) }

// stop drops all alarms for good.
func (a *alarms) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.done, a.queue = true, nil
	a.timer.Stop()
}

func (a *alarms) arm() {
	if len(a.queue) == 0 {
		a.timer.Stop()
		return
	}
	a.timer.Reset(max(time.Until(a.queue[0].due), 0))
}

func (a *alarms) ring() {
	a.mu.Lock()
	var due []func()
	for now := time.Now(); len(a.queue) > 0 && !a.queue[0].due.After(now); {
		due = append(due, heap.Pop(&a.queue).(*alarm).f)
	}
	if !a.done {
		a.arm()
	}
	a.mu.Unlock()
	for _, f := range due {
		f()
	}
}

type alarmQueue []*alarm

func (q alarmQueue) Len() int           { return len(q) }
func (q alarmQueue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q alarmQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i+1, j+1
}

func (q *alarmQueue) Push(x any) {
	al := x.(*alarm)
	*q = append(*q, al)
	al.index = len(*q)
}

func (q *alarmQueue) Pop() any {
	old := *q
	al := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	al.index = 0
	return al
}

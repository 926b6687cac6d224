package logs

import (
	"slices"
	"sync"
	"sync/atomic"
)

// EventKind says what happened to a stream's file.
type EventKind uint8

// The events.
const (
	Grown     EventKind = iota // bytes were written
	Truncated                  // somebody cut the file; told before the next byte is written
	Switched                   // another file is written from now on; told before its first byte
	Ended                      // the daemon ended and all it wrote is in the file
)

// Event is what a follower is told.
type Event struct {
	Kind    EventKind
	Size    int64  // Truncated, Ended: that of the file, in bytes
	Renamed string // Switched: where the former file lies now; "" if that is not known
}

// Notifier tells of events on a daemon's stream. f is called on the
// goroutine that moves bytes: it must return at once. It may be called from
// several goroutines, for one stream in the order of the events. After stop
// has returned f may be running still, but is not called again.
type Notifier interface {
	Notify(daemon string, s Stream, f func(Event)) (stop func())
}

// hub is the followers of one stream. Telling nobody is one atomic load.
type hub struct {
	subs atomic.Pointer[[]*func(Event)]
}

func (h *hub) emit(e Event) {
	if subs := h.subs.Load(); subs != nil {
		for _, f := range *subs {
			(*f)(e)
		}
	}
}

// hubs outlive the captures, so that somebody can follow a daemon that has
// not been started yet, or is removed and added again.
type hubs struct {
	mu sync.Mutex
	m  map[hubKey]*hub
}

type hubKey struct {
	daemon string
	stream Stream
}

func (hs *hubs) get(daemon string, s Stream) *hub {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return hs.locked(daemon, s)
}

func (hs *hubs) locked(daemon string, s Stream) *hub {
	key := hubKey{daemon, s}
	h := hs.m[key]
	if h == nil {
		h = new(hub)
		if hs.m == nil {
			hs.m = make(map[hubKey]*hub)
		}
		hs.m[key] = h
	}
	return h
}

func (hs *hubs) subscribe(daemon string, s Stream, f func(Event)) (stop func()) {
	p := &f
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := hs.locked(daemon, s)
	subs := []*func(Event){p}
	if old := h.subs.Load(); old != nil {
		subs = append(slices.Clone(*old), p)
	}
	h.subs.Store(&subs)
	return func() {
		hs.mu.Lock()
		defer hs.mu.Unlock()
		old := h.subs.Load()
		if old == nil {
			return
		}
		subs := slices.DeleteFunc(slices.Clone(*old), func(q *func(Event)) bool { return q == p })
		if len(subs) == 0 {
			h.subs.Store(nil)
			return
		}
		h.subs.Store(&subs)
	}
}

// drop forgets a daemon that is removed, unless somebody waits for it to come
// again.
func (hs *hubs) drop(daemon string) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for _, s := range []Stream{Stdout, Stderr} {
		key := hubKey{daemon, s}
		if h := hs.m[key]; h != nil && h.subs.Load() == nil {
			delete(hs.m, key)
		}
	}
}

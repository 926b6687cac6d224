package platform

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// NewWallTimer returns a timer that is not set.
func (h *host) NewWallTimer(f func(stepped bool)) WallTimer {
	t, err := newClockTimer(h.poller, f)
	if err != nil {
		return newLookTimer(f, bothClocks()) // out of descriptors, or a sandbox
	}
	return t
}

// clockTimer is a timerfd on CLOCK_REALTIME, which the kernel cancels when that
// clock is set and when the machine wakes up (TFD_TIMER_CANCEL_ON_SET, see
// timerfd_create(2)).
type clockTimer struct {
	f     func(stepped bool)
	watch *Watch

	mu  sync.Mutex
	fd  int // -1 once closed
	set bool
}

func newClockTimer(p *Poller, f func(stepped bool)) (*clockTimer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	t := &clockTimer{f: f, fd: fd}
	t.mu.Lock() // ready needs the watch
	defer t.mu.Unlock()
	if t.watch, err = p.Add(fd, Readable, func(Events) { t.ready() }); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return t, nil
}

func (t *clockTimer) Set(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd < 0 {
		return
	}
	// All zeros would disarm it, and times before 1970 are refused.
	spec := unix.ItimerSpec{Value: unix.Timespec{Sec: max(at.Unix(), 1), Nsec: int64(at.Nanosecond())}}
	t.set = true
	if unix.TimerfdSettime(t.fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &spec, nil) == unix.ECANCELED {
		// The clock was set since the kernel last looked for this timer, which
		// may be long ago if it was not set meanwhile. This call has taken note
		// of it: there won't be anything to read.
		t.drop()
		go t.f(true)
	}
}

// drop disarms the timer; then the kernel doesn't look for steps either.
func (t *clockTimer) drop() {
	t.set = false
	_ = unix.TimerfdSettime(t.fd, 0, &unix.ItimerSpec{}, nil)
}

// ready reads what has happened, on the Poller's goroutine.
func (t *clockTimer) ready() {
	t.mu.Lock()
	if t.fd < 0 {
		t.mu.Unlock()
		return
	}
	var buf [8]byte
	_, err := unix.Read(t.fd, buf[:])
	for err == unix.EINTR {
		_, err = unix.Read(t.fd, buf[:])
	}
	stepped := err == unix.ECANCELED
	ring := t.set && (stepped || err == nil)
	if ring {
		t.drop()
	}
	_ = t.watch.Rearm(Readable)
	t.mu.Unlock()
	if ring {
		t.f(stepped)
	}
}

func (t *clockTimer) Clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd >= 0 {
		t.drop()
	}
}

func (t *clockTimer) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd >= 0 {
		t.watch.Remove()
		unix.Close(t.fd)
		t.fd, t.set = -1, false
	}
}

package actors

import (
	"sync"
	"time"
)

// launches counts the starts under way, each from before its fork until the pid is
// in the journal. A binary that takes over finds what was forked by its pid; one
// whose pid is not noted, and that ends at once, would never have been. Safe for
// concurrent use; the zero value is ready.
type launches struct {
	mu   sync.Mutex
	n    int
	open chan struct{} // nil, or closed when starts may begin again
	none chan struct{} // nil, or closed when none is under way
}

// begin waits while starts are held back. done is to be called once, and may be
// called by any goroutine.
func (l *launches) begin() (done func()) {
	l.mu.Lock()
	for l.open != nil {
		open := l.open
		l.mu.Unlock()
		<-open
		l.mu.Lock()
	}
	l.n++
	l.mu.Unlock()
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.n--; l.n == 0 && l.none != nil {
			close(l.none)
			l.none = nil
		}
	})
}

// hold holds starts back, and waits for those under way: for so long at most, since
// one may hang. goOn lets them begin again.
func (l *launches) hold(patience time.Duration) (goOn func()) {
	l.mu.Lock()
	open := make(chan struct{})
	l.open = open
	var none chan struct{}
	if l.n > 0 {
		none = make(chan struct{})
		l.none = none
	}
	l.mu.Unlock()
	if none != nil {
		late := time.NewTimer(patience)
		defer late.Stop()
		select {
		case <-none:
		case <-late.C:
		}
	}
	return func() {
		l.mu.Lock()
		l.open = nil
		l.mu.Unlock()
		close(open)
	}
}

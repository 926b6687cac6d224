package server

import (
	"sync"
	"time"

	"github.com/cyber-boost/syspulse/api"
)

// gate counts the requests that are being answered, so that a manager can be
// replaced between two of them.
type gate struct {
	mu      sync.Mutex
	shut    bool
	inside  int
	leaving chan struct{} // closed when somebody leaves; nil while nobody waits for that
}

// leaveKey is the context key of the function by which a stream leaves early.
type leaveKey struct{}

// enter lets a request in. What it returns is called when it is answered, once
// or more; by a stream when it begins, since nobody waits for its end.
func (g *gate) enter() (leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return nil, api.NewError(api.CodeReplacing, "the manager is being replaced by another binary; ask again")
	}
	g.inside++
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.inside--
		if g.leaving != nil {
			close(g.leaving)
			g.leaving = nil
		}
	}), nil
}

// Pause shuts the gate at a moment when no request is being answered, so that
// none is cut off. If there is no such moment within patience it is shut all the
// same, and the result is how many will be cut off.
func (s *Server) Pause(patience time.Duration) (cut int) {
	t := time.NewTimer(patience)
	defer t.Stop()
	g := &s.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.inside > 0 {
		if g.leaving == nil {
			g.leaving = make(chan struct{})
		}
		left := g.leaving
		g.mu.Unlock()
		select {
		case <-left:
			g.mu.Lock()
		case <-t.C:
			g.mu.Lock()
			g.shut = true
			return g.inside
		}
	}
	g.shut = true
	return 0
}

// Resume opens the gate again.
func (s *Server) Resume() {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	s.gate.shut = false
}

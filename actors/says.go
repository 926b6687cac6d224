package actors

import "sync"

// The values of notify_state.
const (
	saidReloading = "reloading" // RELOADING=1, until READY=1
	saidStopping  = "stopping"  // STOPPING=1, until its end
)

// said is what an incarnation has said of itself.
type said struct {
	incarnation string
	status      string // the last STATUS=
	state       string // of notify_state; empty is neither
}

// sayings are what the daemons' last incarnations have said of themselves, by
// daemon. They are this manager's alone: whatever follows from them in the journal's
// state is recorded there. Safe for concurrent use.
type sayings struct {
	mu  sync.Mutex
	all map[string]said
}

// of is what this incarnation has said; nothing of another one's.
func (s *sayings) of(daemon, incarnation string) said {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.all[daemon]; now.incarnation == incarnation {
		return now
	}
	return said{incarnation: incarnation}
}

func (s *sayings) note(daemon string, now said) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[string]said)
	}
	s.all[daemon] = now
}

func (s *sayings) clear(daemon string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, daemon)
}

package platform

import "sync"

// notices tells, in order and once each, of the death of a first process and of
// the end of its tree.
type notices struct {
	mu       sync.Mutex
	exited   bool
	exit     Exit
	empty    bool // once true, it stays so
	released bool
	onExit   func(Exit)
	onEmpty  func()
	settling bool // somebody delivers
	again    bool // and shall look once more
	waiting  bool // await is under way, or something will call it

	// quick says in microseconds whether nothing is left: true is sure, false
	// is perhaps. await looks closer, on a goroutine of its own, and calls
	// gone once nothing is left. Both are set before the first use.
	quick func() bool
	await func()
}

// OnExit implements Process.
func (n *notices) OnExit(f func(Exit)) {
	n.mu.Lock()
	n.onExit = f
	now := n.exited
	n.mu.Unlock()
	if now {
		go n.settle()
	}
}

// OnEmpty implements Process.
func (n *notices) OnEmpty(f func()) {
	n.mu.Lock()
	n.onEmpty = f
	now := n.exited
	n.mu.Unlock()
	if now {
		go n.settle()
	}
}

// settle calls the functions that are due: OnExit's, then OnEmpty's. One
// goroutine at a time does it; others leave it a note.
func (n *notices) settle() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.settling {
		n.again = true
		return
	}
	n.settling = true
	for {
		n.again = false
		switch {
		case n.released || !n.exited:
		case n.onExit != nil:
			f, exit := n.onExit, n.exit
			n.onExit = nil
			n.mu.Unlock()
			f(exit)
			n.mu.Lock()
			continue
		case n.onEmpty != nil && !n.waiting:
			n.mu.Unlock()
			empty := n.quick()
			n.mu.Lock()
			if !empty && !n.empty {
				// Looking closer takes longer than the caller should be kept.
				n.waiting = true
				go n.await()
				break
			}
			if f := n.onEmpty; f != nil && !n.released {
				n.onEmpty = nil
				n.mu.Unlock()
				f()
				n.mu.Lock()
			}
			continue
		}
		if !n.again {
			n.settling = false
			return
		}
	}
}

// gone ends the wait of await.
func (n *notices) gone() {
	n.mu.Lock()
	n.empty = true
	n.waiting = false
	n.mu.Unlock()
	n.settle()
}

func (n *notices) isExited() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.exited
}

package actors

import (
	"testing"
	"time"
)

func TestLaunchesAreWaitedFor(t *testing.T) {
	var l launches
	first, second := l.begin(), l.begin()
	held := make(chan func())
	go func() { held <- l.hold(time.Hour) }()
	for { // until it holds
		l.mu.Lock()
		waits := l.none != nil
		l.mu.Unlock()
		if waits {
			break
		}
		time.Sleep(time.Millisecond)
	}
	begun := make(chan func())
	go func() { begun <- l.begin() }()
	first()
	first() // counts once
	select {
	case <-held:
		t.Fatal("it didn't wait for the second")
	case <-begun:
		t.Fatal("one began while they were held back")
	default:
	}
	second()
	goOn := <-held
	select {
	case <-begun:
		t.Fatal("one began while they were held back")
	default:
	}
	goOn()
	third := <-begun
	defer third()
	// One that hangs keeps nobody for ever.
	l.hold(time.Millisecond)()
}

package keeper

import (
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

// What a manager had handed over when it died is kept, though the keeper comes to
// it only after the death.
func TestTheLastWordsOfAManagerAreHeard(t *testing.T) {
	s, k, socket := rig(t)
	if err := s.Adopt(1, socket); err != nil {
		t.Fatal(err)
	}
	fd := openNull(t)
	defer closeFD(fd)
	s.Keep("a", fd)
	s.Stopping()
	k.mu.Lock()
	k.deaths = hopelessDeaths // so that no manager is started
	k.ended(syscall.WaitStatus(syscall.SIGKILL))
	k.mu.Unlock()
	if got := k.names(); got != "a" {
		t.Errorf("the keeper holds %q", got)
	}
	select {
	case code := <-k.done: // who had said that it ends is not started again for ever
		if code != 1 {
			t.Errorf("the keeper ends with %d", code)
		}
	default:
		t.Error("the keeper would start managers for ever")
	}
}

// Signals wait for who listens, and each is one.
func TestSignalsWaitForAManagerThatListens(t *testing.T) {
	s, k, socket := rig(t)
	if err := s.Adopt(1, socket); err != nil {
		t.Fatal(err)
	}
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	k.pidfd = int(self.Fd())
	got := make(chan os.Signal, 10)
	signal.Notify(got, syscall.SIGTERM, syscall.SIGUSR2, syscall.SIGHUP)
	defer signal.Stop(got)
	for _, sig := range []syscall.Signal{syscall.SIGUSR2, syscall.SIGUSR2, syscall.SIGTERM, syscall.SIGTERM, syscall.SIGTERM} {
		k.signal(sig)
	}
	k.mu.Lock()
	if len(k.pending) != 3 {
		t.Errorf("pending are %v", k.pending)
	}
	k.pending = k.pending[:2] // two of one kind would arrive as one, perhaps
	k.mu.Unlock()
	go k.receive()
	s.Listening()
	if !s.Barrier(time.Minute) {
		t.Fatal("no answer")
	}
	k.signal(syscall.SIGHUP)
	seen := map[os.Signal]int{}
	for range 3 {
		seen[<-got]++
	}
	if len(got) > 0 || seen[syscall.SIGUSR2] != 1 || seen[syscall.SIGTERM] != 1 || seen[syscall.SIGHUP] != 1 {
		t.Errorf("got %v and %d more", seen, len(got))
	}

	// Between one binary and the next they wait, too.
	k.mu.Lock()
	k.beginTrial(time.Hour)
	k.mu.Unlock()
	k.signal(syscall.SIGHUP)
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.pending) != 1 || k.ends != 1 {
		t.Errorf("pending are %v, %d to end were sent", k.pending, k.ends)
	}
	k.endTrial()
}

// A manager that could not be given everything opens the rest anew, and hands it
// over again: the keeper has it once all the same.
func TestWhatIsStoredAgainTakesItsOwnPlace(t *testing.T) {
	s, k, socket := rig(t)
	if err := s.Adopt(1, socket); err != nil {
		t.Fatal(err)
	}
	go k.receive()
	for range 3 {
		fd := openNull(t)
		s.Keep("a", fd)
		closeFD(fd)
		delete(s.held, "a") // as the next manager, which was not given it
	}
	if !s.Barrier(time.Minute) {
		t.Fatal("no answer")
	}
	if got := k.names(); got != "a" {
		t.Errorf("the keeper holds %q", got)
	}
}

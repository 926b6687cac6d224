package actors

import (
	"errors"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/keeper"
	"github.com/cyber-boost/syspulse/platform"
)

// keeperGuard makes a new keeper when the one there was has died. It can't be
// the parent of this manager; it is its child, and the parent of the next one.
type keeperGuard struct {
	host  platform.Host
	store *keeper.Store
	args  []string
	log   *slog.Logger
	done  <-chan struct{} // closed when the manager ends

	made  time.Time
	delay time.Duration
}

// The delay before a keeper follows one that died within maxKeeperDelay.
const (
	minKeeperDelay = 100 * time.Millisecond
	maxKeeperDelay = 30 * time.Second
)

func (g *keeperGuard) watch() {
	pid := g.store.KeeperPID()
	if pid == 0 {
		return
	}
	failpoint.Peer(pid)
	if !g.store.Keeps() {
		g.lost(pid) // before it could be reached
		return
	}
	err := g.host.OnDeath(pid, func() { g.lost(pid) })
	if errors.Is(err, syscall.ESRCH) {
		g.lost(pid)
	} else if err != nil {
		g.log.Warn("the keeper can't be watched: if it dies, it is not replaced", "error", err)
	}
}

// lost is called when a keeper has died, and when one could not be made.
func (g *keeperGuard) lost(pid int) {
	if g.store.KeeperPID() != pid {
		return // sent away
	}
	select {
	case <-g.done:
		return
	default:
	}
	g.store.Lost()
	if time.Since(g.made) > maxKeeperDelay {
		g.delay = 0
	}
	g.log.Warn("the keeper has died; making another", "in", g.delay.String())
	time.AfterFunc(g.delay, g.replace)
	g.delay = min(max(minKeeperDelay, 2*g.delay), maxKeeperDelay)
}

func (g *keeperGuard) replace() {
	select {
	case <-g.done:
		return
	default:
	}
	failpoint.Hit(failpoint.HandoverReplace)
	g.made = time.Now()
	pid, err := g.make()
	if err != nil {
		g.log.Error("can't make a keeper", "error", err)
		g.lost(0)
		return
	}
	failpoint.Peer(pid)
	g.log.Info("a new keeper runs", "pid", pid)
}

// beginOne makes a keeper where there is none.
func (g *keeperGuard) beginOne() error {
	_, err := g.make()
	return err
}

func (g *keeperGuard) make() (int, error) {
	socket, err := keeper.NewSocket()
	if err != nil {
		return 0, err
	}
	defer socket.Close()
	self, err := keeper.Self()
	if err != nil {
		return 0, err
	}
	defer self.Close()
	args := append([]string{"syspulse", keeper.Argument}, g.args...)
	known := make(chan int, 1)
	pid, err := g.host.StartHelper(args, keeper.Environment(os.Environ()), []*os.File{socket, self}, func() { g.lost(<-known) })
	if err != nil {
		return 0, err
	}
	err = g.store.Adopt(pid, socket)
	if err != nil { // or it would start a second manager after us
		if p, ferr := os.FindProcess(pid); ferr == nil {
			_ = p.Kill()
		}
	}
	known <- pid
	return pid, err
}

// keeperPID is nil without a keeper.
func keeperPID(s *keeper.Store) *int {
	if pid := s.KeeperPID(); pid != 0 {
		return &pid
	}
	return nil
}

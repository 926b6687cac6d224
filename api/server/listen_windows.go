package server

import (
	"fmt"
	"net"
	"time"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"

	"github.com/cyber-boost/syspulse/keeper"
)

// LeaveOpen does nothing: a pipe ends with its server.
func LeaveOpen(net.Listener) {}

// Listen opens the manager's named pipe for its user, the administrators and
// the system alone. One that exists is an error.
// Nothing is kept here.
func Listen(path string, _ *keeper.Store) (net.Listener, error) {
	if c, err := winio.DialPipe(path, new(time.Second)); err == nil {
		c.Close()
		return nil, fmt.Errorf("a manager is running already: it answers on %s; `syspulse shutdown` ends it", path)
	}
	u, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, fmt.Errorf("can't tell who I am: %w", err)
	}
	// Protected; full access to the user, SYSTEM and the administrators; no
	// access over the network.
	sddl := fmt.Sprintf("D:P(D;;GA;;;NU)(A;;GA;;;%s)(A;;GA;;;SY)(A;;GA;;;BA)", u.User.Sid)
	l, err := winio.ListenPipe(path, &winio.PipeConfig{SecurityDescriptor: sddl})
	if err != nil {
		return nil, fmt.Errorf("can't listen on %s: %w", path, err)
	}
	return l, nil
}

// The pipe's security descriptor has decided before a connection exists.
func allowed(peer) bool { return true }

func peerOf(net.Conn) peer { return peer{} }

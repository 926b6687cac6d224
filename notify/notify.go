// Package notify is the manager's end of the sd_notify protocol: daemons say
// through it that they are ready, what they are doing, and that they are alive
// (sd_notify(3), systemd.service(5)).
//
// Each daemon that needs one has a datagram socket of its own, so that the address
// says who is meant. The address is abstract (unix(7)): it can be reached by every
// user, which a path in the data directory can't. It is made of random bytes that are
// this data directory's, and a hash of the daemon's name; so it is the same for
// all managers of the directory, and nobody else's by accident. It is no secret
// (/proc/net/unix shows it), which is why every sender's credentials are checked.
// A daemon in a network namespace of its own can't reach it.
//
// The socket is kept open by the keeper: what is sent while no manager lives waits
// in its queue, for as many datagrams as net.unix.max_dgram_qlen says. Then the
// sender waits, unless it has chosen not to.
//
// A sender may be hostile: it may have less rights than the manager. So a message
// is of bounded size; a socket is read only so often in a second, and only while
// its reader keeps up; every descriptor that comes is closed, by a goroutine that
// may hang over it without harm to others.
package notify

import (
	"log/slog"
	"strconv"
	"time"

	"github.com/cyber-boost/syspulse/keeper"
)

// Options configure a Receiver.
type Options struct {
	// DataDir is the manager's. The file "notify" in it is the part of the
	// addresses that is random.
	DataDir string
	// Store keeps the sockets when this manager dies; nil is nobody.
	Store *keeper.Store
	// Logger is told of what is refused, once for each kind and Listen. Nil is
	// slog.Default.
	Logger *slog.Logger
}

// Listener is who gets what a daemon says.
type Listener struct {
	// UID is the daemon's user. Beside it root and the manager's own user are
	// heard, and nobody else.
	UID uint32
	// Fresh drops what was sent before: a process is about to be started, and what
	// one before it has said is void. Without it, what waits is read.
	Fresh bool
	// Handle is called for each message, in order, on the goroutine that serves
	// all sockets. It must not block, and Message.Done must be called for each.
	Handle func(Message)
}

// Message is what one datagram says.
type Message struct {
	State
	PID int    // of the sender, which may have ended since; 0 if it can't be seen from here
	UID uint32 // of the sender
	// MainPID is who the sender says is the main process; 0: nobody. Whether the
	// two belong to the daemon is not looked at here.
	MainPID int

	done func()
}

// Done says that the message was handled. What a sender waits for (BARRIER=1) has
// happened when everything before it is done. A socket with [Window] messages that
// are not done is not read; the next Listen begins with none. Calls after the first
// do nothing.
func (m Message) Done() {
	if m.done != nil {
		m.done()
	}
}

// Window is how many messages of one daemon may be under way at once.
const Window = 64

// Env is what the process is told: where to send to and, unless watchdog is 0, how
// often it must say that it is alive (sd_watchdog_enabled(3)). WATCHDOG_PID is its
// own pid and is set by who starts it.
func Env(addr string, watchdog time.Duration) map[string]string {
	env := map[string]string{"NOTIFY_SOCKET": addr}
	if watchdog > 0 {
		env["WATCHDOG_USEC"] = strconv.FormatInt(watchdog.Microseconds(), 10)
	}
	return env
}

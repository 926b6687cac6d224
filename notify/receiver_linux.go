package notify

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/keeper"
	"github.com/cyber-boost/syspulse/platform"
)

// Receiver has the sockets of all daemons. Its methods may be called
// concurrently; none waits for a daemon.
type Receiver struct {
	store  *keeper.Store
	log    *slog.Logger
	prefix string // of all addresses
	uid    uint32 // the manager's
	poller *platform.Poller
	buf    buffer // of the poller's goroutine

	mu      sync.Mutex
	closed  bool
	sockets map[string]*socket // by daemon
}

// Open reads the random part of the addresses, or makes one. If it can't be
// written, the addresses are this manager's alone, and the log says so.
func Open(o Options) (*Receiver, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	key, err := secret(filepath.Join(o.DataDir, "notify"))
	if err != nil {
		o.Logger.Warn("the addresses of notify sockets can't be kept; without a keeper, daemons that run on will not find the next manager's", "error", err)
	}
	poller, err := platform.NewPoller()
	if err != nil {
		return nil, err
	}
	return &Receiver{
		store:   o.Store,
		log:     o.Logger,
		prefix:  "@syspulse-" + key + "/",
		uid:     uint32(os.Geteuid()),
		poller:  poller,
		sockets: make(map[string]*socket),
	}, nil
}

var secretForm = regexp.MustCompile(`^[0-9a-f]{16}\n?$`)

// secret is what the file has, or something new that it has now. It is of use with
// an error, too.
func secret(path string) (string, error) {
	if b, err := os.ReadFile(path); err == nil && secretForm.Match(b) {
		return strings.TrimSpace(string(b)), nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return randomHex(), err
	}
	key := randomHex()
	// Renamed into place: a part of one would be another.
	tmp := path + ".new"
	err := os.WriteFile(tmp, []byte(key+"\n"), 0o600)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	return key, err
}

func randomHex() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// digest is a daemon's part of an address and of a name in the store.
func digest(daemon string) string {
	sum := sha256.Sum256([]byte(daemon))
	return hex.EncodeToString(sum[:8])
}

// kept is the name in the store.
func kept(daemon string) string { return "notify-" + digest(daemon) }

// Listen gives a daemon's messages to l, from now on and instead of who got them
// before, and returns the address for its NOTIFY_SOCKET. The socket is made if
// there is none; one that a predecessor has left is taken over, with what waits in
// it. A call of a former Handle may still be under way.
func (r *Receiver) Listen(daemon string, l Listener) (addr string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return "", os.ErrClosed
	}
	s := r.sockets[daemon]
	if s == nil {
		if s, err = r.open(daemon); err != nil {
			return "", fmt.Errorf("the notify socket of %s: %w", daemon, err)
		}
		r.sockets[daemon] = s
	}
	s.listen(l)
	return s.addr, nil
}

// Heard calls f, on a goroutine, once everything has been handled that was sent to a
// daemon's socket before the call, or after patience. It says BARRIER=1 to itself.
func (r *Receiver) Heard(daemon string, patience time.Duration, f func()) {
	r.mu.Lock()
	s := r.sockets[daemon]
	r.mu.Unlock()
	go func() {
		defer f()
		if s != nil {
			_ = await(s.addr, time.Now().Add(patience)) // what came to nothing has waited long enough
		}
	}()
}

func await(addr string, deadline time.Time) error {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	pr, pw, err := os.Pipe()
	if err != nil {
		return err
	}
	defer pr.Close()
	_ = c.SetWriteDeadline(deadline) // its queue may be full
	raw, err := c.SyscallConn()
	if err == nil {
		rights := unix.UnixRights(int(pw.Fd()))
		var serr error
		err = raw.Write(func(fd uintptr) bool {
			serr = unix.Sendmsg(int(fd), []byte("BARRIER=1"), rights, nil, unix.MSG_DONTWAIT)
			return serr != unix.EAGAIN
		})
		err = errors.Join(err, serr)
	}
	pw.Close()
	if err != nil {
		return err
	}
	_ = pr.SetReadDeadline(deadline)
	_, err = pr.Read(make([]byte, 1)) // the end, once the copy is closed
	return err
}

// Unlisten closes a daemon's socket. What is sent to its address from now on
// fails.
func (r *Receiver) Unlisten(daemon string) {
	r.mu.Lock()
	s := r.sockets[daemon]
	delete(r.sockets, daemon)
	var inherited []int
	if s == nil {
		inherited = r.store.Claim(kept(daemon))
	}
	r.store.Drop(kept(daemon))
	r.mu.Unlock()
	if s != nil {
		s.close()
	}
	for _, fd := range inherited {
		unix.Close(fd)
	}
}

// Close closes everything here. What the store keeps stays open with whoever keeps
// it, for the next manager.
func (r *Receiver) Close() error {
	r.mu.Lock()
	r.closed = true
	all := r.sockets
	r.sockets = nil
	r.mu.Unlock()
	for _, s := range all {
		s.close()
	}
	return r.poller.Close()
}

// open takes a daemon's socket over, or makes it.
func (r *Receiver) open(daemon string) (*socket, error) {
	s := &socket{r: r, daemon: daemon, fd: -1}
	for _, fd := range r.store.Claim(kept(daemon)) {
		if addr, ok := address(fd); ok && s.fd < 0 {
			s.fd, s.addr = fd, addr
		} else {
			unix.Close(fd)
		}
	}
	if s.fd < 0 {
		if err := s.bind(r.prefix + digest(daemon)); err != nil {
			return nil, err
		}
	}
	if err := s.watchIt(); err != nil {
		r.store.Drop(kept(daemon))
		unix.Close(s.fd)
		return nil, err
	}
	r.store.Keep(kept(daemon), s.fd)
	return s, nil
}

// address is that of an abstract datagram socket, as NOTIFY_SOCKET has it.
func address(fd int) (string, bool) {
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_DGRAM {
		return "", false
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return "", false
	}
	u, ok := sa.(*unix.SockaddrUnix)
	if !ok || !strings.HasPrefix(u.Name, "@") {
		return "", false
	}
	return u.Name, true
}

// bind makes a socket at addr or, if somebody else sits there, beside it: who does
// so must not keep a daemon from being started.
func (s *socket) bind(addr string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	// Before it can be reached: whatever comes must say who sends it.
	err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrUnix{Name: addr}))
		if errors.Is(err, unix.EADDRINUSE) {
			s.r.log.Warn("somebody else has the address of a notify socket; taking another", "daemon", s.daemon, "address", addr)
			addr += "." + randomHex()
			err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrUnix{Name: addr}))
		}
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	s.fd, s.addr = fd, addr
	return nil
}

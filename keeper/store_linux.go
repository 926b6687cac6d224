package keeper

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cyber-boost/syspulse/failpoint"
)

// Store is the manager's side: what must stay open when it dies, and who holds
// it then: the keeper, systemd, or nobody. Whatever is kept can also be handed to
// another binary by exec. Its methods may be called concurrently, and none waits
// for the other side.
type Store struct {
	pid       int    // of the keeper; 0 without
	failed    string // how the new binary of an upgrade ended; "" if none did
	onTrial   bool   // another binary has handed this process over
	successor bool   // what was kept by a predecessor came with it

	mu        sync.Mutex
	held      map[string]keptFD // ours: what is kept, or would be
	inherited map[string][]int  // from the predecessor, until somebody claims it
	addr      string            // where datagrams go
	to        *os.File          // connected to that; nil if nobody listens
	keeps     bool              // who listens there takes descriptors
	limit     string            // how many, as systemd says
	named     int               // bytes of the names of what is stored
	backlog   backlog           // what could not be sent at once
	flushing  *os.File          // to where a goroutine sends the backlog
	waiting   []func()          // for the end of the backlog
}

// keptFD is a descriptor that should be kept.
type keptFD struct {
	fd     int32 // -1: it isn't ours (any more)
	stored bool  // who keeps has it
}

// Inherit takes over what the environment says that a predecessor left: the
// descriptors of LISTEN_FDS, and NOTIFY_SOCKET. It is called once, at the start
// of the process, before anything else opens descriptors, and takes the variables
// out of the environment.
func Inherit() *Store {
	s := &Store{held: make(map[string]keptFD), inherited: make(map[string][]int)}
	failpoint.Hit(failpoint.HandoverTake)
	keeper, _ := strconv.Atoi(os.Getenv(keeperVariable))
	handed := s.handed()
	s.onTrial = handed
	if keeper > 0 { // it may have died since: whoever watches it sees to that
		s.pid = keeper
		SetName("syspulse")
	}
	mine := s.pid != 0 || os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid())
	if n, err := strconv.Atoi(os.Getenv("LISTEN_FDS")); err == nil && mine {
		names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
		for i := range n {
			name := "unknown" // systemd's
			if i < len(names) {
				name = names[i]
			}
			s.inherit(name, firstFD+i)
		}
	}
	if s.addr = os.Getenv("NOTIFY_SOCKET"); s.addr != "" {
		s.to = dial(s.addr)
		// Since version 254 systemd says how many descriptors a service may
		// store; what an older one isn't set up to take, it closes.
		s.limit = os.Getenv("FDSTORE")
		s.keeps = s.to != nil && (s.pid != 0 || s.limit != "" && s.limit != "0")
	}
	for name := range s.inherited {
		s.held[name] = keptFD{fd: -1, stored: s.keeps}
		s.named += len(name) + 1
	}
	s.failed = os.Getenv(rollbackVariable)
	for _, name := range variables {
		_ = os.Unsetenv(name)
	}
	failpoint.Peer(s.pid)
	failpoint.Hit(failpoint.HandoverTaken)
	return s
}

// variables are those by which a manager learns of its keeper and of what is
// kept, and which are nobody else's.
var variables = []string{"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "FDSTORE", keeperVariable, managerVariable, handedVariable, rollbackVariable}

func dial(addr string) *os.File {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: addr}); err != nil {
		syscall.Close(fd)
		return nil
	}
	return os.NewFile(uintptr(fd), "notify")
}

// KeeperPID is the keeper's pid, 0 without one.
func (s *Store) KeeperPID() int {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid
}

// Keeps reports whether somebody holds what is kept when this process dies.
func (s *Store) Keeps() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keeps
}

// Successor reports whether a predecessor left something: this manager was
// brought back, not started by a user.
func (s *Store) Successor() bool { return s != nil && s.successor }

// Keep has a descriptor kept under a name, of up to 43 printable characters without
// a colon. It stays the caller's, who must Drop the name before it closes it.
func (s *Store) Keep(name string, fd int) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, old := range s.inherited[name] { // the caller came to it by another way
		if old != fd {
			syscall.Close(old)
		}
	}
	delete(s.inherited, name)
	h := s.held[name]
	h.fd = int32(fd)
	s.held[name] = h
	if !h.stored {
		s.storeLocked(name)
	}
}

func (s *Store) storeLocked(name string) {
	h := s.held[name]
	if !s.keeps || h.fd < 0 {
		return
	}
	// A service manager gives all names in one variable, and could not start
	// us with one that is too long. A keeper takes care.
	if s.pid == 0 && s.named+len(name)+1 > maxNames {
		return
	}
	if !h.stored {
		s.named += len(name) + 1
	}
	h.stored = true
	s.held[name] = h
	failpoint.Hit(failpoint.HandoverSend)
	s.sendLocked(datagram{state: msgStore + "\n" + keyName + name + "\n" + msgNoPoll, fds: []int{int(h.fd)}, stores: name})
	failpoint.Hit(failpoint.HandoverSent)
}

// Sent reports whether what is kept under a name is beyond the death of this process:
// who keeps has it, or will find it in its queue. If it still waits here, f is called
// on a goroutine when that may have changed, which may never be: who keeps may be
// stopped.
func (s *Store) Sent(name string, f func()) bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.backlog.stores[name] == nil {
		return true
	}
	s.waiting = append(s.waiting, f)
	return false
}

// wakeLocked calls those who wait for the end of the backlog.
func (s *Store) wakeLocked() {
	for _, f := range s.waiting {
		go f()
	}
	s.waiting = nil
}

// Drop ends the keeping of a name. It closes nothing here.
func (s *Store) Drop(name string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked(name)
}

func (s *Store) dropLocked(name string) {
	stored := s.held[name].stored
	delete(s.held, name)
	if stored {
		s.named -= len(name) + 1
	}
	if stored && !s.backlog.revoke(name) {
		s.sendLocked(datagram{state: msgRemove + "\n" + keyName + name})
	}
}

// Claim gives what a predecessor had kept under a name, once; nil if there is
// nothing. The descriptors are the caller's, who should Keep what is still needed.
func (s *Store) Claim(name string) []int {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fds := s.inherited[name]
	delete(s.inherited, name)
	return fds
}

// Settle ends the keeping of everything of daemons that nobody has claimed. What
// is the manager's own waits for those who open it: they may do so later.
func (s *Store) Settle() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, fds := range s.inherited {
		if own(name) {
			continue
		}
		for _, fd := range fds {
			syscall.Close(fd)
		}
		if s.held[name].fd < 0 {
			s.dropLocked(name)
		}
		delete(s.inherited, name)
	}
}

// own reports whether a name is of the manager itself, not of a daemon. Those are
// asked after in their own time.
func own(name string) bool { return name == SocketName || name == BinaryName || name == ExitsName }

// KeepBinary has the binary kept that this process was started from, so that a
// keeper starts the next manager from it whatever is on the disk by then.
func (s *Store) KeepBinary() error {
	if s == nil {
		return nil
	}
	fd, err := syscall.Open("/proc/self/exe", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err) // one may execute what one may not read
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, old := range s.inherited[BinaryName] {
		syscall.Close(old)
	}
	delete(s.inherited, BinaryName)
	h, known := s.held[BinaryName]
	if known && h.fd >= 0 {
		syscall.Close(int(h.fd))
	}
	h.fd = int32(fd)
	s.held[BinaryName] = h
	if s.pid != 0 { // others start what is on the disk
		s.storeLocked(BinaryName) // in the place of another
	}
	return nil
}

// Clear ends the keeping of everything, at the end of a manager that nobody is to
// follow: what a service manager held on to would make the next one, which a user
// starts, a successor.
func (s *Store) Clear() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid != 0 {
		return // the keeper ends with us
	}
	for _, name := range slices.Sorted(maps.Keys(s.held)) {
		s.dropLocked(name)
	}
}

// OnTrial reports whether this binary has taken over from another, in the same
// process, and must prove itself.
func (s *Store) OnTrial() bool { return s != nil && s.onTrial }

// FailedUpgrade is how the new binary of an upgrade ended in whose place this one
// was started; "" if this is no such case.
func (s *Store) FailedUpgrade() string {
	if s == nil {
		return ""
	}
	return s.failed
}

// Dismiss ends a keeper that was made for an upgrade alone.
func (s *Store) Dismiss() {
	if s.KeeperPID() == 0 {
		return
	}
	s.mu.Lock()
	s.pid = 0 // so that its end is no loss
	s.mu.Unlock()
	s.notify(msgLeave)
	s.Barrier(barrierPatience)
	s.Lost()
}

// Listening tells the keeper that signals reach this process from now on. Those
// that came before wait there.
func (s *Store) Listening() {
	if s.KeeperPID() != 0 {
		s.notify(msgSignals)
	}
}

// Ready tells who started us that clients are answered.
func (s *Store) Ready() { s.notify(msgReady) }

// Stopping tells it that the manager is about to end.
func (s *Store) Stopping() { s.notify(msgStopping) }

// Exiting tells the keeper the code of an exit that follows at once. One that
// is no parent of ours could not know it.
func (s *Store) Exiting(code int) {
	if s.KeeperPID() != 0 {
		s.notify(keyExit + strconv.Itoa(code))
		s.Barrier(barrierPatience)
	}
}

// barrierPatience bounds the wait of an ending manager for its keeper.
const barrierPatience = time.Second

// Trial tells the keeper that another binary takes over this process, and in
// which time it must say that it is ready. If it doesn't, or ends, the binary
// that is kept is started.
func (s *Store) Trial(d time.Duration) {
	if s.KeeperPID() != 0 {
		s.notify(keyTrial + strconv.FormatInt(d.Milliseconds(), 10))
	}
}

func (s *Store) notify(state string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendLocked(datagram{state: state})
}

// Barrier waits until everything that was sent has been taken. It is false if
// that did not happen in time (sd_notify_barrier(3)).
func (s *Store) Barrier(patience time.Duration) bool {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return false
	}
	r := os.NewFile(uintptr(p[0]), "barrier")
	defer r.Close()
	s.mu.Lock()
	if s.to == nil {
		s.mu.Unlock()
		syscall.Close(p[1])
		return false
	}
	s.sendLocked(datagram{state: msgBarrier, fds: []int{p[1]}})
	s.mu.Unlock()
	syscall.Close(p[1])
	_ = r.SetReadDeadline(time.Now().Add(patience))
	_, err := r.Read(make([]byte, 1)) // the end of the file, once the copy is closed
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// sendLocked sends at once, or as soon as the other side has room.
func (s *Store) sendLocked(d datagram) {
	if s.to == nil {
		return
	}
	if s.backlog.empty() {
		err := s.try(d)
		if err == nil || err != syscall.EAGAIN && err != syscall.ENOBUFS && err != syscall.ETOOMANYREFS {
			return // nobody is there any more: whoever follows gets all of it anew
		}
	}
	if !s.backlog.add(d) {
		return // out of descriptors: it is not kept, and a crash would lose what it would have saved
	}
	if s.flushing != s.to {
		s.flushing = s.to
		go s.flush(s.to)
	}
}

func (s *Store) try(d datagram) error {
	raw, err := s.to.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := raw.Control(func(fd uintptr) { serr = d.send(fd) }); err != nil {
		return err
	}
	return serr
}

// The waits while too many descriptors are under way.
const (
	minSendWait = time.Millisecond
	maxSendWait = 250 * time.Millisecond
)

// flush sends the backlog as room comes. It ends when that is empty, or when
// another has taken the other side's place.
func (s *Store) flush(to *os.File) {
	raw, err := to.SyscallConn()
	wait := minSendWait
	for err == nil {
		var serr error
		// The oldest is looked for at the moment when there is room for it: it
		// may have been revoked meanwhile.
		err = raw.Write(func(fd uintptr) bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.to != to || s.backlog.empty() {
				serr = errNothing
				s.wakeLocked()
				if s.flushing == to {
					s.flushing = nil
				}
				return true
			}
			serr = s.backlog.first().send(fd)
			switch serr {
			case syscall.EAGAIN:
				return false
			case syscall.ETOOMANYREFS, syscall.ENOBUFS:
			default:
				s.backlog.removeFirst()
			}
			return true
		})
		switch serr {
		case errNothing:
			return
		case syscall.ETOOMANYREFS, syscall.ENOBUFS:
			// Too many descriptors are under way (unix(7)); the other side is
			// taking them out, or will.
			time.Sleep(wait)
			wait = min(2*wait, maxSendWait)
		default:
			wait = minSendWait
		}
	}
}

var errNothing = errors.New("nothing is to be sent")

// NewSocket is what [Store.Adopt] and a new keeper share: where the latter
// listens.
func NewSocket() (*os.File, error) {
	fd, err := newSocket()
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "notify"), nil
}

// Self is a pidfd of this process, which tells a new keeper of its end.
func Self() (*os.File, error) {
	fd, _, err := syscall.Syscall(sysPidfdOpen, uintptr(os.Getpid()), 0, 0)
	if err != 0 {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return os.NewFile(fd, "pidfd"), nil
}

// Environment is that of a new keeper for the manager that runs here: base
// without what it must not inherit, and whose keeper it is.
func Environment(base []string) []string {
	env := slices.DeleteFunc(slices.Clone(base), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(variables, name)
	})
	return append(env, managerVariable+"="+strconv.Itoa(os.Getpid()))
}

// Adopt makes pid, which listens on a socket of [NewSocket], the keeper, and
// gives it all that is held.
func (s *Store) Adopt(pid int, socket *os.File) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var addr string
	if cerr := raw.Control(func(fd uintptr) { addr, err = socketAddress(int(fd)) }); cerr != nil {
		return cerr
	}
	if err != nil {
		return err
	}
	to := dial(addr)
	if to == nil {
		return errors.New("the new keeper can't be reached")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked()
	s.to, s.addr, s.pid, s.keeps = to, addr, pid, true
	for _, name := range slices.Sorted(maps.Keys(s.held)) {
		s.storeLocked(name)
	}
	return nil
}

// Lost says that the keeper has died.
func (s *Store) Lost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked()
}

func (s *Store) leaveLocked() {
	s.backlog.clear()
	s.wakeLocked()
	if s.to != nil {
		go s.to.Close() // it waits for a flush, which waits for us
		s.to = nil
	}
	s.pid, s.keeps, s.named = 0, false, 0
	for name, h := range s.held {
		h.stored = false
		s.held[name] = h
	}
}

// handedVariable is the pid of a process that becomes another binary, and
// handedFDs, with a number behind, what it hands over: name=descriptor, parted by
// colons. (LISTEN_FDS would need them in a row, over others that are in use.)
const (
	handedVariable = "SYSPULSE_HANDED"
	handedFDs      = "SYSPULSE_HANDED_FDS"
)

// Exec replaces the binary of this process by another, which gets all that is
// held and goes on as the same process (execve(2)). It returns only if that
// failed, and then nothing has changed. argv includes the name.
func (s *Store) Exec(path string, argv, base []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	env := slices.DeleteFunc(slices.Clone(base), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(variables, name) || strings.HasPrefix(name, handedFDs)
	})
	env = append(env, handedVariable+"="+strconv.Itoa(os.Getpid()))
	if s.to != nil {
		env = append(env, "NOTIFY_SOCKET="+s.addr)
		if s.pid != 0 {
			env = append(env, keeperVariable+"="+strconv.Itoa(s.pid))
		} else if s.keeps {
			env = append(env, "FDSTORE="+s.limit)
		}
	}
	var list strings.Builder
	var open []int
	chunk := 0
	flush := func() {
		env = append(env, handedFDs+strconv.Itoa(chunk)+"="+list.String())
		list.Reset()
		chunk++
	}
	// No child may be forked while these would be inherited by it.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	hand := func(name string, fd int) {
		if list.Len() > maxNames {
			flush()
		}
		setCloseOnExec(fd, false)
		open = append(open, fd)
		list.WriteString(name + "=" + strconv.Itoa(fd) + ":")
	}
	for _, name := range slices.Sorted(maps.Keys(s.held)) {
		if fd := int(s.held[name].fd); fd >= 0 {
			hand(name, fd)
		}
	}
	for name, fds := range s.inherited { // nobody has come to it yet
		for _, fd := range fds {
			hand(name, fd)
		}
	}
	flush()
	defer func() {
		for _, fd := range open {
			setCloseOnExec(fd, true)
		}
	}()
	return os.NewSyscallError("execve", syscall.Exec(path, argv, env))
}

func setCloseOnExec(fd int, on bool) {
	flag := uintptr(0)
	if on {
		flag = syscall.FD_CLOEXEC
	}
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETFD, flag)
}

// handed is what the binary before this one handed over.
func (s *Store) handed() bool {
	if os.Getenv(handedVariable) != strconv.Itoa(os.Getpid()) {
		return false
	}
	for i := 0; ; i++ {
		list, ok := os.LookupEnv(handedFDs + strconv.Itoa(i))
		if !ok {
			return true
		}
		_ = os.Unsetenv(handedFDs + strconv.Itoa(i))
		for item := range strings.SplitSeq(list, ":") {
			name, number, _ := strings.Cut(item, "=")
			if fd, err := strconv.Atoi(number); err == nil && fd >= firstFD {
				s.inherit(name, fd)
			}
		}
	}
}

func (s *Store) inherit(name string, fd int) {
	syscall.CloseOnExec(fd)
	s.inherited[name] = append(s.inherited[name], fd)
	s.successor = true
}

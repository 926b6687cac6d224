package keeper

import (
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/cyber-boost/syspulse/failpoint"
)

func init() {
	if len(os.Args) > 1 && os.Args[1] == Argument {
		os.Exit(run(os.Args[2:]))
	}
}

// A manager that has answered clients for so long is started again at once if it
// dies; the delays of one that keeps dying begin again.
const settled = time.Second

// The delay before the second start of a manager that died young; it doubles
// with each further one. What is killed by SIGKILL is killed by somebody else (a
// person, a test, the kernel that is out of memory), so that waiting longer doesn't
// help.
const (
	firstDelay     = 10 * time.Millisecond
	maxDelay       = 10 * time.Second
	maxDelayKilled = 100 * time.Millisecond
)

// exitGivenUp is the code of a manager that wants to be started again
// (EX_SOFTWARE of sysexits.h).
const exitGivenUp = 70

// process is the keeper.
type process struct {
	argv   []string // of managers
	socket *os.File // where datagrams arrive
	addr   string   // its address
	parent string   // NOTIFY_SOCKET of who started us: a service manager, perhaps
	done   chan int // the exit code

	mu    sync.Mutex
	inbox receiver
	table table
	exits *Exits // nil until the manager has made it

	manager  int // pid; 0 while there is none
	child    bool
	pidfd    int // of one that is no child
	since    time.Time
	ready    bool
	heard    bool             // signals reach it
	ends     int              // how often it was signalled to end
	stopping bool             // it has said that it ends
	deaths   int              // of managers that died young, in a row
	pending  []syscall.Signal // what no manager has got
	trial    bool             // another binary proves itself
	trialEnd *time.Timer
	quiet    *time.Timer
	rollback string // how the new binary of an upgrade ended, until its successor is ready
	leaving  *int   // the code that a manager which is no child is about to exit with
}

// run is the keeper's life. It returns its exit code.
func run(argv []string) int {
	staySmall()
	SetName("syspulse-keeper")
	failpoint.Hit(failpoint.KeeperBegin)
	k := &process{argv: argv, parent: os.Getenv("NOTIFY_SOCKET"), pidfd: -1, done: make(chan int, 1)}
	_ = prctl(prSetChildSubreaper, 1)

	signals := make(chan os.Signal, 64)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR2, syscall.SIGCHLD, syscall.SIGPIPE)

	of, _ := strconv.Atoi(os.Getenv(managerVariable))
	var err error
	if of > 0 {
		syscall.CloseOnExec(socketFD)
		syscall.CloseOnExec(managerFD)
		err = k.listen(socketFD)
		k.manager, k.pidfd, k.ready, k.heard, k.since = of, managerFD, true, true, time.Now()
		go k.awaitManager(managerFD)
	} else {
		var fd int
		fd, err = newSocket()
		if err == nil {
			err = k.listen(fd)
		}
	}
	if err != nil {
		say("the keeper can't listen to its manager: " + err.Error())
		return 1
	}
	go k.receive()
	if of <= 0 {
		k.mu.Lock()
		k.start()
		k.mu.Unlock()
	}
	for {
		select {
		case sig := <-signals:
			k.signal(sig.(syscall.Signal))
		case code := <-k.done:
			return code
		}
	}
}

// newSocket makes a socket for datagrams at an address of the kernel's choice.
func newSocket() (int, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	// An empty name is the kernel's to choose, in the abstract namespace
	// (unix(7), "Autobind feature"). Who sends is checked by its credentials.
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_PASSCRED, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrUnix{})
	}
	if err != nil {
		syscall.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

func socketAddress(fd int) (string, error) {
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		return "", os.NewSyscallError("getsockname", err)
	}
	return sa.(*syscall.SockaddrUnix).Name, nil
}

func (k *process) listen(fd int) (err error) {
	if k.addr, err = socketAddress(fd); err != nil {
		return err
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return err
	}
	k.socket = os.NewFile(uintptr(fd), "notify")
	return nil
}

// receive takes datagrams, without a thread while there are none, and without an
// allocation: a collection of garbage would cost more memory than the garbage.
func (k *process) receive() {
	raw, err := k.socket.SyscallConn()
	if err != nil {
		return
	}
	var failed syscall.Errno
	take := func(fd uintptr) (some bool) {
		some, failed = k.take(fd)
		return some
	}
	for {
		if err := raw.Read(take); err != nil {
			return // closed
		}
		if failed != 0 {
			say("the keeper can't hear its manager: " + failed.Error())
			time.Sleep(100 * time.Millisecond) // out of memory, say: it can't go on without
		}
	}
}

// take does what the next datagram asks for, if there is one.
func (k *process) take(fd uintptr) (some bool, err syscall.Errno) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.takeLocked(fd)
}

func (k *process) takeLocked(fd uintptr) (some bool, err syscall.Errno) {
	r := &k.inbox
	if !r.recvmsg(fd) || r.err != 0 {
		return r.err != 0, r.err
	}
	if r.truncated {
		// Out of descriptors. What was to be kept is not: the manager has it still.
		say("the keeper is out of descriptors; raise the limit (ulimit -n) before the manager is started")
	}
	k.message(parseMessage(r.data[:r.n]), r.fds[:r.fdn], r.pid)
	return true, 0
}

// drainMost bounds a drain: others than the manager could send without end.
const drainMost = 100_000

// drain takes what a manager had sent before it died. Afterwards it would count
// for a stranger's, and what it has in it would be lost.
func (k *process) drain() {
	raw, err := k.socket.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for range drainMost {
			if some, err := k.takeLocked(fd); !some || err != 0 {
				return
			}
		}
	})
}

// message does what a datagram asks for, if it is the manager's.
func (k *process) message(m message, fds []int32, from int) {
	ours := from == k.manager && from != 0
	name, named := toName(m.name)
	switch {
	case ours && m.store && named && len(fds) > 0:
		if string(m.name) == ExitsName {
			k.exits = NewExits(os.NewFile(uintptr(dupFD(int(fds[0]))), ExitsName))
		}
		// In the place of what it has of that name: a manager that was not given
		// one, because there were too many, opens it anew and sends it again.
		k.table.set(name, fds)
		fds = nil
		failpoint.Hit(failpoint.KeeperStored)
	case ours && m.remove && named:
		k.table.remove(name)
		failpoint.Hit(failpoint.KeeperRemoved)
	}
	if ours && m.signals {
		k.askAgain() // another binary doesn't know what the one before it was asked for
		k.heard = true
		k.deliver()
	}
	if ours && m.ready {
		k.managerReady()
	}
	if ours && m.stopping {
		k.stopping = true
		k.endTrial() // it ends because it was asked to, not because it is bad
	}
	if ours && len(m.trial) > 0 {
		if ms, err := strconv.Atoi(string(m.trial)); err == nil {
			k.beginTrial(time.Duration(ms) * time.Millisecond)
		}
	}
	if ours && m.leave {
		k.done <- 0
	}
	if ours && len(m.exit) > 0 {
		if code, err := strconv.Atoi(string(m.exit)); err == nil {
			k.leaving = &code
		}
	}
	if ours && k.parent != "" && (m.ready || m.stopping) {
		tell(k.parent, m)
	}
	for _, fd := range fds { // of a stranger, or a barrier's, which waits for that
		syscall.Close(int(fd))
	}
	k.settleSoon()
}

// settleSoon gives back the pages of the binary a while after the last of a burst
// of messages.
func (k *process) settleSoon() {
	if k.quiet == nil {
		k.quiet = time.AfterFunc(quietAfter, UnmapBinary)
	} else {
		k.quiet.Reset(quietAfter)
	}
}

const quietAfter = 2 * time.Second

func dupFD(fd int) int {
	n, _, err := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
	if err != 0 {
		return -1
	}
	return int(n)
}

// tell passes on to a service manager how its service does.
func tell(addr string, m message) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer syscall.Close(fd)
	state := msgReady
	if m.stopping {
		state = msgStopping
	}
	_ = syscall.Sendto(fd, []byte(state), 0, &syscall.SockaddrUnix{Name: addr})
}

// managerReady: whoever died before is the new manager's business now.
func (k *process) managerReady() {
	if !k.ready {
		k.since = time.Now()
	}
	k.ready, k.heard, k.rollback = true, true, ""
	k.deliver()
}

// signal passes a signal on to the manager, or reaps.
func (k *process) signal(sig syscall.Signal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch sig {
	case syscall.SIGPIPE:
		return
	case syscall.SIGCHLD:
		k.reap()
		return
	case syscall.SIGTERM, syscall.SIGINT:
		if k.pendingEnds() > 1 {
			return // a third one says nothing new
		}
	default:
		if slices.Contains(k.pending, sig) {
			return
		}
	}
	k.pending = append(k.pending, sig)
	k.deliver()
	if k.manager == 0 {
		k.hopeless()
	}
}

func isEnd(sig syscall.Signal) bool { return sig == syscall.SIGTERM || sig == syscall.SIGINT }

func (k *process) pendingEnds() (n int) {
	for _, sig := range k.pending {
		if isEnd(sig) {
			n++
		}
	}
	return n
}

// deliver sends the manager what is pending, as soon as that reaches it: in its
// first moments a signal would end it, and in those in which it becomes another
// binary it would be lost.
func (k *process) deliver() {
	for k.manager != 0 && k.heard && len(k.pending) > 0 {
		sig := k.pending[0]
		if !k.send(sig) {
			return // it has died; the next one gets it
		}
		if isEnd(sig) {
			k.ends++
		}
		k.pending = k.pending[1:]
	}
}

// send signals the manager, whose number is its own until it is reaped.
func (k *process) send(sig syscall.Signal) bool {
	if k.child {
		return syscall.Kill(k.manager, sig) == nil
	}
	_, _, err := syscall.Syscall6(sysPidfdSendSignal, uintptr(k.pidfd), uintptr(sig), 0, 0, 0, 0)
	return err == 0
}

// awaitManager waits for the end of a manager that is no child.
func (k *process) awaitManager(pidfd int) {
	ep, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return
	}
	defer syscall.Close(ep)
	if err := syscall.EpollCtl(ep, syscall.EPOLL_CTL_ADD, pidfd, &syscall.EpollEvent{Events: syscall.EPOLLIN}); err != nil {
		return
	}
	var ev [1]syscall.EpollEvent
	for {
		n, err := syscall.EpollWait(ep, ev[:], -1)
		if n > 0 {
			break
		}
		if err != nil && err != syscall.EINTR {
			return
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	syscall.Close(pidfd)
	k.pidfd = -1
	k.drain()
	// Who is no child says before it exits what its code will be.
	status := syscall.WaitStatus(syscall.SIGKILL)
	if k.leaving != nil {
		status = syscall.WaitStatus(*k.leaving) << 8
	}
	k.ended(status)
}

// reap reaps all children that have died: the manager, and what the daemons of
// a dead one became.
func (k *process) reap() {
	for {
		pid, status, ok := peek()
		if !ok {
			return
		}
		if pid != k.manager {
			if start, ok := leader(pid); ok {
				k.exits.note(pid, start, status)
			}
		}
		var ws syscall.WaitStatus
		if got, err := syscall.Wait4(pid, &ws, syscall.WNOHANG, nil); err != nil || got != pid {
			return
		}
		failpoint.Hit(failpoint.KeeperReaped)
		if pid == k.manager && k.child {
			k.ended(ws)
		}
	}
}

// ended goes on after the manager's end.
func (k *process) ended(ws syscall.WaitStatus) {
	failpoint.Hit(failpoint.KeeperDied)
	k.drain()
	pid, wasTrial, wasReady, wasHeard := k.manager, k.trial, k.ready, k.heard
	if !wasHeard && ws.Signaled() && isEnd(ws.Signal()) {
		k.ends++ // somebody sent it to the manager itself, too early
	}
	k.askAgain()
	k.manager, k.child, k.ready, k.leaving = 0, false, false, nil
	k.heard = false
	k.endTrial()
	if !ws.Signaled() && ws.ExitStatus() != exitGivenUp && !wasTrial {
		k.done <- ws.ExitStatus()
		return
	}
	how := "was killed by signal " + strconv.Itoa(int(ws.Signal()))
	if ws.Exited() {
		how = "exited with code " + strconv.Itoa(ws.ExitStatus())
	}
	if !wasReady && k.hopeless() {
		return
	}
	if wasTrial {
		k.rollback = how
		how += " within the time of its trial; the binary before it goes on"
	}
	var delay time.Duration
	if !wasReady || time.Since(k.since) < settled {
		if k.deaths > 0 {
			delay = min(firstDelay<<min(k.deaths-1, 12), maxDelay)
			if ws.Signaled() && ws.Signal() == syscall.SIGKILL {
				delay = min(delay, maxDelayKilled)
			}
		}
		k.deaths++
	} else {
		k.deaths = 0
	}
	say("the manager (pid " + strconv.Itoa(pid) + ") " + how + "; starting another" + in(delay))
	if delay == 0 {
		k.start()
		return
	}
	time.AfterFunc(delay, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.start()
	})
}

// askAgain has the next manager asked to end if this one was, and has not done so.
func (k *process) askAgain() {
	if k.ends == 0 && k.stopping {
		k.ends = 1 // by a signal that means so to it
	}
	if k.ends > 0 {
		again := []syscall.Signal{syscall.SIGTERM}
		if k.ends > 1 { // two of one kind, one right after the other, would be one
			again = append(again, syscall.SIGINT)
		}
		k.pending = slices.Concat(again, slices.DeleteFunc(k.pending, isEnd))
	}
	k.ends, k.stopping = 0, false
}

// hopeless ends a keeper that was asked to end, if no manager gets so far
// as to do it. What runs goes on.
func (k *process) hopeless() bool {
	if k.deaths < hopelessDeaths || k.pendingEnds() == 0 {
		return false
	}
	say("no manager can be started that would stop the daemons; they go on, and the next `syspulse daemon` takes them over")
	k.done <- 1
	return true
}

// hopelessDeaths is how many managers must have died young, in a row.
const hopelessDeaths = 3

func in(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return " in " + d.String()
}

// start starts a manager. It gets what is held.
func (k *process) start() {
	fds, names := k.table.pass()
	env := make([]string, 0, 32)
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); !slices.Contains(variables, name) {
			env = append(env, kv)
		}
	}
	env = append(env, "NOTIFY_SOCKET="+k.addr, keeperVariable+"="+strconv.Itoa(os.Getpid()))
	if k.rollback != "" {
		env = append(env, rollbackVariable+"="+k.rollback)
	}
	if len(fds) > 0 {
		// No LISTEN_PID: its pid isn't known before the fork. The keeper's
		// variable and the parent's pid stand for it.
		env = append(env, "LISTEN_FDS="+strconv.Itoa(len(fds)), "LISTEN_FDNAMES="+names)
	}
	attr := &syscall.ProcAttr{
		Env:   env,
		Files: append([]uintptr{0, 1, 2}, fds...),
		// A group of its own, so that a Ctrl-C reaches it once, through us.
		Sys: &syscall.SysProcAttr{Setpgid: true},
	}
	pid, err := 0, error(syscall.ENOENT)
	for _, path := range k.binaries() {
		if pid, err = syscall.ForkExec(path, append([]string{"syspulse"}, k.argv...), attr); err == nil {
			break
		}
	}
	if err != nil {
		k.deaths++
		if k.hopeless() {
			return
		}
		delay := min(firstDelay<<min(k.deaths-1, 12), maxDelay)
		say("can't start a manager: " + err.Error() + "; trying again" + in(delay))
		time.AfterFunc(delay, func() {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.start()
		})
		return
	}
	failpoint.Peer(pid)
	failpoint.Hit(failpoint.KeeperForked)
	k.manager, k.child = pid, true
}

// binaries are those to start a manager from, best first: the one that the last
// manager gave us, which has proved itself, and our own.
func (k *process) binaries() []string {
	self := "/proc/self/exe"
	if fd, ok := k.table.find(BinaryName); ok {
		// By our number: the child's descriptors are being arranged by then.
		return []string{"/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(fd), self}
	}
	return []string{self}
}

// beginTrial: the manager is about to become another binary. If that dies, or
// says nothing, in the time it has, the one before it is started.
func (k *process) beginTrial(d time.Duration) {
	k.endTrial()
	k.trial, k.ready, k.heard = true, false, false
	k.trialEnd = time.AfterFunc(d, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if !k.trial {
			return
		}
		if k.ready {
			k.endTrial()
			return
		}
		say("the new binary does not answer; ending it")
		k.send(syscall.SIGKILL)
	})
}

func (k *process) endTrial() {
	k.trial = false
	if k.trialEnd != nil {
		k.trialEnd.Stop()
		k.trialEnd = nil
	}
}

// say writes a line to stderr: the terminal, or the manager's log.
func say(s string) { os.Stderr.WriteString("syspulse: " + s + "\n") }

// What package syscall lacks. These numbers are the same on all architectures.
const (
	sysPidfdSendSignal  = 424
	sysPidfdOpen        = 434
	prSetChildSubreaper = 36
)

func prctl(option, arg uintptr) error {
	if _, _, err := syscall.RawSyscall6(syscall.SYS_PRCTL, option, arg, 0, 0, 0, 0); err != 0 {
		return err
	}
	return nil
}

// SetName is what ps and top show (proc_pid_comm(5), up to 15 bytes). A process
// that was executed by a path in /proc would have that one's last part.
func SetName(name string) {
	_ = os.WriteFile("/proc/self/comm", []byte(name), 0)
}

// peek is a child that has died, not yet reaped, and how.
func peek() (pid int, ws syscall.WaitStatus, ok bool) {
	// siginfo_t of waitid(2): three ints, then a union aligned as a pointer.
	var si struct {
		signo, errno, code int32
		_                  [unsafe.Sizeof(uintptr(0)) - 4]byte
		pid, uid, status   int32
		_                  [128]byte
	}
	const pAll, wExited, wNoWait = 0, 4, 0x01000000
	for {
		_, _, err := syscall.Syscall6(syscall.SYS_WAITID, pAll, 0, uintptr(unsafe.Pointer(&si)), wExited|syscall.WNOHANG|wNoWait, 0, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != 0 || si.pid == 0 {
			return 0, 0, false
		}
		const exited, dumped = 1, 3 // CLD_EXITED, CLD_DUMPED
		switch si.code {
		case exited:
			ws = syscall.WaitStatus(si.status) << 8
		case dumped:
			ws = syscall.WaitStatus(si.status) | 0x80
		default:
			ws = syscall.WaitStatus(si.status)
		}
		return int(si.pid), ws, true
	}
}

package launch

import (
	"errors"
	"strconv"
	"syscall"
)

// Launch says how a program is to be started.
type Launch struct {
	Path string   // of the program; a relative one is against Dir
	Args []string // its own name first
	Dir  string   // working directory; "" is the parent's
	// Credential is whom to run as; nil is whom the parent runs as. It is taken on
	// here, last, so that everything else may be done with the parent's rights.
	Credential *syscall.Credential
	// WatchdogPID sets WATCHDOG_PID to the process's own pid
	// (sd_watchdog_enabled(3)).
	WatchdogPID bool
}

// ReportFD is where a launcher has the pipe through which it says how far it came.
const ReportFD = 3

// hidden is put before each variable of the program's environment, so that they
// mean nothing to the launcher itself: Go's runtime reads some (GODEBUG, GOMEMLIMIT),
// and the dynamic linker others.
const hidden = "@"

// ErrNotExecuted says that a launcher has ended before it could execute anything.
var ErrNotExecuted = errors.New("it ended before it could execute the program")

// Argv are the launcher's arguments, its name first.
func (l Launch) Argv() []string {
	how := ""
	if c := l.Credential; c != nil {
		how += "groups "
		for _, g := range c.Groups {
			how += strconv.FormatUint(uint64(g), 10) + ","
		}
		how += "\ngid " + strconv.FormatUint(uint64(c.Gid), 10)
		how += "\nuid " + strconv.FormatUint(uint64(c.Uid), 10) + "\n"
	}
	if l.WatchdogPID {
		how += "watchdog\n"
	}
	return append([]string{"syspulse", Argument, how, l.Dir, l.Path}, l.Args...)
}

// Environ is the launcher's environment, for that of the program. The first
// variables, so many as visible says, are seen by whoever looks at the launcher.
func Environ(env []string, visible int) []string {
	out := make([]string, len(env))
	for i, kv := range env {
		if i >= visible {
			kv = hidden + kv
		}
		out[i] = kv
	}
	return out
}

// Report waits until a launcher has executed its program and returns nil, or why
// it could not: a syscall.Errno, or ErrNotExecuted. fd is the other end of its
// pipe; nobody else may have its own.
func Report(fd int) error {
	var b [8]byte
	n := 0
	for n < len(b) {
		m, err := syscall.Read(fd, b[n:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if m == 0 {
			break
		}
		n += m
	}
	switch n {
	case 1: // exec closed the pipe after that
		return nil
	case 5:
		return syscall.Errno(uint32(b[1]) | uint32(b[2])<<8 | uint32(b[3])<<16 | uint32(b[4])<<24)
	}
	return ErrNotExecuted
}

func init() {
	if args := arguments(); args != nil {
		syscall.Exit(run(args))
	}
}

// arguments are those behind Argument; nil if this is no launcher. Package os, which
// has them, is initialized later.
func arguments() []string {
	fd, err := syscall.Open("/proc/self/cmdline", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(fd)
	var all []byte
	buf := make([]byte, 4096)
	for {
		n, err := syscall.Read(fd, buf)
		if err == syscall.EINTR {
			continue
		}
		if n <= 0 {
			break
		}
		all = append(all, buf[:n]...)
		_, rest, _ := cut(string(all[:min(len(all), len(buf))]), 0)
		if second, _, _ := cut(rest, 0); second != Argument {
			return nil
		}
	}
	var args []string
	for rest, more := string(all), true; more && rest != ""; {
		var arg string
		arg, rest, more = cut(rest, 0)
		args = append(args, arg)
	}
	if len(args) < 2 || args[1] != Argument {
		return nil
	}
	return args[2:]
}

// cut is strings.Cut, whose package is initialized later, too.
func cut(s string, sep byte) (before, after string, found bool) {
	for i := range len(s) {
		if s[i] == sep {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// exitFailed is what a launcher ends with that can't execute its program; its
// parent knows more.
const exitFailed = 127

func run(args []string) int {
	syscall.CloseOnExec(ReportFD)
	if len(args) < 4 {
		return exitFailed
	}
	how, dir, path, argv := args[0], args[1], args[2], args[3:]
	err := execute(how, dir, path, argv)
	errno, ok := err.(syscall.Errno)
	if !ok {
		errno = syscall.EINVAL
	}
	_, _ = syscall.Write(ReportFD, []byte{byte(errno), byte(errno >> 8), byte(errno >> 16), byte(errno >> 24)})
	return exitFailed
}

// execute returns only with an error. It runs on the main goroutine and, since this
// is an init, on the main thread alone: what is a thread's own is the process's
// after exec. The order is that of Go's fork and exec, for the same errors.
func execute(how, dir, path string, argv []string) error {
	// From here on the parent knows that the launcher itself could be started.
	if _, err := syscall.Write(ReportFD, []byte{1}); err != nil && err != syscall.EPIPE {
		return err // with EPIPE the parent has died; whoever follows it finds us
	}
	env := syscall.Environ()
	for i, kv := range env {
		if len(kv) > 0 && kv[:1] == hidden {
			env[i] = kv[1:]
		}
	}
	for how != "" {
		var line string
		line, how, _ = cut(how, '\n')
		key, value, _ := cut(line, ' ')
		var err error
		switch key {
		case "watchdog":
			env = set(env, "WATCHDOG_PID", strconv.Itoa(syscall.Getpid()))
		case "groups":
			err = numbers(value, syscall.Setgroups)
		case "gid":
			err = number(value, syscall.Setgid)
		case "uid":
			err = number(value, syscall.Setuid)
		default:
			err = syscall.EINVAL
		}
		if err != nil {
			return err
		}
	}
	if dir != "" {
		if err := syscall.Chdir(dir); err != nil {
			return err
		}
	}
	return syscall.Exec(path, argv, env)
}

func number(s string, f func(int) error) error {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return syscall.EINVAL
	}
	return f(int(n))
}

func numbers(s string, f func([]int) error) error {
	var list []int
	for s != "" {
		var item string
		item, s, _ = cut(s, ',')
		if err := number(item, func(n int) error { list = append(list, n); return nil }); err != nil {
			return err
		}
	}
	return f(list)
}

// set is env with a variable set.
func set(env []string, name, value string) []string {
	for i, kv := range env {
		if k, _, ok := cut(kv, '='); ok && k == name {
			env[i] = name + "=" + value
			return env
		}
	}
	return append(env, name+"="+value)
}

// Package probe makes one check of whether something answers: by HTTP, by a
// connection, or by a command. When to check and what follows from the results
// is decided elsewhere.
//
// Nothing is kept between two checks: no connection, no process, no goroutine.
package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/cyber-boost/syspulse/platform"
)

// Check is what to ask. Its Run may be called concurrently.
type Check struct {
	Type   string // http, tcp, command
	Target string // as the .sys file has it

	// Timeout bounds the whole check: name look-up, redirects and all.
	Timeout time.Duration

	// Host starts commands, and Command is asked before each for all but the
	// arguments. For the type command only.
	Host    platform.Starter
	Command func() (platform.Command, error)
}

// Result is the outcome of a check.
type Result struct {
	OK    bool
	At    time.Time     // when it began
	Took  time.Duration // until the answer, or until nothing was left of a command
	Error string        // why it isn't OK, in a line for people

	// Lacking says that it could not be made, because this process is out of
	// descriptors, processes or memory: it tells nothing about the target.
	Lacking bool
}

// Run makes the check. It returns no later than the timeout, or than the end of
// ctx, and the moment that it takes to end a command's processes.
func (c *Check) Run(ctx context.Context) Result {
	r := Result{At: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	var err error
	switch c.Type {
	case "http":
		err = c.http(ctx)
	case "tcp":
		err = c.tcp(ctx)
	case "command":
		err = c.command(ctx)
	default:
		err = fmt.Errorf("unknown type of check %q", c.Type)
	}
	r.Took = time.Since(r.At)
	if err == nil {
		r.OK = true
		return r
	}
	r.Lacking = lacking(err)
	r.Error = line(err.Error())
	return r
}

func (c *Check) tcp(ctx context.Context) error {
	network, address := "tcp", c.Target
	if path, ok := strings.CutPrefix(c.Target, "unix:"); ok {
		network, address = "unix", socketPath(path)
	}
	conn, err := dial(ctx, network, address)
	if err != nil {
		return c.explain(ctx, err, "no connection", address)
	}
	return conn.Close()
}

// dial opens a connection that is closed soon: it needs no keep-alive.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	return d.DialContext(ctx, network, address)
}

// socketPath undoes unix://path.
func socketPath(s string) string { return strings.TrimPrefix(s, "//") }

// explain says shortly what went wrong at address. missing is what didn't come
// in time.
func (c *Check) explain(ctx context.Context, err error, missing, address string) error {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Canceled
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Errorf("no such host: %s", dns.Name)
	case ctx.Err() != nil || errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%s within %v", missing, c.Timeout)
	case errors.As(err, &dns):
		return fmt.Errorf("the address of %s can't be looked up: %s", dns.Name, dns.Err)
	case isAny(err, refused):
		return fmt.Errorf("connection refused on %s", address)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("no socket at %s", address)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("no permission for %s", address)
	case isAny(err, reset), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the connection to %s was closed without an answer", address)
	case errors.Is(err, syscall.EAGAIN):
		return fmt.Errorf("%s has more connections waiting than it takes", address)
	case isAny(err, unreachable):
		return fmt.Errorf("%s can't be reached from here", address)
	}
	return fmt.Errorf("%w (%s)", innermost(err), address)
}

func isAny(err error, list []error) bool {
	for _, e := range list {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// innermost leaves out which system call and which addresses an error was about.
func innermost(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return err
}

// lacking says whether err is about what this process is short of. A full queue
// of connections is EAGAIN, too, and the target's affair.
func lacking(err error) bool {
	var start *platform.StartError
	return platform.IsLack(err) || errors.As(err, &start) && start.Stage == platform.StageSystem
}

// maxLine bounds what is kept of an error, in bytes.
const maxLine = 300

// line makes of s one line of printable characters.
func line(s string) string {
	s = strings.ToValidUTF8(strings.Join(strings.Fields(s), " "), "�")
	if len(s) > maxLine {
		s = strings.ToValidUTF8(s[:maxLine], "") + "…"
	}
	return s
}

package platform

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// RunOutput bounds what Run keeps of a command's output, in bytes.
const RunOutput = 64 << 10

// runGrace bounds the wait for what was killed: only a process stuck in the kernel
// takes longer than moments.
const runGrace = 5 * time.Second

// Starter starts processes; every [Host] is one.
type Starter interface {
	Start(Command) (Process, error)
}

// Run starts a command, waits for its end and returns the first RunOutput bytes
// of its stdout and stderr, which c must leave nil. When ctx is done before, or
// when it has ended, what is left of its tree is killed. The error is ctx's, or
// one of Start.
func Run(ctx context.Context, h Starter, c Command) ([]byte, Exit, error) {
	if c.Stdout != nil || c.Stderr != nil {
		return nil, Exit{}, errors.New("Run needs the outputs itself")
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, Exit{}, err
	}
	defer r.Close()
	c.Stdout, c.Stderr = w, w
	p, err := h.Start(c)
	w.Close()
	if err != nil {
		return nil, Exit{}, err
	}
	defer p.Release()

	var out []byte
	var reading sync.WaitGroup
	reading.Go(func() {
		out, _ = io.ReadAll(io.LimitReader(r, RunOutput))
		_, _ = io.Copy(io.Discard, r) // let it write on
	})
	exited := make(chan Exit, 1)
	p.OnExit(func(e Exit) { exited <- e })
	var exit Exit
	select {
	case exit = <-exited:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if !p.Empty() {
		err = errors.Join(err, p.Kill())
		empty := make(chan struct{})
		p.OnEmpty(func() { close(empty) })
		select {
		case <-empty:
		case <-time.After(runGrace):
			err = errors.Join(err, errors.New("a process was killed but does not die"))
		}
	}
	if err != nil {
		r.Close() // whoever does not die keeps the pipe open
	} else {
		// What it wrote is in the pipe. Somebody who isn't of its tree may have
		// been given the other end; Windows has no deadline for pipes.
		_ = r.SetReadDeadline(time.Now().Add(runGrace))
	}
	reading.Wait()
	return out, exit, err
}

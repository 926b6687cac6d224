//go:build unix

package client

import (
	"context"
	"errors"
	"net"
	"syscall"
)

func dial(ctx context.Context, socket string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", socket)
}

// isAbsent: there is no socket, or nobody listens on it, or it is none.
func isAbsent(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) ||
		errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENOTSOCK)
}

// isBusy: its queue of connections is full (unix(7): EAGAIN).
func isBusy(err error) bool { return errors.Is(err, syscall.EAGAIN) }

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

package server

import (
	"context"
	"net"
)

// peer is who is at the other end of a connection.
type peer struct {
	known bool
	uid   int
}

type peerKey struct{}

// withPeer remembers in the connection's context who connected.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, peerOf(c))
}

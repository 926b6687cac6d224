package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/cyber-boost/syspulse/api/server"
	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/keeper"
)

// replyTimeout is how long the last answers of an ending manager may take.
const replyTimeout = 5 * time.Second

// host is a manager in this process, with its socket.
type host struct {
	RunningManager
	socket   string
	listener net.Listener
	server   *server.Server
	served   chan error // nil before serve
	store    *keeper.Store
	log      *slog.Logger
}

// openHost starts a manager in this process and opens its socket. Clients that
// connect wait until serve.
func (a *app) openHost(log *slog.Logger) (*host, error) {
	dir, err := a.dataDir()
	if err != nil {
		return nil, err
	}
	socket, err := a.socket()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("can't make the data directory: %w", err)
	}
	m, err := a.start(ManagerOptions{DataDir: dir, Version: Version(), Logger: log, Store: a.store, KeeperArgs: os.Args[1:]})
	if err != nil {
		return nil, err
	}
	l, err := server.Listen(socket, a.store)
	if err != nil {
		m.Close()
		return nil, err
	}
	return &host{RunningManager: m, socket: socket, listener: l, server: server.New(m, log), store: a.store, log: log}, nil
}

// serve begins to answer clients.
func (h *host) serve() {
	if h.served != nil {
		return
	}
	failpoint.Hit(failpoint.RecoverServe)
	h.served = make(chan error, 1)
	go func() { h.served <- h.server.Serve(h.listener) }()
	if err := h.store.KeepBinary(); err != nil {
		h.log.Warn("after a crash, the manager is started from the binary that is on the disk then", "error", err)
	}
	h.store.Ready()
}

// close ends what openHost began. The socket vanishes last: whoever waits for
// that may start the next manager.
func (h *host) close() {
	if h.Err() != nil && h.store.Keeps() {
		server.LeaveOpen(h.listener) // clients wait there for the next manager
	}
	h.server.EndStreams()
	h.RunningManager.Close()
	failpoint.Hit(failpoint.ShutdownClosed)
	if h.served == nil {
		h.listener.Close()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), replyTimeout)
	defer cancel()
	if err := h.server.Shutdown(ctx); err != nil {
		h.server.Close()
	}
	<-h.served
}

// end is the error of a manager that ended.
func (h *host) end() error {
	if err := h.Err(); err != nil {
		return &codeError{exitGivenUp, errors.New("the manager can't go on: " + err.Error())}
	}
	return nil
}

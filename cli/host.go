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
	noKeeper bool
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
	m, err := a.start(ManagerOptions{DataDir: dir, Version: Version(), Logger: log, Store: a.store, KeeperArgs: os.Args[1:], Binary: a.binary})
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
	h.store.Ready()
	if h.store.OnTrial() {
		time.AfterFunc(keeper.Trial(), h.trusted)
	} else {
		h.trusted()
	}
}

// trusted makes this binary the one that the manager is started from after a
// crash.
func (h *host) trusted() {
	if err := h.store.KeepBinary(); err != nil {
		h.log.Warn("after a crash, the manager is started from the binary that is on the disk then", "error", err)
	}
	if h.store.OnTrial() {
		failpoint.Hit(failpoint.UpgradeTrusted)
		h.log.Info("the new binary is trusted from now on")
	}
	if h.noKeeper {
		h.store.Dismiss()
	}
}

// upgradePatience is how long an upgrade waits for the answers that are being
// given. What takes longer is cut off: the command goes on, its client has no
// answer.
const upgradePatience = 2 * time.Second

// pause comes before replace: it lets the answers out that are being given.
func (h *host) pause() {
	if n := h.server.Pause(upgradePatience); n > 0 {
		h.log.Warn("an upgrade cuts off clients that wait for long answers; what they asked for goes on", "clients", n)
	}
}

// replace hands this process to another binary. It returns only if that failed.
func (h *host) replace(f *os.File) { h.resume(h.Replace(f)) }

// resume goes on after an upgrade that failed.
func (h *host) resume(err error) {
	h.server.Resume()
	h.store.Ready() // which ends the trial
	h.log.Error("the upgrade failed; this manager goes on", "error", err)
	if h.noKeeper {
		h.store.Dismiss()
	}
}

// close ends what openHost began. The socket vanishes last: whoever waits for
// that may start the next manager.
func (h *host) close() {
	if h.Err() != nil && h.store.Keeps() {
		server.LeaveOpen(h.listener) // clients wait there for the next manager
	}
	if h.Err() != nil {
		h.server.CutStreams() // those who follow go on at the next manager
	} else {
		h.server.EndStreams()
	}
	h.RunningManager.Close()
	if h.Err() == nil {
		h.store.Clear()
	}
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

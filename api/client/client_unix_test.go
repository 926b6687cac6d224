//go:build unix

package client_test

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/apitest"
	"github.com/cyber-boost/syspulse/api/client"
	"github.com/cyber-boost/syspulse/api/server"
)

func socketPath(t *testing.T) string {
	dir, err := os.MkdirTemp("", "sp") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// A manager that dies over a question, with nobody after it, is none.
func TestManagerThatVanishes(t *testing.T) {
	socket := socketPath(t)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		c, err := l.Accept()
		if err == nil {
			l.Close()
			c.Close()
		}
	}()
	c := client.New(socket)
	defer c.Close()
	if _, err := c.Status(t.Context(), api.StatusQuery{}); !errors.Is(err, api.ErrNoManager) {
		t.Errorf("%v", err)
	}
}

// One that is starting is waited for, and not longer than it is.
func TestAwait(t *testing.T) {
	socket := socketPath(t)
	c := client.New(socket)
	defer c.Close()
	tries := 0
	var srv *server.Server
	ended := make(chan error, 1)
	c.Await(func() bool {
		if tries++; tries == 3 {
			l, err := server.Listen(socket, nil)
			if err != nil {
				t.Error(err)
				return false
			}
			srv = server.New(apitest.New(), slog.New(slog.NewTextHandler(io.Discard, nil)))
			go func() { ended <- srv.Serve(l) }()
		}
		return true
	})
	if _, err := c.Ping(t.Context()); err != nil || tries != 3 {
		t.Errorf("%v after %d tries", err, tries)
	}
	srv.Close()
	<-ended
	c.Await(func() bool { tries++; return tries < 6 })
	if _, err := c.Ping(t.Context()); !errors.Is(err, api.ErrNoManager) || tries != 6 {
		t.Errorf("%v after %d tries", err, tries)
	}
}

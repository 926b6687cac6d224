//go:build unix

package server_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/server"
)

func nowBefore(d time.Time) bool { return time.Now().Before(d.Add(-5 * time.Second)) }

func connect(path string) (net.Conn, error) { return net.Dial("unix", path) }

func socketPath(t *testing.T) string {
	dir, err := os.MkdirTemp("", "sp") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s.sock")
}

func TestSocketPathThatIsTooLong(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	run := t.TempDir()
	if len(run) > 60 {
		run = "/tmp"
	}
	t.Setenv("XDG_RUNTIME_DIR", run)
	p := api.SocketPath(dir)
	if !strings.HasPrefix(p, run+"/syspulse-") || len(p) > 103 {
		t.Error(p)
	}
	if q := api.SocketPath(dir); q != p {
		t.Errorf("%s, then %s", p, q)
	}
	if q := api.SocketPath(dir + "x"); q == p {
		t.Error("another directory, the same socket")
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	p = api.SocketPath(dir)
	l, err := server.Listen(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestFallbackDirectoryOfSomeoneElse(t *testing.T) {
	dir := api.FallbackRuntimeDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Skip(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Skip(err)
	}
	defer os.Chmod(dir, 0o700)
	if l, err := server.Listen(filepath.Join(dir, "x.sock"), nil); err == nil {
		l.Close()
		t.Error("listens where anyone may put a socket")
	} else if !strings.Contains(err.Error(), "chmod 700") {
		t.Error(err)
	}
}

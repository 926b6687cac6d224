package server_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/Microsoft/go-winio"
)

func nowBefore(d time.Time) bool { return time.Now().Before(d.Add(-5 * time.Second)) }

func connect(path string) (net.Conn, error) { return winio.DialPipe(path, nil) }

func socketPath(t *testing.T) string {
	return fmt.Sprintf(`\\.\pipe\syspulse-test-%d`, time.Now().UnixNano())
}

//go:build !linux

package notify

import (
	"fmt"
	"runtime"
	"time"
)

// Receiver has the sockets of all daemons. Only Linux has them.
type Receiver struct{}

// Open returns a Receiver that can't listen.
func Open(Options) (*Receiver, error) { return &Receiver{}, nil }

// Listen always fails.
func (*Receiver) Listen(daemon string, _ Listener) (addr string, err error) {
	return "", fmt.Errorf("%s: sd_notify (ready type \"notify\", watchdog_secs) needs Linux, this is %s", daemon, runtime.GOOS)
}

// Heard calls f: nothing is ever sent.
func (*Receiver) Heard(_ string, _ time.Duration, f func()) { go f() }

// Unlisten does nothing.
func (*Receiver) Unlisten(string) {}

// Close does nothing.
func (*Receiver) Close() error { return nil }

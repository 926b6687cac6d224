package actors

import (
	"os"
	"time"

	"github.com/cyber-boost/syspulse/logs"
	"github.com/cyber-boost/syspulse/platform"
	"github.com/cyber-boost/syspulse/supervision"
)

// Host is what the tree needs of the operating system. [platform.Host] is the
// real one.
type Host interface {
	Uptime() time.Duration
	Age(supervision.Identity) time.Duration
	Start(platform.Command) (platform.Process, error)
	Adopt(id supervision.Identity, incarnation string) (platform.Process, error)
	Find(incarnation string) (platform.Process, error)
	Member(incarnation string, pid int) (supervision.Identity, error)
	Follow(platform.Process, supervision.Identity) (platform.Process, error)
	Survivors(platform.Search) ([]platform.Survivor, error)
	EndLeftovers(incarnation string, id supervision.Identity) (int, error)
	Forget(incarnation string)
}

// Output is what the tree needs of the log capture.
type Output interface {
	Open(daemon string, o logs.StreamOptions) (Capture, error)
	Remove(daemon string, purge bool) error
}

// Capture is one daemon's output; [logs.Capture] is the real one.
type Capture interface {
	Writers() (stdout, stderr *os.File, err error)
	Drain() error
	Close()
}

// output makes a Capturer an Output.
type output struct{ *logs.Capturer }

func (o output) Open(daemon string, opts logs.StreamOptions) (Capture, error) {
	c, err := o.Capturer.Open(daemon, opts)
	if err != nil {
		return nil, err // not a nil *Capture in an interface
	}
	return c, nil
}

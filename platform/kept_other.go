//go:build !linux

package platform

import (
	"errors"
	"os"
)

// Forget implements Host: nothing is kept here.
func (*host) Forget(string) {}

// StartHelper implements Host: there is no keeper here.
func (*host) StartHelper([]string, []string, []*os.File, func()) (int, error) {
	return 0, errors.ErrUnsupported
}

// PrepareExec implements Host: nothing is executed in its place here.
func (*host) PrepareExec() (resume func()) { return func() {} }

// OnDeath implements Host: there is no keeper here.
func (*host) OnDeath(int, func()) error { return errors.ErrUnsupported }

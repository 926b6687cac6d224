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

// OnDeath implements Host: there is no keeper here.
func (*host) OnDeath(int, func()) error { return errors.ErrUnsupported }

//go:build !linux

package platform

import "errors"

// Member implements Host: nobody can ask for it here.
func (*host) Member(string, int) (Identity, error) { return Identity{}, ErrNotFound }

// Follow implements Host: nobody can ask for it here.
func (*host) Follow(Process, Identity) (Process, error) { return nil, errors.ErrUnsupported }

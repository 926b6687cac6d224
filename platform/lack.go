package platform

import (
	"errors"
	"syscall"
)

// IsLack says whether an error means that this process lacks descriptors or
// memory, so that what it asked about is as unknown as before.
func IsLack(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

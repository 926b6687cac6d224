//go:build !linux

package platform

// NewWallTimer returns a timer that is not set.
func (h *host) NewWallTimer(f func(stepped bool)) WallTimer { return newLookTimer(f, bothClocks()) }

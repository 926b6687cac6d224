//go:build !linux

package keeper

import (
	"errors"
	"os"
	"time"
)

// Store is the manager's side. Only Linux has a keeper so far, so here nothing
// is kept.
type Store struct{}

// Exits is where a keeper notes how processes ended.
type Exits struct{}

// Inherit has nothing to take over.
func Inherit() *Store { return &Store{} }

// KeeperPID is 0: there is none.
func (*Store) KeeperPID() int { return 0 }

// Successor is false: nothing is left by a predecessor.
func (*Store) Successor() bool { return false }

// Offered is false: there is no keeper to have.
func (*Store) Offered() bool { return false }

// Become always fails.
func (*Store) Become([]string) error { return errors.ErrUnsupported }

// Keep does nothing.
func (*Store) Keep(string, int) {}

// Sent is true: nothing is on its way.
func (*Store) Sent(string, func()) bool { return true }

// Drop does nothing.
func (*Store) Drop(string) {}

// Claim has nothing to give.
func (*Store) Claim(string) []int { return nil }

// Self always fails.
func Self() (*os.File, error) { return nil, errors.ErrUnsupported }

// Keeps is false.
func (*Store) Keeps() bool { return false }

// KeepBinary does nothing.
func (*Store) KeepBinary() error { return nil }

// Clear does nothing.
func (*Store) Clear() {}

// OnTrial is false.
func (*Store) OnTrial() bool { return false }

// FailedUpgrade is empty: there is no keeper to bring a binary back.
func (*Store) FailedUpgrade() string { return "" }

// Dismiss does nothing.
func (*Store) Dismiss() {}

// UnmapBinary does nothing.
func UnmapBinary() {}

// Settle does nothing.
func (*Store) Settle() {}

// Listening does nothing.
func (*Store) Listening() {}

// Ready does nothing.
func (*Store) Ready() {}

// Stopping does nothing.
func (*Store) Stopping() {}

// Exiting does nothing.
func (*Store) Exiting(int) {}

// Trial does nothing.
func (*Store) Trial(time.Duration) {}

// Barrier has nothing to wait for.
func (*Store) Barrier(time.Duration) bool { return true }

// NewSocket always fails.
func NewSocket() (*os.File, error) { return nil, errors.ErrUnsupported }

// Environment is base.
func Environment(base []string) []string { return base }

// Adopt always fails.
func (*Store) Adopt(int, *os.File) error { return errors.ErrUnsupported }

// Lost does nothing.
func (*Store) Lost() {}

// Exec always fails.
func (*Store) Exec(string, []string, []string) error { return errors.ErrUnsupported }

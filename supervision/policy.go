package supervision

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cyber-boost/syspulse/spec"
)

// JitterFraction is the most that jitter adds to a backoff delay.
const JitterFraction = 0.1

// Ending is the history that a restart decision looks at.
type Ending struct {
	Failure bool // see Failure
	Attempt int  // restarts already charged, after a cooldown was taken into account
}

// Decision is the answer of a restart policy to the end of an incarnation.
type Decision struct {
	Restart bool
	Delay   time.Duration // until the restart; valid if Restart
	Spent   bool          // the policy would restart, but max_retries is used up
}

// Decide applies a restart policy. jitter is a random number in [0, 1).
func Decide(p spec.RestartPolicy, e Ending, jitter float64) Decision {
	switch p.Policy {
	case spec.RestartAlways:
	case spec.RestartOnFailure:
		if !e.Failure {
			return Decision{}
		}
	default:
		return Decision{}
	}
	if p.MaxRetries != nil && e.Attempt >= *p.MaxRetries {
		return Decision{Spent: true}
	}
	return Decision{Restart: true, Delay: BackoffDelay(p, e.Attempt, jitter)}
}

// BackoffDelay is the delay before attempt n, counted from 0:
//
//	min(base × 2^n, max) × (1 + 0.1 × jitter)
//
// It holds for every n ≥ 0: the power saturates at max instead of
// overflowing, and a base of 0 is 0 × 2^n = 0.
func BackoffDelay(p spec.RestartPolicy, n int, jitter float64) time.Duration {
	base, limit := float64(p.BackoffBase), float64(p.BackoffMax)
	delay := math.Min(math.Ldexp(base, n), limit) // Ldexp(0, n) is 0, overflow is +Inf
	delay += delay * JitterFraction * jitter
	return spec.Seconds(delay).Duration()
}

// Failure reports whether an exit counts as a failure for p. An exit whose
// code nobody could learn does, whatever it was.
func Failure(p spec.RestartPolicy, e Exit) bool {
	return !e.Known || e.Signal != "" || !slices.Contains(p.SuccessExitCodes, e.Code)
}

// CooledDown reports whether an incarnation was up for so long that the
// attempt counter starts again at 0.
func CooledDown(p spec.RestartPolicy, up time.Duration) bool {
	return up >= p.Cooldown.Duration()
}

// String describes an exit for people.
func (e Exit) String() string {
	switch {
	case !e.Known:
		return "ended, nobody could learn its exit code"
	case e.Signal != "":
		return "killed by " + e.Signal
	default:
		return fmt.Sprintf("exited with code %d", e.Code)
	}
}

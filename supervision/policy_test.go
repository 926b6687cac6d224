package supervision

import (
	"math"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cyber-boost/syspulse/spec"
)

// exactDelay is the reference's formula in exact arithmetic.
func exactDelay(base, limit float64, n int) *big.Rat {
	d, top := new(big.Rat).SetFloat64(base), new(big.Rat).SetFloat64(limit)
	for range n {
		if d.Sign() == 0 || d.Cmp(top) >= 0 {
			break
		}
		d.Add(d, d)
	}
	if d.Cmp(top) > 0 {
		return top
	}
	return d
}

func TestBackoffDelayIsTheFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.Float64Range(0, 1000).Draw(t, "base")
		limit := rapid.Float64Range(0, 1e6).Draw(t, "max")
		n := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(0, 1_000_000)).Draw(t, "n")
		jitter := rapid.Float64Range(0, math.Nextafter(1, 0)).Draw(t, "jitter")
		p := spec.RestartPolicy{BackoffBase: spec.Seconds(base), BackoffMax: spec.Seconds(limit)}

		exact := exactDelay(base, limit, n)
		low, _ := exact.Float64()
		high := low * 1.1
		got := BackoffDelay(p, n, jitter).Seconds()
		const slack = 1e-9 // durations are whole nanoseconds
		if got < low-slack-low*1e-12 || got > high+slack+high*1e-12 {
			t.Fatalf("attempt %d of %g capped at %g: %g s, want %g to %g", n, base, limit, got, low, high)
		}
		if plain := BackoffDelay(p, n, 0).Seconds(); math.Abs(plain-low) > slack+low*1e-12 {
			t.Fatalf("without jitter %g s, want %g", plain, low)
		}
	})
}

func TestBackoffDelayOfEveryAttempt(t *testing.T) {
	p := spec.RestartPolicy{BackoffBase: 0.001, BackoffMax: 300}
	zero := spec.RestartPolicy{BackoffBase: 0, BackoffMax: 300}
	before := time.Duration(0)
	for n := range 1_000_001 {
		d := BackoffDelay(p, n, 0)
		if d < before || d > 300*time.Second {
			t.Fatalf("attempt %d waits %v after %v", n, d, before)
		}
		before = d
		if d := BackoffDelay(zero, n, 0.5); d != 0 {
			t.Fatalf("base 0, attempt %d waits %v", n, d)
		}
	}
	if before != 300*time.Second {
		t.Errorf("attempt 10⁶ waits %v, want the cap", before)
	}
}

func TestDecide(t *testing.T) {
	two := 2
	for _, tt := range []struct {
		name    string
		policy  spec.Policy
		retries *int
		ending  Ending
		restart bool
		spent   bool
	}{
		{"never, failed", spec.RestartNever, nil, Ending{Failure: true}, false, false},
		{"never, succeeded", spec.RestartNever, nil, Ending{}, false, false},
		{"always, failed", spec.RestartAlways, nil, Ending{Failure: true}, true, false},
		{"always, succeeded", spec.RestartAlways, nil, Ending{}, true, false},
		{"on_failure, failed", spec.RestartOnFailure, nil, Ending{Failure: true}, true, false},
		{"on_failure, succeeded", spec.RestartOnFailure, nil, Ending{}, false, false},
		{"second of two", spec.RestartAlways, &two, Ending{Attempt: 1}, true, false},
		{"third of two", spec.RestartAlways, &two, Ending{Attempt: 2}, false, true},
		{"unlimited", spec.RestartAlways, nil, Ending{Attempt: 1_000_000}, true, false},
		{"spent only matters to what would restart", spec.RestartOnFailure, &two, Ending{Attempt: 2}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := Decide(spec.RestartPolicy{Policy: tt.policy, MaxRetries: tt.retries, BackoffBase: 1, BackoffMax: 300}, tt.ending, 0)
			if d.Restart != tt.restart || d.Spent != tt.spent {
				t.Errorf("got %+v, want restart %v, spent %v", d, tt.restart, tt.spent)
			}
		})
	}
}

func TestFailure(t *testing.T) {
	p := spec.RestartPolicy{SuccessExitCodes: []int{0, 143}}
	for _, tt := range []struct {
		exit Exit
		want bool
	}{
		{Exit{Known: true}, false},
		{Exit{Known: true, Code: 143}, false},
		{Exit{Known: true, Code: 1}, true},
		{Exit{Known: true, Signal: "SIGTERM"}, true},
		{Exit{}, true},
	} {
		if got := Failure(p, tt.exit); got != tt.want {
			t.Errorf("%v: failure %v, want %v", tt.exit, got, tt.want)
		}
	}
}

func TestFaultDelay(t *testing.T) {
	before := time.Duration(-1)
	for n := range 100 {
		d := FaultDelay(n)
		if d < before && n > 1 || d > FaultBackoffMax {
			t.Fatalf("failure %d waits %v after %v", n, d, before)
		}
		before = d
	}
	if FaultDelay(1) != 0 || FaultDelay(2) != FaultBackoffBase || FaultDelay(3) != 2*FaultBackoffBase || before != FaultBackoffMax {
		t.Errorf("delays %v %v %v … %v", FaultDelay(1), FaultDelay(2), FaultDelay(3), before)
	}
}

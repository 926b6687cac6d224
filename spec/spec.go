// Package spec is the .sys file: what a daemon is meant to be. It parses,
// defaults and validates files, reports every problem with its position, and
// holds the names and types that the rest of Syspulse works with.
//
// [Load] reads the files of one command and checks them together, [Parse] one
// file's bytes; [DecodeDaemon] takes what a client of the API sent, under the
// same rules, and [DecodeStored] what the journal kept. What is wrong comes as
// [Problems], all of it at once; only a syntax error comes alone. What is legal
// but not acted on, or doubtful, comes as [Warning] values.
//
// TOML is decoded into plain maps and every type is checked here, because the
// decoder stops at the first wrong one and knows no columns; a second parser
// finds the places.
//
// A [Daemon] is a value: once built it is never changed, so it may be shared
// between goroutines. Its JSON form has the keys of the file format and is
// what the journal and the registration copies keep.
package spec

import (
	"math"
	"time"
)

// Seconds is a duration as the file format writes it: a number of seconds,
// integer or fractional.
type Seconds float64

// Duration converts s, saturating instead of overflowing.
func (s Seconds) Duration() time.Duration {
	ns := float64(s) * float64(time.Second)
	switch {
	case math.IsNaN(ns):
		return 0
	case ns >= math.MaxInt64:
		return math.MaxInt64
	case ns <= math.MinInt64:
		return math.MinInt64
	}
	return time.Duration(ns)
}

// Daemon is one [[daemon]] table with its defaults filled in.
type Daemon struct {
	Name        string            `json:"name"`
	Command     []string          `json:"command"`
	Description string            `json:"description,omitempty"`
	WorkingDir  string            `json:"working_dir,omitempty"` // "" is the manager's current directory
	Env         map[string]string `json:"env,omitempty"`
	EnvFile     []string          `json:"env_file,omitempty"` // absolute paths
	User        string            `json:"user,omitempty"`     // "user" or "user:group"
	Tags        []string          `json:"tags,omitempty"`
	StopTimeout Seconds           `json:"stop_timeout_secs"`
	Schedule    string            `json:"schedule,omitempty"`
	Autostart   bool              `json:"autostart,omitempty"`
	Group       string            `json:"group,omitempty"`
	KillMode    KillMode          `json:"kill_mode"`
	StopSignal  string            `json:"stop_signal"` // canonical, with SIG
	Watchdog    Seconds           `json:"watchdog_secs,omitempty"`

	ReloadSignal  string   `json:"reload_signal,omitempty"`
	ReloadCommand []string `json:"reload_command,omitempty"`

	Umask       string `json:"umask,omitempty"` // octal; "" is the manager's at its start
	Nice        *int   `json:"nice,omitempty"`
	OOMScoreAdj *int   `json:"oom_score_adj,omitempty"`

	DependsOn      []Dependency    `json:"depends_on,omitempty"`
	HealthCheck    *HealthCheck    `json:"health_check,omitempty"`
	Ready          *Ready          `json:"ready,omitempty"`
	RestartPolicy  RestartPolicy   `json:"restart_policy"`
	ResourceLimits ResourceLimits  `json:"resource_limits,omitzero"`
	LogConfig      LogConfig       `json:"log_config"`
	SchedulePolicy *SchedulePolicy `json:"schedule_policy,omitempty"`
}

// KillMode says whom the stop signal goes to. Whatever it is, everything that
// is left at the stop timeout is killed.
type KillMode string

// The kill modes.
const (
	KillGroup KillMode = "group" // the process group
	KillMain  KillMode = "main"  // the first process alone
	KillAll   KillMode = "all"   // everything
)

// Condition is what a dependency must have reached.
type Condition string

// The conditions. An empty Condition is resolved by the reader: healthy where
// the dependency can tell, else started.
const (
	ConditionStarted   Condition = "started"
	ConditionHealthy   Condition = "healthy"
	ConditionCompleted Condition = "completed"
)

// Dependency is one entry of depends_on.
type Dependency struct {
	Name      string    `json:"name"`
	Condition Condition `json:"condition,omitempty"`
}

// Policy says after which exits a daemon is restarted.
type Policy string

// The restart policies.
const (
	RestartNever     Policy = "never"
	RestartAlways    Policy = "always"
	RestartOnFailure Policy = "on_failure"
)

// RestartPolicy is the table restart_policy.
type RestartPolicy struct {
	Policy           Policy  `json:"policy"`
	MaxRetries       *int    `json:"max_retries,omitempty"` // nil is unlimited
	BackoffBase      Seconds `json:"backoff_base_secs"`
	BackoffMax       Seconds `json:"backoff_max_secs"`
	Cooldown         Seconds `json:"cooldown_secs"`
	SuccessExitCodes []int   `json:"success_exit_codes"`
}

// HealthCheck is the table health_check.
type HealthCheck struct {
	Type        string  `json:"type"` // http, tcp, command
	Target      string  `json:"target"`
	Interval    Seconds `json:"interval_secs"`
	Timeout     Seconds `json:"timeout_secs"`
	Retries     int     `json:"retries"`
	StartPeriod Seconds `json:"start_period_secs"`
	OnUnhealthy string  `json:"on_unhealthy"` // restart, none
}

// Ready is the table ready.
type Ready struct {
	Type    string  `json:"type"` // notify, log, delay, http, tcp, command
	Target  string  `json:"target,omitempty"`
	Pattern string  `json:"pattern,omitempty"`
	Delay   Seconds `json:"secs,omitempty"`
	Timeout Seconds `json:"timeout_secs,omitempty"` // 0 is none
}

// ResourceLimits is the table resource_limits; a nil limit is none.
type ResourceLimits struct {
	MaxMemoryBytes *int64   `json:"max_memory_bytes,omitempty"`
	MaxCPUPercent  *float64 `json:"max_cpu_percent,omitempty"`
	MaxOpenFiles   *int64   `json:"max_open_files,omitempty"`
	MaxProcesses   *int64   `json:"max_processes,omitempty"`
}

// LogConfig is the table log_config.
type LogConfig struct {
	MaxSizeBytes    int64  `json:"max_size_bytes"`
	RetainCount     int    `json:"retain_count"`
	CompressRotated bool   `json:"compress_rotated"`
	RetainDays      *int   `json:"retain_days,omitempty"`
	OnFull          string `json:"on_full"` // drop, block
}

// SchedulePolicy is the table schedule_policy.
type SchedulePolicy struct {
	Timezone string  `json:"timezone,omitempty"`
	Overlap  string  `json:"overlap"` // skip, queue, replace
	CatchUp  bool    `json:"catch_up"`
	Jitter   Seconds `json:"jitter_secs"`
}

// Group is one [[group]] table.
type Group struct {
	Name        string  `json:"name"`
	Strategy    string  `json:"strategy"`               // one_for_one, one_for_all, rest_for_one
	MaxRestarts *int    `json:"max_restarts,omitempty"` // nil is unlimited
	Window      Seconds `json:"window_secs,omitempty"`
}

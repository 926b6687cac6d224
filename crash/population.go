//go:build linux

package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// kind is a sort of daemon. Its name is the subject's behaviour, unless that is
// named, too.
type kind struct {
	name    string
	policy  string // the tables restart_policy and the rest, as in a .sys file
	mayEnd  bool   // its policy, or its group, ends it: wanted running may become wanted stopped
	steady  bool   // wanted running is state running
	unasked bool   // nobody starts it
	noFile  bool   // its program doesn't exist

	stackKind // what one in a stack has besides
}

var kinds = []kind{
	{name: "writer", steady: true, policy: `{"policy":"always","backoff_base_secs":0}`},
	{name: "plain", steady: true, policy: `{"policy":"always","backoff_base_secs":0}`},
	{name: "forker", steady: true, policy: `{"policy":"always","backoff_base_secs":0}`},
	{name: "stubborn", steady: true, policy: `{"policy":"always","backoff_base_secs":0.01}`},
	{name: "crasher", policy: `{"policy":"always","backoff_base_secs":0.02,"backoff_max_secs":0.2}`},
	{name: "deserter", policy: `{"policy":"always","backoff_base_secs":0.05,"backoff_max_secs":0.5}`},
	{name: "once", mayEnd: true, policy: `{"policy":"never"}`},
	{name: "flood", steady: true, policy: `{"policy":"always","backoff_base_secs":0}`},
	{name: "short", policy: `{"policy":"always","backoff_base_secs":0.05,"backoff_max_secs":0.2}`},
	{name: "quiet", steady: true, policy: `{"policy":"always","backoff_base_secs":0}`},
	{name: "flapper", mayEnd: true, policy: `{"policy":"on_failure","backoff_base_secs":0.02,"backoff_max_secs":0.5,"max_retries":6}`},
	{name: "stubborn-deserter", policy: `{"policy":"on_failure","backoff_base_secs":0.1,"backoff_max_secs":0.5}`},
	{name: "success", mayEnd: true, policy: `{"policy":"on_failure","backoff_base_secs":0.1}`},
	{name: "never", unasked: true, policy: `{"policy":"always","backoff_base_secs":0}`},
	{name: "nofile", mayEnd: true, noFile: true, policy: `{"policy":"on_failure","backoff_base_secs":0.05,"backoff_max_secs":0.3,"max_retries":4}`},
}

// fact is how a daemon may stand with the manager.
type fact struct {
	registered bool
	revision   int // of what a change restarts for
	comment    int // of what it doesn't
	wanted     supervision.Wanted
}

// daemon is one of the population, and what may be the case with it: more than
// one thing while a command is not answered, or was not acknowledged.
type daemon struct {
	name  string
	kind  *kind
	owner int    // the client that commands it
	stack *stack // nil: it stands alone

	revision, comment int // the last that were asked for
	maybe             map[fact]bool
	promises          []promise
}

// ballast is how many daemons with large registrations are added at once, more
// than one transaction of the journal takes.
const (
	ballast      = 60
	ballastBytes = 8 << 10
)

// populate makes n daemons for so many clients, each with some of every kind.
func populate(n, clients int) []*daemon {
	out := make([]*daemon, n)
	for i := range out {
		k := &kinds[i%len(kinds)]
		out[i] = &daemon{
			name: fmt.Sprintf("%s-%d", k.name, i/len(kinds)), kind: k, owner: i % clients,
			maybe: map[fact]bool{{}: true},
		}
	}
	return out
}

// spec is the registration at a revision and a comment.
func (s *suite) spec(d *daemon, revision, comment int) *spec.Daemon {
	command := []string{s.subject, s.dir, d.name, d.kind.name}
	if d.kind.noFile {
		command = []string{s.dir + "/nothing"}
	}
	if d.kind.behaviour != "" {
		command[3] = d.kind.behaviour
	}
	killMode := []string{"group", "main", "all"}[len(d.name)%3]
	text := fmt.Sprintf(`{"name":%q, "command":["%s"], "description":"%d", "tags":["client-%d"], "env":{"REVISION":"%d", "GOMAXPROCS":"1"},
		"stop_timeout_secs":0.4, "kill_mode":%q, "restart_policy":%s%s}`,
		d.name, strings.Join(command, `","`), comment, d.owner, revision, killMode, d.kind.policy, d.stackSpec(comment))
	out, err := spec.DecodeDaemon([]byte(text))
	if err != nil {
		panic(err)
	}
	return out
}

// revisionOf and commentOf undo spec.
func revisionOf(d *spec.Daemon) int { n, _ := strconv.Atoi(d.Env["REVISION"]); return n }
func commentOf(d *spec.Daemon) int  { n, _ := strconv.Atoi(d.Description); return n }

func (s *suite) ballast(i int) *spec.Daemon {
	d, err := spec.New(fmt.Sprintf("ballast-%d", i), []string{s.subject, s.dir, "ballast", "never"})
	if err != nil {
		panic(err)
	}
	d.Env = map[string]string{"BALLAST": strings.Repeat("x", ballastBytes)}
	return d
}

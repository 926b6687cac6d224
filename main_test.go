package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/client"
)

// syspulse is the program under test.
var syspulse = main

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == api.ProveArgument {
		main() // by a path that has no name
		return
	}
	testscript.Main(m, map[string]func(){
		"syspulse": syspulse, "good": syspulse, "hanging": syspulse, "crashing": syspulse, "leaving": syspulse,
		"talk": talk, "shop": shop,
	})
}

// TestScripts runs the sessions in testdata/script, each against a data
// directory of its own. Beside testscript's commands they have:
//
//	until REGEXP COMMAND...   run COMMAND until its standard output matches
//	pid VAR NAME              set VAR to the pid of a daemon
//	manager-pid VAR           set VAR to the pid of the manager
//	signal SIG PID            send a signal; STOP waits until it has stopped
//	gone PID                  wait until there is no such process
//	dead PID                  wait until it has ended, reaped or not (Linux)
//	keeper-pid VAR            set VAR to the pid of the manager's keeper
//	short-dir VAR             set VAR to a new directory for sockets
//	free-port VAR             set VAR to a TCP port that nobody has
//	database DIR              make an empty PostgreSQL in DIR
//	expand FILE...            replace $VARIABLES in files
//	json EXPR                 check the last standard output: KEY=VALUE,
//	                          where KEY may be a path such as 0.name
//
// [redis] and [postgres] are true where that is installed.
func TestScripts(t *testing.T) {
	deadline := time.Now().Add(7 * time.Minute) // a command that hangs is told with its goroutines
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			data := filepath.Join(env.WorkDir, "data")
			env.Setenv("SYSPULSE_DATA_DIR", data)
			env.Setenv("HOME", env.WorkDir)
			// A program with the race detector waits a second at its end, by default; a
			// script has dozens of them.
			env.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
			env.Defer(func() { endManagers(env.WorkDir) })
			// A script that is over time is ended by killing its commands. A
			// manager outlives that of its keeper, and holds their outputs.
			last := time.AfterFunc(time.Until(deadline)+10*time.Second, func() { endManagers(env.WorkDir) })
			env.Defer(func() { last.Stop() })
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"until":       cmdUntil,
			"pid":         cmdPid,
			"manager-pid": cmdManagerPid,
			"signal":      cmdSignal,
			"gone":        cmdGone,
			"dead":        cmdDead,
			"keeper-pid":  cmdKeeperPid,
			"json":        cmdJSON,
			"short-dir":   cmdShortDir,
			"free-port":   cmdFreePort,
			"database":    cmdDatabase,
			"expand":      cmdExpand,
		},
		Condition:           condition,
		RequireExplicitExec: true,
		Deadline:            deadline,
		RequireUniqueNames:  true,
	})
}

// endManagers ends what a script that failed may have left, in whatever data
// directory it has in its folder.
func endManagers(dir string) {
	locks, _ := filepath.Glob(filepath.Join(dir, "*", "lock"))
	for _, lock := range locks {
		c := client.New(api.SocketPath(filepath.Dir(lock)))
		_ = c.Shutdown(context.Background(), api.ShutdownRequest{Force: true}) // none may be running
		c.Close()
	}
}

// How long a script waits for something, and how often it looks: each look is
// a process, and the manager needs some time, too.
const (
	patience = time.Minute
	tryAgain = 20 * time.Millisecond
)

// repeat calls f until it is true.
func repeat(ts *testscript.TestScript, what string, f func() bool) {
	for end := time.Now().Add(patience); !f(); time.Sleep(tryAgain) {
		if time.Now().After(end) {
			ts.Fatalf("%s: not within %v", what, patience)
		}
	}
}

func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP COMMAND...")
	}
	re := regexp.MustCompile("(?m)" + args[0])
	var out string
	for end := time.Now().Add(patience); ; {
		_ = ts.Exec(args[1], args[2:]...)
		out = ts.ReadFile("stdout")
		if re.MatchString(out) {
			return
		}
		time.Sleep(tryAgain)
		if time.Now().After(end) {
			ts.Fatalf("%s: never matches %q within %v; last:\n%s%s", strings.Join(args[1:], " "), args[0], patience, out, ts.ReadFile("stderr"))
		}
	}
}

func query(ts *testscript.TestScript, args ...string) map[string]any {
	if err := ts.Exec("syspulse", append(args, "--json")...); err != nil {
		ts.Fatalf("syspulse %v: %v\n%s", args, err, ts.ReadFile("stderr"))
	}
	var v map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &v))
	return v
}

func cmdPid(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: pid VAR NAME")
	}
	pid, ok := query(ts, "status", args[1])["pid"].(float64)
	if !ok {
		ts.Fatalf("%s has no pid", args[1])
	}
	ts.Setenv(args[0], strconv.Itoa(int(pid)))
}

func cmdManagerPid(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: manager-pid VAR")
	}
	ts.Setenv(args[0], fmt.Sprint(query(ts, "ping")["pid"]))
}

func cmdKeeperPid(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keeper-pid VAR")
	}
	// Between one and the next there is none.
	repeat(ts, "a keeper", func() bool {
		pid, ok := query(ts, "ping")["keeper_pid"].(float64)
		ts.Setenv(args[0], strconv.Itoa(int(pid)))
		return ok
	})
}

func cmdDead(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: dead PID")
	}
	repeat(ts, "process "+args[0]+" dead", func() bool {
		b, err := os.ReadFile("/proc/" + args[0] + "/stat")
		return err != nil || strings.Contains(string(b), ") Z ")
	})
}

func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal SIGNAL PID")
	}
	pid, err := strconv.Atoi(args[1])
	ts.Check(err)
	p, err := os.FindProcess(pid)
	ts.Check(err)
	ts.Check(p.Signal(signals[args[0]]))
	if args[0] == "STOP" { // one of its threads must be scheduled for the others to be stopped
		repeat(ts, "process "+args[1]+" stopped", func() bool {
			stats, _ := filepath.Glob("/proc/" + args[1] + "/task/*/stat")
			for _, stat := range stats {
				if b, err := os.ReadFile(stat); err == nil && !strings.Contains(string(b), ") T ") {
					return false
				}
			}
			return true
		})
	}
}

func cmdGone(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] gone PID")
	}
	pid, err := strconv.Atoi(args[0])
	ts.Check(err)
	gone := func() bool {
		p, err := os.FindProcess(pid)
		if err != nil {
			return true
		}
		defer p.Release()
		return p.Signal(syscall.Signal(0)) != nil
	}
	if neg {
		if gone() {
			ts.Fatalf("process %d is gone", pid)
		}
		return
	}
	repeat(ts, "process "+args[0]+" gone", gone)
}

func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: [!] json KEY=VALUE...")
	}
	var doc any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &doc))
	for _, arg := range args {
		path, want, _ := strings.Cut(arg, "=")
		v := doc
		for _, key := range strings.Split(path, ".") {
			switch at := v.(type) {
			case map[string]any:
				next, ok := at[key]
				if !ok {
					ts.Fatalf("there is no %s in %s", path, ts.ReadFile("stdout"))
				}
				v = next
			case []any:
				i, err := strconv.Atoi(key)
				if err != nil || i >= len(at) {
					ts.Fatalf("there is no %s in %s", path, ts.ReadFile("stdout"))
				}
				v = at[i]
			default:
				ts.Fatalf("there is no %s in %s", path, ts.ReadFile("stdout"))
			}
		}
		got, _ := json.Marshal(v)
		if s, ok := v.(string); ok {
			got = []byte(s)
		}
		if (string(got) == want) == neg {
			ts.Fatalf("%s is %s, want %s", path, got, want)
		}
	}
}

// condition is what scripts may ask for in brackets, beside what testscript knows.
func condition(name string) (bool, error) {
	if name == "raced" {
		return raced, nil
	}
	return installed(name)
}

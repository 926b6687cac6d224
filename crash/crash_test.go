//go:build linux && !race

package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	// What is built below is no part of the test binary. So that results of
	// another manager aren't taken from the cache:
	_ "github.com/cyber-boost/syspulse/actors"
	_ "github.com/cyber-boost/syspulse/cli"
	"github.com/cyber-boost/syspulse/failpoint"
)

var long = flag.Bool("long", false, "try every fault, and go on for a minute")

// programs is where the manager and the subject are built, once for all tests.
var programs string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		var err error
		if programs, err = os.MkdirTemp("", "crash"); err == nil {
			defer os.RemoveAll(programs)
			err = build(programs)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// try is a run with a population that fits a test.
func try(t *testing.T, o options) (ok bool, report string) {
	t.Helper()
	var out bytes.Buffer
	o.out, o.programs, o.daemons, o.stacks, o.clients = &out, programs, 30, 1, 4
	o.seed = uint64(time.Now().UnixNano())
	s, err := newSuite(o)
	if err != nil {
		t.Fatal(err)
	}
	ok = s.run()
	return ok, out.String()
}

// TestNothingIsLost is the suite in short.
func TestNothingIsLost(t *testing.T) {
	duration := 10 * time.Second
	if *long {
		duration = time.Minute
	}
	ok, report := try(t, options{duration: duration})
	if !ok {
		t.Fatal(report)
	}
	t.Log(report)
}

// TestFaultsAreFound builds in what the suite is there to find. A run without a
// violation would prove nothing, if these had none either.
func TestFaultsAreFound(t *testing.T) {
	for _, f := range []struct {
		fault  failpoint.Fault
		points []string // where it shows soonest
		shows  []string // what is found then, first of all one of these
	}{
		// An incarnation that nobody noted runs beside the next one, or has
		// ended by itself, and then nobody removes its cgroup.
		{failpoint.NoIntent, []string{"fork.after"}, []string{"ran twice at once", "nothing is in it, and it was left behind"}},
		{failpoint.EarlyAnswer, []string{"commit.before"}, []string{"an acknowledged command is lost"}},
		{failpoint.NoIdentity, []string{"recover.look"}, []string{"a process that is no daemon"}},
		{failpoint.NoLeftovers, []string{"exit."}, []string{"ran twice at once"}},
		{failpoint.NoSplice, []string{"log.copied"}, []string{"lines are lost"}},
		{failpoint.NoOrder, []string{"fork."}, []string{"started before what it depends on"}},
		{failpoint.NoAlong, []string{"fork."}, []string{"one that goes along ran on"}},
		{failpoint.CountAgain, []string{"commit."}, []string{"a restart was counted twice"}},
	} {
		t.Run(string(f.fault), func(t *testing.T) {
			if !*long && f.fault != failpoint.NoIntent {
				t.Skip("only with -long")
			}
			ok, report := try(t, options{sabotage: string(f.fault), points: f.points, duration: 2 * time.Minute})
			if ok || !slices.ContainsFunc(f.shows, func(text string) bool { return strings.Contains(report, text) }) {
				t.Fatal("it was not found\n" + report)
			}
			t.Log(report)
		})
	}
}

// TestEveryPointIsATarget: none is named in vain, and none is reached unseen.
func TestEveryPointIsATarget(t *testing.T) {
	parsed, err := parser.ParseFile(token.NewFileSet(), "../failpoint/points.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	named := make(map[string]bool)
	ast.Inspect(parsed, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			if typ, ok := v.Type.(*ast.Ident); ok && typ.Name == "Point" {
				text, _ := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
				named[text] = true
			}
		}
		return true
	})
	delete(named, string(failpoint.LogCopied)) // with a fault built in only
	for _, tgt := range slices.Concat(targets, keptTargets) {
		if !named[string(tgt.Point)] {
			t.Errorf("%s is there twice, or not named", tgt.Point)
		}
		delete(named, string(tgt.Point))
	}
	for p := range named {
		t.Errorf("%s is no target", p)
	}
}

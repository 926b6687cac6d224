//go:build linux

// Crash kills the manager again and again, under load, and checks after each
// kill that nothing of what was promised is broken.
//
//	go run ./crash -duration 10m
//
// It starts the real binary on a directory of its own, with a population of
// daemons of many kinds, and sends it a random stream of commands. It kills it
// with SIGKILL at random moments and at the points that package failpoint
// names, starts it again, and compares what the manager says, what the logs
// hold and what the history tells with what the daemons themselves know, what
// the clients were told and what the operating system shows.
//
// All decisions follow from -seed, so a failure can be tried again; what the
// scheduler does between them does not.
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	o := options{out: os.Stdout}
	points := ""
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "what the random decisions follow from")
	flag.DurationVar(&o.duration, "duration", time.Minute, "how long to go on; 0 is no limit")
	flag.IntVar(&o.kills, "kills", 0, "how many kills; 0 is no limit")
	flag.IntVar(&o.perPoint, "per-point", 0, "fail unless every point has killed so often")
	flag.IntVar(&o.daemons, "daemons", 45, "how many daemons that stand alone")
	flag.IntVar(&o.stacks, "stacks", 2, "how many stacks: daemons with dependencies, groups and schedules")
	flag.IntVar(&o.clients, "clients", 6, "how many clients send commands")
	flag.StringVar(&points, "points", "", "only points that begin with one of these, separated by commas")
	flag.StringVar(&o.sabotage, "sabotage", "", "build in these faults: the run must fail")
	flag.BoolVar(&o.keeper, "keeper", false, "with a keeper, which is killed, too")
	flag.BoolVar(&o.noCgroups, "no-cgroups", false, "do without cgroups, as for an ordinary user")
	flag.BoolVar(&o.keep, "keep", false, "keep the directory, also when all is well")
	flag.Parse()
	if points != "" {
		o.points = strings.Split(points, ",")
	}
	// Ctrl-C ends the run in order, with its report; a second one at once.
	enough, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(enough, stop)
	o.enough = enough
	s, err := newSuite(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(2)
	}
	if !s.run() {
		os.Exit(1)
	}
}

// report says what was done and what was found, and whether all is well.
func (s *suite) report() bool {
	out := s.options.out
	sent, acked := 0, 0
	for _, c := range s.commanders {
		sent, acked = sent+c.sent, acked+c.acked
	}
	fmt.Fprintf(out, "\nseed %d, %v, %d daemons\n", s.options.seed, time.Since(s.started).Round(time.Second), len(s.daemons))
	fmt.Fprintf(out, "  %6d kills: %d of the manager, %d of the keeper, %d of both\n", s.kills(), s.killed[theManager], s.killed[theKeeper], s.killed[both])
	for _, p := range slices.Sorted(maps.Keys(s.counts)) {
		c := s.counts[p]
		fmt.Fprintf(out, "           %5d  %s", c.killed, p)
		if c.missed > 0 {
			fmt.Fprintf(out, "  (not reached %d times)", c.missed)
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "  %6d commands, %d acknowledged\n", sent, acked)
	fmt.Fprintf(out, "  %6d checks of everything\n", s.checks)
	fmt.Fprintf(out, "  %6d incarnations of daemons ended and were accounted for\n", s.output.done)
	fmt.Fprintf(out, "  %6d lines of output, %d events\n", s.output.total[0]+s.output.total[1], s.history.last)
	fmt.Fprintf(out, "  %6d starts that had to wait for others, %d restarts of groups, %d groups failed, %d runs of schedules\n",
		s.history.ordered, s.history.fired, s.history.failed, s.history.runs)
	fmt.Fprintf(out, "  %6d shutdowns in order\n", s.shutdowns)
	if s.options.keeper {
		fmt.Fprintf(out, "  %6d upgrades in place\n", s.upgrades)
	}
	fmt.Fprintf(out, "  %6d pids given to another process\n", s.reused)
	if s.options.perPoint > 0 && len(s.violations) == 0 {
		for _, t := range s.targets {
			if n := s.counts[t.Point].killed; n < s.options.perPoint {
				s.violation("a point was not tried often enough", "%s, %d times", t.Point, n)
			}
		}
	}
	fmt.Fprintf(out, "  %6d violations\n", len(s.violations))
	if len(s.violations) == 0 {
		if s.options.keep {
			s.keepHistory()
			fmt.Fprintf(out, "everything is in %s\n", s.dir)
		} else {
			os.RemoveAll(s.dir)
		}
		return true
	}
	for _, v := range s.violations {
		fmt.Fprintln(out, "VIOLATION", v)
	}
	s.keepHistory()
	fmt.Fprintf(out, "everything is in %s; try again with -seed %d\n", s.dir, s.options.seed)
	return false
}

// keepHistory writes what was learnt from the journal, and when managers were
// killed, to where the rest lies.
func (s *suite) keepHistory() {
	var b strings.Builder
	for _, seq := range slices.Sorted(maps.Keys(s.history.known)) {
		fmt.Fprintf(&b, "%d %s\n", seq, s.history.known[seq])
	}
	for _, d := range s.deaths {
		fmt.Fprintf(&b, "%s: the %s was killed\n", d.at.Format("15:04:05.000000"), d.who)
	}
	for _, at := range s.gaps {
		fmt.Fprintf(&b, "%s: nobody is left to look after the daemons\n", at.Format("15:04:05.000000"))
	}
	_ = os.WriteFile(filepath.Join(s.dir, "history.txt"), []byte(b.String()), 0o600)
}

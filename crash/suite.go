//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/client"
	"github.com/cyber-boost/syspulse/crash/trace"
	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/spec"
)

// options say what a run does.
type options struct {
	seed      uint64
	duration  time.Duration   // no round begins after it
	enough    context.Context // nor once it is done; may be nil
	kills     int             // no round begins after so many
	perPoint  int             // every point must have killed so often, or the run fails
	daemons   int             // that stand alone
	stacks    int             // of daemons that have to do with each other
	clients   int
	points    []string // only those that begin with one of these
	sabotage  string
	keeper    bool
	noCgroups bool
	programs  string // where both programs are built already; empty: they are to be built
	keep      bool   // the data directory, also without a violation
	out       io.Writer
}

// suite is one run.
type suite struct {
	options options
	rng     *rand.Rand // of the plan; each client has its own
	started time.Time

	dir, data       string
	binary, subject string
	managerLog      *os.File
	commandLog      *os.File
	cgroupBases     []string

	api  *client.Client
	up   atomic.Bool  // commands may be sent
	gate sync.RWMutex // held for reading while a command is under way

	launched        *launched
	manager, keeper *process  // as far as they were seen; nil: none
	answered        bool      // the manager did
	kept            time.Time // since when the keeper is known to be there; zero: it isn't
	shuttingDown    bool      // a shutdown was asked for
	logRead         int       // bytes of the managers' log that were looked at

	daemons    []*daemon
	stacks     []*stack
	commanders []*commander
	targets    []target
	counts     map[failpoint.Point]count
	killed     map[victim]int

	ballastMay    map[int]bool // how many of the ballast may be registered; nil: not known
	bystander     *bystander
	canChoosePIDs bool
	reused        int
	upgrades      int
	shutdowns     int

	declared map[string]spec.Group // what the manager says of groups
	aways    []time.Time           // when a time began in which there may be no manager

	history history
	output  output
	checks  int
	usual   int // descriptors of a manager at rest; 0 is not known yet

	mu         sync.Mutex
	deaths     []death
	gaps       []time.Time // when a time began that nobody held the daemons' output
	violations []string
	seen       map[string]bool
}

// enough violations are told; the rest follows from them.
const enough = 20

// stopRun is the panic that fatal ends a run with.
type stopRun struct{ why string }

// fatal ends the run: the suite itself can't go on.
func (s *suite) fatal(format string, args ...any) { panic(stopRun{fmt.Sprintf(format, args...)}) }

// violation notes that something is not as it was promised.
func (s *suite) violation(what, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	about, _, _ := strings.Cut(text, ",") // a daemon, mostly: once is enough
	key := what + ": " + about
	text = what + ": " + text
	if s.seen[key] || len(s.violations) == enough {
		return
	}
	s.seen[key] = true
	s.violations = append(s.violations, text)
	fmt.Fprintf(s.options.out, "VIOLATION after %v, at %s: %s\n", time.Since(s.started).Round(time.Millisecond), time.Now().Format("15:04:05.000"), text)
}

func (s *suite) violated() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.violations)
}

// newSuite makes the directory and builds what runs in it.
func newSuite(o options) (*suite, error) {
	dir, err := os.MkdirTemp("", "crash")
	if err != nil {
		return nil, err
	}
	s := &suite{
		options: o, rng: rand.New(rand.NewPCG(o.seed, 0)), started: time.Now(),
		dir: dir, data: filepath.Join(dir, "data"),
		binary: filepath.Join(dir, "syspulse"), subject: filepath.Join(dir, "subject"),
		counts: make(map[failpoint.Point]count), killed: make(map[victim]int), seen: make(map[string]bool),
		canChoosePIDs: true,
	}
	all := targets
	if o.keeper {
		all = slices.Concat(all, keptTargets)
	}
	if strings.Contains(o.sabotage, string(failpoint.NoSplice)) {
		all = append(slices.Clone(all), target{Point: failpoint.LogCopied, times: 100})
	}
	for _, t := range all {
		if len(o.points) == 0 || slices.ContainsFunc(o.points, func(p string) bool { return strings.HasPrefix(string(t.Point), p) }) {
			s.targets = append(s.targets, t)
		}
	}
	s.history.init()
	s.output.init()
	for _, d := range []string{"locks", "violations", "trace"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	if s.managerLog, err = os.OpenFile(filepath.Join(dir, "manager.log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if s.commandLog, err = os.Create(filepath.Join(dir, "commands.log")); err != nil {
		return nil, err
	}
	if o.programs == "" {
		err = build(dir)
	} else {
		s.binary, s.subject = filepath.Join(o.programs, "syspulse"), filepath.Join(o.programs, "subject")
	}
	if err != nil {
		return nil, err
	}
	s.cgroupBases = cgroupBases(s.data)
	s.api = client.New(api.SocketPath(s.data))
	s.daemons = populate(o.daemons, o.clients)
	s.addStacks(o.stacks, o.clients)
	for _, d := range s.daemons {
		if err := os.Mkdir(trace.Dir(dir, d.name), 0o700); err != nil {
			return nil, err
		}
	}
	for i := range o.clients {
		c := &commander{suite: s, id: i, rng: rand.New(rand.NewPCG(o.seed, uint64(i)+1)), api: client.New(api.SocketPath(s.data))}
		for _, d := range s.daemons {
			if d.owner == i {
				c.mine = append(c.mine, d)
			}
		}
		s.commanders = append(s.commanders, c)
	}
	return s, nil
}

// build makes both programs.
func build(dir string) error {
	const module = "github.com/cyber-boost/syspulse"
	for pkg, name := range map[string]string{"": "syspulse", "/crash/subject": "subject"} {
		cmd := exec.Command("go", "build", "-tags", "failpoints", "-o", filepath.Join(dir, name), module+pkg)
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", cmd, err, text)
		}
	}
	return nil
}

// run is the whole of it. It reports whether all was as promised.
func (s *suite) run() (ok bool) {
	defer func() {
		if r := recover(); r != nil {
			stop, mine := r.(stopRun)
			if !mine {
				panic(r)
			}
			s.violation("the run can't go on", "%s", stop.why)
		}
		s.cleanUp()
		ok = s.report()
	}()
	s.begin()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { s.watch(ctx) })
	wg.Go(func() { s.follow(ctx) })
	for _, c := range s.commanders {
		wg.Go(func() { c.run(ctx) })
	}
	for s.more() {
		s.settle()
		s.work()
		if s.rng.IntN(4) == 0 {
			s.pauseCleanly()
			s.settle()
		}
		if s.options.keeper && s.rng.IntN(6) == 0 {
			s.upgrade()
			s.work()
		}
		s.kill(s.anyone())
		s.count(random, true)
		for range 1 + s.rng.IntN(3) {
			s.round()
		}
	}
	s.settle()
	cancel()
	wg.Wait()
	s.end()
	return
}

// more says whether the run goes on.
func (s *suite) more() bool {
	if s.options.enough != nil && s.options.enough.Err() != nil {
		return false
	}
	return s.violated() == 0 && (s.options.kills == 0 || s.kills() < s.options.kills) &&
		(s.options.duration == 0 || time.Since(s.started) < s.options.duration)
}

func (s *suite) kills() int {
	n := 0
	for _, k := range s.killed {
		n += k
	}
	return n
}

// begin registers the population and takes the measure of a manager at rest.
func (s *suite) begin() {
	s.ensure()
	var add api.AddRequest
	for _, d := range s.daemons {
		add.Daemons = append(add.Daemons, api.Registration{Spec: s.spec(d, 0, 0)})
		d.maybe = map[fact]bool{d.registered(): true}
	}
	for _, st := range s.stacks {
		for _, g := range st.groups {
			add.Groups = append(add.Groups, g.spec(g.strategies[0]))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	if _, err := s.api.Add(ctx, add); err != nil {
		s.fatal("%v", err)
	}
	s.ballastMay = map[int]bool{0: true}
	for _, c := range s.commanders {
		c.starts("first start", c.asked(), api.ActionRequest{Selector: api.Selector{Names: names(c.asked())}})
	}
}

func names(ds []*daemon) []string {
	out := make([]string, len(ds))
	for i, d := range ds {
		out[i] = d.name
	}
	return out
}

// watch looks for violations that the daemons themselves report.
func (s *suite) watch(ctx context.Context) {
	for ctx.Err() == nil {
		s.reported()
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	s.reported()
}

func (s *suite) reported() {
	dir := filepath.Join(s.dir, "violations")
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tmp") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil {
			s.violation("told by a daemon", "%s", strings.TrimSpace(string(b)))
		}
	}
}

// end stops everything in order, and nothing is left.
func (s *suite) end() {
	if s.violated() > 0 {
		return
	}
	s.pauseCleanly()
	s.settle()
	s.stopAll()
	s.atRest()
	s.endCleanly()
}

// pauseCleanly ends the manager in order, with everything at work, and begins
// another.
func (s *suite) pauseCleanly() {
	s.gate.Lock()
	defer s.gate.Unlock()
	s.ensure()
	s.endCleanly()
	if s.violated() == 0 {
		s.launch()
	}
}

// endCleanly ends the manager in order: nothing is left then.
func (s *suite) endCleanly() {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	s.up.Store(false)
	s.shuttingDown = true
	s.away(time.Now())
	if err := s.api.Shutdown(ctx, api.ShutdownRequest{}); err != nil {
		s.violation("a shutdown failed", "%v", err)
	}
	for _, p := range []*process{s.manager, s.keeper} {
		if p != nil && !p.await(patience) {
			s.violation("a shutdown does not end", "process %d lives on", p.pid)
		}
	}
	s.answered, s.kept = false, time.Time{}
	s.over()
	s.nothingLeft()
	s.shutdowns++
}

// cleanUp ends what a run that failed has left.
func (s *suite) cleanUp() {
	s.up.Store(false)
	if s.bystander != nil {
		s.bystander.end()
		s.bystander = nil
	}
	if s.launched != nil {
		s.kill(both)
	}
	for range 20 {
		procs := s.processes()
		if len(procs) == 0 {
			break
		}
		for _, p := range procs {
			if proc, err := os.FindProcess(p.pid); err == nil {
				_ = proc.Kill()
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, dir := range s.cgroupDirs() {
		_ = os.Remove(dir)
	}
	for _, dir := range s.cgroupBases {
		_ = os.Remove(dir)
	}
	s.managerLog.Close()
	s.commandLog.Close()
}

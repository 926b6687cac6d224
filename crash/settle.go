//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/crash/trace"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// settle lets a manager come to rest, with no command under way, and checks
// everything.
func (s *suite) settle() {
	s.ensure()
	s.work()
	s.gate.Lock()
	defer s.gate.Unlock()
	s.checks++
	wrong := s.wrong()
	for deadline := time.Now().Add(patience); len(wrong) > 0; {
		if s.violated() > 0 {
			break
		}
		if time.Now().After(deadline) {
			for _, key := range slices.Sorted(maps.Keys(wrong)) {
				s.violation("not as it should be", "%s: %s", key, wrong[key])
			}
			break
		}
		time.Sleep(settleLook)
		// What comes and goes is right if it was right once.
		now := s.wrong()
		for key := range wrong {
			if text, still := now[key]; still {
				wrong[key] = text
			} else {
				delete(wrong, key)
			}
		}
	}
	s.reported()
	// In this order: each is at least as new as the one before, and what is at
	// rest now stays so.
	status := s.status()
	s.readTraces()
	s.readHistory()
	for _, d := range s.daemons {
		s.readOutput(d)
		st := status[d.name]
		rests := st == nil || st.State == supervision.Failed || st.State == supervision.Stopped && st.Wanted == supervision.WantStopped
		s.account(d, rests)
		for _, p := range d.promises {
			if s.history.of(d.name).lastStart.Before(p.since) {
				s.violation("an acknowledged command is lost", "%s of %s, sent at %s, is followed by no start", p.what, d.name, p.since.Format("15:04:05.000"))
			}
		}
		d.promises = nil
		if n := s.history.of(d.name).restarts; st != nil && rests && st.RestartCount != n {
			s.violation("restart_count is wrong", "%s: %d in the history, %d in its status", d.name, n, st.RestartCount)
		}
	}
	s.dismissBystander()
	s.readLog()
	s.over()
	s.shuttingDown = false
}

// work lets the clients do their work for a while.
func (s *suite) work() {
	time.Sleep(time.Duration(s.rng.IntN(500)) * time.Millisecond)
}

// ask asks until it is answered. A manager that can't answer is dead, unless it was
// about to end: one that was told to shut down goes on with that after a kill, and
// answers meanwhile.
func (s *suite) ask(what string, f func(context.Context) error) {
	for deadline := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
		err := f(ctx)
		cancel()
		if err == nil {
			return
		}
		if !s.shuttingDown || time.Now().After(deadline) {
			s.fatal("%s: %v\n%s", what, err, s.tail())
		}
		s.ensure()
	}
}

// status asks for all daemons.
func (s *suite) status() map[string]*api.Daemon {
	var list []api.Daemon
	s.ask("status", func(ctx context.Context) (err error) {
		list, err = s.api.Status(ctx, api.StatusQuery{})
		return err
	})
	out := make(map[string]*api.Daemon, len(list))
	for i := range list {
		out[list[i].Name] = &list[i]
	}
	return out
}

// export asks for all registrations.
func (s *suite) export() map[string]api.ExportedState {
	var state api.State
	s.ask("export", func(ctx context.Context) (err error) {
		state, err = s.api.Export(ctx)
		return err
	})
	out := make(map[string]api.ExportedState, len(state.Daemons))
	for _, d := range state.Daemons {
		out[d.Spec.Name] = d
	}
	s.declared = make(map[string]spec.Group, len(state.Groups))
	for _, g := range state.Groups {
		s.declared[g.Name] = g
	}
	return out
}

// findings say what is wrong, each under a name of its own.
type findings map[string]string

func (f findings) add(key, format string, args ...any) { f[key] = fmt.Sprintf(format, args...) }

// wrong looks at everything once. Some of it may only take its time.
func (s *suite) wrong() findings {
	w := make(findings)
	registered := s.export()
	status := s.status()
	if len(s.stacks) > 0 {
		s.readHistory() // what has completed and what has failed is told by nothing else
	}
	s.lookAtDaemons(w, registered, status)
	s.lookAtBallast(w, registered)
	s.lookAtProcesses(w, status)
	s.lookAtFiles(w, registered)
	s.lookAtDescriptors(w, status)
	for _, dir := range s.cgroupDirs() {
		if b, err := os.ReadFile(filepath.Join(dir, "cgroup.events")); err == nil && bytes.Contains(b, []byte("populated 0")) {
			w.add("cgroup "+filepath.Base(dir), "nothing is in it, and it was left behind")
		}
	}
	if len(s.bystanderOf()) > 0 {
		for name, st := range status {
			if st.PID != nil && *st.PID == s.bystander.cmd.Process.Pid {
				w.add("bystander", "%s has adopted process %d, which is none of its", name, *st.PID)
			}
		}
	}
	return w
}

func (s *suite) bystanderOf() string {
	if s.bystander == nil {
		return ""
	}
	return strconv.Itoa(s.bystander.cmd.Process.Pid)
}

// lookAtDaemons: each is registered, wanted and running as was commanded.
func (s *suite) lookAtDaemons(w findings, registered map[string]api.ExportedState, status map[string]*api.Daemon) {
	for _, d := range s.daemons {
		var is fact
		if r, ok := registered[d.name]; ok {
			is = fact{true, revisionOf(r.Spec), commentOf(r.Spec), r.Wanted}
		}
		if !d.may1(is) {
			w.add(d.name+" facts", "it is %+v, and may be %s", is, d.maybeText())
			continue
		}
		st := status[d.name]
		if why := s.lookAt(d, is, st, status); why != "" {
			text := "it is not registered"
			if st != nil {
				text = fmt.Sprintf("state %s, wanted %s, pid %s, reason %q", st.State, st.Wanted, show(st.PID), show(st.Reason))
			}
			w.add(d.name, "%s (%s)", why, text)
			continue
		}
		d.maybe = map[fact]bool{is: true}
	}
	for _, st := range s.stacks {
		for _, g := range st.groups {
			strategy := s.declared[g.name].Strategy
			if !g.maybe[strategy] {
				w.add("group "+g.name, "it is %s, and may be %v", strategy, slices.Sorted(maps.Keys(g.maybe)))
				continue
			}
			g.maybe = map[string]bool{strategy: true}
		}
	}
}

func show[T any](v *T) string {
	if v == nil {
		return "none"
	}
	return fmt.Sprint(*v)
}

// may1 says whether a fact is among those that may be.
func (d *daemon) may1(is fact) bool {
	if d.maybe[is] {
		return true
	}
	ran := is
	ran.wanted = supervision.WantRunning
	return is.registered && d.kind.mayEnd && d.maybe[ran]
}

func (d *daemon) maybeText() string {
	var out []string
	for f := range d.maybe {
		out = append(out, fmt.Sprintf("%+v", f))
	}
	slices.Sort(out)
	return strings.Join(out, " or ")
}

// lookAt compares what is wanted of a daemon with what is the case; "" if that
// is as it should be.
func (s *suite) lookAt(d *daemon, is fact, st *api.Daemon, status map[string]*api.Daemon) string {
	if is.registered && st == nil {
		return "it is registered, and there is no status of it" // removed in between, maybe
	}
	if !is.registered || is.wanted == supervision.WantStopped {
		// A run that was asked for waits for as long as it takes.
		waits := st != nil && is.registered && d.kind.schedule != "" && st.State == supervision.Starting && len(st.WaitingFor) > 0
		if st != nil && !waits && st.State != supervision.Stopped && st.State != supervision.Failed {
			return "it is unwanted, and not at rest"
		}
		if s.held(d.name) {
			return "it is unwanted, and something of it runs"
		}
		return ""
	}
	if d.kind.unasked {
		return "nobody wanted it"
	}
	if d.kind.schedule != "" {
		return lookAtArmed(st)
	}
	isBlocked, why := s.lookAtBlocked(d, is, st, status)
	if why != "" {
		return why
	}
	if !isBlocked && (st.State == supervision.Stopped || st.State == supervision.Failed) {
		return "it is wanted, and does not run"
	}
	if !d.kind.steady || isBlocked {
		return ""
	}
	if st.State != supervision.Running || st.PID == nil {
		return "it is wanted, and does not run"
	}
	if !alive(*st.PID) {
		return "its process is dead"
	}
	if !s.held(d.name) {
		return "it does not hold its lock"
	}
	t, ok := s.current(d)
	switch {
	case !ok || t.PID != *st.PID && !s.mistaken(d, t, *st.PID):
		return fmt.Sprintf("its newest process is %d", t.PID)
	case t.Revision != is.revision:
		return fmt.Sprintf("it runs with revision %d, %d is registered", t.Revision, is.revision)
	}
	return ""
}

// mistaken says whether a manager could not know better than to take one
// member of a tree for its first process: that one was never noted, and had
// died when it was looked for.
func (s *suite) mistaken(d *daemon, t trace.Copy, pid int) bool {
	s.readHistory()
	for _, touch := range s.history.of(d.name).touched {
		if touch.pid == t.PID && touch.at.After(t.Started.Add(-behind)) {
			return false
		}
	}
	return slices.ContainsFunc(s.processes(), func(p proc) bool { return p.pid == pid && p.incarnation == t.Incarnation })
}

// atRest says whether nothing of it should run.
func atRest(st *api.Daemon) bool {
	return st.State == supervision.Stopped || st.State == supervision.Failed || st.State == supervision.Scheduled
}

// groupCopy is the file, without its ending, that has the copy of a group.
func groupCopy(name string) string { return "%40" + name }

// lookAtBlocked says whether something that d depends on, or a restart that it goes
// along with, keeps it from running; and what is wrong with that.
func (s *suite) lookAtBlocked(d *daemon, is fact, st *api.Daemon, status map[string]*api.Daemon) (isBlocked bool, why string) {
	waits := st.State == supervision.Stopped || st.State == supervision.Starting && len(st.WaitingFor) > 0
	if d.stack == nil || !waits && st.State != supervision.Failed {
		return false, ""
	}
	if st.State == supervision.Failed {
		if strings.HasPrefix(show(st.Reason), "it depends on ") {
			return true, ""
		}
		return false, ""
	}
	keeps := make(map[string]bool)
	for _, n := range d.needsAt(is.comment) {
		name := d.stack.daemons[n.kind].name
		on := standing{completed: s.history.of(name).completed}
		if other := status[name]; other != nil {
			on.state, on.process = other.State, other.PID != nil
		}
		if !on.is(n.condition) {
			keeps[name] = true
		}
	}
	if g := d.group(); g != nil && s.declared[g.name].Strategy != "one_for_one" {
		for _, other := range g.members {
			if on := status[other.name]; other != d && on != nil && on.State == supervision.Backoff {
				keeps[other.name] = true
			}
		}
	}
	if len(keeps) == 0 {
		return true, "nothing keeps it from running, and it does not run"
	}
	if len(st.WaitingFor) == 0 {
		return true, "it rests, and names nobody"
	}
	for _, name := range st.WaitingFor {
		if !keeps[name] {
			return true, "it waits for " + name + ", which does not keep it from running"
		}
	}
	return true, ""
}

// lookAtBallast: what was added at once is there as a whole, or not at all.
func (s *suite) lookAtBallast(w findings, registered map[string]api.ExportedState) {
	n := 0
	for i := range ballast {
		if _, ok := registered[fmt.Sprintf("ballast-%d", i)]; ok {
			n++
		}
	}
	if s.ballastMay != nil && !s.ballastMay[n] {
		w.add("ballast", "%d of %d that were added at once are registered", n, ballast)
		return
	}
	s.ballastMay = map[int]bool{n: true}
}

// proc is a process of the population.
type proc struct {
	pid               int
	name, incarnation string
}

// processes lists those that live, whoever knows of them.
func (s *suite) processes() []proc {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		s.fatal("%v", err)
	}
	mark := []byte("\x00" + s.dir + "\x00")
	var out []proc
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil || !bytes.Contains(b, mark) || !alive(pid) {
			continue
		}
		p := proc{pid: pid}
		if f := strings.Split(string(b), "\x00"); len(f) > 2 {
			p.name = f[2]
		}
		env, _ := os.ReadFile("/proc/" + e.Name() + "/environ")
		for v := range strings.SplitSeq(string(env), "\x00") {
			if id, ok := strings.CutPrefix(v, "SYSPULSE_INCARNATION="); ok {
				p.incarnation = id
			}
		}
		out = append(out, p)
	}
	return out
}

// lookAtProcesses: nothing runs that belongs to nobody.
func (s *suite) lookAtProcesses(w findings, status map[string]*api.Daemon) {
	newest := make(map[string]string)
	for _, d := range s.daemons {
		if t, ok := s.current(d); ok && d.kind.steady {
			newest[d.name] = t.Incarnation
		}
	}
	for _, p := range s.processes() {
		if strconv.Itoa(p.pid) == s.bystanderOf() {
			continue
		}
		key := fmt.Sprintf("process %d", p.pid)
		st := status[p.name]
		switch {
		case st == nil:
			w.add(key, "it runs as %s, which is not registered", p.name)
		case atRest(st):
			w.add(key, "it runs as %s, which is %s", p.name, st.State)
		case st.State == supervision.Running && newest[p.name] != "" && p.incarnation != newest[p.name]:
			w.add(key, "it is of an earlier incarnation (%s) of %s, which runs as %s", p.incarnation, p.name, newest[p.name])
		}
	}
}

// lookAtFiles: the data directory has what belongs to the registered daemons,
// and nothing else.
func (s *suite) lookAtFiles(w findings, registered map[string]api.ExportedState) {
	for _, e := range s.list("run") {
		name, _, _ := strings.Cut(e, ".std")
		if _, ok := registered[name]; !ok {
			w.add("run/"+e, "it is left of a daemon that is not registered")
		}
	}
	copies := make(map[string]bool)
	for _, e := range s.list("registrations") {
		name, ok := strings.CutSuffix(e, ".json")
		if !ok || strings.HasPrefix(e, ".") {
			if strings.HasSuffix(e, ".tmp") {
				w.add("registrations/"+e, "a file that was not completed is left behind")
			}
			continue
		}
		copies[name] = true
	}
	for name := range s.declared {
		if name = groupCopy(name); !copies[name] {
			w.add("registrations/"+name, "it has no plain copy")
		}
		delete(copies, name)
	}
	for name := range copies {
		if _, ok := registered[name]; !ok {
			w.add("registrations/"+name, "it is a copy of what is not registered")
		}
	}
	for name := range registered {
		if !copies[name] {
			w.add("registrations/"+name, "it has no plain copy")
		}
	}
	for _, e := range s.list(".") {
		if strings.HasPrefix(e, "state.damaged") {
			w.add(e, "a journal was set aside as damaged")
		}
	}
}

func (s *suite) list(dir string) []string {
	entries, err := os.ReadDir(filepath.Join(s.data, dir))
	if err != nil && !os.IsNotExist(err) {
		s.fatal("%v", err)
	}
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = e.Name()
	}
	return out
}

// lookAtDescriptors: the manager has open what belongs to what runs.
func (s *suite) lookAtDescriptors(w findings, status map[string]*api.Daemon) {
	live := 0
	for _, st := range status {
		if !atRest(st) {
			live++
		}
	}
	pidfds, rest := 0, 0
	for link, n := range s.manager.fds() {
		switch {
		case strings.HasPrefix(link, "socket:"), strings.HasPrefix(link, filepath.Join(s.data, "state")):
		case link == "anon_inode:[pidfd]", strings.HasPrefix(link, "pidfd:"):
			pidfds += n
		case strings.HasPrefix(link, filepath.Join(s.data, "run")), strings.HasPrefix(link, filepath.Join(s.data, "logs")+"/"):
			path := strings.TrimSuffix(link, " (deleted)")
			name := filepath.Base(filepath.Dir(path))
			if filepath.Base(filepath.Dir(path)) == "run" {
				name, _, _ = strings.Cut(filepath.Base(path), ".std")
			}
			st := status[name]
			if st == nil || atRest(st) || n > 1 {
				w.add("descriptor of "+link, "the manager has it open %d times, and %s does not run", n, name)
			}
		default:
			rest += n
		}
	}
	if s.options.keeper {
		live++ // it watches that one, too
	}
	if pidfds > live {
		w.add("pidfds", "the manager has %d, for %d processes that it looks after", pidfds, live)
	}
	if s.options.keeper {
		s.lookAtKept(w, status)
	}
	if s.usual == 0 {
		s.usual = rest
	}
	if rest > s.usual+3 {
		w.add("descriptors", "the manager has %d beside those of daemons, connections and the journal; a new one had %d", rest, s.usual)
	}
}

// lookAtKept: the keeper holds what belongs to what runs.
func (s *suite) lookAtKept(w findings, status map[string]*api.Daemon) {
	live, pidfds := 0, 0
	for _, st := range status {
		if !atRest(st) {
			live++
		}
	}
	for link, n := range s.keeper.fds() {
		switch {
		case link == "anon_inode:[pidfd]", strings.HasPrefix(link, "pidfd:"):
			pidfds += n
		case strings.HasPrefix(link, filepath.Join(s.data, "run")):
			name, _, _ := strings.Cut(strings.TrimPrefix(link, filepath.Join(s.data, "run")+"/"), ".std")
			st := status[name]
			if st == nil || atRest(st) || n > 1 {
				w.add("kept descriptor of "+link, "the keeper has it %d times, and %s does not run", n, name)
			}
		}
	}
	if pidfds > live+1 { // that of a manager which is no child of it
		w.add("kept pidfds", "the keeper has %d, and %d daemons live", pidfds, live)
	}
}

// stopAll stops the population.
func (s *suite) stopAll() {
	for _, c := range s.commanders {
		c.stops("last stop", c.mine, api.ActionRequest{Selector: api.Selector{Names: names(c.mine)}})
	}
}

// atRest: with everything stopped, nothing is left but the manager.
func (s *suite) atRest() {
	s.settle()
	for _, p := range s.processes() {
		s.violation("a process is left", "%d of %s, after everything was stopped", p.pid, p.name)
	}
}

// nothingLeft: a clean end leaves no process, no cgroup and no socket.
func (s *suite) nothingLeft() {
	for _, p := range s.processes() {
		s.violation("a process is left", "%d of %s, after the shutdown", p.pid, p.name)
	}
	for _, dir := range s.cgroupDirs() {
		s.violation("a cgroup is left", "%s, after the shutdown", dir)
	}
	if _, err := os.Stat(s.api.Socket()); err == nil {
		s.violation("a socket is left", "%s, after the shutdown", s.api.Socket())
	}
}

// cgroupBases are where a manager of this data directory may make cgroups.
func cgroupBases(data string) []string {
	sum := sha256.Sum256([]byte(data))
	name := "syspulse-" + hex.EncodeToString(sum[:6])
	own := ""
	if b, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		for line := range strings.Lines(string(b)) {
			if path, ok := strings.CutPrefix(line, "0::"); ok {
				own = strings.TrimSpace(path)
			}
		}
	}
	return []string{filepath.Join("/sys/fs/cgroup", own, name), filepath.Join("/sys/fs/cgroup/unified", own, name)}
}

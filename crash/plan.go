//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/failpoint"
)

// target is a point, and how to come there.
type target struct {
	failpoint.Point
	times   int // it is armed for one of the first so many times that it is reached
	provoke func(*suite)
}

// inKeeper says whether it is a keeper that comes there.
func (t *target) inKeeper() bool { return strings.HasPrefix(string(t.Point), "keeper.") }

// targets are the points of a manager without a keeper. What happens all the
// time is armed for a late time, so that it doesn't always happen right after
// the start. That of a missing splice is for those who build that fault in.
var targets = []target{
	{Point: failpoint.ForkBefore, times: 40},
	{Point: failpoint.ForkAfter, times: 40},
	{Point: failpoint.ExitSeen, times: 40},
	{Point: failpoint.ExitDrained, times: 40},
	{Point: failpoint.CommitBefore, times: 150},
	{Point: failpoint.CommitPart, times: 2, provoke: (*suite).loadBallast},
	{Point: failpoint.CommitAfter, times: 150},
	{Point: failpoint.CommitSynced, times: 40},
	{Point: failpoint.CommitAcked, times: 40},
	{Point: failpoint.CopiesBefore, times: 3},
	{Point: failpoint.CopiesTemp, times: 3},
	{Point: failpoint.CopiesRenamed, times: 6},
	{Point: failpoint.CopiesWritten, times: 3},
	{Point: failpoint.SnapshotBefore, times: 2},
	{Point: failpoint.SnapshotAfter, times: 2},
	{Point: failpoint.SnapshotMark, times: 2},
	{Point: failpoint.TrimBefore, times: 1},
	{Point: failpoint.TrimAfter, times: 1},
	{Point: failpoint.CompactBefore, times: 1, provoke: (*suite).fillJournal},
	{Point: failpoint.CompactAfter, times: 1, provoke: (*suite).fillJournal},
	{Point: failpoint.LogBefore, times: 300},
	{Point: failpoint.LogAfter, times: 300},
	{Point: failpoint.LogDrain, times: 30},
	{Point: failpoint.RecoverBegin, times: 1},
	{Point: failpoint.RecoverReplay, times: 1},
	{Point: failpoint.RecoverState, times: 1},
	{Point: failpoint.RecoverLook, times: 8},
	{Point: failpoint.RecoverAdopted, times: 6},
	{Point: failpoint.RecoverLost, times: 3, provoke: (*suite).endSome},
	{Point: failpoint.RecoverAll, times: 1},
	{Point: failpoint.RecoverDone, times: 1},
	{Point: failpoint.RecoverServe, times: 1},
	{Point: failpoint.ShutdownBegin, times: 1, provoke: (*suite).shutDown},
	{Point: failpoint.ShutdownGone, times: 1, provoke: (*suite).shutDown},
	{Point: failpoint.ShutdownRecorded, times: 1, provoke: (*suite).shutDown},
	{Point: failpoint.ShutdownClosed, times: 1, provoke: (*suite).shutDown},
}

// keptTargets are those that take a keeper.
var keptTargets = []target{
	{Point: failpoint.KeeperBegin, times: 1},
	{Point: failpoint.KeeperForked, times: 1, provoke: (*suite).endManager},
	{Point: failpoint.KeeperReaped, times: 3, provoke: (*suite).endManagerAndSome},
	{Point: failpoint.KeeperDied, times: 1, provoke: (*suite).endManager},
	{Point: failpoint.KeeperStored, times: 100},
	{Point: failpoint.KeeperRemoved, times: 60},
	{Point: failpoint.HandoverSend, times: 60},
	{Point: failpoint.HandoverSent, times: 60},
	{Point: failpoint.HandoverTake, times: 1},
	{Point: failpoint.HandoverTaken, times: 1},
	{Point: failpoint.HandoverExits, times: 1},
	{Point: failpoint.HandoverReplace, times: 1, provoke: (*suite).endKeeper},
	{Point: failpoint.UpgradeBegin, times: 1, provoke: (*suite).upgrade},
	{Point: failpoint.UpgradeProved, times: 1, provoke: (*suite).upgrade},
	{Point: failpoint.UpgradeExec, times: 1, provoke: (*suite).upgrade},
	{Point: failpoint.UpgradeTrusted, times: 1, provoke: (*suite).upgrade},
}

// count is what became of a target.
type count struct{ killed, missed int }

// armFile tells the next process that starts where to die.
func (s *suite) armFile() string { return filepath.Join(s.dir, "arm") }

func (s *suite) arm(t *target, peer string) {
	for _, file := range s.firedFiles() {
		_ = os.Remove(file)
	}
	text := fmt.Sprintf("%s:%d%s\n", t.Point, 1+s.rng.IntN(t.times), peer)
	if err := os.WriteFile(s.armFile(), []byte(text), 0o600); err != nil {
		s.fatal("%v", err)
	}
}

// disarm takes back what was not reached. A process that is armed stays so.
func (s *suite) disarm() { _ = os.Remove(s.armFile()) }

// firedFiles is the one that says that it was, and by whom; or none.
func (s *suite) firedFiles() []string {
	files, _ := filepath.Glob(s.armFile() + ".fired.*")
	return files
}

func (s *suite) fired() bool { return len(s.firedFiles()) > 0 }

// pick chooses the next target: one of those that were reached least. nil is a
// kill at a random moment.
func (s *suite) pick() *target {
	if s.rng.IntN(4) == 0 {
		return nil
	}
	var least []*target
	fewest := 0
	for i := range s.targets {
		t := &s.targets[i]
		c := s.counts[t.Point]
		n := c.killed + c.missed/2
		if least == nil || n < fewest {
			least, fewest = nil, n
		}
		if n == fewest {
			least = append(least, t)
		}
	}
	if least == nil {
		return nil
	}
	return least[s.rng.IntN(len(least))]
}

// reachWithin is how long an armed process may live without coming to the
// point.
const reachWithin = 4 * time.Second

// round kills once more: at a point, or at any moment.
func (s *suite) round() {
	t := s.pick()
	if t == nil {
		s.ensureStarted()
		time.Sleep(time.Duration(s.rng.Int64N(int64(1200 * time.Millisecond))))
		s.kill(s.anyone())
		s.count(random, true)
		return
	}
	who := theManager
	if t.inKeeper() {
		who = theKeeper
	}
	peer := ""
	if s.options.keeper && s.rng.IntN(5) == 0 {
		who, peer = both, ":both"
	}
	s.makeRoom(t)
	s.arm(t, peer)
	s.startFresh(t)
	var wg sync.WaitGroup
	if t.provoke != nil {
		wg.Go(func() {
			if s.awaitAnswer() {
				t.provoke(s)
			}
		})
	}
	at, pid, fired := s.awaitFired()
	if !fired {
		s.disarm()
		// What it was provoked with may be under way; an end to that.
		s.kill(both)
	}
	wg.Wait()
	s.find()
	if fired {
		s.killed[who]++
		s.afterwards(who, at, pid)
	}
	s.count(t.Point, fired)
}

// makeRoom sees to it that a process that comes to t is yet to begin.
func (s *suite) makeRoom(t *target) {
	s.find()
	if t.inKeeper() || s.rng.IntN(4) == 0 {
		s.kill(both)
	}
	if s.manager == nil && s.keeper == nil {
		s.whileDown(t.Point == failpoint.RecoverLost)
	}
}

// startFresh starts one that is armed, or lets the keeper do it.
func (s *suite) startFresh(t *target) {
	if s.manager == nil && s.keeper == nil {
		s.launch()
		return
	}
	s.kill(theManager)
	if t.Point == failpoint.RecoverLost {
		s.endSome()
	}
}

// ensureStarted starts what nobody else would.
func (s *suite) ensureStarted() {
	if s.find(); s.manager == nil && s.keeper == nil {
		s.whileDown(false)
		s.launch()
	}
}

// awaitAnswer returns when a manager answers; false if that never happens, or
// the point was reached.
func (s *suite) awaitAnswer() bool {
	for end := time.Now().Add(reachWithin); time.Now().Before(end) && !s.fired(); time.Sleep(lookEvery) {
		ctx, cancel := context.WithTimeout(context.Background(), reachWithin)
		_, err := s.api.Ping(ctx)
		cancel()
		if err == nil {
			s.find()
			s.answered = true
			return true
		}
	}
	return false
}

// awaitFired returns when the point was reached, at what time and by whom;
// false if it isn't.
func (s *suite) awaitFired() (at time.Time, pid int, fired bool) {
	for end := time.Now().Add(reachWithin); time.Now().Before(end); time.Sleep(lookEvery) {
		files := s.firedFiles()
		if len(files) == 0 {
			continue
		}
		// The file's status was changed by the rename just before the kill.
		fi, err := os.Stat(files[0])
		if err != nil {
			s.fatal("%v", err)
		}
		pid, _ := strconv.Atoi(strings.TrimPrefix(filepath.Ext(files[0]), "."))
		return time.Unix(fi.Sys().(*syscall.Stat_t).Ctim.Unix()), pid, true
	}
	return time.Time{}, 0, false
}

// afterwards waits for the deaths that a point has caused, and notes them.
func (s *suite) afterwards(who victim, at time.Time, pid int) {
	if p := openProcess(pid); p != nil { // its peer was killed before it
		p.await(patience)
		p.close()
	}
	if !s.options.keeper {
		<-s.launched.done
	}
	s.find()
	if who != theManager {
		s.died(theKeeper, at)
	}
	if who != theKeeper {
		s.died(theManager, at)
	}
	s.up.Store(s.manager != nil || s.keeper != nil)
}

// upgrade has the manager replaced, in place, by the binary that it is.
func (s *suite) upgrade() {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	s.away(time.Now())
	if _, err := s.api.Upgrade(ctx, api.UpgradeRequest{}); err == nil {
		s.upgrades++
	}
}

func (s *suite) endManager() { s.kill(theManager) }
func (s *suite) endKeeper()  { s.kill(theKeeper) }

func (s *suite) endManagerAndSome() {
	s.kill(theManager)
	s.endSome()
}

// anyone is who is killed at a random moment.
func (s *suite) anyone() victim {
	if !s.options.keeper {
		return theManager
	}
	return []victim{theManager, theManager, theKeeper, both}[s.rng.IntN(4)]
}

func (s *suite) count(p failpoint.Point, killed bool) {
	c := s.counts[p]
	if killed {
		c.killed++
	} else {
		c.missed++
	}
	s.counts[p] = c
}

// random is counted like a point.
const random failpoint.Point = "(any moment)"

// whileDown does what may happen to daemons while nobody looks after them.
func (s *suite) whileDown(some bool) {
	if pause := s.rng.IntN(4); pause > 0 {
		time.Sleep(time.Duration(pause) * 60 * time.Millisecond)
	}
	if some || s.rng.IntN(4) == 0 {
		s.endSome()
	}
	if s.rng.IntN(6) == 0 {
		s.reusePID()
	}
}

// running are the first processes of daemons that live.
func (s *suite) running() []running {
	is := make(map[int]string) // a pid alone may be another's by now
	for _, p := range s.processes() {
		is[p.pid] = p.incarnation
	}
	var out []running
	for _, d := range s.daemons {
		if t, ok := s.current(d); ok && is[t.PID] == t.Incarnation {
			out = append(out, running{d, t.PID})
		}
	}
	return out
}

type running struct {
	d   *daemon
	pid int
}

// endSome kills some first processes of daemons, from outside.
func (s *suite) endSome() {
	all := s.running()
	for range min(len(all), 1+s.rng.IntN(5)) {
		r := all[s.rng.IntN(len(all))]
		sig := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[s.rng.IntN(2)]
		_ = syscall.Kill(r.pid, sig) // it may be gone
	}
}

// nsLastPID is where the next pid can be chosen (with CAP_SYS_ADMIN).
const nsLastPID = "/proc/sys/kernel/ns_last_pid"

// reusePID ends a daemon and gives its pid to a process that has nothing to do
// with it: nobody may adopt or signal that one.
func (s *suite) reusePID() {
	if s.bystander != nil || !s.canChoosePIDs {
		return
	}
	all := slices.DeleteFunc(s.running(), func(r running) bool { return !r.d.kind.steady })
	if len(all) == 0 {
		return
	}
	r := all[s.rng.IntN(len(all))]
	_ = syscall.Kill(r.pid, syscall.SIGKILL)
	for end := time.Now().Add(4 * time.Second); ; time.Sleep(time.Millisecond) {
		if syscall.Kill(r.pid, 0) == syscall.ESRCH {
			break
		}
		if time.Now().After(end) {
			return // whoever inherited it doesn't reap (some do so once a second)
		}
	}
	for range 50 {
		if os.WriteFile(nsLastPID, fmt.Appendf(nil, "%d", r.pid-1), 0) != nil {
			s.canChoosePIDs = false
			return
		}
		b, err := s.startBystander()
		if err != nil {
			s.fatal("%v", err)
		}
		if b.cmd.Process.Pid == r.pid {
			s.bystander = b
			s.reused++
			return
		}
		b.end()
	}
}

// bystander is a process that is no daemon.
type bystander struct {
	cmd *exec.Cmd
	end func() *os.ProcessState
}

func (s *suite) startBystander() (*bystander, error) {
	cmd := exec.Command(s.subject, s.dir, "bystander", "bystander")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &bystander{cmd: cmd, end: func() *os.ProcessState {
		in.Close()
		_ = cmd.Wait()
		return cmd.ProcessState
	}}, nil
}

// dismissBystander ends it, and checks that nobody else did.
func (s *suite) dismissBystander() {
	if s.bystander == nil {
		return
	}
	if state := s.bystander.end(); !state.Success() {
		s.violation("a process was signalled that is no daemon", "it had the pid of one that died, %d, and ended with: %v", s.bystander.cmd.Process.Pid, state)
	}
	s.bystander = nil
}

// fillJournal writes more than one of the journal's tables holds.
func (s *suite) fillJournal() {
	for range 10 {
		if s.fired() {
			break
		}
		s.loadBallast()
	}
}

// loadBallast adds daemons that are too large for one transaction: all of them
// are there afterwards, or none.
func (s *suite) loadBallast() {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	var add api.AddRequest
	var remove api.RemoveRequest
	for i := range ballast {
		d := s.ballast(i)
		add.Daemons = append(add.Daemons, api.Registration{Spec: d})
		remove.Names = append(remove.Names, d.Name)
	}
	remove.Force = true
	s.ballastMay = nil
	if _, err := s.api.Remove(ctx, remove); err != nil {
		return
	}
	s.ballastMay = map[int]bool{0: true, ballast: true}
	if _, err := s.api.Add(ctx, add); err == nil {
		s.ballastMay = map[int]bool{ballast: true}
	}
}

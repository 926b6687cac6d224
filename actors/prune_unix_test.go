//go:build unix

package actors

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// from is a daemon of a file; its command is a number of seconds to sleep.
func from(t *testing.T, source, name, secs string, tags ...string) api.Registration {
	t.Helper()
	d, err := spec.New(name, []string{"sleep", secs})
	if err != nil {
		t.Fatal(err)
	}
	d.Tags = tags
	return api.Registration{Spec: d, Source: source}
}

// applied applies and says what came of it, in one word for each daemon.
func (f *fixture) applied(req api.ApplyRequest) string {
	f.t.Helper()
	changes, err := f.Apply(context.Background(), req)
	if err != nil {
		f.t.Fatal(err)
	}
	var out []string
	for _, c := range changes {
		s := c.Name + ":" + string(c.Change)
		if len(c.Keys) > 0 {
			s += fmt.Sprint(c.Keys)
		}
		if c.Restart {
			s += "!"
		}
		if c.Keys == nil || c.Warnings == nil {
			f.t.Errorf("%s: keys %v, warnings %v; want none that is nil", c.Name, c.Keys, c.Warnings)
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func (f *fixture) want(want, got string) {
	f.t.Helper()
	if got != want {
		f.t.Errorf("applied %q, want %q", got, want)
	}
}

// events is how many events the journal has.
func (f *fixture) events() (n int) {
	f.t.Helper()
	seq, err := f.Events(context.Background(), api.EventQuery{Limit: -1})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, err := range seq {
		if err != nil {
			f.t.Fatal(err)
		}
		n++
	}
	return n
}

// registered are the names of all daemons.
func (f *fixture) registered() string {
	f.t.Helper()
	list, err := f.Status(context.Background(), api.StatusQuery{})
	if err != nil {
		f.t.Fatal(err)
	}
	var names []string
	for _, d := range list {
		names = append(names, d.Name)
	}
	return strings.Join(names, " ")
}

func TestApplyRestartsOnlyWhatHasTo(t *testing.T) {
	f := newFixture(t)
	set := func(regs ...api.Registration) api.ApplyRequest { return api.ApplyRequest{Daemons: regs} }
	first := set(from(t, "/a.sys", "a", "1000"), from(t, "/a.sys", "b", "1000"))
	f.want("a:added b:added", f.applied(first))
	f.start("a", "b")
	pidA, pidB := *f.get("a").PID, *f.get("b").PID

	before := f.events()
	f.want("a:unchanged b:unchanged", f.applied(first))
	second := set(from(t, "/a.sys", "a", "1000", "tag"), from(t, "/a.sys", "b", "2000"))
	dry := second
	dry.DryRun = true
	f.want("a:changed[tags] b:changed[command]!", f.applied(dry))
	if n := f.events(); n != before {
		t.Errorf("nothing was to be done, and the journal has %d events more", n-before)
	}
	f.want("a:changed[tags] b:changed[command]!", f.applied(second))
	f.until("b", "restarted", func(d api.Details) bool { return d.State == supervision.Running && *d.PID != pidB })
	if d := f.get("a"); *d.PID != pidA || len(d.Tags) != 1 {
		t.Errorf("a has pid %d (before: %d) and tags %v", *d.PID, pidA, d.Tags)
	}
}

func TestPrune(t *testing.T) {
	f := newFixture(t)
	const a, b = "/a.sys", "/b.sys"
	one, two, three := from(t, a, "one", "1000"), from(t, a, "two", "1000"), from(t, b, "three", "1000")
	f.applied(api.ApplyRequest{Daemons: []api.Registration{one, two, three, from(t, "", "four", "1000")}})
	f.start("one", "two", "three")
	pid := *f.get("two").PID

	f.want("one:unchanged", f.applied(api.ApplyRequest{Daemons: []api.Registration{one}}))
	less := api.ApplyRequest{Daemons: []api.Registration{one}, Prune: []string{a}}
	dry := less
	dry.DryRun = true
	f.want("one:unchanged two:removed", f.applied(dry))
	if got := f.registered(); got != "four one three two" {
		t.Fatalf("after a dry run there are %s", got)
	}
	f.want("one:unchanged two:removed", f.applied(less))
	if got := f.registered(); got != "four one three" {
		t.Errorf("there are %s", got)
	}
	if alive(pid) {
		t.Error("the process of two lives")
	}
	before := f.events()
	f.want("one:unchanged", f.applied(less))
	if n := f.events(); n != before {
		t.Errorf("the same again wrote %d events", n-before)
	}

	// What moves to another file stays, whoever comes first.
	moved := from(t, b, "one", "1000")
	f.want("three:unchanged one:unchanged", f.applied(api.ApplyRequest{Daemons: []api.Registration{three, moved}, Prune: []string{a, b}}))
	f.want("", f.applied(api.ApplyRequest{Prune: []string{a}}))
	if got := f.registered(); got != "four one three" {
		t.Errorf("there are %s", got)
	}
	if err := second(f.Apply(t.Context(), api.ApplyRequest{Prune: []string{"b.sys"}})); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a relative path: %v", err)
	}
}

// TestOneFileOfManyNames: a file is the same by whatever path it is called.
func TestOneFileOfManyNames(t *testing.T) {
	f := newFixture(t)
	dir := t.TempDir()
	file, link, other := filepath.Join(dir, "file.sys"), filepath.Join(dir, "link.sys"), filepath.Join(dir, "other.sys")
	for _, path := range []string{file, other} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("file.sys", link); err != nil {
		t.Fatal(err)
	}
	f.applied(api.ApplyRequest{Daemons: []api.Registration{from(t, file, "a", "1000"), from(t, file, "b", "1000"), from(t, other, "c", "1000")}})
	before := f.events()
	f.want("a:unchanged", f.applied(api.ApplyRequest{Daemons: []api.Registration{from(t, link, "a", "1000")}}))
	if n := f.events(); n != before {
		t.Errorf("another name of the file wrote %d events", n-before)
	}
	f.want("a:unchanged b:removed", f.applied(api.ApplyRequest{Daemons: []api.Registration{from(t, link, "a", "1000")}, Prune: []string{link}}))
	if got := f.registered(); got != "a c" {
		t.Errorf("there are %s", got)
	}
}

// TestPruneAndAnotherApply: between an apply's decision and its last step another
// one takes over a daemon. It stays.
func TestPruneAndAnotherApply(t *testing.T) {
	f := newFixture(t)
	const a, b = "/a.sys", "/b.sys"
	one := from(t, a, "one", "1000")
	f.applied(api.ApplyRequest{Daemons: []api.Registration{one}})
	decided := make(chan struct{})
	ask := func(req reconcile) (*answer[[]api.Change], reconcile) {
		req.answer = newAnswer[[]api.Change]()
		return &req.answer, req
	}
	// Both are in the root's mailbox before it gets to the first one's last step.
	pruning, prune := ask(reconcile{Prune: []string{a}})
	taking, take := ask(reconcile{Daemons: []supervision.Registration{{Spec: one.Spec, Source: b}}})
	f.system.Root.Send(f.root, dispatch{Selector: on("one").Selector, answer: newAnswer[selection](), Make: func(func(outcome)) any {
		<-decided
		return notice{} // which means nothing to a daemon
	}})
	f.system.Root.Send(f.root, prune)
	f.system.Root.Send(f.root, take)
	close(decided)
	for _, ans := range []*answer[[]api.Change]{pruning, taking} {
		if r := <-ans.ch; r.err != nil {
			t.Fatal(r.err)
		}
	}
	if d := f.get("one"); *d.Source != b {
		t.Errorf("it is registered from %s", *d.Source)
	}
}

// TestPruneOfWhatIsBeingRemoved: a removal under way is nothing to fail over.
func TestPruneOfWhatIsBeingRemoved(t *testing.T) {
	f := newFixture(t)
	ready := filepath.Join(f.dir, "ready")
	if err := syscall.Mkfifo(ready, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := spec.New("slow", []string{"sh", "-c", fmt.Sprintf("trap '' TERM; echo >%s; while :; do sleep 1000; done", ready)})
	if err != nil {
		t.Fatal(err)
	}
	d.StopTimeout = 3600
	f.applied(api.ApplyRequest{Daemons: []api.Registration{{Spec: d, Source: "/a.sys"}}})
	f.start("slow")
	if _, err := os.ReadFile(ready); err != nil {
		t.Fatal(err)
	}
	removed, pruned := make(chan error, 1), make(chan error, 1)
	go func() {
		removed <- second(f.Remove(t.Context(), api.RemoveRequest{Selector: on("slow").Selector, Force: true}))
	}()
	f.untilState("slow", supervision.Stopping)
	go func() { pruned <- second(f.Apply(t.Context(), api.ApplyRequest{Prune: []string{"/a.sys"}})) }()
	f.until("slow", "removed by the prune, too", func(api.Details) bool {
		return strings.Count(f.kinds("slow"), string(supervision.EventStopping)) == 2
	})
	f.must(f.Stop(t.Context(), api.ActionRequest{Selector: on("slow").Selector, Force: true}))
	for _, ch := range []chan error{removed, pruned} {
		if err := <-ch; err != nil {
			t.Error(err)
		}
	}
	if got := f.registered(); got != "" {
		t.Errorf("there are %s", got)
	}
}

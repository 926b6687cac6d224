package actors

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/supervision"
)

// files tells the spellings of a path apart from other files: it maps those by
// which a file is known to the one by which a request calls it. A path that
// isn't in there stands for itself.
type files map[string]string

func (f files) of(path string) string {
	if p, ok := f[path]; ok {
		return p
	}
	return path
}

// spellings finds other paths under which the files of a request are registered.
// With prune those of all daemons count, else those of the daemons it names. It
// looks at a file only where two paths differ; one that isn't there is the same
// as no other.
func (s *System) spellings(ctx context.Context, regs []supervision.Registration, prune []string) (files, error) {
	sel, err := s.selected(ctx, api.Selector{All: true}, nil)
	if err != nil {
		return nil, err
	}
	asked := make(map[string]bool)
	named := make(map[string]bool)
	for _, r := range regs {
		asked[r.Source] = true
		named[r.Spec.Name] = true
	}
	for _, path := range prune {
		asked[path] = true
	}
	delete(asked, "")
	others := make(map[string]bool)
	for _, d := range sel.daemons {
		if source := d.reg.Source; source != "" && !asked[source] && (len(prune) > 0 || named[d.name]) {
			others[source] = true
		}
	}
	if len(asked) == 0 || len(others) == 0 {
		return nil, nil
	}
	found := make(chan files, 1)
	go func() { found <- sameFiles(asked, others) }() // a disk may not answer
	select {
	case f := <-found:
		return f, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// sameFiles maps those of others that are a file of asked to it.
func sameFiles(asked, others map[string]bool) files {
	known := make(map[string]os.FileInfo, len(asked))
	for path := range asked {
		if st, err := os.Stat(path); err == nil {
			known[path] = st
		}
	}
	same := make(files)
	for path := range others {
		st, err := os.Stat(path)
		if err != nil {
			continue
		}
		for as, other := range known {
			// Of several the least: maps have no order.
			if have, ok := same[path]; os.SameFile(st, other) && (!ok || as < have) {
				same[path] = as
			}
		}
	}
	return same
}

// prune removes what a reconcile found to be in its files no more. It is the
// last of its steps.
type prune struct {
	names   []string
	turn    uint64
	changes []api.Change
	reconcile
}

// outdated are the daemons that came from the files to prune and that the request
// doesn't name, sorted.
func (m *manager) outdated(msg reconcile) []string {
	if len(msg.Prune) == 0 {
		return nil
	}
	named := make(map[string]bool, len(msg.Daemons))
	for _, r := range msg.Daemons {
		named[r.Spec.Name] = true
	}
	var out []string
	for name, d := range m.daemons {
		if d.reg.Source != "" && !named[name] && slices.Contains(msg.Prune, msg.Files.of(d.reg.Source)) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// prune stops and removes them. What another request has named since, or moved
// to another file, stays.
func (m *manager) prune(msg prune) {
	if m.stopping {
		msg.fail(api.ShuttingDown())
		return
	}
	var sel selection
	still := m.outdated(msg.reconcile)
	stays := make(map[string]bool)
	for _, name := range msg.names {
		switch d := m.daemons[name]; {
		case d == nil: // removed meanwhile
		case d.named > msg.turn || !slices.Contains(still, name):
			stays[name] = true
		default:
			sel.daemons = append(sel.daemons, selected{name: name, entry: d.entry})
		}
	}
	m.stopInOrder(&sel, func(reply func(outcome)) command {
		return command{Input: supervision.Remove{Force: true}, Until: untilGone, Reply: reply}
	}, planOptions{})
	changes := slices.DeleteFunc(msg.changes, func(c api.Change) bool {
		return c.Change == api.ChangeRemoved && c.Kind == api.KindDaemon && stays[c.Name]
	})
	go func() {
		var failed error
		for range sel.daemons {
			if r := <-sel.replies; r.err != nil && !errors.Is(r.err, api.ErrNotFound) {
				failed = cmp.Or(failed, r.err)
			}
		}
		msg.give(changes, failed)
	}()
}

//go:build unix

package platform

import (
	"errors"
	"sync"
	"testing"

	"github.com/cyber-boost/syspulse/spec"
)

func TestExit(t *testing.T) {
	modes(t, func(t *testing.T, h Host) {
		for script, want := range map[string]Exit{
			"exit 0":        {Known: true},
			"exit 7":        {Known: true, Code: 7},
			"exit 255":      {Known: true, Code: 255},
			"kill -9 $$":    {Known: true, Signal: "SIGKILL"},
			"kill -TERM $$": {Known: true, Signal: "SIGTERM"},
			"kill -USR1 $$": {Known: true, Signal: "SIGUSR1"},
		} {
			p := sh(t, h, script)
			if got := awaitExit(t, p); got != want {
				t.Errorf("%s: %+v, want %+v", script, got, want)
			}
			awaitEmpty(t, p)
		}
	})
}

// Exits that are over before anybody asks must not be lost.
func TestManyAtOnce(t *testing.T) {
	modes(t, func(t *testing.T, h Host) {
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				p, err := h.Start(Command{Incarnation: newIncarnation(), Args: []string{"/bin/sh", "-c", "exit $1", "sh", string('0' + rune(i%10))}})
				if err != nil {
					t.Error(err)
					return
				}
				defer p.Release()
				if got, want := awaitExit(t, p), (Exit{Known: true, Code: i % 10}); got != want {
					t.Errorf("%+v, want %+v", got, want)
				}
				awaitEmpty(t, p)
			})
		}
		wg.Wait()
	})
}

func TestSignalModes(t *testing.T) {
	// A parent with a child in its group and one that left it.
	const script = `trap 'echo main' TERM
sh -c 'trap "echo group; exit" TERM; echo ready; while :; do sleep 1 & wait; done' &
setsid sh -c 'trap "echo away; exit" TERM; echo ready; while :; do sleep 1 & wait; done' &
echo ready
while :; do wait; done`
	modes(t, func(t *testing.T, h Host) {
		for mode, want := range map[spec.KillMode][]string{
			spec.KillMain:  {"main"},
			spec.KillGroup: {"main", "group"},
			spec.KillAll:   {"main", "group", "away"},
		} {
			p, out := output(t, h, Command{Args: []string{"/bin/sh", "-c", script}})
			for range 3 {
				out.next()
			}
			if err := p.Signal("TERM", mode); err != nil {
				t.Fatal(err)
			}
			got := map[string]bool{}
			for range want {
				got[out.next()] = true
			}
			for _, w := range want {
				if !got[w] {
					t.Errorf("%s: %v, want %v", mode, got, want)
				}
			}
			if err := p.Kill(); err != nil {
				t.Fatal(err)
			}
			awaitEmpty(t, p)
			for out.s.Scan() {
				t.Errorf("%s: %q was signalled, too", mode, out.s.Text())
			}
			if err := p.Signal("TERM", spec.KillAll); !errors.Is(err, ErrDead) {
				t.Errorf("signal to a dead tree: %v", err)
			}
		}
	})
}

//go:build unix

package cli

import (
	"context"
	"iter"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/apitest"
	"github.com/cyber-boost/syspulse/supervision"
)

func TestInterruptStopsWhatUpStartedAndASecondOneKills(t *testing.T) {
	s := newShell(t)
	file := sysFile(t, twoDaemons)
	stopping, killed := make(chan struct{}), make(chan struct{})
	var forced []bool
	var mu sync.Mutex
	m := &stopWatcher{Manager: s.Fake, onStop: func(req api.ActionRequest) {
		mu.Lock()
		forced = append(forced, req.Force)
		mu.Unlock()
		if !req.Force {
			close(stopping)
			<-killed
			return
		}
		close(killed)
	}}
	go func() {
		until(s.Fake, "a", supervision.Running)
		until(s.Fake, "bb", supervision.Running)
		syscall.Kill(os.Getpid(), syscall.SIGINT)
		<-stopping
		syscall.Kill(os.Getpid(), syscall.SIGINT)
	}()
	a := &app{stdout: &s.out, stderr: &s.err, dial: func(string) api.Manager { return m }}
	if code := a.run(context.Background(), []string{"up", file}); code != 0 {
		t.Errorf("%d %s", code, s.err.String())
	}
	if len(forced) != 2 || forced[0] || !forced[1] {
		t.Errorf("stops, by force: %v", forced)
	}
	if s.State("a") != supervision.Stopped || s.State("bb") != supervision.Stopped {
		t.Errorf("a is %s, bb is %s", s.State("a"), s.State("bb"))
	}
}

type stopWatcher struct {
	api.Manager
	onStop func(api.ActionRequest)
}

func (s *stopWatcher) Stop(ctx context.Context, req api.ActionRequest) ([]api.Result, error) {
	s.onStop(req)
	return s.Manager.Stop(ctx, req)
}

func TestSignalsEndTheManager(t *testing.T) {
	f := apitest.New()
	a, closed := hosted(t, f)
	go func() {
		until(f, "bb", supervision.Stopped) // registered
		syscall.Kill(os.Getpid(), syscall.SIGTERM)
	}()
	if code := a.run(context.Background(), []string{"daemon", "--file", sysFile(t, twoDaemons)}); code != 0 {
		t.Errorf("%d %s", code, a.stderr)
	}
	if down := f.Shutdowns(); len(down) != 1 || down[0].Force || !*closed {
		t.Errorf("%v %v", down, *closed)
	}
}

func TestHangupReadsTheFilesAgain(t *testing.T) {
	if watchTerminal().f != nil {
		t.Skip("with a terminal it is a shutdown")
	}
	f := apitest.New()
	a, _ := hosted(t, f)
	file := sysFile(t, twoDaemons)
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
	go func() {
		until(f, "bb", supervision.Stopped)
		write("broken")
		syscall.Kill(os.Getpid(), syscall.SIGHUP)
		for !strings.Contains(a.stderr.(*buffer).String(), "nothing was changed") {
			syscall.Kill(os.Getpid(), 0)
		}
		write(strings.ReplaceAll(twoDaemons, "bb", "new"))
		syscall.Kill(os.Getpid(), syscall.SIGHUP)
		until(f, "new", supervision.Stopped)
		syscall.Kill(os.Getpid(), syscall.SIGTERM)
	}()
	if code := a.run(context.Background(), []string{"daemon", "--file", file}); code != 0 {
		t.Errorf("%d %s", code, a.stderr)
	}
	if f.State("bb") == "" {
		t.Error("what the file no longer holds is gone")
	}
}

// A Ctrl-C counts while the streams are being opened, too.
func TestInterruptWhileUpOpensItsStreams(t *testing.T) {
	s := newShell(t)
	a := &app{stdout: &s.out, stderr: &s.err, dial: func(string) api.Manager { return &deaf{s.Fake} }}
	if code := a.run(context.Background(), []string{"up", sysFile(t, twoDaemons)}); code != 0 {
		t.Errorf("%d %s", code, s.err.String())
	}
	if s.State("a") != supervision.Stopped || s.State("bb") != supervision.Stopped {
		t.Errorf("a is %s, bb is %s", s.State("a"), s.State("bb"))
	}
}

// deaf is a manager whose streams never open.
type deaf struct{ *apitest.Fake }

func (d *deaf) Logs(ctx context.Context, _ api.LogQuery) (iter.Seq2[api.LogLine, error], error) {
	syscall.Kill(os.Getpid(), syscall.SIGINT)
	<-ctx.Done()
	return nil, ctx.Err()
}

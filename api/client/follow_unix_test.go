//go:build unix

package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/apitest"
	"github.com/cyber-boost/syspulse/api/client"
	"github.com/cyber-boost/syspulse/api/server"
	"github.com/cyber-boost/syspulse/spec"
	"pgregory.net/rapid"
)

// serve answers for m on a socket until the test ends, or until end is called,
// which cuts every client off.
func serve(t *testing.T, m api.Manager, socket string) (srv *server.Server, end func()) {
	t.Helper()
	l, err := server.Listen(socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	srv = server.New(m, slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	end = sync.OnceFunc(func() {
		srv.CutStreams()
		srv.Close()
		<-ended
	})
	t.Cleanup(end)
	return srv, end
}

// cutter stands between a client and a manager, and cuts the connection after
// so many bytes of the manager's.
type cutter struct {
	mu   sync.Mutex
	cuts []int // the first is of the next bytes; empty: none
	sent int   // bytes since the last cut
	ran  bool  // all cuts were made
}

// arm makes it cut after so many bytes, then after so many more, and so on.
func (c *cutter) arm(cuts ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cuts, c.sent, c.ran = slices.Clone(cuts), 0, len(cuts) == 0
}

func (c *cutter) done() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ran
}

// pass says how many of n bytes may pass before the cut, which they are
// followed by if they are fewer.
func (c *cutter) pass(n int) (may int, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.cuts) == 0 || c.sent+n <= c.cuts[0] {
		c.sent += n
		return n, false
	}
	may = c.cuts[0] - c.sent
	c.cuts, c.sent = c.cuts[1:], 0
	c.ran = len(c.cuts) == 0
	return may, true
}

func (c *cutter) serve(t *testing.T, backend string) (socket string) {
	socket = socketPath(t)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", backend)
			if err != nil {
				in.Close()
				continue
			}
			wg.Go(func() {
				io.Copy(out, in)
				out.Close()
				in.Close()
			})
			wg.Go(func() {
				defer in.Close()
				defer out.Close()
				buf := make([]byte, 4096)
				for {
					n, err := out.Read(buf)
					may, cut := c.pass(n)
					if _, werr := in.Write(buf[:may]); err != nil || werr != nil || cut {
						return
					}
				}
			})
		}
	})
	return socket
}

// rig is a manager of two daemons behind a cutter.
func rig(t *testing.T) (*apitest.Fake, *cutter, *client.Client) {
	f := apitest.New()
	var req api.AddRequest
	for _, name := range []string{"a", "b"} {
		d, err := spec.New(name, []string{"true"})
		if err != nil {
			t.Fatal(err)
		}
		req.Daemons = append(req.Daemons, api.Registration{Spec: d})
	}
	if _, err := f.Add(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	backend := socketPath(t)
	serve(t, f, backend)
	var cut cutter
	c := client.New(cut.serve(t, backend))
	t.Cleanup(c.Close)
	if _, err := c.Export(t.Context()); err != nil { // now it knows that this is a manager
		t.Fatal(err)
	}
	return f, &cut, c
}

// tb is what a test and a rapid test have in common.
type tb interface {
	Context() context.Context
	Errorf(string, ...any)
	Fatal(...any)
}

// everyCut runs f with a cut behind each byte, one by one, and then with cuts
// at random, until there was nothing left to be cut.
func everyCut(t *testing.T, cut *cutter, f func(t tb)) {
	for at := 0; ; at++ {
		if at > 1000 { // what follows is like what came
			at += 10
		}
		cut.arm(at)
		f(t)
		if t.Failed() {
			t.Fatalf("cut behind byte %d", at)
		}
		if !cut.done() {
			if at < 500 {
				t.Fatalf("the stream had %d bytes only", at)
			}
			break
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		cut.arm(rapid.SliceOfN(rapid.IntRange(0, 1500), 1, 8).Draw(rt, "cuts")...)
		f(rt)
	})
}

func TestLogsGoOnWhereTheyWereCut(t *testing.T) {
	f, cut, c := rig(t)
	line := 0
	var written []string
	print := func() {
		line++
		name := []string{"a", "b"}[line%2]
		f.Print(name, api.Stdout, fmt.Sprint(line))
		written = append(written, fmt.Sprint(name, line))
	}
	for range 5 {
		print()
	}
	everyCut(t, cut, func(t tb) {
		finish := make(chan struct{})
		lines, err := c.Logs(t.Context(), api.LogQuery{Selector: api.Selector{All: true}, Lines: 3, Follow: true, Finish: finish})
		if err != nil {
			t.Fatal(err)
		}
		from := len(written) - 3
		for range 3 { // a daemon that goes on while nobody reads
			print()
		}
		var got []string
		for l, err := range lines {
			if err != nil {
				t.Fatal(err)
			}
			if l.Cursor != "" || l.Positions != nil {
				t.Errorf("%+v", l)
			}
			if got = append(got, l.Daemon+l.Line); len(got) == 4 {
				print()
				close(finish)
			}
		}
		if want := written[from:]; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
	if n := f.Streams(); n != 0 {
		t.Errorf("%d streams are open still", n)
	}
}

func TestEventsGoOnWhereTheyWereCut(t *testing.T) {
	for _, limit := range []int{0, 2} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			f, cut, c := rig(t)
			everyCut(t, cut, func(t tb) {
				a := api.ActionRequest{Selector: api.Selector{Names: []string{"a", "b"}}}
				f.Restart(t.Context(), a)
				past, err := f.Events(t.Context(), api.EventQuery{Limit: 1})
				if err != nil {
					t.Fatal(err)
				}
				var newest uint64
				for e := range past {
					newest = e.Seq
				}
				first := newest + 1 - uint64(limit)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				events, err := c.Events(ctx, api.EventQuery{Limit: limit, Follow: true})
				if err != nil {
					t.Fatal(err)
				}
				f.Restart(t.Context(), a)
				n := 0
				for e, err := range events {
					if err != nil {
						t.Fatal(err)
					}
					if e.Seq != first+uint64(n) || e.Event == api.EventPosition {
						t.Errorf("%d after %d: %v", e.Seq, n, e)
					}
					if n++; n == limit+3 {
						break
					}
				}
			})
		})
	}
}

// What only was asked of one manager isn't told by another.
func TestAStreamThatIsNotFollowedEndsWhereItIsCut(t *testing.T) {
	f, cut, c := rig(t)
	f.Print("a", api.Stdout, "1")
	cut.arm(300)
	lines, err := c.Logs(t.Context(), api.LogQuery{Selector: api.Selector{All: true}, Lines: -1, Resumable: true})
	if err != nil {
		t.Fatal(err)
	}
	err = nil
	for _, e := range lines {
		err = e
	}
	if !errors.Is(err, &api.Error{Code: api.CodeFailed}) {
		t.Errorf("%v", err)
	}
}

// A manager that comes soon enough goes on with what is followed; meanwhile
// questions, and commands that nobody got, wait for it.
func TestTheNextManagerIsWaitedFor(t *testing.T) {
	f, _, _ := rig(t)
	socket := socketPath(t)
	_, end := serve(t, f, socket)
	c := client.New(socket)
	defer c.Close()
	lines, err := c.Logs(t.Context(), api.LogQuery{Selector: api.Selector{All: true}, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	end()
	results := make(chan error, 2)
	go func() {
		_, err := c.Status(t.Context(), api.StatusQuery{})
		results <- err
	}()
	go func() {
		_, err := c.Start(t.Context(), api.ActionRequest{Selector: api.Selector{All: true}})
		results <- err
	}()
	f.Print("a", api.Stdout, "meanwhile")
	_, end = serve(t, f, socket)
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	n := 0
	var last error
	for l, err := range lines {
		if last = err; err != nil {
			break
		}
		if n++; n > 1 || l.Line != "meanwhile" {
			t.Errorf("%+v", l)
		}
		// And there is none after it.
		c.SetPatience(20 * time.Millisecond)
		end()
	}
	if n != 1 || !errors.Is(last, api.ErrNoManager) {
		t.Errorf("%d lines, then %v", n, last)
	}
	if _, err := c.Status(t.Context(), api.StatusQuery{}); !errors.Is(err, api.ErrNoManager) {
		t.Error(err)
	}
}

// A command that may have arrived is not sent again, even if a stream is.
func TestCommandsAreSentOnce(t *testing.T) {
	f, cut, c := rig(t)
	starts := 0
	f.Hook = func(op, name string) error {
		if op == "start" {
			starts++
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := c.Events(ctx, api.EventQuery{Names: []string{"b"}, Follow: true}); err != nil {
		t.Fatal(err)
	}
	cut.arm(0)
	if _, err := c.Start(t.Context(), api.ActionRequest{Selector: api.Selector{Names: []string{"a"}}}); err == nil {
		t.Error("it was answered")
	}
	if starts != 1 {
		t.Errorf("started %d times", starts)
	}
}

// The orderly end of a manager is that of its streams.
func TestShutdownEndsWhatIsFollowed(t *testing.T) {
	f, _, _ := rig(t)
	socket := socketPath(t)
	srv, _ := serve(t, f, socket)
	c := client.New(socket)
	defer c.Close()
	events, err := c.Events(t.Context(), api.EventQuery{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	go srv.EndStreams()
	for _, err = range events {
	}
	if !errors.Is(err, api.ErrShuttingDown) {
		t.Error(err)
	}
}

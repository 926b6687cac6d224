package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// With this variable set, the test's own binary is the program.
const asProgram = "TEST_QUICKSTART_PROGRAM=1"

func TestMain(m *testing.M) {
	if k, v, _ := strings.Cut(asProgram, "="); os.Getenv(k) == v {
		main()
		return
	}
	os.Exit(m.Run())
}

func program(t *testing.T, args []string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(append(os.Environ(), asProgram), env...)
	return cmd
}

// daemon is a process of the program whose output is read line by line.
type daemon struct {
	t   *testing.T
	cmd *exec.Cmd
	out *bufio.Reader
}

func start(t *testing.T, name string, env ...string) *daemon {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := program(t, []string{name}, env...)
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		r.Close()
	})
	return &daemon{t, cmd, bufio.NewReader(r)}
}

// until reads lines until one begins as is said, and returns its rest.
func (d *daemon) until(prefix string) string {
	d.t.Helper()
	for {
		line, err := d.out.ReadString('\n')
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			return strings.TrimSuffix(rest, "\n")
		}
		if err != nil {
			d.t.Fatalf("%q never came: %v", prefix, err)
		}
	}
}

// ends interrupts it and expects a clean end.
func (d *daemon) ends() {
	d.t.Helper()
	if runtime.GOOS == "windows" {
		return // a process can't be interrupted there by another one's os.Process
	}
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		d.t.Fatal(err)
	}
	d.until("bye")
	if err := d.cmd.Wait(); err != nil {
		d.t.Error(err)
	}
}

func TestWebAndWorker(t *testing.T) {
	web := start(t, "web", "ADDR=127.0.0.1:0")
	url := web.until("listening on ")

	resp, err := http.Get(url + "/health")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || string(body) != "ok\n" {
		t.Errorf("got %q, %v", body, err)
	}
	web.until(`GET "/health" 200 `)

	worker := start(t, "worker", "ADDR="+strings.TrimPrefix(url, "http://"), "EVERY=10ms")
	worker.until(`got "Hello. This is visit 2." `)
	web.until(`GET "/" 200 `)
	worker.ends()
	web.ends()
}

// A second one on the same address says what to do.
func TestWebAddressTaken(t *testing.T) {
	first := start(t, "web", "ADDR=127.0.0.1:0")
	addr := strings.TrimPrefix(first.until("listening on "), "http://")
	out, err := program(t, []string{"web"}, "ADDR="+addr).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "set ADDR to another one") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestFlakyCrashes(t *testing.T) {
	d := start(t, "flaky", "EVERY=1ms")
	d.until("job 3 done")
	d.until("fatal: ")
	var exit *exec.ExitError
	if err := d.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("%v", err)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"nobody"}, {"web", "again"}} {
		out, err := program(t, args).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), "usage: ") {
			t.Errorf("%s: %v: %s", fmt.Sprint(args), err, out)
		}
	}
}

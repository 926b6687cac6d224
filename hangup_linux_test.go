package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/api/client"
)

// TestHangup closes the terminal of a manager, which ends it in order. (One that has
// none reads its files again at a SIGHUP; a script tests that.)
func TestHangup(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "syspulse")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, args := range [][]string{{}, {"--no-keeper"}} {
		name := "keeper"
		if len(args) > 0 {
			name = "no keeper"
		}
		t.Run(name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			master, slave := openPTY(t)
			cmd := exec.Command(bin, append([]string{"--data-dir", data, "daemon"}, args...)...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			slave.Close()
			c := client.New(api.SocketPath(data))
			defer c.Close()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			for {
				if _, err := c.Ping(ctx); err == nil {
					break
				}
				if ctx.Err() != nil {
					t.Fatal("no manager")
				}
				time.Sleep(time.Millisecond)
			}
			master.Close()
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("it ended with %v", err)
				}
			case <-ctx.Done():
				t.Error("it runs on")
				_ = c.Shutdown(context.Background(), api.ShutdownRequest{})
			}
		})
	}
}

// openPTY makes a pseudo-terminal (pty(7)).
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// Who started a manager with nohup wants it to stay when the terminal is gone.
func TestNohup(t *testing.T) {
	data := t.TempDir()
	file := filepath.Join(data, "daemons.sys")
	write := func(name string) {
		if err := os.WriteFile(file, []byte("[daemon]\nname = \""+name+"\"\ncommand = [\"true\"]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("before")
	master, slave := openPTY(t)
	cmd := exec.Command("nohup", "syspulse", "--data-dir", data, "daemon", "--file", file)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.Dir = data // for nohup.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	f := &faulty{t: t, Client: client.New(api.SocketPath(data))}
	defer f.Close()
	defer func() {
		_ = f.Shutdown(context.Background(), api.ShutdownRequest{Force: true})
		_ = cmd.Wait()
	}()
	has := func(name string) func() bool {
		return func() bool {
			list, _ := f.Status(t.Context(), api.StatusQuery{})
			return len(list) > 0 && slices.ContainsFunc(list, func(d api.Daemon) bool { return d.Name == name })
		}
	}
	f.until("the manager answers", has("before"))
	master.Close()
	f.until("the terminal is gone", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		_, rest, _ := strings.Cut(string(b), ") ")
		const tty = 7 - 3 // as proc_pid_stat(5) counts
		fields := strings.Fields(rest)
		return err == nil && len(fields) > tty && fields[tty] == "0"
	})
	write("after")
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	f.until("the file is read again", has("after"))
}

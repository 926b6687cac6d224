package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// Real software that scripts manage, as Debian packages it. A script skips itself
// where it isn't installed; SYSPULSE_TEST_SOFTWARE=required makes that a failure.
var software = map[string]func() (string, error){
	"redis":    func() (string, error) { return exec.LookPath("redis-server") },
	"postgres": postgresBin,
}

// postgresBin is the directory of the newest PostgreSQL's programs. Debian's newest
// is the last by name, as long as they have two digits.
func postgresBin() (string, error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(dirs) == 0 {
		return "", errors.New("there is no /usr/lib/postgresql/*/bin/postgres (Debian: apt-get install postgresql)")
	}
	return filepath.Dir(slices.Max(dirs)), nil
}

// installed is the condition of a script: [redis], [postgres].
func installed(name string) (bool, error) {
	find := software[name]
	if find == nil {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	_, err := find()
	if err != nil && os.Getenv("SYSPULSE_TEST_SOFTWARE") == "required" {
		return false, fmt.Errorf("SYSPULSE_TEST_SOFTWARE=required: %w", err)
	}
	return err == nil, nil
}

// cmdShortDir sets a variable to a new directory for sockets, whose paths are short,
// which every user can reach.
func cmdShortDir(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: short-dir VAR")
	}
	dir, err := os.MkdirTemp("/tmp", "syspulse-")
	ts.Check(err)
	ts.Check(os.Chmod(dir, 0o755))
	ts.Defer(func() {
		endManagers(ts.Getenv("WORK")) // who has files there, first
		_ = os.RemoveAll(dir)
	})
	ts.Setenv(args[0], dir)
}

// cmdFreePort sets a variable to a TCP port of 127.0.0.1 that nobody has.
func cmdFreePort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: free-port VAR")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	ts.Check(l.Close())
}

// cmdDatabase makes an empty PostgreSQL in DIR/data and sets PGBIN, PGHOST, PGUSER,
// and AS_POSTGRES: a line for those that must not run as root.
func cmdDatabase(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: database DIR")
	}
	bin, err := postgresBin()
	ts.Check(err)
	run := filepath.Join(args[0], "pg")
	ts.Check(os.Mkdir(run, 0o755))
	init := []string{filepath.Join(bin, "initdb"), "--no-sync", "--auth=trust", "--username=postgres", "--locale=C", "--encoding=UTF8", filepath.Join(run, "data")}
	ts.Setenv("AS_POSTGRES", "")
	if os.Geteuid() == 0 { // whom it refuses to run as
		u, err := user.Lookup("postgres")
		ts.Check(err)
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		ts.Check(os.Chown(run, uid, gid))
		ts.Setenv("AS_POSTGRES", `user = "postgres"`)
		init = append([]string{"runuser", "-u", "postgres", "--"}, init...)
	}
	cmd := exec.Command(init[0], init[1:]...)
	cmd.Dir = run
	if out, err := cmd.CombinedOutput(); err != nil {
		ts.Fatalf("initdb: %v\n%s", err, out)
	}
	ts.Setenv("PGBIN", bin)
	ts.Setenv("PGHOST", run)
	ts.Setenv("PGUSER", "postgres")
}

// cmdExpand replaces $VARIABLES in files.
func cmdExpand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: expand FILE...")
	}
	for _, name := range args {
		name = ts.MkAbs(name)
		ts.Check(os.WriteFile(name, []byte(os.Expand(ts.ReadFile(name), ts.Getenv)), 0o666))
	}
}

// shop is a web application: `shop ADDRESS POSTGRES REDIS`, the last two being
// sockets. It gives up if one of these doesn't answer when it starts, so whoever
// starts it too early sees it fail. GET /health tells how it does itself.
func shop() {
	for name, ask := range map[string]func(net.Conn) error{os.Args[2]: askPostgres, os.Args[3]: askRedis} {
		if err := asked(name, ask); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
	}
	http.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "well\n") })
	fmt.Fprintln(os.Stderr, http.ListenAndServe(os.Args[1], nil))
	os.Exit(1)
}

func asked(socket string, ask func(net.Conn) error) error {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	return ask(c)
}

// askPostgres asks whether it would speak TLS, which any answer is good enough for.
func askPostgres(c net.Conn) error {
	if _, err := c.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func askRedis(c net.Conn) error {
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && line != "+PONG\r\n" {
		err = fmt.Errorf("it says %q", line)
	}
	return err
}

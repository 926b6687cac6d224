package main

import (
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// talk is a daemon that says what its arguments are to its manager, by sd_notify,
// and ends after the last. A duration among them is waited for, and so is a file
// (file:NAME); "forever" is a duration, too; env:NAME writes a variable to stdout.
// self writes its pid; child:A;B starts another one with the arguments A and B. In what is said $CHILD is
// the pid of that one, and $SELF its own.
func talk() {
	addr := &net.UnixAddr{Name: os.Getenv("NOTIFY_SOCKET"), Net: "unixgram"}
	child := 0
	for _, arg := range os.Args[1:] {
		if args, ok := strings.CutPrefix(arg, "child:"); ok {
			self, err := os.Executable()
			if err == nil {
				var p *os.Process
				p, err = os.StartProcess(self, append(os.Args[:1:1], strings.Split(args, ";")...), &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}})
				if err == nil {
					child = p.Pid
				}
			}
			if err != nil {
				os.Stderr.WriteString(err.Error() + "\n")
				os.Exit(1)
			}
			continue
		}
		arg = strings.NewReplacer("$CHILD", strconv.Itoa(child), "$SELF", strconv.Itoa(os.Getpid())).Replace(arg)
		if name, ok := strings.CutPrefix(arg, "env:"); ok {
			os.Stdout.WriteString(name + "=" + os.Getenv(name) + "\n")
			continue
		}
		if name, ok := strings.CutPrefix(arg, "file:"); ok {
			for _, err := os.Stat(name); err != nil; _, err = os.Stat(name) {
				time.Sleep(10 * time.Millisecond)
			}
			continue
		}
		if d, err := time.ParseDuration(arg); err == nil {
			time.Sleep(d)
			continue
		}
		if arg == "self" {
			os.Stdout.WriteString(strconv.Itoa(os.Getpid()) + "\n")
			continue
		}
		if arg == "forever" {
			select {}
		}
		c, err := net.DialUnix("unixgram", nil, addr)
		if err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		if _, err := c.Write([]byte(arg)); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		c.Close()
	}
}

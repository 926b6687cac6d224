package main

import (
	"net"
	"os"
	"strings"
	"time"
)

// talk is a daemon that says what its arguments are to its manager, by sd_notify,
// and ends after the last. A duration among them is waited for, and so is a file
// (file:NAME); "forever" is a duration, too; env:NAME writes a variable to stdout.
func talk() {
	addr := &net.UnixAddr{Name: os.Getenv("NOTIFY_SOCKET"), Net: "unixgram"}
	for _, arg := range os.Args[1:] {
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

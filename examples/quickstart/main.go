// Quickstart is three small daemons to try Syspulse with. They need nothing
// but Go, and run wherever Go does. examples/quickstart.sys names them:
//
//	go run . up examples/quickstart.sys
//
// They do what a daemon should: write to stdout and stderr, take their
// settings from the environment, and end soon and cleanly when asked to.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: quickstart web | worker | flaky

  web     serves HTTP on ADDR (127.0.0.1:8717) and logs each request
  worker  visits web every EVERY (2s) and says what it found
  flaky   does a job every EVERY (1s), and crashes after a few
`

func main() {
	daemons := map[string]func(context.Context) error{"web": web, "worker": worker, "flaky": flaky}
	if len(os.Args) != 2 || daemons[os.Args[1]] == nil {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	// Windows has no SIGTERM; asking for it there does nothing.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := daemons[os.Args[1]](ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// setting is an environment variable or, if it is not set, a default.
func setting(name, def string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return def
}

const defaultAddr = "127.0.0.1:8717"

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// flaky works through a handful of jobs and then crashes, so that there is a
// restart to be seen.
func flaky(ctx context.Context) error {
	jobs := 3 + rand.IntN(4)
	every, err := time.ParseDuration(setting("EVERY", "1s"))
	if err != nil || every <= 0 {
		return fmt.Errorf("EVERY=%q is no time, such as 1s", setting("EVERY", ""))
	}
	fmt.Println("starting: jobs are waiting")
	tick := time.NewTicker(every)
	defer tick.Stop()
	for job := 1; ; job++ {
		select {
		case <-ctx.Done():
			fmt.Println("bye")
			return nil
		case <-tick.C:
		}
		if job > jobs {
			return errors.New("fatal: lost the connection to the job queue (not really: this one is here to fail)")
		}
		fmt.Printf("job %d done\n", job)
	}
}

//go:build unix

package platform

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	modes(t, func(t *testing.T, h Host) {
		run := func(ctx context.Context, script string) (string, Exit, error) {
			out, exit, err := Run(ctx, h, Command{Incarnation: newIncarnation(), Args: []string{"/bin/sh", "-c", script}, Env: os.Environ()})
			return string(out), exit, err
		}
		out, exit, err := run(t.Context(), "echo out; echo err >&2; exit 3")
		if out != "out\nerr\n" || exit != (Exit{Known: true, Code: 3}) || err != nil {
			t.Errorf("%q %+v %v", out, exit, err)
		}
		// What it leaves behind does not keep Run waiting, and is ended.
		out, exit, err = run(t.Context(), "setsid sleep 9973 & echo $!")
		if strings.TrimSpace(out) == "" || exit != (Exit{Known: true}) || err != nil {
			t.Errorf("%q %+v %v", out, exit, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, _, err := run(ctx, "trap '' TERM; sleep 9973; sleep 9973"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if out, _, err := run(t.Context(), "head -c 1000000 /dev/zero"); len(out) != RunOutput || err != nil {
			t.Errorf("%d bytes, %v", len(out), err)
		}
	})
}

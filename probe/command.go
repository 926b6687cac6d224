package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/cyber-boost/syspulse/platform"
)

// command has a shell do the target; exit code 0 is healthy. Whatever it leaves
// behind, at the timeout or at its end, is killed.
func (c *Check) command(ctx context.Context) error {
	cmd, err := c.Command()
	if err != nil {
		return err
	}
	cmd.Args = []string{"/bin/sh", "-c", c.Target}
	if runtime.GOOS == "windows" {
		// With /s cmd takes off the outer quotes and nothing else.
		cmd.Args = []string{"cmd.exe", "/d", "/s", "/c", c.Target}
		cmd.Line = `cmd.exe /d /s /c "` + c.Target + `"`
	}
	if err := platform.SpareDescriptors(); err != nil {
		return err
	}
	out, exit, err := platform.Run(ctx, c.Host, cmd)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("it did not end within %v%s", c.Timeout, lastLine(out))
	case err != nil:
		return err
	case !exit.Known:
		return errors.New("nobody could learn its exit code" + lastLine(out))
	case exit.Signal != "":
		return fmt.Errorf("killed by %s%s", exit.Signal, lastLine(out))
	case exit.Code != 0:
		return fmt.Errorf("exit code %d%s", exit.Code, lastLine(out))
	}
	return nil
}

// lastLine is ": " and the last line that says something; "" if there is none.
func lastLine(out []byte) string {
	out = bytes.TrimRight(out, " \t\r\n\x00")
	if i := bytes.LastIndexAny(out, "\r\n"); i >= 0 {
		out = out[i+1:]
	}
	if s := strings.TrimSpace(string(out)); s != "" {
		return ": " + s
	}
	return ""
}

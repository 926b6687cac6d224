package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
)

// The exit codes.
const (
	exitOK        = 0
	exitFailed    = 1 // for bulk: some of it
	exitUsage     = 2 // or a bad file
	exitNoManager = 3
	exitNotFound  = 4 // and nothing else went wrong
	exitTimeout   = 5 // of a --wait
	exitGivenUp   = 70
	exitPipe      = 128 + 13 // nobody reads the output any more: as SIGPIPE would end it
)

// usageError is a command line that can't be meant so.
type usageError struct {
	message string
	command string // whose --help helps
}

func (e *usageError) Error() string { return e.message }

func usage(format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

// codeError is an end with a code of its own. Without err nothing more is to
// be said.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *codeError) Unwrap() error { return e.err }

// exitCode is what err means to the shell.
func exitCode(err error) int {
	var own *codeError
	var bad *usageError
	var problems spec.Problems
	switch {
	case err == nil:
		return exitOK
	case isClosedPipe(err):
		return exitPipe
	case errors.As(err, &own):
		return own.code
	case errors.As(err, &bad), errors.As(err, &problems):
		return exitUsage
	}
	switch api.CodeOf(err) {
	case api.CodeNoManager, api.CodeShuttingDown:
		return exitNoManager
	case api.CodeNotFound:
		return exitNotFound
	case api.CodeInvalid:
		return exitUsage
	case api.CodeTimeout:
		return exitTimeout
	}
	return exitFailed
}

// failure is the JSON form of an error.
type failure struct {
	Code     string        `json:"code"`
	Message  string        `json:"message"`
	ExitCode int           `json:"exit_code"`
	Daemon   string        `json:"daemon,omitempty"`
	Problems spec.Problems `json:"problems,omitempty"`
}

// fail prints err and returns its exit code.
func (a *app) fail(err error) int {
	code := exitCode(err)
	message := err.Error()
	if message == "" || code == exitPipe && isClosedPipe(err) {
		return code
	}
	var e *api.Error
	var bad *usageError
	var problems spec.Problems
	f := failure{Code: string(api.CodeOf(err)), Message: message, ExitCode: code}
	switch {
	case errors.As(err, &problems):
		f.Code, f.Problems = "bad_file", problems
		f.Message = count(len(problems), "problem", "problems")
	case errors.As(err, &bad):
		f.Code = "usage"
	case errors.As(err, &e):
		f.Daemon = e.Daemon
		for _, p := range e.Problems {
			if len(e.Problems) > 1 {
				f.Problems = append(f.Problems, spec.Problem{Message: p})
			}
		}
	case errors.Is(err, context.Canceled):
		f.Code, f.Message = "interrupted", "interrupted; what was begun goes on, `syspulse status` shows it"
	}
	if a.json {
		a.writeJSON(a.stderr, struct {
			Error failure `json:"error"`
		}{f})
		return code
	}
	switch {
	case problems != nil:
		for _, p := range problems {
			fmt.Fprintln(a.stderr, p)
		}
		fmt.Fprintf(a.stderr, "syspulse: %s\n", f.Message)
		return code
	case len(f.Problems) > 1:
		for _, p := range f.Problems {
			fmt.Fprintln(a.stderr, clean(p.Message))
		}
		fmt.Fprintf(a.stderr, "syspulse: %s\n", count(len(f.Problems), "problem", "problems"))
		return code
	}
	fmt.Fprintf(a.stderr, "syspulse: %s\n", cleanText(f.Message))
	if bad != nil {
		fmt.Fprintf(a.stderr, "`%s --help` shows how it is used\n", strings.TrimSpace("syspulse "+bad.command))
	}
	return code
}

// flagError makes a usage error of what pflag found, naming the flag that was
// perhaps meant.
func flagError(cmd *cobra.Command, err error) error {
	message := err.Error()
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		name := unknown.GetSpecifiedName()
		if shorts := unknown.GetSpecifiedShortnames(); shorts != "" {
			message = fmt.Sprintf("unknown flag -%s", name)
		} else {
			message = fmt.Sprintf("unknown flag --%s", name)
			var known []string
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				if !f.Hidden {
					known = append(known, f.Name)
				}
			})
			if near := spec.Nearest(name, known); near != "" {
				message += fmt.Sprintf("; did you mean --%s?", near)
			}
		}
	}
	return &usageError{message: message, command: commandPath(cmd)}
}

func commandPath(cmd *cobra.Command) string {
	return strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), "syspulse"), " ")
}

// unknownCommand is the root's check of its arguments: there should be none.
func (a *app) unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var known []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			known = append(known, c.Name())
		}
	}
	message := fmt.Sprintf("there is no command %q", args[0])
	if near := spec.Nearest(args[0], known); near != "" {
		message += fmt.Sprintf("; did you mean %s?", near)
	}
	return &usageError{message: message, command: commandPath(cmd)}
}

// args checks a command's arguments: at least min, at most max (negative: no
// limit). what is how the missing one is asked for.
func args(min, max int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < min:
			return &usageError{message: what, command: commandPath(cmd)}
		case max >= 0 && len(args) > max:
			return &usageError{message: fmt.Sprintf("%q is one argument too many", args[max]), command: commandPath(cmd)}
		}
		return nil
	}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func cutPrefix(s, prefix string) (string, bool) { return strings.CutPrefix(s, prefix) }

func asProblems(err error, ps *spec.Problems) bool { return errors.As(err, ps) }

package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/api"
)

func (a *app) cmdLogs() *cobra.Command {
	var (
		sel            selection
		lines          = lineCount(50)
		stderr, follow bool
	)
	cmd := &cobra.Command{
		Use:   "logs NAME... [flags]",
		Short: "Show what daemons wrote",
		Long: `Show the last lines that daemons wrote to stdout, or with --stderr to stderr.
With -f it goes on until Ctrl-C, across restarts of the daemons, and of the
manager: nothing is missing then, and nothing comes twice. It ends when the
manager is shut down, or when ten seconds after its death there is no other.`,
		Example:           "  syspulse logs web\n  syspulse logs -f --all\n  syspulse logs web --stderr -n 200",
		ValidArgsFunction: a.names(false),
		RunE: func(cmd *cobra.Command, names []string) error {
			s, err := sel.selector(cmd, names)
			if err != nil {
				return err
			}
			m, err := a.manager()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			q := api.LogQuery{Selector: s, Streams: []api.Stream{api.Stdout}, Lines: int(lines), Follow: follow}
			if stderr {
				q.Streams = []api.Stream{api.Stderr}
			}
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			lines, err := pump(ctx, &wg, func() (seq2[api.LogLine], error) { return m.Logs(ctx, q) })
			if err != nil {
				return err
			}
			many := len(names) > 1 || sel.picks()
			out := bufio.NewWriterSize(a.stdout, 64<<10)
			err = a.copyLines(newLinePrinter(a, out, many), out, lines)
			return ended(cmd.Context(), err)
		},
	}
	cmd.Flags().VarP(&lines, "lines", "n", "the last `N` lines of each daemon, or all")
	cmd.Flags().BoolVar(&stderr, "stderr", false, "what they wrote to stderr")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes")
	sel.flags(cmd, true)
	a.completeSelection(cmd)
	return cmd
}

// copyLines prints lines as they come: many at once if many wait.
func (a *app) copyLines(p *linePrinter, out *bufio.Writer, lines <-chan item[api.LogLine]) error {
	for {
		var l item[api.LogLine]
		var more bool
		select {
		case l, more = <-lines:
		default:
			if err := out.Flush(); err != nil {
				return fmt.Errorf("can't write: %w", err)
			}
			l, more = <-lines
		}
		if !more || l.err != nil {
			p.endLine()
			return errors.Join(l.err, out.Flush())
		}
		if err := p.line(l.value); err != nil {
			return err
		}
	}
}

// ended is the end of a stream: a Ctrl-C is how it is meant to end.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// lineCount is a flag: how many of the last lines, negative for all.
type lineCount int

func (n *lineCount) String() string {
	if *n < 0 {
		return "all"
	}
	return strconv.Itoa(int(*n))
}

func (n *lineCount) Set(s string) error {
	if s == "all" {
		*n = -1
		return nil
	}
	v, err := strconv.Atoi(s)
	if err != nil || v < 0 {
		return errors.New("write a number, 0 or more, or all")
	}
	*n = lineCount(v)
	return nil
}

func (n *lineCount) Type() string { return "N" }

// linePrinter prints daemons' lines, with names before them if they are
// several. A line that comes in pieces is put together again, unless another
// gets in between.
type linePrinter struct {
	a     *app
	out   io.Writer
	names bool
	width int
	color map[string]string
	open  string // whose line isn't ended yet
}

func newLinePrinter(a *app, out io.Writer, names bool) *linePrinter {
	return &linePrinter{a: a, out: out, names: names, color: map[string]string{}}
}

// prefix is the name before a line, in the daemon's colour.
func (p *linePrinter) prefix(name string) string {
	c, ok := p.color[name]
	if !ok {
		c = nameColors[len(p.color)%len(nameColors)]
		p.color[name] = c
		p.width = max(p.width, columns(clean(name)))
	}
	return p.a.paint(c, pad(clean(name), p.width)+" |") + " "
}

func (p *linePrinter) line(l api.LogLine) error {
	if p.a.json {
		return p.a.writeJSON(p.out, l)
	}
	if l.Notice != "" {
		if !p.a.quiet {
			fmt.Fprintf(p.a.stderr, "%s: %s\n", clean(l.Daemon), clean(l.Notice))
		}
		return nil
	}
	text := l.Line
	if l.Bytes != nil {
		text = string(l.Bytes)
	}
	if p.a.outTTY {
		text = cleanLine(text, p.a.color())
	}
	source := l.Daemon + "/" + string(l.Stream)
	if !l.Continues || p.open != source {
		if err := p.endLine(); err != nil {
			return err
		}
		if p.names {
			text = p.prefix(l.Daemon) + text
		}
	}
	p.open = ""
	if l.Partial {
		p.open = source
	} else {
		text += "\n"
	}
	if _, err := io.WriteString(p.out, text); err != nil {
		return fmt.Errorf("can't write: %w", err)
	}
	return nil
}

// endLine ends a line whose rest hasn't come.
func (p *linePrinter) endLine() error {
	if p.open == "" {
		return nil
	}
	p.open = ""
	_, err := io.WriteString(p.out, "\n")
	return err
}

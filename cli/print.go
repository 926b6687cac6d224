package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// color reports whether the output may have colours.
func (a *app) color() bool { return a.outTTY && a.wantColor() }

func (a *app) wantColor() bool { return !a.noColor && os.Getenv("NO_COLOR") == "" }

// The colours, as parameters of SGR.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	blue   = "34"
)

func (a *app) paint(color, s string) string { return painted(a.color(), color, s) }

// paintErr is paint for what goes to stderr.
func (a *app) paintErr(color, s string) string { return painted(a.errTTY && a.wantColor(), color, s) }

func painted(really bool, color, s string) string {
	if !really || color == "" || s == "" {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}

// nameColors tell daemons apart.
var nameColors = []string{"36", "35", "33", "32", "34", "96", "95", "93", "92", "94"}

func stateColor(s supervision.State) string {
	switch s {
	case supervision.Running:
		return green
	case supervision.Failed:
		return red
	case supervision.Starting, supervision.Stopping, supervision.Backoff:
		return yellow
	case supervision.Scheduled:
		return blue
	}
	return dim
}

func healthColor(h supervision.Health) string {
	switch h {
	case supervision.HealthHealthy:
		return green
	case supervision.HealthUnhealthy:
		return red
	}
	return dim
}

// writeJSON writes one document, in one line.
func (a *app) writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// printJSON prints the one document of a command.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	if a.outTTY {
		e.SetIndent("", "  ")
	}
	return e.Encode(v)
}

// say prints what isn't asked for, but good to know.
func (a *app) say(format string, args ...any) {
	if !a.quiet && !a.json {
		fmt.Fprintf(a.stdout, format+"\n", args...)
	}
}

// managerTrouble prints what is wrong with the manager itself, beside a table
// of its daemons. JSON has it in `ping`. That it can't be asked for is no
// reason not to show the table.
func (a *app) managerTrouble(ctx context.Context, m api.Manager) {
	if a.quiet || a.json {
		return
	}
	if p, err := m.Ping(ctx); err == nil {
		a.trouble(p)
	}
}

func (a *app) trouble(p api.Ping) {
	if a.quiet || a.json {
		return
	}
	for _, w := range p.Warnings {
		fmt.Fprintln(a.stderr, a.paintErr(yellow, "warning: the manager: "+clean(w)))
	}
}

// warn prints what the user should know, beside the output.
func (a *app) warn(warnings []spec.Warning) {
	if a.quiet || len(warnings) == 0 {
		return
	}
	if a.json {
		a.writeJSON(a.stderr, struct {
			Warnings []spec.Warning `json:"warnings"`
		}{warnings})
		return
	}
	for _, w := range warnings {
		fmt.Fprintf(a.stderr, "warning: %s\n", w)
	}
}

// cell is one field of a table.
type cell struct{ text, color string }

// table prints aligned columns. The last one isn't filled.
func (a *app) table(head []string, rows [][]cell) {
	widths := make([]int, len(head))
	for i, h := range head {
		widths[i] = columns(h)
	}
	for _, row := range rows {
		for i := range row {
			row[i].text = clean(row[i].text)
			widths[i] = max(widths[i], columns(row[i].text))
		}
	}
	var b strings.Builder
	line := func(n int, field func(int) cell) {
		for i := range n {
			c := field(i)
			b.WriteString(a.paint(c.color, c.text))
			if i < n-1 {
				b.WriteString(strings.Repeat(" ", 2+widths[i]-columns(c.text)))
			}
		}
		b.WriteByte('\n')
	}
	line(len(head), func(i int) cell { return cell{head[i], bold} })
	for _, row := range rows {
		line(len(row), func(i int) cell { return row[i] })
	}
	io.WriteString(a.stdout, b.String())
}

// resultJSON is the public form of a result.
type resultJSON struct {
	Name  string             `json:"name"`
	OK    bool               `json:"ok"`
	State *supervision.State `json:"state"`
	Error *string            `json:"error"`
}

// results prints what a bulk command did; its error has the exit code.
// done says in words what became of a daemon that is OK.
func (a *app) results(list []api.Result, done func(api.Result) string) error {
	if a.json {
		out := make([]resultJSON, len(list))
		for i, r := range list {
			out[i] = resultJSON{r.Name, r.OK, r.State, r.Error}
		}
		if err := a.printJSON(out); err != nil {
			return err
		}
	}
	var failed []api.Result
	for _, r := range list {
		if r.OK {
			if !a.json {
				a.say("%s", clean(done(r)))
			}
			continue
		}
		failed = append(failed, r)
		if a.json {
			continue
		}
		message := "failed"
		if r.Error != nil {
			message = *r.Error
		}
		if !mentions(message, r.Name) {
			message = r.Name + ": " + message
		}
		fmt.Fprintf(a.stderr, "syspulse: %s\n", clean(message))
		if len(r.Stderr) > 0 {
			fmt.Fprintf(a.stderr, "the last it wrote:\n")
			for _, l := range r.Stderr {
				fmt.Fprintf(a.stderr, "  %s\n", cleanLine(l, false))
			}
		}
	}
	if len(failed) == 0 {
		return nil
	}
	code := exitNotFound
	for _, r := range failed {
		switch {
		case r.Code == api.CodeNotFound:
		case r.Code == api.CodeTimeout && code != exitFailed:
			code = exitTimeout
		case r.Code != api.CodeTimeout:
			code = exitFailed
		}
	}
	if !a.json {
		return &codeError{code: code}
	}
	message := fmt.Sprintf("%d of %d failed", len(failed), len(list))
	e := api.NewError(failed[0].Code, "%s", message)
	if len(list) == 1 && failed[0].Error != nil {
		e.Detail, e.Daemon = *failed[0].Error, failed[0].Name
	}
	if len(failed) > 1 && code == exitFailed {
		e.Code = api.CodeFailed
	}
	return &codeError{code: code, err: e}
}

// mentions reports whether a message says whom it is about.
func mentions(message, name string) bool {
	return slices.ContainsFunc(strings.Fields(message), func(word string) bool { return strings.Trim(word, "\"'`:;,.()") == name })
}

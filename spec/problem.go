package spec

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Problem is one thing that is wrong, with its place as far as it is known.
// Message says what is wrong, Hint what would be right.
type Problem struct {
	File    string `json:"file,omitempty"`   // as it was named; empty if there is no file
	Line    int    `json:"line,omitempty"`   // from 1; 0 is unknown
	Column  int    `json:"column,omitempty"` // in characters, from 1; 0 is unknown
	Daemon  string `json:"daemon,omitempty"`
	Group   string `json:"group,omitempty"`
	Key     string `json:"key,omitempty"` // dotted, below the daemon or group: restart_policy.policy
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Source  string `json:"source,omitempty"` // lines to show below: of a syntax error the line, with a caret
}

// Warning is something that is legal and may still not be what was meant.
type Warning = Problem

// String is `file:line:column: daemon "x": key: what is wrong; what would be
// right`, without the parts that are unknown. It has more lines only if there
// is a Source. Nothing in it can move a terminal's cursor.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(printable(p.File))
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
			if p.Column > 0 {
				fmt.Fprintf(&b, ":%d", p.Column)
			}
		}
		b.WriteString(": ")
	}
	if p.Daemon != "" {
		fmt.Fprintf(&b, "daemon %s: ", quote(p.Daemon))
	}
	if p.Group != "" {
		fmt.Fprintf(&b, "group %s: ", quote(p.Group))
	}
	if p.Key != "" {
		b.WriteString(shorten(printable(p.Key), 120))
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString("; ")
		b.WriteString(p.Hint)
	}
	if p.Source != "" {
		b.WriteByte('\n')
		b.WriteString(p.Source)
	}
	return b.String()
}

// Problems is everything that is wrong, in the order of the files given and of
// the places within them.
type Problems []Problem

// Error is one problem after the other, a line each.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Err is ps as an error, nil if there are none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// maxProblems bounds a report: nobody reads more, and a hostile file could
// hold millions.
const maxProblems = 200

// sorted orders the problems of one file by place and drops what is said twice.
func (ps Problems) sorted() Problems {
	sort.SliceStable(ps, func(i, j int) bool {
		a, b := ps[i], ps[j]
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Column < b.Column
	})
	out := ps[:0]
	for i, p := range ps {
		if i == 0 || p != ps[i-1] {
			out = append(out, p)
		}
	}
	return out
}

// limited cuts a report to its length and says how much was cut.
func (ps Problems) limited() Problems {
	if len(ps) <= maxProblems {
		return ps
	}
	return append(ps[:maxProblems:maxProblems], Problem{
		File:    ps[maxProblems].File,
		Message: fmt.Sprintf("there is more than these %d problems", maxProblems),
		Hint:    "mend them first",
	})
}

// quote shows a string in one line and at a bounded length.
func quote(s string) string {
	return strconv.Quote(shorten(s, 80))
}

func shorten(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// printable replaces what is not for display.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return '\uFFFD'
	}, s)
}

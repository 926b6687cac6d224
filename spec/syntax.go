package spec

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// maxDepth bounds how deep a file or a JSON body may be nested. The format
// needs four levels; the TOML decoder follows each with a stack frame.
const maxDepth = 64

// decodeTOML decodes a file and maps its places. A syntax error is the only
// problem of its file.
func decodeTOML(src *source) (doc map[string]any, root *node, p *Problem) {
	if p := readable(src); p != nil {
		return nil, nil, p
	}
	if at := tooDeep(src.data); at >= 0 {
		return nil, nil, syntaxProblem(src, at, fmt.Sprintf("this is nested more than %d levels deep", maxDepth), "the format needs four")
	}
	defer func() {
		if r := recover(); r != nil { // a bug in the decoder must not be one of ours
			doc, root, p = nil, nil, syntaxProblem(src, 0, fmt.Sprintf("the file can't be decoded: %v", r), "please report this, with the file")
		}
	}()
	if _, err := toml.Decode(string(src.data), &doc); err != nil {
		return nil, nil, syntaxError(src, err)
	}
	root, _ = locate(src.data)
	return doc, root, nil
}

// readable finds what keeps a file from being text at all.
func readable(src *source) *Problem {
	utf16 := bytes.HasPrefix(src.data, []byte("\xff\xfe")) || bytes.HasPrefix(src.data, []byte("\xfe\xff"))
	if utf16 || bytes.IndexByte(src.data[:min(len(src.data), 4)], 0) >= 0 {
		return &Problem{File: src.file, Line: 1, Column: 1, Message: "the file is UTF-16 or binary", Hint: "save it as UTF-8"}
	}
	if i := invalidUTF8(src.data); i >= 0 {
		line, col := src.place(i)
		return &Problem{File: src.file, Line: line, Column: col, Message: fmt.Sprintf("the byte 0x%02x is not UTF-8", src.data[i]), Hint: "save the file as UTF-8"}
	}
	if i := bytes.IndexByte(src.data, 0); i >= 0 {
		line, col := src.place(i)
		return &Problem{File: src.file, Line: line, Column: col, Message: "there is a NUL character", Hint: "take it out"}
	}
	return nil
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size <= 1 {
			return i
		}
		i += size
	}
	return -1
}

// tooDeep finds where brackets or dotted keys nest deeper than maxDepth, -1 if
// nowhere. It skips strings and comments, and is right up to the first syntax
// error, at which the decoder stops anyway.
func tooDeep(data []byte) int {
	brackets, dots := 0, 0
	for i := 0; i < len(data); i++ {
		switch c := data[i]; c {
		case '#':
			n := bytes.IndexByte(data[i:], '\n')
			if n < 0 {
				return -1
			}
			i += n - 1
		case '"', '\'':
			i = skipString(data, i)
		case '[', '{':
			brackets++
			dots = 0
		case ']', '}':
			brackets--
			dots = 0
		case '.':
			dots++
		case '\n', ',', '=':
			dots = 0
		}
		if brackets > maxDepth || dots > maxDepth {
			return i
		}
	}
	return -1
}

// skipString is the offset of the last byte of the string that begins at i.
func skipString(data []byte, i int) int {
	q := data[i]
	long := bytes.HasPrefix(data[i:], []byte{q, q, q})
	if long {
		i += 2
	}
	for i++; i < len(data); i++ {
		switch c := data[i]; {
		case c == '\\' && q == '"':
			i++
		case c == '\n' && !long:
			return i // not closed
		case c == q && !long:
			return i
		case c == q && bytes.HasPrefix(data[i:], []byte{q, q, q}):
			i += 2
			for n := 0; n < 2 && i+1 < len(data) && data[i+1] == q; n++ {
				i++ // up to two quotes may precede the closing three
			}
			return i
		}
	}
	return i
}

// unclosed is where the string begins that has no end, or else where the
// decoder gave up.
func unclosed(data []byte, or int) int {
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '#':
			n := bytes.IndexByte(data[i:], '\n')
			if n < 0 {
				return or
			}
			i += n
		case '"', '\'':
			end := skipString(data, i)
			if end >= len(data) || data[end] == '\n' {
				return i
			}
			i = end
		}
	}
	return or
}

// syntaxProblem shows the line as well.
func syntaxProblem(src *source, at int, message, hint string) *Problem {
	line, col := src.place(at)
	return &Problem{File: src.file, Line: line, Column: col, Message: message, Hint: hint, Source: caret(src, line, col)}
}

// caret is a line with a mark below one of its columns.
func caret(src *source, line, col int) string {
	const before, width = 40, 100
	rest := src.data[src.lines[line-1]:]
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i]
	}
	text := []rune(printable(strings.TrimSuffix(string(rest), "\r")))
	from := 0
	if col > before && len(text) > width {
		from = col - before
	}
	text = text[min(from, len(text)):]
	text = text[:min(width, len(text))]
	margin := fmt.Sprintf("%6d | ", line)
	return margin + string(text) + "\n" + strings.Repeat(" ", len(margin)-2) + "| " + strings.Repeat(" ", col-1-from) + "^"
}

// syntaxError puts a decoder's error into our words.
func syntaxError(src *source, err error) *Problem {
	var pe toml.ParseError
	if !errors.As(err, &pe) {
		return &Problem{File: src.file, Message: err.Error()}
	}
	at := min(max(pe.Position.Start, 0), len(src.data))
	msg := strings.TrimSuffix(pe.Message, ".")
	has := func(s string) bool { return strings.Contains(msg, s) }

	if has("already been defined") || has("already created") || has("is not a table") {
		if p := twice(src); p != nil {
			return p
		}
	}
	if has("EOF") {
		at = len(bytes.TrimRight(src.data, "\r\n"))
	}
	next := byte('\n')
	if at < len(src.data) {
		next = src.data[at]
	}
	message, hint := "", ""
	switch {
	case src.data[0] == '{' && at == 0:
		message, hint = "this looks like JSON", "a .sys file is TOML: `syspulse init` writes one to begin with"
	case next == ':' && has("'='"):
		message, hint = "there is a : where a = should be", "a .sys file is TOML: lines are written key = value"
	case has("cannot have leading zeroes"):
		message, hint = "a number can't begin with 0", `an octal value such as a umask is written in quotes: "022"`
	case has("expected value but found") && (next == '\n' || next == '\r'), has("unexpected EOF; expected value"):
		message, hint = "a value is missing after the =", `text is written in quotes: name = "web"`
	case has("expected value but found"):
		message, hint = "this is no value", `text is written in quotes, true and false in lower case, lists as ["a", "b"]`
	case has("strings cannot contain newlines"), has(`expected '"'`), has(`expected "'"`):
		message, hint, at = "the string is not closed", "end it with the same quote, on the same line", unclosed(src.data, at)
	case has(`expected '"""'`), has("expected \"'''\""):
		message, hint, at = "the string is not closed", "end it with the same three quotes", unclosed(src.data, at)
	case has("invalid escape"), has("hexadecimal digits after"):
		message, hint = "a backslash and this character mean nothing together", `write \\ for one backslash, or use single quotes: 'C:\path'`
	case has("expected '.' or '='"), has("expected key separator"):
		message, hint = "a = is missing after the key", `lines are written key = value`
	case has("key name appears blank"), has("unexpected '='"):
		message, hint = "a key is missing before the =", "lines are written key = value"
	case has("expected a top-level item to end with a newline"):
		message, hint = "something follows the value", "write one key = value on a line, and # before a comment"
	case has("expected a comma (',') or array terminator"):
		message, hint = "a comma or a ] is missing before this", `arrays are written ["a", "b"]`
	case has("expected a comma or an inline table terminator"):
		message, hint = "a comma or a } is missing before this", `tables in braces are written { a = 1, b = 2 }`
	case has("end of table name"), has("to end table name"), has("table array name delimiter"), has("table separator"):
		message, hint = "the table header is not right", "write [daemon] or [[daemon]], and sub tables as [daemon.env]"
	case has("out of range"):
		message, hint = "the number is too large", "integers go to 9223372036854775807"
	case has("control characters"):
		message, hint = "there is a control character", `take it out, or write it as an escape in double quotes: "\u001b"`
	default:
		message = "this is not TOML: " + msg
	}
	return syntaxProblem(src, at, printable(message), hint)
}

// twice explains a key or table that is there twice.
func twice(src *source) *Problem {
	_, dup := locate(src.data)
	if dup == nil {
		return nil
	}
	line, _ := src.place(dup.first)
	message := fmt.Sprintf("%s is already defined in line %d", quote(dup.key), line)
	hint := "take one of them out"
	switch {
	case dup.key == "daemon" || dup.key == "group":
		hint = fmt.Sprintf("to write several, write [[%s]] above each of them", dup.key)
	case dup.header:
		hint = "put its keys under one header; a table of the next daemon comes after the next [[daemon]]"
	}
	return syntaxProblem(src, dup.second, message, hint)
}

package spec

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ReadEnvFile reads an environment file, at each start of a daemon. Lines are
// KEY=value; blank ones and those that begin with # or ; are skipped, an
// `export ` in front is, too.
//
//   - A bare value is everything to the end of the line, without the white
//     space around it: a # or a backslash in it is part of the value.
//   - In single quotes everything is as it is, line breaks too.
//   - In double quotes as well, but \" \\ \$ and \` stand for the second
//     character, and a backslash at a line's end joins the lines.
//   - Quoted pieces that touch are one value; a comment may follow after a blank.
//
// Nothing is expanded. Of a key that comes twice the last one counts. These
// are systemd's rules where docker's don't contradict them. The error is a
// [Problems].
func ReadEnvFile(path string) (map[string]string, error) {
	data, p := readFile(path)
	if p != nil {
		if p.Message == "there is no such file" {
			p.Message, p.Hint = "there is no such env_file", "write it, or take it out of env_file"
		}
		return nil, Problems{*p}
	}
	return ParseEnv(path, data)
}

// ParseEnv reads the bytes of an environment file; see [ReadEnvFile].
func ParseEnv(path string, data []byte) (map[string]string, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return nil, Problems{{File: path, Line: 1, Column: 1, Message: "the file is UTF-16", Hint: "save it as UTF-8"}}
	}
	e := &envReader{src: newSource(path, data), env: map[string]string{}}
	for e.i < len(data) && len(e.problems) < maxProblems {
		e.line()
	}
	if len(e.problems) > 0 {
		return nil, e.problems.sorted()
	}
	return e.env, nil
}

type envReader struct {
	src      *source
	i        int // what is read next
	env      map[string]string
	problems Problems
}

func (e *envReader) fail(at int, key, hint, format string, args ...any) {
	line, col := e.src.place(at)
	e.problems = append(e.problems, Problem{File: e.src.file, Line: line, Column: col, Key: key, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// line reads one assignment, which quotes may stretch over several lines.
func (e *envReader) line() {
	data := e.src.data
	start := e.i
	end := len(data)
	if n := bytes.IndexByte(data[start:], '\n'); n >= 0 {
		end = start + n
	}
	e.i = end + 1
	text := strings.TrimLeft(string(data[start:end]), " \t\v\f\r")
	at := end - len(text)
	if text == "" || text[0] == '#' || text[0] == ';' {
		return
	}
	if rest, ok := strings.CutPrefix(text, "export"); ok && rest != "" && (rest[0] == ' ' || rest[0] == '\t') {
		text = strings.TrimLeft(rest, " \t")
		at = end - len(text)
	}
	eq := strings.IndexByte(text, '=')
	if eq < 0 {
		e.fail(at, "", "lines are KEY=value; a comment begins with #", "%s has no =", quote(strings.TrimSpace(text)))
		return
	}
	key := text[:eq]
	if msg, hint := checkEnvName(key); msg != "" {
		e.fail(at, "", hint, "%s %s", quote(key), msg)
		return
	}
	from := at + eq + 1
	for from < end && (data[from] == ' ' || data[from] == '\t') {
		from++
	}
	value := ""
	if from < end && (data[from] == '"' || data[from] == '\'') {
		var ok bool
		if value, ok = e.quoted(key, from); !ok {
			return
		}
	} else {
		value = string(bytes.Trim(data[from:end], " \t\v\f\r"))
	}
	if strings.IndexByte(value, 0) >= 0 {
		e.fail(from, key, "take it out: no program could be given it", "the value holds a NUL character")
		return
	}
	e.env[key] = value
}

func checkEnvName(key string) (msg, hint string) {
	switch {
	case key == "":
		return "has no name before the =", "lines are KEY=value"
	case strings.TrimSpace(key) != key:
		return "has a blank before the =", "write KEY=value without blanks around the ="
	case strings.ContainsAny(key, " \t\v\f\r"):
		return "has a blank in it", "lines are KEY=value"
	case strings.ContainsAny(key, "\"'`$\\#;"), utf8.ValidString(key) && printable(key) != key:
		return "has a sign in it that no name has", "a name has letters, digits and _"
	}
	return checkText(key)
}

// quoted reads a value that begins with a quote, to the end of its last line.
func (e *envReader) quoted(key string, i int) (value string, ok bool) {
	data := e.src.data
	var b strings.Builder
	for i < len(data) && (data[i] == '"' || data[i] == '\'') {
		opened, quote := i, data[i]
		for i++; ; i++ {
			if i >= len(data) {
				// What follows was meant to be lines of its own: it isn't read.
				e.i = len(data)
				e.fail(opened, key, fmt.Sprintf("end the value with %c", quote), "the quote is not closed")
				return "", false
			}
			c := data[i]
			if c == quote {
				i++
				break
			}
			if c == '\\' && quote == '"' && i+1 < len(data) {
				switch next := data[i+1]; {
				case strings.IndexByte("\"\\$`", next) >= 0:
					b.WriteByte(next)
					i++
					continue
				case next == '\n':
					i++
					continue
				case next == '\r' && i+2 < len(data) && data[i+2] == '\n':
					i += 2
					continue
				}
			}
			if c == '\r' && i+1 < len(data) && data[i+1] == '\n' {
				continue // a line break is one, however it is written
			}
			b.WriteByte(c)
		}
	}
	end := len(data)
	if n := bytes.IndexByte(data[i:], '\n'); n >= 0 {
		end = i + n
	}
	e.i = end + 1
	rest := string(data[i:end])
	trimmed := strings.TrimLeft(rest, " \t\v\f\r")
	if trimmed != "" && (trimmed[0] != '#' || len(trimmed) == len(rest)) {
		e.fail(end-len(trimmed), key, "put all of it in quotes", "something follows the closing quote")
		return "", false
	}
	return b.String(), true
}

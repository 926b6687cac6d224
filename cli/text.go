package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// clean makes s harmless on a terminal and keeps it in one line: whatever
// isn't for display is shown as an escape.
func clean(s string) string { return escape(s, false) }

// cleanText is clean for text of several lines.
func cleanText(s string) string { return escape(s, true) }

func escape(s string, lines bool) string {
	bad := func(r rune) bool {
		return !(unicode.IsPrint(r) || isJoiner(r) || lines && (r == '\n' || r == '\t')) || r == utf8.RuneError
	}
	if strings.IndexFunc(s, bad) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case !bad(r) || r == utf8.RuneError:
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		s = s[n:]
	}
	return b.String()
}

// isJoiner: zero-width characters that scripts and emoji need to be read.
func isJoiner(r rune) bool { return r == '\u200c' || r == '\u200d' || r == '\ufe0f' }

// cleanLine makes a line of a daemon's output harmless on a terminal. Its
// colours pass if they are wanted; nothing else that begins with an escape
// does.
func cleanLine(s string, color bool) string {
	s = strings.TrimSuffix(s, "\r")
	if strings.IndexByte(s, 0x1b) < 0 {
		return strings.ReplaceAll(escape(strings.ReplaceAll(s, "\t", "\n"), true), "\n", "\t")
	}
	var b strings.Builder
	colored := false
	for len(s) > 0 {
		i := strings.IndexByte(s, 0x1b)
		if i < 0 {
			i = len(s)
		}
		if i > 0 {
			b.WriteString(cleanLine(s[:i], color))
			s = s[i:]
			continue
		}
		if n := sgr(s); n > 0 {
			if color {
				b.WriteString(s[:n])
				colored = true
			}
			s = s[n:]
			continue
		}
		b.WriteString(`\x1b`)
		s = s[1:]
	}
	if colored {
		b.WriteString("\x1b[0m")
	}
	return b.String()
}

// sgr is the length of the colour sequence (ECMA-48 SGR) that s begins with,
// 0 if it is none.
func sgr(s string) int {
	if !strings.HasPrefix(s, "\x1b[") {
		return 0
	}
	for i := 2; i < len(s) && i < 64; i++ {
		switch c := s[i]; {
		case c == 'm':
			return i + 1
		case c >= '0' && c <= '9', c == ';', c == ':':
		default:
			return 0
		}
	}
	return 0
}

// columns is how many cells of a terminal s takes.
func columns(s string) int {
	n := 0
	for _, r := range s {
		switch {
		case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		case isWide(r):
			n += 2
		default:
			n++
		}
	}
	return n
}

func isWide(r rune) bool {
	k := width.LookupRune(r).Kind()
	return k == width.EastAsianWide || k == width.EastAsianFullwidth
}

// pad fills s with blanks to a width.
func pad(s string, to int) string {
	if n := to - columns(s); n > 0 {
		return s + strings.Repeat(" ", n)
	}
	return s
}

// duration is d for people, in at most two units.
func duration(d time.Duration) string {
	d = max(d, 0)
	s := int64(d / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm %ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh %dm", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%dd %dh", s/86400, s%86400/3600)
}

func seconds(s float64) time.Duration {
	if s >= float64(1<<62)/float64(time.Second) {
		return 1 << 62
	}
	return time.Duration(s * float64(time.Second))
}

// soon is how long something is away, in tenths of a second where that is
// little.
func soon(d time.Duration) string {
	if d = max(d, 0).Round(100 * time.Millisecond); d < 10*time.Second {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return duration(d)
}

// clock is a time for people.
func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// moment is a time for people, with its distance from now.
func moment(t, now time.Time) string {
	switch d := now.Sub(t); {
	case d >= time.Second:
		return fmt.Sprintf("%s (%s ago)", clock(t), duration(d))
	case d <= -50*time.Millisecond: // less would be 0.0s
		return fmt.Sprintf("%s (in %s)", clock(t), soon(-d))
	}
	return clock(t) + " (now)"
}

// parseTime reads what people write for a moment in the past: RFC 3339, a
// date and time or a time of today in local time, or how long ago.
func parseTime(s string, now time.Time) (time.Time, error) {
	s = strings.TrimSpace(s)
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"15:04:05", "15:04"} {
		if t, err := time.Parse(layout, s); err == nil {
			y, m, d := now.Date()
			return time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), 0, now.Location()), nil
		}
	}
	ago := strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(s, "-"), "ago"))
	days := 0
	if before, after, ok := strings.Cut(ago, "d"); ok {
		n, err := strconv.ParseUint(before, 10, 16)
		if err != nil {
			n, after = 0, "?"
		}
		days, ago = int(n), or(strings.TrimSpace(after), "0s")
	}
	if d, err := time.ParseDuration(strings.ReplaceAll(ago, " ", "")); err == nil && d >= 0 {
		return now.AddDate(0, 0, -days).Add(-d), nil
	}
	return time.Time{}, usage("%q is no time; write 2006-01-02T15:04:05Z, \"2006-01-02 15:04\", 15:04, or 10m for ten minutes ago", s)
}

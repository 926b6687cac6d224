package cli

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"
)

func TestNothingReachesATerminalThatMovesIt(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                       "plain",
		"größe データ":                   "größe データ",
		"\x1b]0;title\x07":            `\x1b]0;title\x07`,
		"a\x1b[2Jb":                   `a\x1b[2Jb`,
		"a\nb\tc\rd":                  `a\nb\tc\x0dd`,
		"\x9b31m":                     `\x9b31m`,
		"\u009b31m":                   `\u009b31m`,
		"right\u202eleft":             `right\u202eleft`,
		"bad \xff utf8":               `bad \xff utf8`,
		"joined \U0001f469\u200d🚀 ok": "joined \U0001f469\u200d🚀 ok",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestLinesKeepTheirColoursOnly(t *testing.T) {
	for _, test := range []struct {
		in    string
		color bool
		want  string
	}{
		{"\x1b[31mred\x1b[0m", true, "\x1b[31mred\x1b[0m\x1b[0m"},
		{"\x1b[31mred\x1b[0m", false, "red"},
		{"\x1b[38;5;200mx", true, "\x1b[38;5;200mx\x1b[0m"},
		{"\x1b[2Jx", true, `\x1b[2Jx`},
		{"\x1b[31", true, `\x1b[31`},
		{"\x1b]8;;http://x\x07y", true, `\x1b]8;;http://x\x07y`},
		{"a\tb\r", true, "a\tb"},
		{"a\x08b", true, `a\x08b`},
	} {
		if got := cleanLine(test.in, test.color); got != test.want {
			t.Errorf("cleanLine(%q, %v) = %q, want %q", test.in, test.color, got, test.want)
		}
	}
}

func TestCleanedTextHasNoControls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "s")
		for _, out := range []string{clean(s), cleanLine(s, false)} {
			if i := strings.IndexFunc(out, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }); i >= 0 {
				t.Fatalf("%q has a control character", out)
			}
		}
		if strings.Contains(clean(s), "\n") {
			t.Fatal("more than a line")
		}
	})
}

func TestColumns(t *testing.T) {
	for s, want := range map[string]int{"web": 3, "データ": 6, "e\u0301": 1, "ｗ": 2, "": 0} {
		if got := columns(s); got != want {
			t.Errorf("columns(%q) = %d, want %d", s, got, want)
		}
	}
	if got := cut("データベース", 5); columns(got) > 5 {
		t.Errorf("cut: %q", got)
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", -time.Hour: "0s", 59 * time.Second: "59s", 90 * time.Second: "1m 30s",
		3*time.Hour + 5*time.Minute: "3h 5m", 76*time.Hour + time.Minute: "3d 4h",
	} {
		if got := duration(d); got != want {
			t.Errorf("duration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestParseTime(t *testing.T) {
	zone := time.FixedZone("", 2*3600)
	now := time.Date(2026, 3, 4, 15, 30, 0, 0, zone)
	for in, want := range map[string]time.Time{
		"2026-01-02T03:04:05Z":      time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"2026-01-02T03:04:05+01:00": time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC),
		"2026-01-02 03:04":          time.Date(2026, 1, 2, 3, 4, 0, 0, zone),
		"2026-01-02":                time.Date(2026, 1, 2, 0, 0, 0, 0, zone),
		"14:05":                     time.Date(2026, 3, 4, 14, 5, 0, 0, zone),
		"10m":                       now.Add(-10 * time.Minute),
		"1h30m ago":                 now.Add(-90 * time.Minute),
		"2d":                        now.AddDate(0, 0, -2),
		"1d 2h":                     now.AddDate(0, 0, -1).Add(-2 * time.Hour),
	} {
		if got, err := parseTime(in, now); err != nil || !got.Equal(want) {
			t.Errorf("parseTime(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "soon", "25:00", "-", "d", "1x"} {
		if got, err := parseTime(in, now); err == nil {
			t.Errorf("parseTime(%q) = %v", in, got)
		}
	}
}

func TestMomentsThatAreNear(t *testing.T) {
	now := time.Now()
	for away, want := range map[time.Duration]string{
		700 * time.Millisecond: "(in 0.7s)", 9 * time.Second: "(in 9.0s)", 12 * time.Second: "(in 12s)",
		0: "(now)", -time.Minute: "(1m 0s ago)",
	} {
		if got := moment(now.Add(away), now); !strings.HasSuffix(got, want) {
			t.Errorf("%v away: %q, want %q", away, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-time.Second: "0.0s", 9960 * time.Millisecond: "10s", 90 * time.Second: "1m 30s"} {
		if got := soon(d); got != want {
			t.Errorf("soon(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestShellWords(t *testing.T) {
	if got := shellWords([]string{"sh", "-c", "echo 'a b'", ""}); got != `sh -c 'echo '\''a b'\''' ''` {
		t.Error(got)
	}
}

func TestSplitCommand(t *testing.T) {
	for _, test := range []struct {
		args, rest, command string
		found               bool
	}{
		{"add --name x --command sleep 10 --json -v", "add --name x", "sleep 10 --json -v", true},
		{"--data-dir add add --name x --command a --command b", "--data-dir add add --name x", "a --command b", true},
		{"--json add --name=x --command=a --help", "--json add --name=x", "a --help", true},
		{"add --name x --command", "add --name x", "", true},
		{"status --command x", "status --command x", "", false},
		{"add --file x", "add --file x", "", false},
		{"", "", "", false},
	} {
		rest, command, found := splitCommand(strings.Fields(test.args))
		if strings.Join(rest, " ") != test.rest || strings.Join(command, " ") != test.command || found != test.found {
			t.Errorf("%s: %q %q %v", test.args, rest, command, found)
		}
	}
}

package spec

import (
	"maps"
	"strings"
	"testing"
)

func TestEnvFile(t *testing.T) {
	for _, c := range []struct {
		in   string
		want map[string]string
	}{
		{"", map[string]string{}},
		{"A=1", map[string]string{"A": "1"}},
		{"A=1\nB=2\n", map[string]string{"A": "1", "B": "2"}},
		{"A=1\r\nB=2\r\n", map[string]string{"A": "1", "B": "2"}},
		{"\xef\xbb\xbfA=1", map[string]string{"A": "1"}},
		{"# no\n ; no\n\n  \t\nA=1 # part of it", map[string]string{"A": "1 # part of it"}},
		{"export A=1\n\texport  B=2\nexport=3", map[string]string{"A": "1", "B": "2", "export": "3"}},
		{"  A=  x y  \t\n", map[string]string{"A": "x y"}},
		{"A=\nB=''\nC=\"\"", map[string]string{"A": "", "B": "", "C": ""}},
		{"A=1\nA=2", map[string]string{"A": "2"}},
		{"A='a b'  ", map[string]string{"A": "a b"}},
		{`A='a\n"$x'`, map[string]string{"A": `a\n"$x`}},
		{`A="say \"hi\" \\ \$x \` + "`" + ` \n"`, map[string]string{"A": `say "hi" \ $x ` + "`" + ` \n`}},
		{"A=\"1\n2\"\nB='3\r\n4'\nC=5", map[string]string{"A": "1\n2", "B": "3\n4", "C": "5"}},
		{"A=\"1\\\n2\"", map[string]string{"A": "12"}},
		{"A=\"a\"'b'\"c\"", map[string]string{"A": "abc"}},
		{"A='x' # comment\nB=\"y\"\t#c", map[string]string{"A": "x", "B": "y"}},
		{`A=C:\path\n`, map[string]string{"A": `C:\path\n`}},
		{`A={"k": "v"}`, map[string]string{"A": `{"k": "v"}`}},
		{"A=it's", map[string]string{"A": "it's"}},
		{"A=$HOME/x", map[string]string{"A": "$HOME/x"}},
		{"A=a=b==", map[string]string{"A": "a=b=="}},
		{"my.key-1=x\nÄ=y", map[string]string{"my.key-1": "x", "Ä": "y"}},
		{"A=\xff", map[string]string{"A": "\xff"}}, // bytes are bytes
	} {
		got, err := ParseEnv("e.env", []byte(c.in))
		if err != nil || !maps.Equal(got, c.want) {
			t.Errorf("%q: got %q, %v, want %q", c.in, got, err, c.want)
		}
	}
}

func TestEnvFileErrors(t *testing.T) {
	for in, want := range map[string]string{
		"A=1\n  oops\n":        `e.env:2:3: "oops" has no =; lines are KEY=value; a comment begins with #`,
		"=x":                   `e.env:1:1: "" has no name before the =; lines are KEY=value`,
		"A =x":                 `e.env:1:1: "A " has a blank before the =; write KEY=value without blanks around the =`,
		"A B=x":                `e.env:1:1: "A B" has a blank in it; lines are KEY=value`,
		"set A=x":              `e.env:1:1: "set A" has a blank in it; lines are KEY=value`,
		"\"A\"=x":              `e.env:1:1: "\"A\"" has a sign in it that no name has; a name has letters, digits and _`,
		"B=1\nA=\"x\nC=2\n":    `e.env:2:3: A: the quote is not closed; end the value with "`,
		"export #=x":           `e.env:1:8: "#" has a sign in it that no name has; a name has letters, digits and _`,
		"A='x":                 `e.env:1:3: A: the quote is not closed; end the value with '`,
		"A='x'y":               `e.env:1:6: A: something follows the closing quote; put all of it in quotes`,
		"A='x'#y":              `e.env:1:6: A: something follows the closing quote; put all of it in quotes`,
		"A='x' y":              `e.env:1:7: A: something follows the closing quote; put all of it in quotes`,
		"A=x\x00":              `e.env:1:3: A: the value holds a NUL character; take it out: no program could be given it`,
		"A\x00=x":              `e.env:1:1: "A\x00" has a sign in it that no name has; a name has letters, digits and _`,
		"\xff\xfeA\x00":        `e.env:1:1: the file is UTF-16; save it as UTF-8`,
		"ä=1\nöö\nA='1\n2'\nx": "e.env:2:1: \"öö\" has no =; lines are KEY=value; a comment begins with #\ne.env:5:1: \"x\" has no =; lines are KEY=value; a comment begins with #",
	} {
		got, err := ParseEnv("e.env", []byte(in))
		if err == nil || got != nil || err.Error() != want {
			t.Errorf("%q: got %v\nwant %s", in, err, want)
		}
	}
	write(t, map[string]string{"e.env": "A=1\n"})
	if got, err := ReadEnvFile("e.env"); err != nil || got["A"] != "1" {
		t.Errorf("%v, %v", got, err)
	}
	for path, want := range map[string]string{
		"none.env": "none.env: there is no such env_file; write it, or take it out of env_file",
		".":        ".: this is a directory, not a file; name a file in it",
	} {
		if _, err := ReadEnvFile(path); err == nil || err.Error() != want {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func FuzzEnvFile(f *testing.F) {
	for _, s := range []string{"A=1\n", "export A='x'\"y\" # c\r\n", "A=\"\\\n\\\"\\$\"", "A='", "# c\n;\n\n=\n", "\xef\xbb\xbfA=\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		env, err := ParseEnv("e.env", data)
		if err != nil {
			if ps, ok := err.(Problems); !ok || len(ps) == 0 || ps[0].Line < 1 || ps[0].Column < 1 {
				t.Fatalf("no place: %#v", err)
			}
			return
		}
		// Written anew in quotes, it is the same.
		var b strings.Builder
		for k, v := range env {
			if k == "" || strings.ContainsAny(k, "=\x00 \n\r\t") || strings.Contains(v, "\x00") {
				t.Fatalf("accepted %q=%q", k, v)
			}
			b.WriteString(k + `="`)
			b.WriteString(strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(v))
			b.WriteString("\"\n")
		}
		again, err := ParseEnv("e.env", []byte(b.String()))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range env {
			// A line break is one however it is written.
			if again[k] != strings.ReplaceAll(v, "\r\n", "\n") {
				t.Fatalf("%q: %q became %q", k, v, again[k])
			}
		}
	})
}

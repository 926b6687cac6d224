package spec

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCheckName(t *testing.T) {
	for _, name := range []string{
		"a", "web", "api.v2", "a-b_c.d", "_x", "9", "Größe", "数据库", "हिन्दी", "cafe\u0301", "ไทย", "٣",
		strings.Repeat("x", 64), strings.Repeat("ö", 64), strings.Repeat("e\u0301", 64), "con-sole", "com10", "com", "nul1", "x.nul", "com0",
	} {
		if err := CheckName("daemon", name); err != nil {
			t.Errorf("refused: %v", err)
		}
	}
	for name, want := range map[string]string{
		"":                            "is empty",
		"a/b":                         `holds "/"`,
		`a\b`:                         `holds "\\"`,
		"a b":                         "holds a space",
		"a\x00":                       `holds "\x00"`,
		"a\n":                         `holds "\n"`,
		"\xff":                        "not valid UTF-8",
		".a":                          "begins with a dot",
		".":                           "begins with a dot",
		"..":                          "begins with a dot",
		"-a":                          "begins with a dash",
		"a.":                          "ends with a dot",
		"a..":                         "ends with a dot",
		"CON":                         "device",
		"nul":                         "device",
		"Aux.d":                       "device",
		"prn.a.b":                     "device",
		"com1":                        "device",
		"LPT9.x":                      "device",
		"a:b":                         `holds ":"`,
		"a*":                          `holds "*"`,
		"½":                           "holds",
		"🦀":                           "holds",
		"\u0301a":                     "holds",
		"a.\u0301":                    "holds",
		"a\u200d":                     "holds",
		"\u202ea":                     "holds",
		strings.Repeat("x", 65):       "65 characters long",
		strings.Repeat("字", 64) + "x": "65 characters long",
		strings.Repeat("𝒳", 51):       "204 bytes long",
		strings.Repeat("x", 1<<20):    "1048576 bytes long",
	} {
		err := CheckName("group", name)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "group name ") {
			t.Errorf("%.20q: got %v, want it %s", name, err, want)
		}
	}
}

func TestNameKey(t *testing.T) {
	for _, c := range [][2]string{{"Web", "wEB"}, {"caf\u00e9", "CAFE\u0301"}, {"Σίσυφος", "ΣΊΣΥΦΟΣ"}, {"straße", "STRASSE"}, {"ǅ", "ǆ"}, {"Ꮖ", "ꮖ"}} {
		if NameKey(c[0]) != NameKey(c[1]) {
			t.Errorf("%q and %q differ", c[0], c[1])
		}
	}
	for _, c := range [][2]string{{"web", "web1"}, {"a", "ä"}, {"a.b", "a-b"}} {
		if NameKey(c[0]) == NameKey(c[1]) {
			t.Errorf("%q and %q are the same", c[0], c[1])
		}
	}
}

// A name that is accepted is safe as a folder's, whatever its bytes.
func FuzzName(f *testing.F) {
	for _, s := range []string{"web", "caf\u00e9", "cafe\u0301", "हिन्दी", "com1.x", "..", "a/b", "\xff", "ﬁ", "ΐ", "İ", "\u0344"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckName("daemon", name) != nil {
			return
		}
		c := CanonicalName(name)
		if err := CheckName("daemon", c); err != nil {
			t.Fatalf("%q is accepted, its canonical form %q is not: %v", name, c, err)
		}
		if CanonicalName(c) != c {
			t.Fatalf("%q: the canonical form is not canonical", name)
		}
		n := utf8.RuneCountInString(c)
		if n < 1 || n > 64 || len(c) > 200 || strings.ContainsAny(c, "/\\:*?\"<>|\x00 ") || c[0] == '.' || c[0] == '-' || strings.HasSuffix(c, ".") {
			t.Fatalf("%q was accepted", c)
		}
		if printable(c) != c {
			t.Fatalf("%q was accepted", c)
		}
		k := NameKey(name)
		if NameKey(c) != k || NameKey(k) != k {
			t.Fatalf("%q: the key %q is not that of %q, or has another one", name, k, c)
		}
		for _, other := range []string{strings.ToUpper(c), strings.ToLower(c)} {
			if strings.EqualFold(other, c) && NameKey(other) != k {
				t.Fatalf("%q and %q have different keys", c, other)
			}
		}
	})
}

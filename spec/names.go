package spec

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// The limits of a name, in its composed form (NFC).
const (
	MaxNameLetters = 64
	MaxNameBytes   = 200
)

// CanonicalName is the form in which names are kept and compared: NFC.
// It doesn't check; see [CheckName].
func CanonicalName(name string) string { return norm.NFC.String(name) }

// NameKey is equal for names that may not be used side by side: those that are
// equal or differ only by case, by Unicode's canonical caseless matching. File
// systems that ignore case would give such daemons one folder.
func NameKey(name string) string {
	folded := cases.Fold().String(norm.NFD.String(name))
	// The fold of x/text exchanges the cases of Cherokee instead of joining
	// them, so each letter is also replaced by the first of those it folds to.
	folded = strings.Map(func(r rune) rune {
		first := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			first = min(first, f)
		}
		return first
	}, folded)
	return norm.NFC.String(folded)
}

// CheckName says what is wrong with a name, nil if nothing is. kind is what it
// names, "daemon" or "group", for the message. The name may be in any
// normalization form.
func CheckName(kind, name string) error {
	if msg, hint := checkName(name); msg != "" {
		return fmt.Errorf("%s name %s %s; %s", kind, quote(name), msg, hint)
	}
	return nil
}

const nameRule = `a name has letters, digits, ".", "_" and "-"`

// checkName returns what is wrong and what would be right.
func checkName(name string) (msg, hint string) {
	if name == "" {
		return "is empty", "give it 1 to 64 letters and digits"
	}
	if !utf8.ValidString(name) {
		return "is not valid UTF-8", nameRule
	}
	if len(name) > 16*MaxNameBytes { // don't normalize what can't become short enough
		return fmt.Sprintf("is %d bytes long", len(name)), fmt.Sprintf("at most %d characters and %d bytes are allowed", MaxNameLetters, MaxNameBytes)
	}
	name = CanonicalName(name)
	letter := false // marks only follow letters
	for i, r := range name {
		ok := false
		switch {
		case unicode.IsLetter(r):
			ok, letter = true, true
		case unicode.In(r, unicode.Mn, unicode.Mc):
			// Many scripts don't write a word without them.
			ok = letter
		default:
			ok, letter = unicode.IsDigit(r) || r == '.' || r == '_' || r == '-', false
		}
		switch {
		case !ok && (r == '/' || r == '\\'):
			return fmt.Sprintf("holds %q", string(r)), nameRule + ": it names a folder, a path can't be one"
		case !ok && r == ' ':
			return "holds a space", nameRule + `: write "-" instead`
		case !ok:
			return fmt.Sprintf("holds %q", string(r)), nameRule
		case i == 0 && r == '.':
			return "begins with a dot", "begin with a letter or a digit"
		case i == 0 && r == '-':
			return "begins with a dash", "begin with a letter or a digit: commands would take it for a flag"
		}
	}
	if n := utf8.RuneCountInString(name); n > MaxNameLetters {
		return fmt.Sprintf("is %d characters long", n), fmt.Sprintf("at most %d are allowed", MaxNameLetters)
	}
	if len(name) > MaxNameBytes {
		return fmt.Sprintf("is %d bytes long", len(name)), fmt.Sprintf("at most %d are allowed", MaxNameBytes)
	}
	if strings.HasSuffix(name, ".") {
		return "ends with a dot", "leave the dot out: Windows does, too, so that two names would be one"
	}
	if windowsDevice(name) {
		return "is the name of a device on Windows", "choose another one, so that the file works there, too"
	}
	return "", ""
}

// windowsDevice reports whether Windows would open a device instead of a file
// of that name, whatever its extension.
func windowsDevice(name string) bool {
	base, _, _ := strings.Cut(strings.ToUpper(name), ".")
	switch base {
	case "CON", "PRN", "AUX", "NUL":
		return true
	}
	return len(base) == 4 && (strings.HasPrefix(base, "COM") || strings.HasPrefix(base, "LPT")) &&
		base[3] >= '1' && base[3] <= '9'
}

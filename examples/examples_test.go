// Package examples has no code of its own: its tests hold the example files
// and the documentation against the parser, so that neither can rot.
package examples

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/cyber-boost/syspulse/spec"
)

func sysFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.sys")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	return files
}

// load reads one file that must be good.
func load(t *testing.T, file string) *spec.File {
	t.Helper()
	set, err := spec.Load(file)
	if err != nil {
		t.Fatalf("%s doesn't load:\n%v", file, err)
	}
	return set.Files[0]
}

func TestExamples(t *testing.T) {
	for _, want := range []string{"quickstart", "simple", "multi", "linux", "macos", "windows", "scheduled", "stack", "full-featured"} {
		if !slices.Contains(sysFiles(t), want+".sys") {
			t.Errorf("there is no %s.sys", want)
		}
	}
	for _, file := range sysFiles(t) {
		t.Run(file, func(t *testing.T) {
			f := load(t, file)
			// Examples are copied: nothing in them may be doubtful, and what is
			// not acted on is left to the files that say so.
			early := file == "scheduled.sys" || file == "full-featured.sys"
			var acted []string
			for _, d := range f.Daemons {
				for _, w := range spec.Doubtful(d) {
					t.Errorf("doubtful: %v", w)
				}
				for _, w := range spec.NotActedOn(d) {
					acted = append(acted, w.String())
				}
			}
			if len(acted) > 0 && !early {
				t.Errorf("keys that nothing acts on:\n%s", strings.Join(acted, "\n"))
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if says := strings.Contains(string(text), "This build reads and checks"); says != (len(acted) > 0) {
				t.Errorf("it says that keys are not acted on yet: %t, and %d are not", says, len(acted))
			}
		})
	}
}

// quickstart.sys must name daemons that examples/quickstart has, in the way
// that works from the root of the repository.
func TestQuickstartCommands(t *testing.T) {
	for _, d := range load(t, "quickstart.sys").Daemons {
		if len(d.Command) != 4 || !slices.Equal(d.Command[:3], []string{"go", "run", "./examples/quickstart"}) {
			t.Errorf("%s runs %q", d.Name, d.Command)
		} else if d.Command[3] != d.Name {
			t.Errorf("%s runs the daemon %s", d.Name, d.Command[3])
		}
	}
}

// keysOf lists the keys of the format below a type, dotted.
func keysOf(typ reflect.Type, prefix string) []string {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return nil
	}
	var keys []string
	for f := range fields(typ) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		keys = append(keys, prefix+name)
		keys = append(keys, keysOf(f.Type, prefix+name+".")...)
	}
	return keys
}

func fields(typ reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range typ.NumField() {
			if !yield(typ.Field(i)) {
				return
			}
		}
	}
}

func formatKeys() []string {
	return append(keysOf(reflect.TypeFor[spec.Daemon](), "daemon."), keysOf(reflect.TypeFor[spec.Group](), "group.")...)
}

// written collects the dotted keys of a document, without the elements'
// indexes.
func written(v any, prefix string, keys map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			keys[prefix+k] = true
			written(e, prefix+k+".", keys)
		}
	case []map[string]any:
		for _, e := range v {
			written(e, prefix, keys)
		}
	case []any:
		for _, e := range v {
			written(e, prefix, keys)
		}
	}
}

func TestFullFeaturedHasEveryKey(t *testing.T) {
	var doc map[string]any
	if _, err := toml.DecodeFile("full-featured.sys", &doc); err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	written(doc, "", keys)
	for _, k := range formatKeys() {
		if !keys[k] {
			t.Errorf("%s is not in it", k)
		}
	}
}

// Each key has its row in the reference, in the section of its table, and the
// row says whether this build acts on it.
func TestConfigHasEveryKey(t *testing.T) {
	notYet := map[string]bool{}
	for _, w := range load(t, "full-featured.sys").Warnings() {
		if w.Daemon != "" {
			notYet[w.Key] = true
		}
	}
	data, err := os.ReadFile("../docs/CONFIG.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{} // by section and key
	at := ""
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "#"); ok {
			at = strings.Trim(rest, "# `[]\r\n")
		}
		if key, _, row := strings.Cut(strings.TrimPrefix(line, "| `"), "`"); row && strings.HasPrefix(line, "| `") {
			rows[at+" "+key] = line
		}
	}
	for _, k := range formatKeys() {
		table, key := k[:strings.LastIndex(k, ".")], k[strings.LastIndex(k, ".")+1:]
		if table == "daemon.depends_on" { // its keys are told of in its row
			continue
		}
		row, ok := rows[table+" "+key]
		if !ok {
			t.Errorf("docs/CONFIG.md says nothing of %s below %q", key, table)
			continue
		}
		if path, ok := strings.CutPrefix(k, "daemon."); ok && strings.Contains(row, "(not yet)") != notYet[path] {
			t.Errorf("docs/CONFIG.md is wrong about whether %s is acted on (not yet: %t)", k, notYet[path])
		}
	}
}

// block is a fenced block of a Markdown file.
type block struct {
	file string
	line int // of its fence
	info []string
	text string
}

func (b block) where() string { return fmt.Sprintf("%s:%d", filepath.ToSlash(b.file), b.line) }

func blocks(t *testing.T, file string) []block {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []block
	open := false
	n := 0
	for line := range strings.Lines(strings.ReplaceAll(string(data), "\r\n", "\n")) {
		n++
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && !open:
			all = append(all, block{file: file, line: n, info: strings.Fields(info)})
			open = true
		case fence:
			open = false
		case open:
			all[len(all)-1].text += line
		}
	}
	if open {
		t.Fatalf("%s: the last block is not closed", file)
	}
	return all
}

func docs(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return append(files, "../README.md")
}

// Every toml block is read. Its info string says what it is:
//
//	```toml               a whole file
//	```toml daemon        a part of a daemon: it gets a name and a command
//	```toml wrong F.sys   wrong: the next block shows what is said of it
func TestTOMLInDocs(t *testing.T) {
	read := 0
	for _, file := range docs(t) {
		all := blocks(t, file)
		for i, b := range all {
			if len(b.info) == 0 || b.info[0] != "toml" {
				continue
			}
			read++
			kind := strings.Join(b.info[1:], " ")
			switch {
			case kind == "":
				if _, ps := spec.Parse("example.sys", []byte(b.text)); len(ps) > 0 {
					t.Errorf("%s:\n%v", b.where(), ps)
				}
			case kind == "daemon":
				text := "[[daemon]]\nname = \"example\"\ncommand = [\"program\"]\n" + b.text
				if _, ps := spec.Parse("example.sys", []byte(text)); len(ps) > 0 {
					t.Errorf("%s (three lines were put in front):\n%v", b.where(), ps)
				}
			case len(b.info) == 3 && b.info[1] == "wrong":
				_, ps := spec.Parse(b.info[2], []byte(b.text))
				if len(ps) == 0 {
					t.Errorf("%s: nothing is wrong with it", b.where())
				} else if i+1 == len(all) || !strings.Contains(all[i+1].text, ps.Error()) {
					t.Errorf("%s: the block after it doesn't show what is said of it:\n%v", b.where(), ps)
				}
			default:
				t.Errorf("%s: unknown kind %q", b.where(), kind)
			}
		}
	}
	if read == 0 {
		t.Error("no block was found")
	}
}

var (
	mdLink    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	notInSlug = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the fragments of a Markdown file's headings, as GitHub makes
// them.
func anchors(t *testing.T, file string) map[string]bool {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	code := false
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		if heading := strings.TrimLeft(line, "#"); !code && heading != line {
			slug := notInSlug.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			found[strings.ReplaceAll(slug, " ", "-")] = true
		}
	}
	return found
}

// What the documents link to within the repository is there.
func TestLinksInDocs(t *testing.T) {
	for _, file := range docs(t) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mdLink.FindAllStringSubmatch(string(data), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, fragment, _ := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), filepath.FromSlash(path))
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", filepath.ToSlash(file), m[1], err)
			} else if fragment != "" && !anchors(t, target)[fragment] {
				t.Errorf("%s links to %s, which has no such heading", filepath.ToSlash(file), m[1])
			}
		}
	}
}

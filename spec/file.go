package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// MaxFileSize is how many bytes of a .sys file are read at most.
const MaxFileSize = 16 << 20

// File is a .sys file without problems.
type File struct {
	Path    string // absolute
	Daemons []*Daemon
	Groups  []*Group

	src     *source
	daemons []entry // as Daemons
	groups  []entry // as Groups
}

// entry is one daemon or group table as it was written.
type entry struct {
	vals map[string]any
	at   *node
}

// Set is the files of one command, checked against each other.
type Set struct {
	Files []*File
}

// Daemons are those of all files, in their order.
func (s *Set) Daemons() []*Daemon {
	var all []*Daemon
	for _, f := range s.Files {
		all = append(all, f.Daemons...)
	}
	return all
}

// Groups are those of all files. A group that several declare is there once.
func (s *Set) Groups() []*Group {
	var all []*Group
	seen := map[string]bool{}
	for _, f := range s.Files {
		for _, g := range f.Groups {
			if !seen[g.Name] {
				seen[g.Name] = true
				all = append(all, g)
			}
		}
	}
	return all
}

// Warnings are those of all files.
func (s *Set) Warnings() []Warning {
	var all []Warning
	for _, f := range s.Files {
		all = append(all, f.Warnings()...)
	}
	return all
}

// Option changes how a file is read.
type Option func(*options)

type options struct{ now time.Time }

// At sets the time that a schedule has to fire after; the default is now.
func At(now time.Time) Option { return func(o *options) { o.now = now } }

// Parse reads one file's bytes. path is for its name in problems and for
// relative paths in it; the file isn't opened. Problems are in the order of
// their places; if there are any, the File is nil.
func Parse(path string, data []byte, opts ...Option) (*File, Problems) {
	f, ps := parse(path, data, opts)
	ps = append(ps, checkTogether([]*File{f})...)
	ps = append(ps, checkDependencies([]*File{f})...)
	if len(ps) > 0 {
		return nil, ps.sorted().limited()
	}
	return f, nil
}

// Load reads files and checks each of them and all together. A path that is
// given twice is read once. The error is a [Problems] with everything that is
// wrong with any of them; the Set is nil then.
func Load(paths ...string) (*Set, error) {
	set := &Set{}
	var perFile []Problems
	seen := map[string]bool{}
	for _, path := range paths {
		abs, err := filepath.Abs(path)
		if err != nil {
			perFile = append(perFile, Problems{{File: path, Message: err.Error()}})
			continue
		}
		if seen[abs] {
			continue
		}
		seen[abs] = true
		data, p := readFile(path)
		if p != nil {
			perFile = append(perFile, Problems{*p})
			continue
		}
		f, ps := parse(path, data, nil)
		set.Files = append(set.Files, f)
		perFile = append(perFile, ps)
	}
	var all Problems
	for _, ps := range perFile {
		all = append(all, ps...)
	}
	all = append(all, checkTogether(set.Files)...)
	all = append(all, checkDependencies(set.Files)...)
	if len(all) > 0 {
		return nil, byFile(all, paths).limited()
	}
	return set, nil
}

// byFile sorts problems by the order of the files given, then by place.
func byFile(all Problems, paths []string) Problems {
	var out Problems
	seen := map[string]bool{}
	for _, path := range paths {
		if seen[path] {
			continue
		}
		seen[path] = true
		var ps Problems
		for _, p := range all {
			if p.File == path {
				ps = append(ps, p)
			}
		}
		out = append(out, ps.sorted()...)
	}
	return out
}

// readFile reads a file with the errors that a user can do something about.
func readFile(path string) ([]byte, *Problem) {
	problem := func(hint, format string, args ...any) *Problem {
		return &Problem{File: path, Message: fmt.Sprintf(format, args...), Hint: hint}
	}
	if path == "" {
		return nil, problem("give the path of a .sys file", "the name of the file is empty")
	}
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		var st os.FileInfo
		if st, err = f.Stat(); err == nil && st.IsDir() {
			return nil, problem("name a file in it"+anExample(path), "this is a directory, not a file")
		}
	}
	var data []byte
	if err == nil {
		data, err = io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, problem("look at the path, or write a template with `syspulse init`", "there is no such file")
	case errors.Is(err, fs.ErrPermission):
		return nil, problem("look at the rights of the file and of the directories above it", "the file may not be read")
	case err != nil:
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, problem("", "the file can't be read: %v", err)
	case len(data) > MaxFileSize:
		return nil, problem("is it a .sys file at all?", "the file is larger than %d MiB", MaxFileSize>>20)
	}
	return data, nil
}

func anExample(dir string) string {
	if m, _ := filepath.Glob(filepath.Join(escapeGlob(dir), "*.sys")); len(m) > 0 {
		return ", such as " + printable(m[0])
	}
	return ""
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// nothing is the problem of a file without a daemon or a group.
func nothing(path string) Problem {
	return Problem{
		File: path, Message: "the file declares no daemon", Hint: "write at least this, or let `syspulse init` write a template:",
		Source: "    [[daemon]]\n    name = \"my-daemon\"\n    command = [\"program\", \"argument\"]",
	}
}

// parse reads one file without a look at names that are there twice.
func parse(path string, data []byte, opts []Option) (*File, Problems) {
	o := options{now: time.Now()}
	for _, opt := range opts {
		opt(&o)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		abs = path
	}
	// Editors on Windows put a byte-order mark before UTF-8.
	src := newSource(path, bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	f := &File{Path: abs, src: src}
	if len(data) > MaxFileSize {
		return f, Problems{{File: path, Message: fmt.Sprintf("the file is larger than %d MiB", MaxFileSize>>20), Hint: "is it a .sys file at all?"}}
	}
	doc, root, p := decodeTOML(src)
	if p != nil {
		return f, Problems{*p}
	}
	if len(doc) == 0 {
		return f, Problems{nothing(path)}
	}
	rep := &report{src: src}
	top := &table{rep: rep, vals: doc, at: root}
	r := reader{dir: filepath.Dir(abs), now: o.now}

	f.daemons = f.entries(top, "daemon")
	f.groups = f.entries(top, "group")
	for _, e := range f.daemons {
		t := &table{rep: rep, vals: e.vals, at: e.at}
		if misnamed(t) {
			f.Daemons = append(f.Daemons, &Daemon{})
			continue
		}
		f.Daemons = append(f.Daemons, r.daemon(t))
	}
	for _, e := range f.groups {
		f.Groups = append(f.Groups, r.group(&table{rep: rep, vals: e.vals, at: e.at}))
	}
	checkTop(top)
	if len(f.daemons) == 0 && len(f.groups) == 0 && len(rep.problems) == 0 {
		rep.problems = Problems{nothing(path)}
	}
	return f, rep.problems
}

// entries are the tables of a key that is a table or an array of tables.
func (f *File) entries(top *table, key string) []entry {
	v, ok := top.get(key)
	if !ok {
		return nil
	}
	n := top.at.get(key)
	if m, ok := v.(map[string]any); ok {
		return []entry{{m, n}}
	}
	l, ok := list(v)
	if !ok {
		top.mistyped(key, v, "a table", fmt.Sprintf("write [[%s]] and its keys below it", key))
		return nil
	}
	if len(l) == 0 {
		top.fail(key, fmt.Sprintf("write [[%s]] and its keys below it", key), "is empty")
	}
	var es []entry
	for i, e := range l {
		m, ok := e.(map[string]any)
		if !ok {
			top.failElem(key, i, fmt.Sprintf("write [[%s]] and its keys below it", key), "is %s, must be a table", describe(e))
			continue
		}
		at := n.elem(i)
		if at.keyAt() < 0 {
			at = n
		}
		es = append(es, entry{m, at})
	}
	return es
}

// misnamed finds [daemon.web], which other formats write for a daemon of that
// name.
func misnamed(t *table) bool {
	for _, v := range t.vals {
		if m, ok := v.(map[string]any); !ok || m["command"] == nil {
			return false
		}
	}
	for _, k := range sortedKeys(t.vals) {
		t.problem(t.at.get(k).keyAt(), "", fmt.Sprintf("write [[daemon]] and below it name = %s", quote(k)), "a daemon is not named in its header")
	}
	return len(t.vals) > 0
}

// checkTop reports what is at the top level and doesn't belong there. Keys of
// a daemon without a header are one mistake, however many there are.
func checkTop(top *table) {
	var stray []string
	first := -1
	for _, k := range sortedKeys(top.vals) {
		at := top.at.get(k).keyAt()
		_, isTable := top.vals[k].(map[string]any)
		switch {
		case slices.Contains(top.asked, k):
		case !slices.Contains(daemonKeys, k):
			top.unknown(k)
		case isTable:
			top.problem(at, k, fmt.Sprintf("write [daemon.%s] below its daemon", k), "belongs to a daemon")
		default:
			stray = append(stray, k)
			if first < 0 || at >= 0 && at < first {
				first = at
			}
		}
	}
	if len(stray) > 0 {
		verb := "belong"
		if len(stray) == 1 {
			verb = "belongs"
		}
		top.problem(first, "", "write [[daemon]] above", "%s %s to a daemon, and there is no header above", strings.Join(stray, ", "), verb)
	}
}

// declared is where a name was first used.
type declared struct {
	name  string
	file  *File
	at    int
	group *Group
}

func (d declared) where() string {
	line, col := d.file.src.place(d.at)
	return fmt.Sprintf("%s:%d:%d", printable(d.file.src.file), line, col)
}

// checkTogether finds names that are there twice or differ only by case, and
// groups that are declared differently.
func checkTogether(files []*File) Problems {
	var ps Problems
	daemons, groups := map[string]declared{}, map[string]declared{}
	for _, f := range files {
		rep := &report{src: f.src}
		for i, d := range f.Daemons {
			if d.Name == "" {
				continue
			}
			here := declared{name: d.Name, file: f, at: f.daemons[i].at.get("name").valueAt()}
			first, ok := daemons[NameKey(d.Name)]
			switch {
			case !ok:
				daemons[NameKey(d.Name)] = here
			case first.name == d.Name:
				rep.add(here.at, Problem{Daemon: d.Name, Key: "name", Message: "is already the name of the daemon at " + first.where(), Hint: "give one of them another name"})
			default:
				rep.add(here.at, Problem{Daemon: d.Name, Key: "name", Message: fmt.Sprintf("differs only by case from %s at %s", quote(first.name), first.where()), Hint: "give one of them another name"})
			}
		}
		for i, g := range f.Groups {
			if g.Name == "" {
				continue
			}
			here := declared{name: g.Name, file: f, at: f.groups[i].at.get("name").valueAt(), group: g}
			first, ok := groups[NameKey(g.Name)]
			switch {
			case !ok:
				groups[NameKey(g.Name)] = here
			case first.name != g.Name:
				rep.add(here.at, Problem{Group: g.Name, Key: "name", Message: fmt.Sprintf("differs only by case from %s at %s", quote(first.name), first.where()), Hint: "write both alike, or choose another name"})
			case !first.group.Equal(g):
				rep.add(here.at, Problem{Group: g.Name, Key: "name", Message: "is declared differently at " + first.where(), Hint: "declare it once, or both alike"})
			}
		}
		ps = append(ps, rep.problems...)
	}
	// Membership comes last, so that a declaration decides the spelling.
	for _, f := range files {
		rep := &report{src: f.src}
		for i, d := range f.Daemons {
			if d.Group == "" {
				continue
			}
			here := declared{name: d.Group, file: f, at: f.daemons[i].at.get("group").valueAt()}
			first, ok := groups[NameKey(d.Group)]
			switch {
			case !ok:
				groups[NameKey(d.Group)] = here
			case first.name != d.Group:
				rep.add(here.at, Problem{Daemon: d.Name, Key: "group", Message: fmt.Sprintf("%s differs only by case from %s at %s", quote(d.Group), quote(first.name), first.where()), Hint: "write both alike"})
			}
		}
		ps = append(ps, rep.problems...)
	}
	return ps
}

// checkDependencies looks at the dependencies among the files' daemons, also
// beside other problems, so that one report has them all. Names that are in
// none of the files may be registered already. Of a name that is there twice
// the first counts, as in [File.Position].
func checkDependencies(files []*File) Problems {
	set := Set{Files: files}
	var named []*Daemon
	seen := map[string]bool{"": true}
	for _, d := range set.Daemons() {
		if !seen[d.Name] {
			seen[d.Name] = true
			named = append(named, d)
		}
	}
	return placed(checkGraph(named, nil, false), files)
}

// Missing are the dependencies on daemons that none of the files has: a manager
// may have them, or not.
func (s *Set) Missing() Problems {
	return placed(checkGraph(s.Daemons(), nil, true), s.Files)
}

// placed gives problems their places in the files.
func placed(ps Problems, files []*File) Problems {
	for i, p := range ps {
		for _, f := range files {
			if line, col, ok := f.Position(p.Daemon, p.Key); ok {
				ps[i].File, ps[i].Line, ps[i].Column = f.src.file, line, col
				break
			}
		}
	}
	return ps
}

// Position is where the value of a daemon's key was written, by its dotted
// path; of a key that isn't there, where the nearest one above it is; of an
// empty key, where the daemon begins. It is false if the file has no such
// daemon.
func (f *File) Position(daemon, key string) (line, column int, ok bool) {
	for i, d := range f.Daemons {
		if d.Name != daemon {
			continue
		}
		n := f.daemons[i].at
		at := n.keyAt()
		for _, k := range splitPath(key) {
			if k.index >= 0 {
				n = n.elem(k.index)
			} else {
				n = n.get(k.key)
			}
			if n.valueAt() >= 0 {
				at = n.valueAt()
			}
		}
		line, column = f.src.place(at)
		return line, column, true
	}
	return 0, 0, false
}

type step struct {
	key   string
	index int // -1: a key
}

// splitPath splits a path such as depends_on[1].condition. Keys of env have
// dots of their own, so there is but one step below it.
func splitPath(path string) []step {
	var steps []step
	if rest, ok := strings.CutPrefix(path, "env."); ok {
		return []step{{"env", -1}, {rest, -1}}
	}
	for _, part := range strings.Split(path, ".") {
		if part == "" {
			continue
		}
		name, index, isElem := strings.Cut(part, "[")
		steps = append(steps, step{name, -1})
		var i int
		if _, err := fmt.Sscanf(index, "%d]", &i); isElem && err == nil {
			steps = append(steps, step{"", i})
		}
	}
	return steps
}

// Warnings are about what was written in the file, by place: keys that this
// build doesn't act on, defaults or not, and what is legal but doubtful.
func (f *File) Warnings() []Warning {
	rep := &report{src: f.src}
	for i, d := range f.Daemons {
		e := f.daemons[i]
		for _, n := range notYet {
			vals, at := e.vals, e.at
			key := n.key
			if table, rest, nested := strings.Cut(n.key, "."); nested {
				vals, _ = vals[table].(map[string]any)
				at, key = at.get(table), rest
			}
			if _, written := vals[key]; !written {
				continue
			}
			w := notYetWarning(n.key, n.what)
			w.Daemon = d.Name
			rep.add(at.get(key).keyAt(), w)
		}
		for _, w := range Doubtful(d) {
			w.File = f.src.file
			w.Line, w.Column, _ = f.Position(d.Name, w.Key)
			rep.problems = append(rep.problems, w)
		}
	}
	for i, g := range f.Groups {
		for _, w := range doubtGroup(g) {
			rep.add(f.groups[i].at.get(w.Key).valueAt(), w)
		}
	}
	return rep.problems.sorted()
}

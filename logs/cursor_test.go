//go:build unix

package logs

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func parse(t testing.TB, s string) *Cursor {
	t.Helper()
	c, err := ParseCursor(s)
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

func compress(t testing.TB, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	compressed(t, path+".gz", string(b))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// A reader that goes away at any line and comes back at any time sees what one
// that never left does, whatever happened to the files meanwhile: nothing is
// missing, nothing comes twice, and no line is torn.
func TestResume(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		path := Path(dir, "d", Stdout)
		os.MkdirAll(filepath.Dir(path), 0o700)
		var n tellers
		var want bytes.Buffer
		at := time.Unix(1700000000, 0)
		var plain []string // rotated and not compressed
		lines := rapid.SliceOfN(rapid.SampledFrom([]string{"a\n", "a\n", "\n", "b", "a", "0123456789012345678901234567890123456789\n"}), 0, 20)
		put := func(s string) {
			write(t, path, s)
			want.WriteString(s)
			n.tell(Event{Kind: Grown})
		}
		rotate := func() {
			if _, err := os.Stat(path); err != nil {
				return
			}
			at = at.Add(time.Duration(rapid.Int64Range(1, 1e10).Draw(rt, "later")))
			name := filepath.Join(filepath.Dir(path), RotatedName(Stdout, at))
			if err := os.Rename(path, name); err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(rt, "at once") {
				write(t, path, "")
			}
			plain = append(plain, name)
			n.tell(Event{Kind: Switched, Renamed: name})
		}
		shrink := func() {
			if len(plain) > 0 {
				compress(t, plain[0])
				plain = plain[1:]
			}
		}
		write0 := func() { put(strings.Join(lines.Draw(rt, "lines"), "")) }
		for range rapid.IntRange(0, 4).Draw(rt, "before") {
			rapid.SampledFrom([]func(){write0, rotate, shrink}).Draw(rt, "before")()
		}

		from := lastOf(want.String(), rapid.IntRange(0, 5).Draw(rt, "n"))
		count := strings.Count(from, "\n")
		if !strings.HasSuffix(from, "\n") && from != "" {
			count++
		}
		skipped := want.Len() - len(from)
		if count == 0 { // begins with the unfinished line, which lies in one file
			count, skipped = math.MaxInt, 0
		}
		open := func(after *Cursor) *Tail {
			tail, err := NewTail(dir, &n, []Source{{Daemon: "d", Running: true, After: after}}, TailOptions{Lines: count, Follow: true, Cursors: true})
			if err != nil {
				t.Fatal(err)
			}
			return tail
		}
		tail := open(nil)
		defer func() { tail.Close() }()
		cursor := tail.Positions()[0].Cursor
		var got []Line
		read := func(most int) bool {
			for {
				lines, err := tail.sources[0].read()
				if err != nil {
					t.Fatal(err)
				}
				if len(lines) == 0 {
					return true
				}
				for _, l := range lines {
					if l.Notice != "" {
						rt.Fatal(l.Notice)
					}
					if most == 0 {
						return false
					}
					most--
					got, cursor = append(got, l), l.Cursor
				}
			}
		}
		// overdue gives out what is unfinished now.
		overdue := func() {
			s := tail.sources[0]
			if s.deadline.IsZero() {
				return
			}
			s.deadline = time.Time{}
			for _, l := range s.overdue() {
				got, cursor = append(got, l), l.Cursor
			}
		}
		away := false
		back := func() {
			if away {
				tail, away = open(parse(t, cursor)), false
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(*rapid.T) { write0() },
			"write much": func(t *rapid.T) {
				put(strings.Repeat("x", rapid.IntRange(1, 2*blockSize).Draw(t, "len")) + "\n")
			},
			"rotate":   func(*rapid.T) { rotate() },
			"compress": func(*rapid.T) { shrink() },
			"read": func(*rapid.T) {
				back()
				read(math.MaxInt)
			},
			"overdue": func(*rapid.T) {
				back()
				if read(math.MaxInt) {
					overdue()
				}
			},
			"go away": func(t *rapid.T) {
				back()
				read(rapid.IntRange(0, 30).Draw(t, "lines"))
				tail.Close()
				away = true
			},
		})
		back()
		read(math.MaxInt)
		n.tell(Event{Kind: Ended, Size: math.MaxInt64})
		read(math.MaxInt)
		if text(got) != want.String()[skipped:] {
			rt.Fatalf("%q, want %q", text(got), want.String()[skipped:])
		}
		whole := true
		for _, l := range got {
			if l.Continues == whole {
				rt.Fatalf("%+v continues what was whole: %v", l, whole)
			}
			whole = !l.Partial
		}
	})
}

// resumed reads all that is behind a cursor.
func resumed(t *testing.T, dir, cursor string) (got, notices string) {
	t.Helper()
	var n tellers
	tail := newTail(t, dir, &n, TailOptions{Follow: true, Cursors: true}, Source{Daemon: "d", After: parse(t, cursor)})
	tail.Finish()
	for _, l := range all(t, tail) {
		notices += l.Notice
		got += text([]Line{l})
	}
	return strings.TrimPrefix(got, "\n"), notices
}

func lastCursor(t *testing.T, dir string, lines int) string {
	t.Helper()
	tail := newTail(t, dir, nil, TailOptions{Lines: lines, Cursors: true})
	cursor := tail.Positions()[0].Cursor
	for _, l := range all(t, tail) {
		cursor = l.Cursor
	}
	return cursor
}

func TestResumeTellsOfAGap(t *testing.T) {
	now := time.Now()
	for name, test := range map[string]struct {
		away func(dir, path string)
		want string
		tell string
	}{
		"nothing happened": {func(string, string) {}, "", ""},
		"shorter": {func(_, path string) {
			os.Truncate(path, 0)
			write(t, path, "3\n")
		}, "3\n", noticeCut},
		"cut, and longer by now": {func(_, path string) {
			os.Truncate(path, 0)
			write(t, path, "3\n4\n5\n6\n7\n")
		}, "3\n4\n5\n6\n7\n", noticeCut},
		"another file": {func(_, path string) {
			os.Rename(path, path+".tmp") // so that it can't have its inode
			os.WriteFile(path, []byte("8\n9\n"), 0o600)
			os.Remove(path + ".tmp")
		}, "8\n9\n", noticeGone},
		"purged": {func(dir, _ string) { os.RemoveAll(dir) }, "", noticeGone},
		"rotated, and retention was faster": {func(dir, path string) {
			os.Rename(path, filepath.Join(dir, RotatedName(Stdout, now)))
			os.WriteFile(path, []byte("a\nb\n"), 0o600)
			os.Rename(path, filepath.Join(dir, RotatedName(Stdout, now.Add(1))))
			write(t, path, "c\n")
			os.Remove(filepath.Join(dir, RotatedName(Stdout, now)))
		}, "a\nb\nc\n", noticeGone},
		"moved by somebody": {func(_, path string) {
			write(t, path, "3\n")
			os.Rename(path, path+".1")
			write(t, path, "4\n")
		}, "3\n4\n", ""},
		"moved by somebody, then rotated": {func(dir, path string) {
			write(t, path, "3\n")
			os.Rename(path, path+".1")
			write(t, path, "4\n")
			os.Rename(path, filepath.Join(dir, RotatedName(Stdout, now)))
			compress(t, filepath.Join(dir, RotatedName(Stdout, now)))
			write(t, path, "5\n")
		}, "3\n4\n5\n", ""},
		"copied and put back": {func(_, path string) {
			b, _ := os.ReadFile(path)
			os.Rename(path, path+".tmp")
			os.WriteFile(path, append(b, "3\n"...), 0o600)
			os.Remove(path + ".tmp")
		}, "3\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := Path(dir, "d", Stdout)
			write(t, path, "1\n2\n")
			cursor := lastCursor(t, dir, -1)
			test.away(filepath.Dir(path), path)
			if got, tell := resumed(t, dir, cursor); got != test.want || tell != test.tell {
				t.Errorf("%q, %q; want %q, %q", got, tell, test.want, test.tell)
			}
		})
	}
}

// From within files that were rotated before reading began.
func TestResumeInRotatedFiles(t *testing.T) {
	dir := t.TempDir()
	path := Path(dir, "d", Stdout)
	at := time.Now()
	var want string
	for i := range 4 {
		for j := range 3 {
			line := fmt.Sprintf("%d.%d\n", i, j)
			want += line
			write(t, path, line)
		}
		if i < 3 {
			name := filepath.Join(filepath.Dir(path), RotatedName(Stdout, at.Add(time.Duration(i))))
			os.Rename(path, name)
			if i < 2 {
				compress(t, name)
			}
		}
	}
	for n := range 13 {
		tail := newTail(t, dir, nil, TailOptions{Lines: n, Cursors: true})
		cursors := []string{tail.Positions()[0].Cursor}
		for _, l := range all(t, tail) {
			cursors = append(cursors, l.Cursor)
		}
		tail.Close()
		for i, cursor := range cursors {
			if got, tell := resumed(t, dir, cursor); got != lastOf(want, n-i) || tell != "" {
				t.Errorf("the last %d lines, behind %d of them: %q, %q", n, i, got, tell)
			}
		}
	}
	// The one that was read is gone.
	cursor := next(t, newTail(t, dir, nil, TailOptions{Lines: 12, Cursors: true}))[1].Cursor
	files, _ := Files(filepath.Dir(path), Stdout)
	os.Remove(files[0].Path)
	if got, tell := resumed(t, dir, cursor); got != lastOf(want, 9) || tell != noticeGone {
		t.Errorf("%q, %q", got, tell)
	}
}

// A gap is told again to who went away before that was read.
func TestResumeBeforeTheNotice(t *testing.T) {
	dir := t.TempDir()
	path := Path(dir, "d", Stdout)
	write(t, path, "1\n2\n")
	cursor := lastCursor(t, dir, -1)
	os.Truncate(path, 0)
	write(t, path, "3\n")
	tail := newTail(t, dir, nil, TailOptions{Cursors: true}, Source{Daemon: "d", After: parse(t, cursor)})
	if got, tell := resumed(t, dir, tail.Positions()[0].Cursor); got != "3\n" || tell != noticeCut {
		t.Errorf("%q, %q", got, tell)
	}
	notice := next(t, tail)
	if got, tell := resumed(t, dir, notice[0].Cursor); got != "3\n" || tell != "" {
		t.Errorf("%q, %q", got, tell)
	}
}

// A daemon that never ran has no file to go on in.
func TestResumeWithoutAFile(t *testing.T) {
	for _, rotated := range []bool{false, true} {
		dir := t.TempDir()
		path := Path(dir, "d", Stdout)
		cursor := lastCursor(t, dir, 0)
		if got, tell := resumed(t, dir, cursor); got != "" || tell != "" {
			t.Errorf("%q, %q", got, tell)
		}
		write(t, path, "1\n")
		if rotated {
			os.Rename(path, filepath.Join(filepath.Dir(path), RotatedName(Stdout, time.Now())))
			write(t, path, "2\n")
		}
		want := map[bool]string{false: "1\n", true: "1\n2\n"}[rotated]
		if got, tell := resumed(t, dir, cursor); got != want || tell != "" {
			t.Errorf("%q, %q", got, tell)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add("1/web/stdout/1.2.3.4.5.6.7.8-")
	f.Add("1/../stdout/1.2.3.4.5.6.7.8")
	f.Add("1/ü/stderr/ffffffffffffffff.2.0.0.0.7fffffffffffffff.40.ffffffff")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCursor(s)
		if err != nil {
			return
		}
		again, err := ParseCursor(c.String())
		if err != nil || again != c {
			t.Fatalf("%q became %q: %v", s, c, err)
		}
		// Whatever it says, it is only looked for in the daemon's directory.
		dir := t.TempDir()
		tail, err := NewTail(dir, nil, []Source{{Daemon: c.Daemon(), Stream: c.Stream(), After: &c}}, TailOptions{Cursors: true})
		if err != nil {
			t.Fatal(err)
		}
		defer tail.Close()
		for _, l := range all(t, tail) {
			parse(t, l.Cursor)
		}
	})
}

// BenchmarkReadWithCursors is BenchmarkRead with a cursor for each line.
func BenchmarkReadWithCursors(b *testing.B) {
	dir := b.TempDir()
	const size = 101 * 1_000_000
	write(b, Path(dir, "d", Stdout), strings.Repeat(strings.Repeat("x", 100)+"\n", size/101))
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		tail, err := NewTail(dir, nil, []Source{{Daemon: "d"}}, TailOptions{Lines: -1, Cursors: true})
		if err != nil {
			b.Fatal(err)
		}
		for {
			if _, err := tail.Next(b.Context()); err != nil {
				break
			}
		}
		tail.Close()
	}
}

// Files that hold the same can be told apart by their order alone.
func TestResumeAmongEqualFiles(t *testing.T) {
	dir := t.TempDir()
	path := Path(dir, "d", Stdout)
	var n tellers
	write(t, path, "tick\ntick\ntick\n")
	tail := newTail(t, dir, &n, TailOptions{Lines: -1, Follow: true, Cursors: true}, Source{Daemon: "d", Running: true})
	next(t, tail)
	at := time.Now()
	rotate := func() (name string) {
		at = at.Add(time.Second)
		name = filepath.Join(filepath.Dir(path), RotatedName(Stdout, at))
		if err := os.Rename(path, name); err != nil {
			t.Fatal(err)
		}
		n.tell(Event{Kind: Switched, Renamed: name})
		return name
	}
	first := rotate()
	write(t, path, "tick\ntick\ntick\n")
	n.tell(Event{Kind: Grown})
	cursor := next(t, tail)[1].Cursor
	compress(t, first)
	compress(t, rotate())
	write(t, path, "tock\n")
	if got, tell := resumed(t, dir, cursor); got != "tick\ntock\n" || tell != "" {
		t.Errorf("%q, %q", got, tell)
	}
}

// A reader that is slower than two rotations and their compression reads on in
// the compressed files.
func TestFollowOvertaken(t *testing.T) {
	dir := t.TempDir()
	path := Path(dir, "d", Stdout)
	var n tellers
	write(t, path, "1\n")
	tail := newTail(t, dir, &n, TailOptions{Lines: -1, Follow: true}, Source{Daemon: "d", Running: true})
	next(t, tail)
	at := time.Now()
	for i := range 4 {
		write(t, path, fmt.Sprintf("%d\nand", i+2))
		name := filepath.Join(filepath.Dir(path), RotatedName(Stdout, at.Add(time.Duration(i))))
		if err := os.Rename(path, name); err != nil {
			t.Fatal(err)
		}
		n.tell(Event{Kind: Switched, Renamed: name})
		if i < 3 {
			compress(t, name)
		}
	}
	write(t, path, "6\n")
	tail.Finish()
	if got, want := text(all(t, tail)), "2\nand3\nand4\nand5\nand6\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

//go:build unix

package logs

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// tellers is a Notifier by hand.
type tellers struct {
	hubs hubs
}

func (n *tellers) Notify(daemon string, s Stream, f func(Event)) func() {
	return n.hubs.subscribe(daemon, s, f)
}

func (n *tellers) tell(e Event) { n.hubs.get("d", Stdout).emit(e) }

func text(lines []Line) string {
	var b strings.Builder
	for _, l := range lines {
		b.Write(l.Data)
		if l.Notice == "" && !l.Partial {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func write(t testing.TB, path, s string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(s)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func compressed(t testing.TB, path, s string) {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, s)
	w.Close()
	write(t, path, b.String())
}

func newTail(t testing.TB, dir string, n Notifier, o TailOptions, sources ...Source) *Tail {
	t.Helper()
	if len(sources) == 0 {
		sources = []Source{{Daemon: "d"}}
	}
	tail, err := NewTail(dir, n, sources, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tail.Close)
	return tail
}

func next(t testing.TB, tail *Tail) []Line {
	t.Helper()
	lines, err := tail.Next(t.(interface{ Context() context.Context }).Context())
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func all(t testing.TB, tail *Tail) []Line {
	t.Helper()
	var lines []Line
	for l, err := range tail.All(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines
}

// quiet fails if there is something to be read.
func quiet(t testing.TB, tail *Tail) {
	t.Helper()
	for _, s := range tail.sources {
		if lines, err := s.read(); len(lines) > 0 || err != nil {
			t.Fatalf("unexpected: %q, %v", text(lines), err)
		}
	}
}

// lastOf is the model of Lines: the last n lines of s.
func lastOf(s string, n int) string {
	lines := strings.SplitAfter(s, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

func TestLastLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Files, oldest first, some of them compressed, lines across them.
		dir, err := os.MkdirTemp("", "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		files := rapid.SliceOfN(rapid.StringOfN(rapid.RuneFrom([]rune("\n\nab")), 0, 30, -1), 1, 5).Draw(t, "files")
		at := time.Now()
		for i, s := range files {
			path := Path(dir, "d", Stdout)
			os.MkdirAll(filepath.Dir(path), 0o700)
			if i < len(files)-1 {
				at = at.Add(time.Duration(rapid.Int64Range(1, 1e10).Draw(t, "later")))
				path = filepath.Join(filepath.Dir(path), RotatedName(Stdout, at))
				if rapid.Bool().Draw(t, "compressed") {
					var b bytes.Buffer
					w := gzip.NewWriter(&b)
					io.WriteString(w, s)
					w.Close()
					path, s = path+".gz", b.String()
				}
			} else if s == "" && rapid.Bool().Draw(t, "missing") {
				continue
			}
			if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		n := rapid.IntRange(-1, 20).Draw(t, "n")
		tail, err := NewTail(dir, nil, []Source{{Daemon: "d"}}, TailOptions{Lines: n})
		if err != nil {
			t.Fatal(err)
		}
		defer tail.Close()
		var got []Line
		for l, err := range tail.All(context.Background()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, l)
		}
		if n < 0 {
			n = math.MaxInt
		}
		if want := lastOf(strings.Join(files, ""), n); text(got) != want {
			t.Fatalf("%q, want %q", text(got), want)
		}
	})
}

func FuzzLastLines(f *testing.F) {
	f.Add([]byte("a\nb\nc"), 2, false, 0)
	f.Add([]byte("a\n\n"), 1, true, blockSize-1)
	f.Fuzz(func(t *testing.T, data []byte, n int, more bool, pad int) {
		if n < 0 || pad < 0 || pad > 2*blockSize {
			return
		}
		// Blocks are far larger than inputs: put their borders in between.
		data = append(bytes.Repeat([]byte("x"), pad), data...)
		off, found, err := lastLines(bytes.NewReader(data), int64(len(data)), n, more)
		if err != nil {
			t.Fatal(err)
		}
		counted := data
		if !more {
			counted = bytes.TrimSuffix(data, []byte("\n"))
		}
		total := bytes.Count(counted, []byte("\n"))
		if found != min(n, total) {
			t.Fatalf("found %d of %d, wanted %d", found, total, n)
		}
		switch {
		case n == 0:
			if off != int64(len(data)) {
				t.Fatalf("0 lines begin at %d of %d", off, len(data))
			}
		case total < n:
			if off != 0 {
				t.Fatalf("all lines begin at %d", off)
			}
		default:
			if data[off-1] != '\n' || bytes.Count(counted[min(off, int64(len(counted))):], []byte("\n")) != n-1 {
				t.Fatalf("the last %d lines of %q do not begin at %d", n, data, off)
			}
		}
		skip, found2, empty, err := skipLines(bytes.NewReader(data), n, more)
		if err != nil || n > 0 && found2 != found || empty != (len(data) == 0) {
			t.Fatalf("skipLines: %d, %v, %v; lastLines: %d", found2, empty, err, found)
		}
		if n > 0 && bytes.Count(data[:off], []byte("\n")) != skip {
			t.Fatalf("skips %d newlines, %d bytes", skip, off)
		}
	})
}

// A file of many gigabytes, nearly all of it a hole.
func TestLastLinesOfHugeFile(t *testing.T) {
	dir := t.TempDir()
	path := Path(dir, "d", Stdout)
	write(t, path, "first\n")
	if err := os.Truncate(path, 10<<30); err != nil {
		t.Skip(err)
	}
	write(t, path, "\nlast but one\nlast\n")
	if got := text(all(t, newTail(t, dir, nil, TailOptions{Lines: 2}))); got != "last but one\nlast\n" {
		t.Errorf("%q", got)
	}
}

func BenchmarkLastLines(b *testing.B) {
	dir := b.TempDir()
	path := Path(dir, "d", Stdout)
	write(b, path, "first\n")
	if err := os.Truncate(path, 10<<30); err != nil {
		b.Skip(err)
	}
	write(b, path, strings.Repeat(strings.Repeat("x", 100)+"\n", 100_000))
	for b.Loop() {
		tail, err := NewTail(dir, nil, []Source{{Daemon: "d"}}, TailOptions{Lines: 50})
		if err != nil {
			b.Fatal(err)
		}
		if got := all(b, tail); len(got) != 50 {
			b.Fatal(len(got))
		}
		tail.Close()
	}
}

// BenchmarkRead is a whole log read by lines of 100 bytes.
func BenchmarkRead(b *testing.B) {
	dir := b.TempDir()
	const size = 101 * 1_000_000
	write(b, Path(dir, "d", Stdout), strings.Repeat(strings.Repeat("x", 100)+"\n", size/101))
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		tail, err := NewTail(dir, nil, []Source{{Daemon: "d"}}, TailOptions{Lines: -1})
		if err != nil {
			b.Fatal(err)
		}
		for {
			if _, err := tail.Next(context.Background()); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
		tail.Close()
	}
}

// Lines are whole, whatever pieces they are written in and whenever the
// reader looks; bytes come through as they are.
func TestFollow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		path := Path(dir, "d", Stdout)
		os.MkdirAll(filepath.Dir(path), 0o700)
		var n tellers
		tail, err := NewTail(dir, &n, []Source{{Daemon: "d", Running: true}}, TailOptions{Lines: -1, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		defer tail.Close()
		var got []Line
		look := func(*rapid.T) {
			for {
				lines, err := tail.sources[0].read()
				if err != nil {
					t.Fatal(err)
				}
				if len(lines) == 0 {
					return
				}
				got = append(got, lines...)
			}
		}
		var f *os.File
		reopen := func() {
			if f, err = os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		reopen()
		defer func() { f.Close() }()
		var want bytes.Buffer
		rotated := 0
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				b := rapid.SliceOfN(rapid.SampledFrom([]byte{'\n', 'a', 'b', 0, 0xff}), 0, 20).Draw(t, "bytes")
				f.Write(b)
				want.Write(b)
				n.tell(Event{Kind: Grown})
			},
			"write much": func(t *rapid.T) {
				b := bytes.Repeat([]byte{'x'}, rapid.IntRange(1, 3*blockSize).Draw(t, "len"))
				f.Write(b)
				want.Write(b)
				n.tell(Event{Kind: Grown})
			},
			"rotate": func(t *rapid.T) {
				rotated++
				name := fmt.Sprintf("%s.%d", path, rotated)
				if err := os.Rename(path, name); err != nil {
					t.Fatal(err)
				}
				f.Close()
				reopen()
				n.tell(Event{Kind: Switched, Renamed: name})
			},
			"look": look,
		})
		look(t)
		for _, l := range got {
			if l.Notice != "" || l.Partial != (len(l.Data) >= maxLine) {
				t.Fatalf("a piece of %d bytes: %q", len(l.Data), l.Notice)
			}
		}
		whole := want.Bytes()[:bytes.LastIndexByte(want.Bytes(), '\n')+1]
		if len(got) == 0 || !got[len(got)-1].Partial {
			if text(got) != string(whole) {
				t.Fatalf("%d bytes, want %d", len(text(got)), len(whole))
			}
		}
		n.tell(Event{Kind: Ended, Size: math.MaxInt64})
		look(t)
		if text(got) != want.String() {
			t.Fatalf("after the end: %d bytes, want %d", len(text(got)), want.Len())
		}
	})
}

func TestUnfinishedLine(t *testing.T) {
	dir := t.TempDir()
	path := Path(dir, "d", Stdout)
	write(t, path, "whole\nunfin")
	var n tellers
	tail := newTail(t, dir, &n, TailOptions{Lines: 10, Follow: true}, Source{Daemon: "d", Running: true})
	if got := next(t, tail); text(got) != "whole\n" {
		t.Fatalf("%q", text(got))
	}
	quiet(t, tail)
	// After a second without growth it is given out; the rest continues it.
	got := next(t, tail)
	if len(got) != 1 || string(got[0].Data) != "unfin" || !got[0].Partial || got[0].Continues {
		t.Fatalf("%+v", got)
	}
	write(t, path, "ished\nand ")
	n.tell(Event{Kind: Grown})
	got = next(t, tail)
	if len(got) != 1 || string(got[0].Data) != "ished" || got[0].Partial || !got[0].Continues {
		t.Fatalf("%+v", got)
	}
	// At the daemon's end at once.
	n.tell(Event{Kind: Ended, Size: size(path)})
	got = next(t, tail)
	if len(got) != 1 || string(got[0].Data) != "and " || !got[0].Partial || got[0].Continues {
		t.Fatalf("%+v", got)
	}
	write(t, path, "\nnext\n")
	n.tell(Event{Kind: Grown})
	if got := next(t, tail); text(got) != "\nnext\n" || !got[0].Continues || got[1].Continues {
		t.Fatalf("%+v", got)
	}
}

// Without following, a line that a running daemon is in the middle of is
// waited for, and nothing after it.
func TestUnfinishedLineAtTheEnd(t *testing.T) {
	dir := t.TempDir()
	path := Path(dir, "d", Stdout)
	write(t, path, "whole\nunfin")
	var n tellers
	tail := newTail(t, dir, &n, TailOptions{Lines: 10}, Source{Daemon: "d", Running: true})
	got := next(t, tail)
	write(t, path, "ished\nmore\n")
	n.tell(Event{Kind: Grown})
	if got = append(got, all(t, tail)...); text(got) != "whole\nunfinished\n" {
		t.Errorf("%q", text(got))
	}
	// One that does not run is waited for by nobody.
	write(t, path, "unfin")
	tail = newTail(t, dir, &n, TailOptions{Lines: 1}, Source{Daemon: "d"})
	if got := all(t, tail); text(got) != "unfin" || !got[0].Partial {
		t.Errorf("%+v", got)
	}
}

// -n 0 -f begins with a whole line, too.
func TestFollowFromNow(t *testing.T) {
	dir := t.TempDir()
	path := Path(dir, "d", Stdout)
	write(t, path, "old\nunfin")
	var n tellers
	tail := newTail(t, dir, &n, TailOptions{Follow: true}, Source{Daemon: "d", Running: true})
	write(t, path, "ished\n")
	n.tell(Event{Kind: Grown})
	if got := next(t, tail); text(got) != "unfinished\n" {
		t.Errorf("%q", text(got))
	}
}

func TestFollowCutFile(t *testing.T) {
	dir := t.TempDir()
	path := Path(dir, "d", Stdout)
	write(t, path, "one\ntwo\nthr")
	var n tellers
	tail := newTail(t, dir, &n, TailOptions{Lines: -1, Follow: true}, Source{Daemon: "d", Running: true})
	next(t, tail)
	if err := os.Truncate(path, 4); err != nil {
		t.Fatal(err)
	}
	n.tell(Event{Kind: Truncated, Size: 4})
	write(t, path, strings.Repeat("new\n", 10)) // longer than it was
	n.tell(Event{Kind: Grown})
	got := next(t, tail)
	if len(got) != 2 || string(got[0].Data) != "thr" || got[1].Notice == "" {
		t.Fatalf("%+v", got)
	}
	if got := next(t, tail); text(got) != strings.Repeat("new\n", 10) {
		t.Errorf("%q", text(got))
	}
}

// A Tail of a daemon that was never started waits for its first line.
func TestFollowBeforeTheFirstStart(t *testing.T) {
	c := newCapturer(t, t.TempDir())
	tail := newTail(t, c.DataDir(), c, TailOptions{Lines: 10, Follow: true})
	quiet(t, tail)
	k := open(t, c, "d")
	stdout, _ := writers(t, k)
	fmt.Fprint(stdout, "first\n")
	if got := next(t, tail); text(got) != "first\n" {
		t.Errorf("%q", text(got))
	}
}

func TestFollowSeveral(t *testing.T) {
	c := newCapturer(t, t.TempDir())
	var sources []Source
	var files []*os.File
	for i := range 5 {
		name := fmt.Sprint("d", i)
		stdout, stderr := writers(t, open(t, c, name))
		files = append(files, stdout, stderr)
		sources = append(sources, Source{Daemon: name, Stream: Stdout, Running: true}, Source{Daemon: name, Stream: Stderr, Running: true})
	}
	tail := newTail(t, c.DataDir(), c, TailOptions{Follow: true}, sources...)
	const lines = 2000
	var wg sync.WaitGroup
	for _, f := range files {
		wg.Go(func() {
			for i := range lines {
				fmt.Fprintf(f, "%d\n", i)
			}
		})
	}
	seen := make(map[Source]int)
	for total := 0; total < lines*len(files); {
		for _, l := range next(t, tail) {
			src := Source{Daemon: l.Daemon, Stream: l.Stream}
			if want := fmt.Sprint(seen[src]); string(l.Data) != want || l.Partial {
				t.Fatalf("%v: %q, want %s", src, l.Data, want)
			}
			seen[src]++
			total++
		}
	}
	wg.Wait()
}

// A consumer that hangs up leaves nobody behind who is told of anything.
func TestHangUp(t *testing.T) {
	c := newCapturer(t, t.TempDir())
	stdout, _ := writers(t, open(t, c, "d"))
	before := descriptors(t)
	for range 100 {
		tail := newTail(t, c.DataDir(), c, TailOptions{Follow: true}, Source{Daemon: "d", Running: true})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			for {
				if _, err := tail.Next(ctx); err != nil {
					tail.Close()
					done <- err
					return
				}
			}
		}()
		fmt.Fprint(stdout, "line\n")
		cancel()
		if err := <-done; err != context.Canceled {
			t.Fatal(err)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, were %d", after, before)
	}
	if c.hubs.get("d", Stdout).subs.Load() != nil {
		t.Error("somebody is still told")
	}
}

func TestLongLine(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("0123456789", maxLine/4)
	write(t, Path(dir, "d", Stdout), "a\n"+long+"\nb\n")
	got := all(t, newTail(t, dir, nil, TailOptions{Lines: 2}))
	if text(got) != long+"\nb\n" {
		t.Errorf("%d bytes", len(text(got)))
	}
	if len(got) < 3 || got[0].Continues || !got[0].Partial || !got[1].Continues {
		t.Errorf("%d pieces", len(got))
	}
}

func TestDamagedAndMissingRotated(t *testing.T) {
	dir := t.TempDir()
	path := Path(dir, "d", Stdout)
	at := time.Now()
	compressed(t, filepath.Join(filepath.Dir(path), RotatedName(Stdout, at)+".gz"), "1\n2\n")
	write(t, filepath.Join(filepath.Dir(path), RotatedName(Stdout, at.Add(1))+".gz"), "no gzip")
	gone := filepath.Join(filepath.Dir(path), RotatedName(Stdout, at.Add(2)))
	write(t, gone, "3\n")
	write(t, path, "4\n")
	tail := newTail(t, dir, nil, TailOptions{Lines: 10})
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	got := all(t, tail)
	notices := 0
	for _, l := range got {
		if l.Notice != "" {
			notices++
		}
	}
	if text(got) != "1\n2\n4\n" || notices != 2 {
		t.Errorf("%q, %d notices", text(got), notices)
	}
}

func TestRotatedNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "a"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns")).UTC()
		b := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "b"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns")).UTC()
		s := Stream(rapid.IntRange(0, 1).Draw(t, "stream"))
		if got, want := strings.Compare(RotatedName(s, a), RotatedName(s, b)), a.Compare(b); got != want {
			t.Fatalf("%v and %v sort as %d", a, b, got)
		}
		of, at, gz, ok := ParseRotated(RotatedName(s, a) + ".gz")
		if of != s || !at.Equal(a) || !gz || !ok {
			t.Fatalf("%v, %v, %v, %v", of, at, gz, ok)
		}
	})
	for _, name := range []string{"stdout.log", "stdout-.log", "stdout-x.log", ".stdout-20060102T150405Z.log", "stdout-20060102T150405Z.log.gz.gz", "stdin-20060102T150405Z.log"} {
		if _, _, _, ok := ParseRotated(name); ok {
			t.Errorf("%s is taken for a rotated file", name)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	old, newer := RotatedName(Stdout, at), RotatedName(Stdout, at.Add(time.Nanosecond))
	for _, name := range []string{"stdout.log", newer, newer + ".gz", old + ".gz", "stderr.log", ".index", "stdout-x.log"} {
		write(t, filepath.Join(dir, name), "")
	}
	os.Symlink("/etc/passwd", filepath.Join(dir, RotatedName(Stdout, at.Add(1000))))
	files, err := Files(dir, Stdout)
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(f.Path))
	}
	if want := []string{old + ".gz", newer, "stdout.log"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%v, %v; want %v", names, err, want)
	}
	if files, err := Files(filepath.Join(dir, "none"), Stdout); len(files) != 0 || err != nil {
		t.Errorf("%v, %v", files, err)
	}
}

func TestSymlinkedLogIsNotRead(t *testing.T) {
	dir := t.TempDir()
	path := Path(dir, "d", Stdout)
	os.MkdirAll(filepath.Dir(path), 0o700)
	os.Symlink("/etc/passwd", path)
	if _, err := NewTail(dir, nil, []Source{{Daemon: "d"}}, TailOptions{Lines: 1}); err == nil {
		t.Error("it was read")
	}
}

package logs

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// window is how many bytes before a cursor are remembered by their checksum.
const window = 64

// castagnoli is the checksum that processors have an instruction for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Cursor is a position in a stream, from which another Tail, of this manager
// or a later one, goes on exactly. As text it is opaque and made of letters,
// digits, and what daemons' names and ".-/" have.
//
// It finds its file again by identity (device and inode), also under another
// name. A file that was compressed meanwhile has another identity: it is the
// first that was rotated after those that there were. Since inodes are used
// again and somebody may have cut the file, neither is trusted: the checksum
// of the bytes before the position must be right.
type Cursor struct {
	daemon    string
	stream    Stream
	continues bool // the piece before it had no newline

	file    fileID // zero: there was no file, or it is compressed
	rotated int64  // the time in the file's name, if it was rotated already; else 0
	newest  int64  // that of the newest file before it

	skip int   // newlines before it; only of a compressed file not read yet, instead of what follows
	off  int64 // bytes before it, uncompressed
	back int   // so many of them, at most window,
	sum  uint32
}

// Daemon is whose stream it is.
func (c Cursor) Daemon() string { return c.daemon }

// Stream is which of them.
func (c Cursor) Stream() Stream { return c.stream }

// fileID is the identity of a file as long as somebody has it open.
type fileID struct{ dev, ino uint64 }

// cursorVersion is the first field of a cursor's text. One that this build
// doesn't know is refused.
const cursorVersion = "1"

// head is the text of what all cursors in one file have in common.
func (c *Cursor) head() string {
	return fmt.Sprintf("%s/%s/%s/%x.%x.%x.%x.", cursorVersion, c.daemon, c.stream, c.file.dev, c.file.ino, c.rotated, c.newest)
}

// appendTail appends the rest.
func (c *Cursor) appendTail(b []byte) []byte {
	b = strconv.AppendInt(b, int64(c.skip), 16)
	b = append(b, '.')
	b = strconv.AppendInt(b, c.off, 16)
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(c.back), 16)
	b = append(b, '.')
	b = strconv.AppendUint(b, uint64(c.sum), 16)
	if c.continues {
		b = append(b, '-')
	}
	return b
}

// String is what ParseCursor reads.
func (c Cursor) String() string { return string(c.appendTail([]byte(c.head()))) }

// ParseCursor reads the text of a cursor.
func ParseCursor(s string) (Cursor, error) {
	bad := fmt.Errorf("%q is no cursor of this version", s)
	parts := strings.Split(s, "/")
	if len(parts) != 4 || parts[0] != cursorVersion {
		return Cursor{}, bad
	}
	c := Cursor{daemon: parts[1]}
	if err := checkName(c.daemon); err != nil {
		return Cursor{}, err
	}
	switch parts[2] {
	case "stdout":
	case "stderr":
		c.stream = Stderr
	default:
		return Cursor{}, bad
	}
	rest, continues := strings.CutSuffix(parts[3], "-")
	c.continues = continues
	numbers := strings.Split(rest, ".")
	if len(numbers) != 8 {
		return Cursor{}, bad
	}
	var n [8]uint64
	for i, text := range numbers {
		v, err := strconv.ParseUint(text, 16, 64)
		// Devices and inodes take all bits, all else is positive.
		if err != nil || i > 1 && v > 1<<63-1 {
			return Cursor{}, bad
		}
		n[i] = v
	}
	if n[4] > 1<<31-1 || n[6] > window || n[6] > n[5] || n[7] > 1<<32-1 {
		return Cursor{}, bad
	}
	c.file = fileID{n[0], n[1]}
	c.rotated, c.newest = int64(n[2]), int64(n[3])
	c.skip, c.off, c.back, c.sum = int(n[4]), int64(n[5]), int(n[6]), uint32(n[7])
	return c, nil
}

// nanos is the time in a rotated file's name as a cursor has it.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.UnixNano(), 0)
}

// cursor is the position of what is given out next if all of a chunk up to
// end was. off is that of the chunk's beginning in its file.
func (s *source) cursor(chunk []byte, end int, off int64) string {
	if !s.t.cursors {
		return ""
	}
	back := chunk[max(0, end-window):end]
	if len(back) < window && len(s.back) > 0 {
		back = append(s.back[max(0, len(s.back)-(window-len(back))):len(s.back):len(s.back)], back...)
	}
	c := Cursor{off: off + int64(end), back: len(back), sum: crc32.Checksum(back, castagnoli), continues: s.continued}
	s.text = c.appendTail(append(s.text[:0], s.where()...))
	return string(s.text)
}

// position is the cursor behind all that was read.
func (s *source) position() string {
	if !s.t.cursors {
		return ""
	}
	if len(s.segments) == 0 {
		return s.cursor(nil, 0, s.off)
	}
	if g := &s.segments[0]; g.skip > 0 {
		c := Cursor{skip: g.skip}
		return string(c.appendTail([]byte(s.where())))
	}
	return s.cursor(nil, 0, s.segments[0].off)
}

// where is the head of cursors into the file that is read.
func (s *source) where() string {
	if s.head != "" {
		return s.head
	}
	c := Cursor{daemon: s.Daemon, stream: s.Stream, newest: s.before}
	switch {
	case len(s.segments) > 0:
		g := &s.segments[0]
		c.rotated = nanos(g.Rotated)
		c.file = g.id
		c.newest = max(c.rotated, g.before)
	case s.file != nil:
		c.file, _ = identify(s.file) // without one it is found by its order
	}
	s.head = c.head()
	return s.head
}

// moved is to be called when reading goes on in another file, or elsewhere in
// this one.
func (s *source) moved() { s.head, s.back = "", nil }

// remember keeps the end of what was read, for the checksums of cursors behind
// what is read next.
func (s *source) remember(chunk []byte) {
	if !s.t.cursors {
		return
	}
	if len(chunk) >= window {
		s.back = append(s.back[:0:0], chunk[len(chunk)-window:]...)
		return
	}
	s.back = append(s.back[max(0, len(s.back)-(window-len(chunk))):len(s.back):len(s.back)], chunk...)
}

// recall reads what stands before off.
func (s *source) recall(f *os.File, off int64) {
	s.back = nil
	if !s.t.cursors || f == nil {
		return
	}
	b := make([]byte, min(window, off))
	if n, err := f.ReadAt(b, off-int64(len(b))); n == len(b) && (err == nil || err == io.EOF) {
		s.back = b
	}
}

// The notices of a Tail that doesn't find what it is to go on from.
const (
	noticeCut  = "the log file was cut meanwhile; reading goes on with what it holds now"
	noticeGone = "the log file that was read is gone; lines may be missing here"
)

// resume goes on behind a cursor. Errors are those of seek: it is to be tried
// again if a file moved meanwhile.
func (s *source) resume(c *Cursor) error {
	f, size, err := openLog(s.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.file, s.limit = f, size // nil and 0 if there is none
	rotated, err := s.rotatedBefore(f)
	if err != nil {
		return err
	}
	s.noteNewest(rotated)

	// What it may be in, most probable first: the file of that name, of that
	// identity, those that are newer, the oldest first.
	type place struct {
		segment
		current bool
	}
	var places []place
	newer := max(c.rotated, c.newest)
	var after []segment
	for i, file := range rotated {
		g := segment{File: file}
		if i > 0 {
			g.before = nanos(rotated[i-1].Rotated)
		}
		at := nanos(file.Rotated)
		if c.rotated != 0 && at == c.rotated {
			places = append(places, place{segment: g})
		}
		if at > newer {
			after = append(after, g)
		}
	}
	here := place{segment{File: File{Path: s.path}, before: s.before}, true}
	same := false // the file that is written to has that identity
	if found, ok := s.find(c.file, rotated); ok && found.Path != s.path {
		found.before = c.newest
		places = append(places, place{segment: found})
	} else {
		same = ok
	}
	exact := len(places)
	for _, g := range after {
		places = append(places, place{segment: g})
	}
	if f != nil {
		places = append(places, here)
	}

	goOn := func(at place, off int64, skip int, back []byte) {
		s.moved()
		s.back = back
		s.continued = c.continues
		if at.current {
			s.off = off
			return
		}
		at.off, at.skip = off, skip
		s.segments = []segment{at.segment}
		for _, g := range after {
			if g.Path != at.Path && nanos(g.Rotated) > nanos(at.Rotated) {
				s.segments = append(s.segments, g)
			}
		}
	}
	for i, at := range places {
		if i >= exact {
			if c.rotated != 0 {
				break // it would have kept its name
			}
			if c.off == 0 {
				// Nothing was read of it: it is the oldest that is newer than
				// what was read.
				goOn(at, 0, 0, nil)
				return nil
			}
		}
		if c.skip > 0 {
			if i < exact && nanos(at.Rotated) == c.rotated {
				goOn(at, 0, c.skip, nil)
				return nil
			}
			continue
		}
		back, ok, err := []byte(nil), false, error(nil)
		if at.current {
			if size >= c.off {
				back, ok, err = verify(io.NewSectionReader(f, c.off-int64(c.back), int64(c.back)), c)
			}
		} else {
			back, ok, err = at.holds(c)
		}
		if err != nil {
			return err
		}
		if ok {
			goOn(at, c.off, 0, back)
			return nil
		}
	}
	if c.off == 0 && c.skip == 0 && c.rotated == 0 {
		goOn(here, 0, 0, nil) // there was no file, and there is none yet
		return nil
	}
	text := noticeGone
	if same && len(after) == 0 {
		text = noticeCut
	}
	s.moved()
	s.segments = after
	l := s.line(time.Now())
	l.Notice, l.Cursor = text, s.position()
	s.told = []Line{l}
	return nil
}

// find looks for the file of an identity, under whatever name.
func (s *source) find(id fileID, rotated []File) (segment, bool) {
	if id == (fileID{}) {
		return segment{}, false
	}
	if s.file != nil {
		if is, err := identify(s.file); err == nil && is == id {
			return segment{File: File{Path: s.path}}, true
		}
	}
	entries, _ := os.ReadDir(s.dir) // what can't be listed isn't found
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasSuffix(e.Name(), ".gz") {
			continue
		}
		path := filepath.Join(s.dir, e.Name())
		f, _, err := openLog(path)
		if err != nil {
			continue
		}
		is, err := identify(f)
		f.Close()
		if err != nil || is != id {
			continue
		}
		g := segment{File: File{Path: path}, id: id}
		for _, file := range rotated {
			if file.Path == path {
				g.File = file
			}
		}
		return g, true
	}
	return segment{}, false
}

// holds reports whether what stands before the cursor's position stands there
// in g, and gives it.
func (g *segment) holds(c *Cursor) (back []byte, ok bool, err error) {
	g.off = c.off - int64(c.back)
	defer func() { g.off = 0 }()
	r, err := g.open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	if err != nil {
		return nil, false, nil // too short, or damaged
	}
	defer r.Close()
	return verify(r, c)
}

// verify reports whether r gives what stands before the cursor's position.
func verify(r io.Reader, c *Cursor) (back []byte, ok bool, err error) {
	back = make([]byte, c.back)
	if _, err := io.ReadFull(r, back); err != nil {
		return nil, false, nil // it ends before, or can't be read
	}
	return back, crc32.Checksum(back, castagnoli) == c.sum, nil
}

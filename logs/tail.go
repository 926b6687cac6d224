package logs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxLine is the longest line that is kept in memory; a longer one comes
	// in pieces.
	maxLine = 1 << 20

	// unfinishedAfter is how long an unfinished line is waited for to grow.
	unfinishedAfter = time.Second
)

// Source is a stream that a Tail reads.
type Source struct {
	Daemon string
	Stream Stream

	// Running says that the daemon may write more. If not, an unfinished last
	// line is given out at once instead of a second later.
	Running bool

	// After is where to begin, instead of some lines before the end.
	After *Cursor
}

// TailOptions say what of its sources a Tail reads.
type TailOptions struct {
	Lines  int  // how many of the last lines of each source; negative: all there are
	Follow bool // go on with what is written from now on

	// SkipUnfinished leaves out, with Follow and 0 Lines, the beginning of a
	// line that is not finished yet; else reading begins with it.
	SkipUnfinished bool

	Cursors bool // give each line its cursor
}

// Line is one line, or a piece of one.
//
// A reader that writes each Data, and a newline unless Partial is set, writes
// the daemon's own bytes. A line comes in pieces if it is longer than a
// mebibyte, or if its end was not written within a second or before the
// daemon ended: then what there is has Partial set, and what follows, if it
// ever does, Continues. A daemon that ended in the middle of a line is
// continued in it by its next incarnation, since so it is in the file.
type Line struct {
	Time      time.Time // when it was read; zero for what there was when reading began, unless that began at a cursor
	Daemon    string
	Stream    Stream
	Data      []byte // without its newline; any bytes; the receiver may keep it
	Partial   bool   // no newline follows it yet
	Continues bool   // it continues the last piece of this stream

	// Notice is not from the daemon: it tells of a gap, as when somebody cut
	// the file. Data is empty then.
	Notice string

	Cursor string // where reading goes on behind it, see [ParseCursor]; if that was asked for
}

// Tail reads the last lines of streams and follows them. It holds a file for
// each, and no goroutine. Its methods are for one goroutine.
type Tail struct {
	follow  bool
	notify  bool
	whole   bool // begin with the unfinished line
	cursors bool
	finish  atomic.Bool // Finish was called
	ending  bool        // and Next has seen it
	sources []*source
	turn    int           // whose turn it is
	wake    chan struct{} // something happened to a source
}

// NewTail begins to read. n tells of new bytes; it may be nil unless o.Follow
// is set. A source that has no file yet has no lines yet. The lines of one
// source come in order; those that there are already come source by source,
// those that are followed as they are written.
func NewTail(dataDir string, n Notifier, sources []Source, o TailOptions) (*Tail, error) {
	if o.Follow && n == nil {
		return nil, errors.New("logs: nobody tells of what is to be followed")
	}
	t := &Tail{follow: o.Follow, notify: n != nil, whole: !o.SkipUnfinished, cursors: o.Cursors, wake: make(chan struct{}, 1)}
	for _, src := range sources {
		if err := checkName(src.Daemon); err != nil {
			t.Close()
			return nil, err
		}
		s := &source{
			Source: src, t: t, cut: -1, ended: -1, grown: true,
			dir: Dir(dataDir, src.Daemon), path: Path(dataDir, src.Daemon, src.Stream),
			fresh: src.After != nil,
		}
		if !src.Running {
			s.ended = math.MaxInt64
		}
		t.sources = append(t.sources, s)
		if n != nil { // before the file is looked at, so that nothing is missed
			s.stop = n.Notify(src.Daemon, src.Stream, s.event)
		}
		if err := s.begin(o.Lines); err != nil {
			t.Close()
			return nil, fmt.Errorf("logs of %s: %w", src.Daemon, err)
		}
	}
	return t, nil
}

// Positions are lines of nothing but where each source is read from, if
// cursors were asked for. They are to be had before the first Next.
func (t *Tail) Positions() []Line {
	var lines []Line
	for _, s := range t.sources {
		lines = append(lines, Line{Daemon: s.Daemon, Stream: s.Stream, Cursor: s.start})
	}
	return lines
}

// Close lets go of everything.
func (t *Tail) Close() {
	for _, s := range t.sources {
		if s.stop != nil {
			s.stop()
		}
		s.closeFiles()
	}
	t.sources = nil
}

// Finish makes a Tail that follows end: Next gives what the files hold by now,
// and then io.EOF. What a daemon wrote before its end was told is in them, see
// [Capture.Drain]. It may be called from any goroutine.
func (t *Tail) Finish() {
	t.finish.Store(true)
	select {
	case t.wake <- struct{}{}:
	default: // it is awake already
	}
}

// Next gives the next lines, at least one, all of one source. It waits for
// them if need be, until ctx is done. io.EOF: all was read; for a Tail that
// follows only after Finish.
func (t *Tail) Next(ctx context.Context) ([]Line, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !t.ending && t.finish.Load() {
			t.ending = true
			for _, s := range t.sources {
				if err := s.endHere(); err != nil {
					return nil, fmt.Errorf("%s of %s: %w", s.Stream, s.Daemon, err)
				}
			}
		}
		done := true
		var deadline time.Time
		for range t.sources {
			s := t.sources[t.turn]
			lines, err := s.read()
			if err != nil {
				return nil, fmt.Errorf("%s of %s: %w", s.Stream, s.Daemon, err)
			}
			// What was there at the beginning comes source by source.
			if len(lines) == 0 || !s.old() {
				t.turn = (t.turn + 1) % len(t.sources)
			}
			if len(lines) > 0 {
				return lines, nil
			}
			done = done && s.done
			if !s.deadline.IsZero() && (deadline.IsZero() || s.deadline.Before(deadline)) {
				deadline = s.deadline
			}
		}
		if done && (!t.follow || t.ending) {
			return nil, io.EOF
		}
		if err := t.wait(ctx, deadline); err != nil {
			return nil, err
		}
	}
}

func (t *Tail) wait(ctx context.Context, deadline time.Time) error {
	var expired <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.wake:
	case <-expired:
	}
	return nil
}

// All is Next line by line. It ends without an error where Next ends with
// io.EOF.
func (t *Tail) All(ctx context.Context) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		for {
			lines, err := t.Next(ctx)
			if err != nil {
				if err != io.EOF {
					yield(Line{}, err)
				}
				return
			}
			for _, l := range lines {
				if !yield(l, nil) {
					return
				}
			}
		}
	}
}

// source is one stream that is read: rotated files first, then the one that
// is written to, then those that follow it.
type source struct {
	Source
	t    *Tail
	dir  string
	path string
	stop func()

	segments []segment // to be read before file
	newest   string    // the last file that was found rotated at the beginning
	gz       io.ReadCloser

	file  *os.File // nil: there is none yet
	off   int64    // next byte to be read from it
	limit int64    // its size at the beginning
	last  int64    // its size when the Tail was told to finish

	pending   []byte    // of a line that is not finished
	continued bool      // a piece of that line was given out
	deadline  time.Time // when pending is given out; zero if it is empty
	done      bool      // not following: all was read
	told      []Line    // to be given out first

	start  string // the cursor that it begins at
	head   string // of cursors into what is read now; "": to be made
	text   []byte // scratch of cursors
	back   []byte // at most window bytes that stand before what is read next
	before int64  // the time in the name of the newest file before the one that is written to
	fresh  bool   // what was read last was not there at the beginning

	mu       sync.Mutex // of what follows, which event sets
	grown    bool       // it is worth looking
	ended    int64      // the daemon wrote all it will, the file has this size; -1: not so
	cut      int64      // what is left of the file after it was cut; -1
	switches []string   // files that were switched from: where they lie now
}

// segment is a file that was rotated, from its beginning or, in a compressed
// one, behind some lines.
type segment struct {
	File
	off  int64 // uncompressed
	skip int

	id     fileID // of one that has no name by which it is found again
	before int64  // the time in the name of the newest file before it
}

// event is called where bytes are moved: it notes and returns.
func (s *source) event(e Event) {
	s.mu.Lock()
	s.grown = true
	switch e.Kind {
	case Truncated:
		if s.cut < 0 || e.Size < s.cut {
			s.cut = e.Size
		}
	case Switched:
		s.switches = append(s.switches, e.Renamed)
	case Ended:
		s.ended = e.Size
	}
	s.mu.Unlock()
	select {
	case s.t.wake <- struct{}{}:
	default: // it is awake already
	}
}

// begin opens the file and finds where the last n lines begin, or where to go
// on.
func (s *source) begin(n int) error {
	err := s.settle(func() error {
		if s.After != nil {
			return s.resume(s.After)
		}
		return s.seek(n)
	})
	if err == nil {
		s.begun()
	}
	return err
}

// settle calls f, which finds what is to be read, until nothing happens
// meanwhile.
func (s *source) settle(f func() error) error {
	var err error
	for range 100 {
		s.mu.Lock()
		s.switches = nil // the listing has what was rotated until now
		s.mu.Unlock()
		err = f()
		// Cut, rotated or compressed while we looked: look again.
		if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, fs.ErrNotExist) {
			break
		}
		s.closeFiles()
	}
	return err
}

// overtaken goes on with the files that were rotated since the one that was
// read last: the next was compressed before it was looked at, or deleted.
func (s *source) overtaken() error {
	s.closeFiles()
	s.again()
	err := s.settle(func() error { return s.resume(&Cursor{newest: s.before, continues: s.continued}) })
	s.limit = 0 // none of this was there at the beginning
	if err == nil {
		err = s.endHere()
	}
	return err
}

// begun notes where reading begins.
func (s *source) begun() {
	if !s.t.cursors {
		return
	}
	if len(s.segments) == 0 && s.After == nil {
		s.recall(s.file, s.off)
	}
	s.start = s.position()
	if len(s.told) > 0 {
		// Whoever goes on from the beginning is to be told again.
		s.start = s.After.String()
	}
}

func (s *source) seek(n int) error {
	f, size, err := openLog(s.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.file, s.limit = f, size // nil and 0 if there is none
	if s.t.cursors {
		files, err := s.rotatedBefore(f)
		if err != nil {
			return err
		}
		s.noteNewest(files)
	}
	if n < 0 {
		n = math.MaxInt
	}
	if n == 0 {
		s.off = size
		if f == nil || !s.t.follow {
			return nil
		}
		if !s.t.whole {
			return nil
		}
		// Whoever follows wants whole lines: begin with the unfinished one.
		s.off, _, err = lastLines(f, size, 1, true)
		return err
	}
	more := false
	if f != nil && size > 0 {
		off, found, err := int64(0), 0, error(nil)
		if n < math.MaxInt {
			off, found, err = lastLines(f, size, n, false)
		}
		if err != nil {
			return err
		}
		s.off = off
		if n -= found; n == 0 {
			return nil
		}
		more = true
	}
	files, err := s.rotatedBefore(f)
	if err != nil {
		return err
	}
	s.noteNewest(files)
	for i := len(files) - 1; i >= 0 && n > 0; i-- {
		seg := segment{File: files[i]}
		if i > 0 {
			seg.before = nanos(files[i-1].Rotated)
		}
		found, empty, err := seg.seek(n, more)
		if err != nil {
			return err
		}
		s.segments = append([]segment{seg}, s.segments...)
		n -= found
		more = more || !empty
	}
	return nil
}

// rotatedBefore lists the files that were rotated before f, the one that is
// written to, was made; f may be nil.
func (s *source) rotatedBefore(f *os.File) ([]File, error) {
	files, err := Files(s.dir, s.Stream)
	if err != nil {
		return nil, err
	}
	if f != nil {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		for i, file := range files {
			// The one that is open, under another name if it was rotated
			// since; then the ones behind it are newer.
			if at, err := os.Lstat(file.Path); err == nil && os.SameFile(at, info) {
				files = files[:i]
				break
			}
		}
	}
	return slices.DeleteFunc(files, func(f File) bool { return f.Rotated.IsZero() }), nil
}

// noteNewest remembers the last of those that lie before the one that is
// written to.
func (s *source) noteNewest(rotated []File) {
	if len(rotated) > 0 {
		last := rotated[len(rotated)-1]
		s.newest, s.before = strings.TrimSuffix(last.Path, ".gz"), nanos(last.Rotated)
	}
}

// passed remembers that a file was rotated and lies at path now.
func (s *source) passed(path string) {
	if _, t, _, ok := ParseRotated(filepath.Base(path)); ok {
		s.before = max(s.before, nanos(t))
	}
	s.head = ""
}

// seek finds where in the segment the last n lines begin.
func (g *segment) seek(n int, more bool) (found int, empty bool, err error) {
	if g.Compressed {
		r, err := openCompressed(g.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return 0, false, err
		}
		if err == nil {
			defer r.Close()
			g.skip, found, empty, err = skipLines(r, n, more)
		}
		if err != nil { // it is damaged: reading it will tell
			g.skip, found, empty = 0, 0, false
		}
		return found, empty, nil
	}
	f, size, err := openLog(g.Path)
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	g.off, found, err = lastLines(f, size, n, more)
	return found, size == 0, err
}

type compressedFile struct {
	*gzip.Reader
	f *os.File
}

func (c compressedFile) Close() error { return c.f.Close() }

func openCompressed(path string) (io.ReadCloser, error) {
	f, _, err := openLog(path)
	if err != nil {
		return nil, err
	}
	r, err := gzip.NewReader(bufio.NewReaderSize(f, blockSize))
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return compressedFile{r, f}, nil
}

func (s *source) closeFiles() {
	if s.file != nil {
		s.file.Close()
	}
	if s.gz != nil {
		s.gz.Close()
	}
	s.file, s.gz, s.segments, s.off, s.limit = nil, nil, nil, 0, 0
	s.moved()
}

// old says whether there is something to be read that was there at the
// beginning.
func (s *source) old() bool { return len(s.segments) > 0 || s.off < s.limit }

// read gives the next lines, or none if there is nothing to be read now.
func (s *source) read() ([]Line, error) {
	if lines := s.told; len(lines) > 0 {
		s.told = nil
		return lines, nil
	}
	for len(s.segments) > 0 || !s.done {
		if len(s.segments) > 0 {
			lines, err := s.readSegment()
			if len(lines) > 0 || err != nil {
				return lines, err
			}
			continue
		}
		// What happened is looked at before the file: what is found in it is
		// at least what was there when it happened.
		s.mu.Lock()
		grown, ended, cut, switched := s.grown, s.ended, s.cut, len(s.switches) > 0
		s.grown, s.cut = false, -1
		s.mu.Unlock()
		if cut >= 0 {
			if s.file != nil && cut < s.off {
				s.off, s.limit = cut, min(s.limit, cut)
				s.moved()
				s.recall(s.file, cut)
				s.again()
				return s.notice("the log file was cut; reading goes on with what was written since"), nil
			}
		}
		if !grown && s.off >= s.limit && !s.t.ending {
			return s.overdue(), nil
		}
		if s.file == nil {
			path := s.first()
			f, _, err := openLog(path)
			if errors.Is(err, fs.ErrNotExist) {
				if path != s.path {
					if err := s.overtaken(); err != nil {
						return nil, err
					}
					continue
				}
				return s.finish(), nil
			}
			if err != nil {
				return nil, err
			}
			s.file, s.off = f, 0
			s.moved()
			if err := s.endHere(); err != nil {
				return nil, err
			}
			if !s.t.follow { // it came after the beginning
				return s.finish(), nil
			}
		}
		chunk, err := s.readFile()
		if err != nil {
			return nil, err
		}
		if s.wasCut() {
			continue // what was read may be from behind the cut
		}
		if len(chunk) > 0 {
			s.again()
			s.fresh = s.After != nil || s.off >= s.limit
			at := s.off
			s.off += int64(len(chunk))
			if lines := s.split(chunk, at); len(lines) > 0 {
				return lines, nil
			}
			continue
		}
		// All of this file was read.
		if switched && s.hasSwitched() {
			if err := s.next(); err != nil {
				return nil, err
			}
			continue
		}
		if s.t.ending {
			return s.finish(), nil
		}
		if ended >= 0 {
			s.mu.Lock()
			if s.ended == ended {
				s.ended = -1
			}
			s.mu.Unlock()
		}
		if len(s.pending) == 0 || ended >= s.off || !s.t.notify {
			return s.finish(), nil
		}
		return s.overdue(), nil
	}
	return nil, nil
}

// finish gives out what is unfinished, and is the end unless more is
// followed.
func (s *source) finish() []Line {
	s.done = !s.t.follow || s.t.ending
	if len(s.pending) == 0 {
		return nil
	}
	return s.giveUnfinished()
}

// endHere makes what the file holds by now the end, if the Tail is to finish:
// a daemon that goes on writing could be followed forever.
func (s *source) endHere() error {
	if !s.t.ending || s.file == nil {
		return nil
	}
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	s.last = info.Size()
	return nil
}

// again makes the next read look without being told to.
func (s *source) again() {
	s.mu.Lock()
	s.grown = true
	s.mu.Unlock()
}

func (s *source) hasSwitched() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.switches) > 0
}

func (s *source) wasCut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut >= 0
}

// first is where the first file lies that was made after the beginning.
func (s *source) first() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.switches) > 0 {
		// It may have been rotated already; or this was told late, of the
		// newest of those that were found rotated at the beginning.
		if at := s.switches[0]; at != "" && at != s.newest {
			return at
		}
		s.passed(s.switches[0])
		s.switches = s.switches[1:]
	}
	return s.path
}

// scratches hold what is read until its lines are known.
var scratches = sync.Pool{New: func() any { b := make([]byte, blockSize); return &b }}

// readFile reads the next bytes of the file. Without following these end
// where the file ended at the beginning, or with the line that was unfinished
// then.
func (s *source) readFile() ([]byte, error) {
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	buf := *scratch
	finish := false
	if !s.t.follow {
		if left := s.limit - s.off; left > 0 {
			buf = buf[:min(int64(len(buf)), left)]
		} else if len(s.pending) == 0 {
			return nil, nil
		} else {
			finish = true
		}
	}
	if s.t.ending {
		buf = buf[:min(int64(len(buf)), max(0, s.last-s.off))]
	}
	n, err := s.file.ReadAt(buf, s.off)
	if err != nil && err != io.EOF {
		return nil, err
	}
	buf = buf[:n]
	if finish {
		if i := bytes.IndexByte(buf, '\n'); i >= 0 {
			buf = buf[:i+1]
		}
	}
	return bytes.Clone(buf), nil
}

// next goes on with the file that is written to after this one.
func (s *source) next() error {
	s.mu.Lock()
	s.passed(s.switches[0])
	s.switches = s.switches[1:]
	s.grown = true
	path := s.path
	if len(s.switches) > 0 && s.switches[0] != "" {
		path = s.switches[0] // which was switched from, too, and lies there
	}
	s.mu.Unlock()
	f, _, err := openLog(path)
	if errors.Is(err, fs.ErrNotExist) {
		if path != s.path {
			return s.overtaken()
		}
		s.file.Close()
		s.file, s.off, s.limit = nil, 0, 0
		s.moved()
		return nil
	}
	if err != nil {
		return err
	}
	was, err1 := s.file.Stat()
	is, err2 := f.Stat()
	if err := errors.Join(err1, err2); err != nil {
		f.Close()
		return err
	}
	if os.SameFile(was, is) { // it was opened after the switch
		f.Close()
		return nil
	}
	s.file.Close()
	s.file, s.off, s.limit = f, 0, 0
	s.moved()
	return s.endHere()
}

// readSegment reads the next bytes of the first segment, and drops it at its
// end.
func (s *source) readSegment() ([]Line, error) {
	g := &s.segments[0]
	if s.gz == nil {
		r, err := g.open()
		if errors.Is(err, fs.ErrNotExist) { // retention was faster
			s.dropSegment()
			return s.notice("a rotated log file is gone; its lines are missing here"), nil
		}
		if err != nil {
			s.dropSegment()
			return s.notice(fmt.Sprintf("a rotated log file can't be read; its lines are missing here: %v", err)), nil
		}
		s.gz = r
	}
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	n, err := s.gz.Read(*scratch)
	chunk := (*scratch)[:n]
	for g.skip > 0 && len(chunk) > 0 {
		i := bytes.IndexByte(chunk, '\n')
		if i < 0 {
			g.off += int64(len(chunk))
			s.remember(chunk)
			chunk = nil
			break
		}
		g.off += int64(i) + 1
		s.remember(chunk[:i+1])
		chunk = chunk[i+1:]
		g.skip--
	}
	at := g.off
	g.off += int64(len(chunk))
	lines := s.split(bytes.Clone(chunk), at)
	if err != nil {
		s.dropSegment()
		if err != io.EOF {
			lines = append(lines, s.notice(fmt.Sprintf("a rotated log file is damaged, its rest is missing here: %v", err))...)
		}
	}
	return lines, nil
}

// dropSegment goes on behind the first segment.
func (s *source) dropSegment() {
	if s.gz != nil {
		s.gz.Close()
		s.gz = nil
	}
	s.segments = s.segments[1:]
	s.moved()
}

// open opens the segment where its lines begin; it may have been compressed
// since it was listed.
func (g *segment) open() (io.ReadCloser, error) {
	path := g.Path
	if !g.Compressed {
		f, _, err := openLog(path)
		if err == nil {
			if _, err = f.Seek(g.off, io.SeekStart); err == nil {
				return f, nil
			}
			f.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		path += ".gz"
	}
	r, err := openCompressed(path)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, r, g.off); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// line makes one that has all but its data.
func (s *source) line(now time.Time) Line {
	l := Line{Daemon: s.Daemon, Stream: s.Stream}
	if s.fresh {
		l.Time = now
	}
	return l
}

// split cuts a chunk, which it keeps, into lines. off is where it stands in
// its file.
func (s *source) split(chunk []byte, off int64) []Line {
	var lines []Line
	now := time.Now()
	for end := 0; end < len(chunk); {
		data := chunk[end:]
		i := bytes.IndexByte(data, '\n')
		if i >= 0 {
			data = data[:i:i]
			end += i + 1
		} else {
			end = len(chunk)
		}
		if len(s.pending) > 0 || i < 0 {
			s.pending = append(s.pending, data...)
			data = s.pending
		}
		if i < 0 && len(data) < maxLine {
			break
		}
		l := s.line(now)
		l.Data, l.Partial, l.Continues = data, i < 0, s.continued
		s.pending, s.continued = nil, l.Partial
		l.Cursor = s.cursor(chunk, end, off)
		lines = append(lines, l)
	}
	s.remember(chunk)
	// Growth starts the second anew.
	s.deadline = time.Time{}
	if len(s.pending) > 0 {
		s.deadline = now.Add(unfinishedAfter)
	}
	return lines
}

// overdue gives out what is unfinished if it has been for long enough.
func (s *source) overdue() []Line {
	if len(s.pending) == 0 || time.Now().Before(s.deadline) {
		return nil
	}
	return s.finish()
}

func (s *source) giveUnfinished() []Line {
	l := s.line(time.Now())
	l.Data, l.Partial, l.Continues = s.pending, true, s.continued
	s.pending, s.continued, s.deadline = nil, true, time.Time{}
	l.Cursor = s.position()
	return []Line{l}
}

// notice tells of a gap. What is unfinished will not be finished; it comes
// first.
func (s *source) notice(text string) []Line {
	var lines []Line
	if len(s.pending) > 0 {
		lines = s.giveUnfinished()
	}
	s.continued = false
	if lines != nil { // also for who goes on from here, nothing continues it
		lines[0].Cursor = s.position()
	}
	l := s.line(time.Now())
	l.Notice, l.Cursor = text, s.position()
	return append(lines, l)
}

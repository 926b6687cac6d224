//go:build linux

// Package trace is what a test daemon knows of itself, kept where no death can
// take it: one file for each incarnation, written through a shared memory map.
// A store to it is there for whoever reads the file, also when the process is
// killed by the next instruction.
package trace

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// Writer is who writes lines.
type Writer int

// The writers of an incarnation: its first process, and one that it left in a
// session of its own.
const (
	Main Writer = iota
	Member
	Writers int = iota
)

// Streams are stdout and stderr.
const Streams = 2

// Record is the file. Only its own incarnation writes it.
type Record struct {
	pid      atomic.Int64
	revision atomic.Int64
	started  atomic.Int64 // ns since 1970, as all times
	sign     [Writers]atomic.Int64
	leaving  atomic.Int64
	exit     atomic.Int64
	lines    [Writers][Streams]atomic.Int64
}

const size = int(unsafe.Sizeof(Record{}))

// Dir is where a daemon's records lie below the suite's directory.
func Dir(base, name string) string { return filepath.Join(base, "trace", name) }

// Create begins the record of an incarnation. fs.ErrExist: that incarnation
// was started before.
func Create(base, name, incarnation string, revision int) (*Record, error) {
	r, err := mapFile(filepath.Join(Dir(base, name), incarnation), os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixNano()
	r.revision.Store(int64(revision))
	r.sign[Main].Store(now)
	r.pid.Store(int64(os.Getpid()))
	r.started.Store(now)
	return r, nil
}

// Join opens the record of the incarnation that this process belongs to.
func Join(base, name, incarnation string) (*Record, error) {
	return mapFile(filepath.Join(Dir(base, name), incarnation), 0)
}

func mapFile(path string, flags int) (*Record, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return (*Record)(unsafe.Pointer(&b[0])), nil
}

// Wrote notes that the next line of a writer is in its pipe.
func (r *Record) Wrote(w Writer, stream int) {
	r.lines[w][stream].Add(1)
	r.sign[w].Store(time.Now().UnixNano())
}

// Next is the number of the next line.
func (r *Record) Next(w Writer, stream int) int64 { return r.lines[w][stream].Load() + 1 }

// Leave notes that the first process is about to exit with a code, or, where it
// is negative, to be killed by that signal.
func (r *Record) Leave(code int) {
	r.exit.Store(int64(code))
	now := time.Now().UnixNano()
	r.sign[Main].Store(now)
	r.leaving.Store(now)
}

// Copy is a record as it was at one moment.
type Copy struct {
	Incarnation string
	PID         int
	Revision    int
	Started     time.Time
	Sign        [Writers]time.Time // the last sign of life of each
	Left        bool               // it was about to exit
	Exit        int                // with this code, or if negative by this signal
	Lines       [Writers][Streams]int64
}

// Read reads one. It is zero as long as the incarnation has only begun to
// write it.
func Read(base, name, incarnation string) (Copy, error) {
	c := Copy{Incarnation: incarnation}
	b, err := os.ReadFile(filepath.Join(Dir(base, name), incarnation))
	if err != nil {
		return c, err
	}
	if len(b) < size {
		return Copy{}, nil
	}
	// Aligned, since it is larger than a machine word.
	r := (*Record)(unsafe.Pointer(&b[0]))
	if r.started.Load() == 0 {
		return Copy{}, nil
	}
	c.PID, c.Revision = int(r.pid.Load()), int(r.revision.Load())
	c.Started = time.Unix(0, r.started.Load())
	c.Left, c.Exit = r.leaving.Load() != 0, int(r.exit.Load())
	for w := range r.lines {
		c.Sign[w] = time.Unix(0, r.sign[w].Load())
		for s := range r.lines[w] {
			c.Lines[w][s] = r.lines[w][s].Load()
		}
	}
	return c, nil
}

// All reads all of a daemon's that were not forgotten.
func All(base, name string) ([]Copy, error) {
	entries, err := os.ReadDir(Dir(base, name))
	if err != nil {
		return nil, err
	}
	var out []Copy
	for _, e := range entries {
		c, err := Read(base, name, e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if c.PID != 0 {
			out = append(out, c)
		}
	}
	return out, nil
}

// Forget removes one that was looked at for the last time.
func Forget(base, name, incarnation string) {
	_ = os.Remove(filepath.Join(Dir(base, name), incarnation))
}

// Line is what a writer writes: who, which of its lines, and padding, so that
// lines have many lengths. A line is at most PIPE_BUF bytes long, and so
// written in one piece or not at all.
func Line(incarnation string, w Writer, n int64) string {
	return incarnation + [...]string{" p ", " m "}[w] + strconv.FormatInt(n, 10) + " " + padding[:n*7%int64(len(padding))] + "\n"
}

const padding = "................................................................"

// ParseLine undoes Line, without the line's end.
func ParseLine(s string) (incarnation string, w Writer, n int64, ok bool) {
	incarnation, rest, _ := strings.Cut(s, " ")
	who, rest, _ := strings.Cut(rest, " ")
	number, _, _ := strings.Cut(rest, " ")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 {
		return "", 0, 0, false
	}
	if who == "m" {
		w = Member
	}
	want := Line(incarnation, w, n)
	return incarnation, w, n, want[:len(want)-1] == s
}

package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Stream is one of a daemon's two outputs.
type Stream uint8

// The streams.
const (
	Stdout Stream = iota
	Stderr
)

// String is the stream's name as files and output have it.
func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// maxName is the longest daemon name in bytes, as the file format has it.
const maxName = 200

// checkName refuses what would leave the directory it is joined to. The file
// format is stricter; this is what holds if somebody forgot to ask it.
func checkName(daemon string) error {
	if daemon == "" || len(daemon) > maxName || daemon[0] == '.' || strings.ContainsAny(daemon, "/\\\x00:") {
		return fmt.Errorf("logs: %q can not name a daemon", daemon)
	}
	return nil
}

// Dir is the directory of a daemon's logs.
func Dir(dataDir, daemon string) string {
	return filepath.Join(dataDir, "logs", daemon)
}

// Path is the file that a stream is written to now.
func Path(dataDir, daemon string, s Stream) string {
	return filepath.Join(Dir(dataDir, daemon), s.String()+".log")
}

// FIFOs are the paths of all FIFOs in a data directory, and whose each is.
func FIFOs(dataDir string) map[string]string {
	dir := filepath.Join(dataDir, "run")
	entries, _ := os.ReadDir(dir) // without it there are none
	out := make(map[string]string, len(entries))
	for _, e := range entries {
		for _, s := range []Stream{Stdout, Stderr} {
			if daemon, ok := strings.CutSuffix(e.Name(), "."+s.String()); ok && e.Type() == fs.ModeNamedPipe {
				out[filepath.Join(dir, e.Name())] = daemon
			}
		}
	}
	return out
}

// rotatedTime makes names that sort as their times do and hold no character
// that a file system refuses.
const rotatedTime = "20060102T150405.000000000Z"

// RotatedName is the name of a stream's file that was rotated at t; the
// compressed one has ".gz" behind it. Names sort by time.
func RotatedName(s Stream, t time.Time) string {
	return s.String() + "-" + t.UTC().Format(rotatedTime) + ".log"
}

// ParseRotated reads what RotatedName made, with or without ".gz". The time
// may have fewer digits behind the second, or none.
func ParseRotated(name string) (s Stream, t time.Time, compressed, ok bool) {
	base, compressed := strings.CutSuffix(name, ".gz")
	base, found := strings.CutSuffix(base, ".log")
	if !found {
		return 0, time.Time{}, false, false
	}
	switch {
	case strings.HasPrefix(base, "stdout-"):
		s = Stdout
	case strings.HasPrefix(base, "stderr-"):
		s = Stderr
	default:
		return 0, time.Time{}, false, false
	}
	// A fraction is accepted in parsing even where the layout has none.
	t, err := time.Parse("20060102T150405Z", base[len("stdout-"):])
	if err != nil {
		return 0, time.Time{}, false, false
	}
	return s, t, compressed, true
}

// File is one file of a stream.
type File struct {
	Path       string
	Rotated    time.Time // zero for the one that is written to
	Compressed bool
}

// Files lists the files of a stream in dir, oldest first, the one that is
// written to last. Of a file that is there both plain and compressed (a crash
// between the two) the plain one is listed. A directory that does not exist
// has no files.
func Files(dir string, s Stream) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []File
	current := false
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		name := e.Name()
		if name == s.String()+".log" {
			current = true
			continue
		}
		of, t, compressed, ok := ParseRotated(name)
		if ok && of == s {
			files = append(files, File{filepath.Join(dir, name), t, compressed})
		}
	}
	slices.SortFunc(files, func(a, b File) int {
		if c := a.Rotated.Compare(b.Rotated); c != 0 {
			return c
		}
		return strings.Compare(a.Path, b.Path) // plain before .gz
	})
	files = slices.CompactFunc(files, func(a, b File) bool {
		return strings.TrimSuffix(a.Path, ".gz") == strings.TrimSuffix(b.Path, ".gz")
	})
	if current {
		files = append(files, File{Path: filepath.Join(dir, s.String()+".log")})
	}
	return files, nil
}

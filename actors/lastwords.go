package actors

import (
	"os"
	"strings"

	"github.com/cyber-boost/syspulse/logs"
)

// How much of what a daemon wrote before it failed is told.
const (
	lastWordsLines = 10
	lastWordsBytes = 16 << 10
)

func (s *System) stderrPath(name string) string {
	return logs.Path(s.capture.DataDir(), name, logs.Stderr)
}

// stderrSize is how much a daemon has written to stderr, 0 if nothing.
func (s *System) stderrSize(name string) int64 {
	info, err := os.Stat(s.stderrPath(name))
	if err != nil {
		return 0
	}
	return info.Size()
}

// lastLines are the last lines of a file behind from. If it is shorter, it
// was rotated or cut since, and all of it is behind.
func lastLines(path string, from int64) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	size := info.Size()
	if from > size {
		from = 0
	}
	begin := max(from, size-lastWordsBytes)
	b := make([]byte, size-begin)
	n, _ := f.ReadAt(b, begin) // what can be read of it
	text := strings.TrimSuffix(strings.ToValidUTF8(string(b[:n]), "\uFFFD"), "\n")
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	if begin > from && len(lines) > 1 {
		lines = lines[1:] // it began in the middle of one
	}
	return lines[max(0, len(lines)-lastWordsLines):]
}

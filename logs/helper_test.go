//go:build unix

package logs

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"
)

// The test binary is also the programs that the tests run as processes of
// their own: LOGS_TEST names one of helpers.
var helpers = map[string]func(){
	"lines":   writeLines,
	"chunks":  writeChunks,
	"capture": captureUntilKilled,
}

func TestMain(m *testing.M) {
	if name := os.Getenv("LOGS_TEST"); name != "" {
		helpers[name]()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func number(name string) int {
	n, err := strconv.Atoi(os.Getenv(name))
	if err != nil {
		panic(err)
	}
	return n
}

// line is line i of writeLines: numbered, of varying length.
func line(i int) string {
	return fmt.Sprintf("%d %*s\n", i, i%90, "x")
}

// writeLines writes LINES lines, each with one write, to stdout; then it holds
// stdout open until its stdin ends.
func writeLines() {
	for i := range number("LINES") {
		if _, err := os.Stdout.WriteString(line(i)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	io.Copy(io.Discard, os.Stdin)
}

// writeChunks writes TOTAL bytes to stdout in writes of SIZE bytes that end
// with a newline.
func writeChunks() {
	size, total := number("SIZE"), number("TOTAL")
	chunk := make([]byte, size)
	for i := range chunk {
		chunk[i] = 'a' + byte(i%26)
	}
	chunk[size-1] = '\n'
	for total > 0 {
		n, err := os.Stdout.Write(chunk)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		total -= n
	}
	// A descriptor of the pipe must be left until all is carried.
	io.Copy(io.Discard, os.Stdin)
}

// captureUntilKilled carries the output of daemon d in DIR. It says when it
// has begun.
func captureUntilKilled() {
	c, err := New(Options{Dir: os.Getenv("DIR")})
	if err == nil {
		_, err = c.Open("d", StreamOptions{UID: os.Getuid(), GID: os.Getgid()})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadByte()
}

//go:build unix

package logs

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A Tail that is told to finish gives all there is, and nothing that comes
// later.
func TestFinish(t *testing.T) {
	dir := t.TempDir()
	path := Path(dir, "d", Stdout)
	write(t, path, "old\n")
	n := new(tellers)
	tail := newTail(t, dir, n, TailOptions{Follow: true}, Source{Daemon: "d", Running: true}, Source{Daemon: "d", Stream: Stderr, Running: true})
	write(t, path, "1\n2\nunfinished")
	tail.Finish()
	tail.Finish()
	lines := next(t, tail)
	write(t, path, " later\n")
	n.tell(Event{Kind: Grown})
	lines = append(lines, all(t, tail)...)
	if got := text(lines); got != "1\n2\nunfinished" {
		t.Errorf("%q", got)
	}
	if _, err := tail.Next(context.Background()); err != io.EOF {
		t.Errorf("%v behind the end", err)
	}
}

// Whoever waits is woken.
func TestFinishWakes(t *testing.T) {
	tail := newTail(t, t.TempDir(), new(tellers), TailOptions{Follow: true})
	done := make(chan error)
	go func() {
		_, err := tail.Next(context.Background())
		done <- err
	}()
	tail.Finish()
	if err := <-done; err != io.EOF {
		t.Error(err)
	}
}

// Files that are written to after a rotation count as well.
func TestFinishAcrossARotation(t *testing.T) {
	dir := t.TempDir()
	path := Path(dir, "d", Stdout)
	write(t, path, "old\n")
	n := new(tellers)
	tail := newTail(t, dir, n, TailOptions{Follow: true})
	write(t, path, "1\n")
	renamed := filepath.Join(filepath.Dir(path), RotatedName(Stdout, time.Now()))
	if err := os.Rename(path, renamed); err != nil {
		t.Fatal(err)
	}
	n.tell(Event{Kind: Switched, Renamed: renamed})
	write(t, path, "2\n")
	tail.Finish()
	if got := text(all(t, tail)); got != "1\n2\n" {
		t.Errorf("%q", got)
	}
}

func TestSkipUnfinished(t *testing.T) {
	dir := t.TempDir()
	path := Path(dir, "d", Stdout)
	write(t, path, "old\nbegun")
	tail := newTail(t, dir, new(tellers), TailOptions{Follow: true, SkipUnfinished: true})
	write(t, path, " and ended\nnew\n")
	tail.Finish()
	if got := text(all(t, tail)); got != " and ended\nnew\n" {
		t.Errorf("%q", got)
	}
}

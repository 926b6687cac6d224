package persist

import (
	"os"
	"testing"
	"time"
)

func TestHolder(t *testing.T) {
	dir := t.TempDir()
	if pid, _, ok := Holder(dir); ok {
		t.Fatalf("nobody was there yet, but %d holds it", pid)
	}
	if _, err := os.Stat(dir + "/lock"); err == nil {
		t.Error("asking made a lock file")
	}
	l, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	pid, since, ok := Holder(dir)
	if !ok || pid != os.Getpid() || time.Since(since) > time.Hour {
		t.Errorf("%d since %v, %v; want this process", pid, since, ok)
	}
	if err := l.release(); err != nil {
		t.Fatal(err)
	}
	// The file is still there, and the process it names lives.
	if pid, _, ok := Holder(dir); ok {
		t.Errorf("%d holds what was released", pid)
	}
}

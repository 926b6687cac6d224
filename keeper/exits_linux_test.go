package keeper

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestExitsKeepTheNewest(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "exits"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e := NewExits(f)
	if _, ok := e.Find(1, 1); ok {
		t.Fatal("found one in an empty file")
	}
	for i := range exitsKept + 10 {
		e.note(1000+i, uint64(i), syscall.WaitStatus(i%256<<8))
	}
	// Another process reads it.
	g, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	r := NewExits(g)
	if _, ok := r.Find(1009, 9); ok {
		t.Error("the oldest must have made room")
	}
	for _, i := range []int{10, exitsKept, exitsKept + 9} {
		ws, ok := r.Find(1000+i, uint64(i))
		if !ok || ws.ExitStatus() != i%256 {
			t.Errorf("note %d: code %d, %v", i, ws.ExitStatus(), ok)
		}
		if _, ok := r.Find(1000+i, uint64(i)+1); ok {
			t.Errorf("note %d is found for another process of that number", i)
		}
	}
}

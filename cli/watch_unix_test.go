//go:build unix

package cli

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestFilesAreWatchedWhereverTheyLie(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(parts ...string) string { return filepath.Join(append([]string{top}, parts...)...) }
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// A deployment: current -> releases/1, and etc/app.sys -> ../current/app.sys.
	for _, dir := range []string{"etc", "releases/1", "releases/2"} {
		do(os.MkdirAll(at(dir), 0o700))
	}
	for _, file := range []string{"releases/1/app.sys", "releases/2/app.sys", "etc/plain.sys"} {
		do(os.WriteFile(at(file), nil, 0o600))
	}
	do(os.Symlink("releases/1", at("current")))
	do(os.Symlink("../current/app.sys", at("etc/app.sys")))

	w, err := watchFiles([]string{at("etc/app.sys"), at("etc/plain.sys"), at("not/yet/there.sys")}, slog.New(slog.DiscardHandler))
	do(err)
	defer w.close()
	told := func(what string) {
		t.Helper()
		select {
		case <-w.C:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: nobody tells", what)
		}
	}
	do(os.WriteFile(at("etc/plain.sys"), []byte("x"), 0o600))
	told("written in place")
	do(os.WriteFile(at("etc/new"), nil, 0o600))
	do(os.Rename(at("etc/new"), at("etc/plain.sys")))
	told("renamed over")
	do(os.WriteFile(at("etc/plain.sys"), []byte("x"), 0o600))
	told("written after that")
	do(os.WriteFile(at("releases/1/app.sys"), []byte("x"), 0o600))
	told("written behind links")
	do(os.Symlink("releases/2", at("next")))
	do(os.Rename(at("next"), at("current")))
	told("a link on the way switched")
	do(os.WriteFile(at("releases/2/app.sys"), []byte("x"), 0o600))
	told("written behind the new link")
	do(os.Mkdir(at("not"), 0o700))
	told("a directory that was lacking")
	do(os.Mkdir(at("not/yet"), 0o700))
	told("the next one")
	do(os.WriteFile(at("not/yet/there.sys"), nil, 0o600))
	told("the file in it")
	do(os.Rename(at("not/yet"), at("not/any")))
	told("its directory renamed")
	do(os.Mkdir(at("not/yet"), 0o700))
	told("its directory is there again")
	do(os.WriteFile(at("not/yet/there.sys"), nil, 0o600))
	told("the file is there again")

	// What lies beside a file is nobody's business.
	do(os.WriteFile(at("etc/beside"), nil, 0o600))
	do(os.WriteFile(at("releases/1/app.sys"), []byte("y"), 0o600))
	do(os.Remove(at("etc/plain.sys")))
	told("removed")
	if n := len(w.C); n > 0 {
		t.Error("it is told twice")
	}
	want := []string{at(), at("etc"), at("not", "yet"), at("releases/2")}
	if got := slices.Sorted(slices.Values(w.w.WatchList())); !slices.Equal(got, want) {
		t.Errorf("watched are %q, want %q", got, want)
	}
}

func TestPlacesOfALoopEnd(t *testing.T) {
	top := t.TempDir()
	if err := os.Symlink("loop", filepath.Join(top, "loop")); err != nil {
		t.Fatal(err)
	}
	dirs, matter := map[string]bool{}, map[string]bool{}
	places(filepath.Join(top, "loop"), dirs, matter)
	if !dirs[top] || !matter[filepath.Join(top, "loop")] {
		t.Errorf("dirs %v, paths %v", slices.Collect(maps.Keys(dirs)), slices.Collect(maps.Keys(matter)))
	}
}

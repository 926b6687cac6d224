package spec

import (
	"os"
	"path/filepath"
	"testing"
)

// Any bytes end in a file or in problems that have their place, and a file
// that was accepted is the same when it is written anew.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.sys", "testdata/good/*.sys"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Add(Template())
	f.Fuzz(func(t *testing.T, data []byte) {
		file, ps := Parse("t.sys", data, At(someday))
		if len(ps) > 0 {
			if file != nil {
				t.Fatal("a file came with its problems")
			}
			for i, p := range ps {
				if p.Message == "" || p.File != "t.sys" || (p.Line == 0) != (p.Column == 0) {
					t.Fatalf("%#v", p)
				}
				if i > 0 && i < maxProblems && p.Line < ps[i-1].Line {
					t.Fatalf("out of order: %v", ps)
				}
			}
			return
		}
		if len(file.Daemons) == 0 && len(file.Groups) == 0 {
			t.Fatal("accepted a file with nothing in it")
		}
		file.Warnings()
		for _, d := range file.Daemons {
			if err := CheckName("daemon", d.Name); err != nil {
				t.Fatal(err)
			}
			if _, _, ok := file.Position(d.Name, "name"); !ok {
				t.Fatal("no position")
			}
			again, ps := Parse("t.sys", encodeTOML(t, d), At(someday))
			if len(ps) > 0 {
				t.Fatalf("%v\n%s", ps, encodeTOML(t, d))
			}
			if !again.Daemons[0].Equal(d) {
				t.Fatalf("differs in %v", Diff(d, again.Daemons[0]))
			}
		}
	})
}

// What the API accepts is in its canonical form.
func FuzzDecodeDaemon(f *testing.F) {
	f.Add([]byte(`{"name":"a","command":["x"]}`))
	f.Add([]byte(`{"name":"a","command":["x"],"nice":5.0,"depends_on":["b",{"name":"c","condition":"healthy"}],"ready":{"type":"delay","secs":1e3}}`))
	f.Add([]byte(`{"name":"a","command":["x"],"restart_policy":{"policy":"always","backoff_base_secs":-0.0,"success_exit_codes":[]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := decodeDaemon(data, someday)
		if err != nil {
			if ps, ok := err.(Problems); !ok || len(ps) == 0 {
				t.Fatalf("%#v", err)
			}
			return
		}
		again, err := decodeDaemon(mustJSON(t, d), someday)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := DecodeStored(mustJSON(t, d))
		if err != nil {
			t.Fatal(err)
		}
		if !again.Equal(d) || !stored.Equal(d) {
			t.Fatalf("differs in %v, %v", Diff(d, again), Diff(d, stored))
		}
	})
}

package spec

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the expected reports anew")

// someday is when the tests' schedules are read.
var someday = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// Each broken file in testdata/bad has its report beside it.
func TestReports(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.sys")
	if err != nil || len(files) < 50 {
		t.Fatalf("only %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".sys"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f, ps := Parse(filepath.Base(file), data, At(someday))
			if len(ps) == 0 {
				t.Fatal("no problem was found")
			}
			if f != nil {
				t.Error("a file came with its problems")
			}
			for i, p := range ps {
				if p.Message == "" || p.File == "" || (p.Line == 0) != (p.Column == 0) {
					t.Errorf("problem without a place or a message: %#v", p)
				}
				if p.Line == 0 && p.Source == "" {
					t.Errorf("no line: %v", p)
				}
				if i > 0 && (p.Line < ps[i-1].Line || p.Line == ps[i-1].Line && p.Column < ps[i-1].Column) {
					t.Errorf("out of order: %v", p)
				}
			}
			got := ps.Error() + "\n"
			want := strings.TrimSuffix(file, ".sys") + ".want"
			if *update {
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			exp, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if got != strings.ReplaceAll(string(exp), "\r\n", "\n") {
				t.Errorf("got:\n%swant:\n%s", got, exp)
			}
			if _, err := json.Marshal(ps); err != nil {
				t.Error(err)
			}
		})
	}
}

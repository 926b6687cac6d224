package actors

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLastLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stderr.log")
	if got := lastLines(path, 0); got != nil {
		t.Errorf("%q of a file that isn't there", got)
	}
	long := strings.Repeat("x", lastWordsBytes)
	for _, test := range []struct {
		text string
		from int64
		want []string
	}{
		{"", 0, nil},
		{"old\n", 4, nil},
		{"old\nnew\nunfinished", 4, []string{"new", "unfinished"}},
		{"cut\n", 100, []string{"cut"}},
		{"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n", 0, []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}},
		{long + "\nlast\n", 0, []string{"last"}},
		{"\xff\n", 0, []string{"\uFFFD"}},
	} {
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := lastLines(path, test.from); !slices.Equal(got, test.want) {
			t.Errorf("of %.40q from %d: %q, want %q", test.text, test.from, got, test.want)
		}
	}
}

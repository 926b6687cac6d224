package spec

import (
	"fmt"
	"strings"
	"testing"
)

func TestASizeThatAManagerCanKeep(t *testing.T) {
	file := func(n int) string {
		var b strings.Builder
		b.WriteString("[daemon]\nname = \"web\"\ncommand = [\"true\"]\ntags = [\"" + strings.Repeat("t", 10) + "\"]\n[daemon.env]\n")
		for i := range n {
			fmt.Fprintf(&b, "K%04d = \"%s\"\n", i, strings.Repeat("v", 1<<10-20))
		}
		return b.String()
	}
	if _, ps := Parse("good.sys", []byte(file(180))); len(ps) > 0 {
		t.Error(ps)
	}
	_, ps := Parse("large.sys", []byte(file(300)))
	if len(ps) != 1 || ps[0].Key != "env" || ps[0].Line != 5 || !strings.Contains(ps[0].String(), "192 are the most") {
		t.Errorf("%.500v", ps)
	}
}

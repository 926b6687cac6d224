package spec

import (
	"fmt"
	"strings"
	"testing"
)

// A file of 1,000 daemons.
func BenchmarkParse1000(b *testing.B) {
	var s strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&s, "[[daemon]]\nname = \"worker-%d\"\ncommand = [\"./worker\", \"%d\"]\ntags = [\"w\"]\n[daemon.env]\nN = \"%d\"\n[daemon.restart_policy]\npolicy = \"always\"\n", i, i, i)
	}
	data := []byte(s.String())
	for b.Loop() {
		if _, ps := Parse("t.sys", data); len(ps) > 0 {
			b.Fatal(ps)
		}
	}
}

func BenchmarkDecodeDaemon(b *testing.B) {
	data := []byte(`{"name":"worker","command":["./worker","1"],"tags":["w"],"env":{"N":"1"},"restart_policy":{"policy":"always"}}`)
	for b.Loop() {
		if _, err := DecodeDaemon(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeStored(b *testing.B) {
	data := []byte(`{"name":"worker","command":["./worker","1"],"tags":["w"],"env":{"N":"1"},"restart_policy":{"policy":"always"}}`)
	for b.Loop() {
		if _, err := DecodeStored(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSchedule(b *testing.B) {
	for _, expr := range []string{"0 3 * * *", "0 0 29 2 *", "0 0 30 2 *", "0 0 1 1 * 2020"} {
		b.Run(expr, func(b *testing.B) {
			for b.Loop() {
				_ = CheckSchedule(expr, "", someday)
			}
		})
	}
}

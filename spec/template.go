package spec

import (
	_ "embed"
	"runtime"
	"strings"
)

//go:embed template.sys
var template string

// Template is a commented .sys file to begin with. Its daemon runs on the
// platform that this is called on.
func Template() []byte { return []byte(templateFor(runtime.GOOS)) }

func templateFor(goos string) string {
	if goos != "windows" {
		return template
	}
	s := strings.Replace(template, "\ncommand = [\"sh\"", "\n#command = [\"sh\"", 1)
	return strings.Replace(s, "\n#command = [\"cmd\"", "\ncommand = [\"cmd\"", 1)
}

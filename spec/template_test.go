package spec

import (
	"context"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

func TestTemplate(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		f := mustParse(t, "syspulse.sys", templateFor(goos))
		if len(f.Daemons) != 1 {
			t.Fatalf("%s: %d daemons", goos, len(f.Daemons))
		}
		if ws := f.Warnings(); len(ws) > 0 {
			t.Errorf("%s: %v", goos, Problems(ws))
		}
		want := "sh"
		if goos == "windows" {
			want = "cmd"
		}
		if f.Daemons[0].Command[0] != want {
			t.Errorf("%s: runs %q", goos, f.Daemons[0].Command)
		}
	}
}

// Every setting that the template shows is right when it is taken.
func TestTemplateSettings(t *testing.T) {
	text := regexp.MustCompile(`(?m)^#command = .*\n`).ReplaceAllString(templateFor("linux"), "")
	// The last command is that of the second daemon.
	text = strings.Replace(text, `name = "nightly"`, "name = \"nightly\"\n#command = [\"x\"]", 1)
	all := regexp.MustCompile(`(?m)^#([^ \n])`).ReplaceAllString(text, "$1")
	if strings.Count(all, "\n") < 100 {
		t.Fatal("the template is short")
	}
	f := mustParse(t, "syspulse.sys", all)
	if len(f.Daemons) != 2 || f.Daemons[0].HealthCheck == nil || f.Daemons[1].SchedulePolicy == nil {
		t.Errorf("%v", f.Daemons)
	}
}

// Its program does what the template says.
func TestTemplateRuns(t *testing.T) {
	f := mustParse(t, "syspulse.sys", string(Template()))
	argv := f.Daemons[0].Command
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := out.Read(b); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	cancel()
	if runtime.GOOS != "windows" { // there cmd's ping would hold the pipe
		_ = cmd.Wait()
	}
}

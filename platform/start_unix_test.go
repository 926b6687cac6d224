//go:build unix

package platform

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// A start that fails says why in words a user understands.
func TestStartErrors(t *testing.T) {
	h := newHost(t, Options{})
	dir := t.TempDir()
	plain := write(t, "plain", "#!/bin/sh\n", 0o644)
	orphan := write(t, "orphan", "#!/no/such/shell -e\n", 0o755)
	dos := write(t, "dos", "#!/bin/sh\r\necho\r\n", 0o755)
	binary := write(t, "binary", "\x00\x01\x02\x03", 0o755)
	foreign := write(t, "foreign", foreignELF(), 0o755)
	closed := filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	path := "PATH=" + dir + ":/bin:/usr/bin"

	cases := map[string]struct {
		c     Command
		stage Stage
		says  []string
		is    error
	}{
		"nothing":               {Command{}, StageCommand, []string{"empty"}, nil},
		"empty name":            {Command{Args: []string{""}}, StageCommand, []string{"empty"}, nil},
		"NUL":                   {Command{Args: []string{"a\x00b"}}, StageCommand, []string{"NUL"}, nil},
		"not in PATH":           {Command{Args: []string{"no-such-program"}}, StageProgram, []string{`"no-such-program"`, "not found in PATH", dir}, fs.ErrNotExist},
		"not there":             {Command{Args: []string{"/no/such/program"}}, StageProgram, []string{"/no/such/program", "does not exist"}, fs.ErrNotExist},
		"not in the directory":  {Command{Args: []string{"./prog"}, Dir: dir}, StageProgram, []string{"./prog", "does not exist in " + dir}, fs.ErrNotExist},
		"below a file":          {Command{Args: []string{plain + "/x"}}, StageProgram, []string{"no directory"}, nil},
		"directory":             {Command{Args: []string{dir}}, StageProgram, []string{"is a directory"}, nil},
		"not executable":        {Command{Args: []string{plain}}, StageProgram, []string{"not executable", "0644", "chmod"}, fs.ErrPermission},
		"no interpreter":        {Command{Args: []string{orphan}}, StageProgram, []string{"interpreter /no/such/shell does not exist"}, nil},
		"Windows line ends":     {Command{Args: []string{dos}}, StageProgram, []string{"Windows line ends"}, nil},
		"binary":                {Command{Args: []string{binary}}, StageProgram, []string{"no format"}, nil},
		"another machine":       {Command{Args: []string{foreign}}, StageProgram, []string{"built for"}, nil},
		"no working_dir":        {Command{Args: []string{"true"}, Dir: dir + "/none"}, StageWorkingDir, []string{dir + "/none", "does not exist"}, fs.ErrNotExist},
		"file as working_dir":   {Command{Args: []string{"true"}, Dir: plain}, StageWorkingDir, []string{"is not a directory"}, nil},
		"arguments too long":    {Command{Args: []string{"true", strings.Repeat("x", 1<<22)}}, StageCommand, []string{"too long"}, nil},
		"incarnation as a path": {Command{Args: []string{"true"}, Incarnation: "../x"}, StageCommand, []string{"incarnation"}, nil},
	}
	if os.Getuid() == 0 {
		nobody, err := LookupAccount("nobody")
		if err != nil {
			t.Fatal(err)
		}
		cases["working_dir of another"] = struct {
			c     Command
			stage Stage
			says  []string
			is    error
		}{Command{Args: []string{"true"}, Dir: closed, Account: nobody}, StageWorkingDir, []string{"not accessible for user nobody"}, fs.ErrPermission}
		private := write(t, "private", "#!/bin/sh\n", 0o700)
		cases["program of another"] = struct {
			c     Command
			stage Stage
			says  []string
			is    error
		}{Command{Args: []string{private}, Account: nobody}, StageProgram, []string{"not", "for user nobody"}, fs.ErrPermission}
	}
	for name, c := range cases {
		if c.c.Incarnation == "" {
			c.c.Incarnation = newIncarnation()
		}
		c.c.Env = []string{path}
		p, err := h.Start(c.c)
		if err == nil {
			t.Errorf("%s: it started", name)
			p.Release()
			continue
		}
		// By way of a launcher it fails in the same words.
		c.c.WatchdogPID = true
		if p, again := h.Start(c.c); again == nil {
			t.Errorf("%s: a launcher started it", name)
			p.Release()
		} else if again.Error() != err.Error() || asStartError(t, again).Stage != asStartError(t, err).Stage {
			t.Errorf("%s: %q, but by a launcher %q", name, err, again)
		}
		se := asStartError(t, err)
		if se.Stage != c.stage {
			t.Errorf("%s: stage %s, want %s (%v)", name, se.Stage, c.stage, err)
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %q does not say %q", name, err, s)
			}
		}
		if c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v is no %v", name, err, c.is)
		}
	}
}

// foreignELF is the head of an executable for a machine that this one is not.
func foreignELF() string {
	head := make([]byte, 64)
	copy(head, "\x7fELF\x02\x01\x01")
	head[16] = 2 // an executable
	head[18] = 8 // for MIPS
	head[20] = 1
	head[52] = 64
	return string(head)
}

func TestAccountErrors(t *testing.T) {
	for s, want := range map[string]string{
		"no-such-user":         `no such user: "no-such-user"`,
		"root:no-such-group":   `no such group: "no-such-group"`,
		"4000000000":           "no account has the user id",
		":":                    "no such user",
		"99999999999999999999": "no such user",
	} {
		_, err := LookupAccount(s)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", s, err, want)
			continue
		}
		if se := asStartError(t, err); se.Stage != StageUser {
			t.Errorf("%s: stage %s", s, se.Stage)
		}
	}
	a, err := LookupAccount("4000000000:4000000001")
	if err != nil || a.UID != 4000000000 || a.GID != 4000000001 {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err := LookupAccount(""); a != nil || err != nil {
		t.Errorf("%+v, %v", a, err)
	}
	root, err := LookupAccount("0")
	if err != nil || root.Name != "root" || root.Home == "" || root.Shell == "" {
		t.Errorf("%+v, %v", root, err)
	}
}

// Programs are looked up as execvp(3) does.
func TestProgramLookup(t *testing.T) {
	h := newHost(t, Options{})
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"first/tool": 0o644, "second/tool": 0o755, "tool": 0o755} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("echo "+name+" $1\n"), mode); err != nil { // no #! line: the shell's
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct{ program, path, want string }{
		"PATH":           {"tool", dir + "/first:" + dir + "/second", "second/tool x"},
		"relative PATH":  {"tool", "first:second", "second/tool x"},
		"empty in PATH":  {"tool", ":" + dir + "/second", "tool x"},
		"relative":       {"./second/tool", "", "second/tool x"},
		"relative plain": {"second/tool", "/bin", "second/tool x"},
		"absolute":       {dir + "/tool", "/bin", "tool x"},
	} {
		_, out := output(t, h, Command{Args: []string{c.program, "x"}, Dir: dir, Env: []string{"PATH=" + c.path}})
		if got := out.next(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestSignalNames(t *testing.T) {
	for name, want := range map[string]string{"term": "SIGTERM", "SIGHUP": "SIGHUP", "9": "SIGKILL", " usr1 ": "SIGUSR1"} {
		sig, err := ParseSignal(name)
		if err != nil || SignalName(sig) != want {
			t.Errorf("%s: %v, %v", name, sig, err)
		}
	}
	if runtime.GOOS == "linux" {
		for name, want := range map[string]string{"RTMIN": "SIGRTMIN", "sigrtmin+3": "SIGRTMIN+3", "RTMAX-1": "SIGRTMIN+29", "64": "SIGRTMIN+30"} {
			sig, err := ParseSignal(name)
			if err != nil || SignalName(sig) != want {
				t.Errorf("%s: %v %s, %v", name, sig, SignalName(sig), err)
			}
		}
	}
	for _, name := range []string{"", "SIG", "0", "-1", "65", "SIGNOPE", "RTMIN+99", "RTMINx"} {
		if sig, err := ParseSignal(name); err == nil {
			t.Errorf("%q is %v", name, sig)
		}
	}
}

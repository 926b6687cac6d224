//go:build unix

package platform

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// defaultPath is what execvp(3) searches when PATH is not set.
const defaultPath = "/bin:/usr/bin"

// findProgram finds the file to execute as execvp(3) does, for the user and the
// directory that the process will have. The path it returns may be relative to
// dir. It does not replace the kernel's checks, it chooses among candidates.
func findProgram(name, dir string, env []string, w who) (string, *StartError) {
	if strings.Contains(name, "/") {
		return name, nil // the kernel says what is wrong with it
	}
	path, ok := lookupEnv(env, "PATH")
	if !ok {
		path = defaultPath
	}
	var denied string
	for _, d := range filepath.SplitList(path) {
		candidate := d + "/" + name
		if d == "" {
			candidate = "./" + name
		}
		fi, err := os.Stat(inDir(dir, candidate))
		if err != nil || !fi.Mode().IsRegular() {
			continue
		}
		if !w.may(fi, 1) || !w.reaches(inDir(dir, candidate)) {
			if denied == "" {
				denied = candidate
			}
			continue
		}
		return candidate, nil
	}
	if denied != "" {
		// Access lists may allow what the mode bits don't show: let the kernel decide.
		return denied, nil
	}
	if path == "" {
		return "", startError(StageProgram, fs.ErrNotExist, "program %q not found: PATH is empty; write its whole path", name)
	}
	return "", startError(StageProgram, fs.ErrNotExist, "program %q not found in PATH (%s)", name, path)
}

// inDir is where a path of the process is found from here.
func inDir(dir, path string) string {
	if filepath.IsAbs(path) || dir == "" {
		return path
	}
	return filepath.Join(dir, path)
}

// may says whether the mode bits give w the permission (4 read, 2 write, 1 execute).
func (w who) may(fi fs.FileInfo, bit fs.FileMode) bool {
	mode := fi.Mode().Perm()
	if w.uid == 0 {
		return bit != 1 || fi.IsDir() || mode&0o111 != 0
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	switch {
	case st.Uid == w.uid:
		return mode>>6&bit == bit
	case st.Gid == w.gid || slices.Contains(w.groups, st.Gid):
		return mode>>3&bit == bit
	}
	return mode&bit == bit
}

// reaches says whether w may search every directory on the way to path.
func (w who) reaches(path string) bool { return w.blockedAt(path) == "" }

// blockedAt is the first directory above path that w may not search.
func (w who) blockedAt(path string) string {
	if w.uid == 0 {
		return ""
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' && i != 1 {
			continue
		}
		if i == len(path) {
			break
		}
		d := path[:i]
		if fi, err := os.Stat(d); err == nil && fi.IsDir() && !w.may(fi, 1) {
			return d
		}
	}
	return ""
}

// explain finds out why fork and exec failed with err; the kernel gives one
// number for everything between fork and exec.
func explain(err error, c *Command, path string, w who, switched bool) *StartError {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return startError(StageSystem, err, "%v", err)
	}
	switch errno {
	case unix.EAGAIN:
		return startError(StageSystem, err, "out of processes: the limit of processes of the user or the system is reached (ulimit -u, kernel.pid_max)")
	case unix.ENOMEM:
		return startError(StageSystem, err, "out of memory")
	case unix.EMFILE:
		return startError(StageSystem, err, "out of descriptors: the manager's limit of open files is reached (ulimit -n)")
	case unix.ENFILE:
		return startError(StageSystem, err, "out of descriptors: the system's limit of open files is reached (fs.file-max)")
	case unix.E2BIG:
		return startError(StageCommand, err, "the command's arguments and environment are too long for this system")
	}

	if c.Dir != "" {
		fi, derr := os.Stat(c.Dir)
		switch {
		case errors.Is(derr, fs.ErrNotExist):
			return startError(StageWorkingDir, err, "working_dir %s does not exist", c.Dir)
		case errors.Is(derr, unix.ENOTDIR) || derr == nil && !fi.IsDir():
			return startError(StageWorkingDir, err, "working_dir %s is not a directory", c.Dir)
		case derr != nil:
			return startError(StageWorkingDir, err, "working_dir %s: %v", c.Dir, reason(derr))
		}
		if errno == unix.EACCES {
			if d := w.blockedAt(c.Dir); d != "" && filepath.Clean(d) != filepath.Clean(c.Dir) {
				return startError(StageWorkingDir, err, "working_dir %s is not accessible%s: no permission to enter %s", c.Dir, w.forUser(), d)
			}
			if !w.may(fi, 1) {
				return startError(StageWorkingDir, err, "working_dir %s is not accessible%s (mode %#o)", c.Dir, w.forUser(), fi.Mode().Perm())
			}
		}
	}
	if errno == unix.EPERM && switched {
		return startError(StageUser, err, "not permitted to switch to user %s: only a manager that runs as root can", c.Account.Name)
	}

	full := inDir(c.Dir, path)
	fi, ferr := os.Stat(full)
	switch {
	case errors.Is(ferr, fs.ErrNotExist):
		return startError(StageProgram, err, "program %s does not exist%s", path, relativeTo(path, c.Dir))
	case errors.Is(ferr, unix.ENOTDIR):
		return startError(StageProgram, err, "program %s does not exist: a part of its path is no directory", path)
	case ferr != nil:
		return startError(StageProgram, err, "program %s: %v", path, reason(ferr))
	case fi.IsDir():
		return startError(StageProgram, err, "program %s is a directory", path)
	case !fi.Mode().IsRegular():
		return startError(StageProgram, err, "program %s is not a regular file", path)
	}
	switch errno {
	case unix.EACCES:
		if fi.Mode().Perm()&0o111 == 0 {
			return startError(StageProgram, err, "program %s is not executable (mode %#o); chmod +x makes it so", path, fi.Mode().Perm())
		}
		if d := w.blockedAt(full); d != "" {
			return startError(StageProgram, err, "program %s is not accessible%s: no permission to enter %s", path, w.forUser(), d)
		}
		if !w.may(fi, 1) {
			return startError(StageProgram, err, "program %s is not executable%s (mode %#o)", path, w.forUser(), fi.Mode().Perm())
		}
		if i := interpreter(full); i != "" {
			if ifi, ierr := os.Stat(inDir(c.Dir, i)); ierr == nil && (ifi.IsDir() || !w.may(ifi, 1)) {
				return startError(StageProgram, err, "program %s: its interpreter %s is not executable%s", path, i, w.forUser())
			}
		}
		return startError(StageProgram, err, "program %s: permission denied%s (is its file system mounted noexec?)", path, w.forUser())
	case unix.ENOENT, unix.ENOTDIR:
		if i := interpreter(full); i != "" {
			return startError(StageProgram, err, "program %s: its interpreter %s does not exist%s", path, i, carriageReturn(i))
		}
	case unix.ENOEXEC:
		if m := foreignMachine(full); m != "" {
			return startError(StageProgram, err, "program %s is built for %s, this machine is %s", path, m, runtime.GOARCH)
		}
		return startError(StageProgram, err, "program %s is in no format that this system can execute", path)
	case unix.ETXTBSY:
		return startError(StageProgram, err, "program %s is being written to", path)
	case unix.ELOOP:
		return startError(StageProgram, err, "program %s: too many symbolic links or interpreters", path)
	}
	return startError(StageProgram, err, "program %s could not be started: %v", path, reason(err))
}

// reason is an error without the path that the message has already.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func relativeTo(path, dir string) string {
	if filepath.IsAbs(path) {
		return ""
	}
	if dir == "" {
		dir, _ = os.Getwd()
	}
	return fmt.Sprintf(" in %s", dir)
}

func carriageReturn(interpreter string) string {
	if strings.HasSuffix(interpreter, "\r") {
		return " (the script has Windows line ends)"
	}
	return ""
}

// interpreter is what the kernel runs for the file: a script's first line or a
// dynamic executable's loader.
func interpreter(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	line, _ := bufio.NewReader(io.LimitReader(f, 256)).ReadString('\n')
	if s, ok := strings.CutPrefix(line, "#!"); ok {
		s = strings.Trim(strings.TrimSuffix(s, "\n"), " \t")
		if i := strings.IndexAny(s, " \t"); i >= 0 {
			s = s[:i]
		}
		return s
	}
	e, err := elf.NewFile(f)
	if err != nil {
		return ""
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < 4096 {
			b := make([]byte, p.Filesz)
			if _, err := p.ReadAt(b, 0); err == nil {
				return strings.TrimRight(string(b), "\x00")
			}
		}
	}
	return ""
}

// foreignMachine names the machine that an ELF file is for; "" if it is no ELF file.
func foreignMachine(path string) string {
	e, err := elf.Open(path)
	if err != nil {
		return ""
	}
	defer e.Close()
	return strings.TrimPrefix(e.Machine.String(), "EM_")
}

// isText says whether a file that the kernel could not execute may be given to
// the shell, as execvp(3) does with scripts that lack a first line. Shells
// refuse binary files, and what a shell would say of one is no help.
func isText(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 256)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return false
	}
	line, _, _ := strings.Cut(string(head[:n]), "\n")
	return !strings.HasPrefix(line, "\x7fELF") && !strings.Contains(line, "\x00")
}

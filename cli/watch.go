package cli

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quiet is how long nothing may happen to a file until it is read: whoever writes
// it in place does so in several steps.
const quiet = 200 * time.Millisecond

// maxLinks is how many symbolic links a path is followed through, as in Linux.
const maxLinks = 40

// fileWatch tells when files may have changed. Directories are watched, not
// files: editors rename another file over the one they edit, deployments switch
// a symbolic link somewhere in the path, and a file may be gone for a while. Of
// the directories further up, only those that hold a link of the path, or lack a
// part of it, are watched: if another one is renamed, nobody notices.
type fileWatch struct {
	C chan struct{} // gets a value when all has been quiet after a change

	paths []string // absolute
	w     *fsnotify.Watcher
	log   *slog.Logger
}

// watchFiles begins to watch. What happens to the files from now on is told.
func watchFiles(paths []string, log *slog.Logger) (*fileWatch, error) {
	f := &fileWatch{C: make(chan struct{}, 1), log: log}
	for _, path := range paths {
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		f.paths = append(f.paths, abs)
	}
	var err error
	if f.w, err = fsnotify.NewWatcher(); err != nil {
		return nil, err
	}
	go f.run(f.arm())
	return f, nil
}

// changes is C; of nil a channel that never gets anything.
func (f *fileWatch) changes() <-chan struct{} {
	if f == nil {
		return nil
	}
	return f.C
}

func (f *fileWatch) close() {
	if f != nil {
		f.w.Close()
	}
}

func (f *fileWatch) run(matter map[string]bool) {
	settled := time.NewTimer(quiet)
	settled.Stop()
	defer settled.Stop()
	for {
		select {
		case e, ok := <-f.w.Events:
			if !ok {
				return
			}
			if matter[e.Name] {
				settled.Reset(quiet)
			}
		case err, ok := <-f.w.Errors:
			if !ok {
				return
			}
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				f.log.Error("watching the files", "error", err)
			}
			settled.Reset(quiet) // something was missed
		case <-settled.C:
			// Before it is told, so that what happens after the files are read
			// is seen.
			matter = f.arm()
			select {
			case f.C <- struct{}{}:
			default: // it is still to be heeded
			}
		}
	}
}

// arm watches the directories that the files depend on as things stand, and
// gives the paths to which something may happen.
func (f *fileWatch) arm() map[string]bool {
	for try := 1; ; try++ {
		dirs, matter := make(map[string]bool), make(map[string]bool)
		for _, path := range f.paths {
			places(path, dirs, matter)
		}
		for _, dir := range f.w.WatchList() {
			if !dirs[dir] {
				_ = f.w.Remove(dir) // it may be gone
			}
		}
		var failed error
		for dir := range dirs {
			matter[dir] = true // that it is removed or renamed
			failed = errors.Join(failed, f.w.Add(dir))
		}
		if failed == nil {
			return matter
		}
		if try == 3 || !errors.Is(failed, os.ErrNotExist) {
			f.log.Error("not all files can be watched; SIGHUP has them read", "error", failed)
			return matter
		}
	}
}

// places finds the directories that an absolute path goes through where something
// may happen to it: where a symbolic link lies, where the file does, or where the
// first part lies that isn't there. matter gets the paths of those.
func places(path string, dirs, matter map[string]bool) {
	root := filepath.VolumeName(path) + string(filepath.Separator)
	at, rest := root, parts(path)
	for links := 0; len(rest) > 0; {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		st, err := os.Lstat(next)
		link := err == nil && st.Mode()&os.ModeSymlink != 0
		if err == nil && !link && len(rest) > 0 {
			at = next
			continue
		}
		dirs[at], matter[next] = true, true
		if !link || links == maxLinks {
			return
		}
		links++
		target, err := os.Readlink(next)
		if err != nil {
			return
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(at, target)
		}
		root = filepath.VolumeName(target) + string(filepath.Separator)
		at, rest = root, append(parts(target), rest...)
	}
}

// parts are the components of an absolute path.
func parts(path string) []string {
	path = filepath.Clean(path)
	return strings.FieldsFunc(path[len(filepath.VolumeName(path)):], func(r rune) bool { return r < 0x80 && os.IsPathSeparator(uint8(r)) })
}

package persist

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// StateFormat is the version of everything in the folder state. It rises when
// an older build would read it wrong; see journal.proto for what does not
// need that.
const StateFormat = 1

// ErrNewerState is returned by Open if a newer version wrote the journal.
var ErrNewerState = errors.New("the state is of a newer version")

// formatFile is state/FORMAT. It is a file of its own, since it must be read
// before the database is opened: a newer version may keep it in another way.
type formatFile struct {
	Format  int    `json:"format"`
	Version string `json:"version"` // the build that wrote it first
	// Check tells a newer format from a damaged file; older files have none.
	Check string `json:"check,omitempty"`
}

func (f formatFile) sum() string {
	return fmt.Sprintf("%08x", crc32.Checksum(fmt.Appendf(nil, "%d %s", f.Format, f.Version), castagnoli))
}

// checkFormat refuses a newer format, and writes the file where it is missing,
// if it may.
func (s *Store) checkFormat(write bool) error {
	path := filepath.Join(s.stateDir, "FORMAT")
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("the format of the journal is unknown: %w", err)
	default:
		var f formatFile
		if json.Unmarshal(b, &f) == nil && f.Format > 0 && (f.Check == "" || f.Check == f.sum()) {
			if f.Format > StateFormat {
				return fmt.Errorf("%w: %s was written by syspulse %s in format %d, and this is syspulse %s, which knows formats up to %d; run that version or a later one, or use another --data-dir",
					ErrNewerState, s.stateDir, orUnknown(f.Version), f.Format, orUnknown(s.opts.Version), StateFormat)
			}
			return nil
		}
		s.notice("%s is damaged; the journal is taken for one of this version", path)
		if write {
			if err := s.copyAside("FORMAT"); err != nil {
				return err
			}
		}
	}
	if !write {
		return nil
	}
	if err := os.MkdirAll(s.stateDir, 0o700); err != nil {
		return fmt.Errorf("the folder of the journal can't be made: %w", err)
	}
	f := formatFile{Format: StateFormat, Version: s.opts.Version}
	f.Check = f.sum()
	b, err = json.Marshal(f)
	if err != nil {
		return err
	}
	if err := writeFile(path, append(b, '\n')); err != nil {
		return fmt.Errorf("the format of the journal can't be written: %w", err)
	}
	return nil
}

func orUnknown(version string) string {
	if version == "" {
		return "(unknown version)"
	}
	return version
}

// writeFile replaces a file in one step, durably.
func writeFile(path string, b []byte) error {
	tmp := path + ".tmp"
	if err := writeTemp(tmp, b, true); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return syncDir(filepath.Dir(path))
}

// writeTemp writes a file that is to be renamed; it leaves none if it fails.
func writeTemp(path string, b []byte, sync bool) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && sync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

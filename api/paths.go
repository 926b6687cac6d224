package api

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
)

// DefaultDataDir is where a manager keeps its state unless told otherwise:
// ~/.syspulse, on Windows %LOCALAPPDATA%\syspulse. It doesn't look at
// SYSPULSE_DATA_DIR.
func DefaultDataDir() (string, error) {
	if dir := platformDataDir(); dir != "" {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		u, uerr := user.Current()
		if uerr != nil || !filepath.IsAbs(u.HomeDir) {
			return "", fmt.Errorf("can't tell your home directory; give --data-dir or set SYSPULSE_DATA_DIR")
		}
		home = u.HomeDir
	}
	return filepath.Join(home, ".syspulse"), nil
}

// hashed is a short name for a path that two processes agree on, whichever
// symbolic links they come by.
func hashed(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:8])
}

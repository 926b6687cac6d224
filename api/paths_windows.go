package api

import (
	"os"
	"path/filepath"
	"strings"
)

func platformDataDir() string {
	if dir := os.Getenv("LOCALAPPDATA"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "syspulse")
	}
	return ""
}

// SocketPath is the named pipe that the manager of dataDir listens on. Client
// and server both compute it.
func SocketPath(dataDir string) string {
	const pipe = `\\.\pipe\syspulse`
	if dir, err := DefaultDataDir(); err == nil && strings.EqualFold(filepath.Clean(dir), filepath.Clean(dataDir)) {
		return pipe
	}
	return pipe + "-" + hashed(strings.ToLower(dataDir))
}

// FitSocket is path: a pipe's name may be 256 characters long.
func FitSocket(path string) string { return path }

//go:build unix

package api

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

func platformDataDir() string { return "" }

// maxSocketPath is how long a socket's path may be: sun_path without its NUL
// (unix(7): 108 on Linux, 104 on the BSDs and Darwin).
var maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// SocketPath is the address that the manager of dataDir listens on. Client
// and server both compute it.
func SocketPath(dataDir string) string {
	return FitSocket(filepath.Join(dataDir, "syspulse.sock"))
}

// FitSocket is path, or where that is too long for a socket's address, a
// hashed name in the runtime directory.
func FitSocket(path string) string {
	if len(path) <= maxSocketPath {
		return path
	}
	name := "syspulse-" + hashed(path) + ".sock"
	uid := strconv.Itoa(os.Getuid())
	for _, dir := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/run/user/" + uid} {
		// The second is the same where the variable got lost (cron, su).
		p := filepath.Join(dir, name)
		if fi, err := os.Stat(dir); filepath.IsAbs(dir) && err == nil && fi.IsDir() && len(p) <= maxSocketPath {
			return p
		}
	}
	return filepath.Join(FallbackRuntimeDir(), name)
}

// FallbackRuntimeDir is where sockets go on a system without runtime
// directories. Its place is open to everyone, so who makes or uses it checks
// its owner.
func FallbackRuntimeDir() string {
	return "/tmp/syspulse-" + strconv.Itoa(os.Getuid())
}

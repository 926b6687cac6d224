//go:build unix

package actors

import (
	"fmt"
	"os"
	"syscall"
)

// directoryID names a directory on this machine whatever its path is; its path
// if that can't be learnt.
func directoryID(dir string) string {
	fi, err := os.Stat(dir)
	if err == nil {
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
		}
	}
	return dir
}

//go:build !windows

package cli

import "os"

func enableColor(*os.File) bool { return os.Getenv("TERM") != "dumb" }

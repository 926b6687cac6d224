package actors

import "strings"

// directoryID is the path, as Windows compares it.
func directoryID(dir string) string { return strings.ToLower(dir) }

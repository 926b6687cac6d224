//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "crash looks at processes the way Linux shows them, and runs there only")
	os.Exit(2)
}

// Package launch is what runs between fork and exec where a process needs what
// its parent can't set for it: what depends on its own pid, or must be done before
// it changes its user. It is this binary under another first argument; it does what
// it is told and becomes the program (execve(2)), as the same process.
//
// It runs in this package's init, as the keeper does in its. Packages are initialized
// by import path as soon as those they import are (the Go specification, "Program
// initialization"), so this one comes before nearly all others, if it imports
// neither os nor strings: they would make it wait for what it doesn't need.
package launch

// Argument is the first argument that makes this binary a launcher.
const Argument = "__exec"

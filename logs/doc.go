// Package logs carries the output of daemons into files and reads it back.
//
// # Capture
//
// Each daemon has two streams, stdout and stderr. A stream is a FIFO in the
// data directory; the daemon itself holds it open for reading and writing.
// With the manager killed it therefore gets neither SIGPIPE nor end of file:
// it runs on until the pipe is full, then waits, and the next manager opens
// the same FIFO and goes on where the last one stopped.
//
// On Linux bytes go from the pipe to the file by splice(2), which consumes
// from the pipe exactly what it has written to the file. No byte is ever in
// the manager's memory, so SIGKILL can neither lose nor double one. Elsewhere
// bytes are read and written, and a SIGKILL in between may lose one block of
// 64 KiB; so it is on a file system that can't splice. On
// Windows the daemon is given the log file itself.
//
// Splicing at every wake-up would cost more than the writing itself when a
// daemon writes short lines: each splice moves a line or two, and writer and
// manager fight for the pipe's lock. So a stream that is busy is looked at by
// the clock, at intervals in which its pipe gets about half full, and only a
// quiet one waits for an event. See reactor on Linux.
//
// # Reading
//
// A [Tail] reads the last lines of any number of streams, over rotated and
// compressed files, and follows them. It is pulled by its consumer, has no
// goroutine of its own, and learns of new bytes from the [Capturer]; a
// consumer that is slow or gone delays nobody.
//
// # Files
//
// <data_dir>/logs/<daemon>/stdout.log and stderr.log are the daemon's own
// bytes. Rotated files lie beside them, see [RotatedName]. FIFOs are
// <data_dir>/run/<daemon>.stdout and .stderr; their name takes the daemon's
// (at most 200 bytes) and seven bytes more, which every file system holds.
package logs
